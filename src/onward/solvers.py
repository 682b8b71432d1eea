"""What is under test: a model with a prompt, a Python function, an agent. As data: name, what it depends on, how."""

from __future__ import annotations

import asyncio
import base64
import inspect
import re
import shlex
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onward.context import BlockingContext, Context, in_thread
from onward.episode import Episode, File, Folder
from onward.errors import Refused, StepFailed, UsageError
from onward.fingerprint import digest_of
from onward.functions import Function
from onward.once import Missing
from onward.tasks import Task

__all__ = ["Solver", "agent_solver", "function_solver", "model_solver", "recorded_solver", "rendered", "wrapped_solver"]

_FIELD = re.compile(r"\{([A-Za-z_][\w.]*)\}")


@dataclass(frozen=True, slots=True)
class Solver:
    """A solver as stages see it. `parts` are digests of what its answers depend on, by name."""

    name: str
    parts: Mapping[str, str]
    solve: Callable[[Context, Task], Awaitable[Any]]
    """Gives `{"output": text or JSON}`, or raises: its own exception is the solver's failure."""
    is_agent: bool = False
    """It bounds its own time, and what it had come to when that was up is judged."""


def rendered(template: str, task: Task) -> str:
    """A prompt with `{input}`, `{id}` and `{FIELD}` or `{metadata.FIELD}` filled in; other braces are left alone."""

    def fill(found: re.Match[str]) -> str:
        name = found[1]
        if name == "input":
            return task.input if isinstance(task.input, str) else str(task.input)
        if name == "id":
            return task.id
        value = task.metadata.get(name.removeprefix("metadata."))
        return found[0] if value is None else str(value)

    return _FIELD.sub(fill, template)


def _messages(prompt: str | None, task: Task, parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A prompt that names `{input}` is the whole question; one that does not is the system message above it."""
    if isinstance(task.input, list):
        system = [{"role": "system", "content": rendered(prompt, task)}] if prompt else []
        return [*system, *task.input]
    text = task.input if isinstance(task.input, str) else str(task.input)
    if prompt is not None and "{input}" in prompt:
        messages, text = [], rendered(prompt, task)
    else:
        messages = [{"role": "system", "content": rendered(prompt, task)}] if prompt else []
    content: Any = text if not parts else [{"type": "text", "text": text}, *parts]
    return [*messages, {"role": "user", "content": content}]


def _attached(ctx: Context, task: Task) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for file in task.files:
        content = ctx.world.blob(file.digest)
        kind = file.media_type
        if kind.startswith("image/"):
            parts.append({"type": "image", "media_type": kind, "data": base64.b64encode(content).decode()})
        elif kind.startswith("text/") or kind in ("application/json", "application/xml"):
            text = content.decode("utf-8", "replace")
            parts.append({"type": "text", "text": f"Attached file {file.name}:\n{text}"})
        else:
            data = base64.b64encode(content).decode()
            parts.append({"type": "file", "name": file.name, "media_type": kind, "data": data})
    return parts


def model_solver(
    name: str, model: str, prompt: str | None, params: Mapping[str, Any], *, seeded: bool = True
) -> Solver:
    """One call to a model per sample. `params` go into the request; a seed does too, unless `seeded` is off."""
    parts = {
        "model": digest_of(model),
        "prompt": digest_of(prompt),
        "params": digest_of([dict(params), seeded]),
    }

    async def solve(ctx: Context, task: Task) -> Any:
        sampled = {**params, "seed": ctx.seed} if seeded and "seed" not in params else params
        messages = _messages(prompt, task, _attached(ctx, task) if task.files else [])
        answer = await ctx.ask(messages, model=model, **sampled)
        if answer.finish == "refused":
            raise StepFailed("the model refused", kind="Refused")
        return {"output": answer.text}

    return Solver(name, parts, solve)


def recorded_solver(name: str, outputs: str, model: str = "") -> Solver:
    """Answers that were made elsewhere and imported. `outputs` is the digest of them all, `model` only a label.

    They are in the run's journal; where there is none, there is nothing to run, and the task stays owed.
    """

    async def solve(ctx: Context, task: Task) -> Any:
        raise Missing(ctx.key, "no answer was recorded for this task, and none can be made: import one")

    return Solver(name, {"recorded": digest_of([model, outputs])}, solve)


def wrapped_solver(name: str, words: Sequence[str]) -> Solver:
    """A program that a person runs through `onward wrap`: its folder, environment and terminal are that person's."""
    command = f"onward wrap {shlex.join(words)}"

    async def solve(ctx: Context, task: Task) -> Any:
        raise UsageError(f"this is a wrapped program, which goes on by its own command: {command}")

    return Solver(name, {"wrapped": digest_of(list(words))}, solve)


def function_solver(name: str, function: Function, model: str = "") -> Solver:
    """A Python function of (ctx, task), sync or async, that returns its output (text or JSON).

    A sync function runs in a thread and is given a Context whose `ask` and `step` wait.
    """
    parts = {"code": digest_of(function.identity), "model": digest_of(model)}
    call = function.call
    is_async = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "func", None))

    async def solve(ctx: Context, task: Task) -> Any:
        ctx.model = model
        if is_async:
            value = await call(ctx, task)
        else:
            loop = asyncio.get_running_loop()
            with BlockingContext(ctx, loop) as blocking:
                value = await in_thread(call, blocking, task)
            if inspect.isawaitable(value):
                value = await value
        return value if isinstance(value, dict) and "output" in value else {"output": value}

    return Solver(name, parts, solve)


def agent_solver(
    name: str, agent: str, model: str, prompt: str | None, options: Mapping[str, Any], sandbox: Mapping[str, Any],
    found: Mapping[str, Any],
) -> Solver:  # fmt: skip
    """An agent in a sandbox. `found`: its `version`, and the digest of its `image`, as they are on this machine."""
    stated = {key: value for key, value in options.items() if key != "version"}
    parts = {
        "model": digest_of(model),
        "prompt": digest_of(prompt),
        "agent": digest_of([agent, found.get("version", options.get("version", "")), stated]),
        "image": digest_of(found.get("image", "")),
    }

    async def solve(ctx: Context, task: Task) -> Any:
        performer = ctx.world.performer
        if performer is None:
            raise Refused("nobody performs episodes here")
        folder = Folder.from_json(task.metadata["folder"]) if "folder" in task.metadata else None
        modes = folder.modes if folder else {}
        files = tuple(File(file.name, file.digest, modes.get(file.name, 0o644)) for file in task.files)
        instruction = rendered(prompt or "{input}", task)
        return await performer.perform(
            ctx, Episode(agent, model, instruction, options, sandbox, task.id, files, folder)
        )  # fmt: skip

    return Solver(name, parts, solve, is_agent=True)
