"""Models that are Python functions: provider `python`. No request, no key, no cost unless the function says one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onward.ask import Answer, Message
from onward.errors import CallError, CallRejected, CallTransient

__all__ = ["PythonModel", "ask_python"]

Said = str | Answer
Function = Callable[[Sequence[Message], Mapping[str, Any]], Said | Awaitable[Said]]


@dataclass(frozen=True, slots=True)
class PythonModel:
    """A function `fn(messages, params)` that returns text or an Answer, or an awaitable of one.

    A plain function runs on the event loop, which is fast and must not wait; one that waits (for a network, a file,
    another model) is registered with `blocking=True` and runs in a thread.
    """

    fn: Function
    blocking: bool = False


async def ask_python(name: str, model: PythonModel, body: Mapping[str, Any]) -> Answer:
    """What the function says. Its own exception is the solver's (CallRejected); a network's is not (CallTransient)."""
    try:
        if model.blocking:
            said = await asyncio.to_thread(model.fn, body["messages"], body["params"])
        else:
            said = model.fn(body["messages"], body["params"])
        if type(said) is not str and not isinstance(said, Answer):
            said = await said if isinstance(said, Awaitable) else said
    except CallError:
        raise
    except OSError as error:
        raise CallTransient(_raised(name, error), provider="python") from error
    except Exception as error:
        raise CallRejected(_raised(name, error), provider="python") from error
    if isinstance(said, str):
        return Answer(said, usd=0.0)
    if not isinstance(said, Answer):
        raise CallRejected(f"model {name!r} returned {type(said).__name__}, not text or an Answer", provider="python")
    return said


def _raised(name: str, error: Exception) -> str:
    return f"model {name!r} raised {type(error).__name__}: {error}"
