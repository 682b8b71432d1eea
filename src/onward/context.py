"""What a body holds while it runs: its key, its seed, `step()` and `ask()`.

A body sees nothing else of the house: not the journal, not the network, not whether its result was known already.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from onward.ask import Answer, Ask, Call, Message, Usage
from onward.clock import Clock
from onward.entry import Outcome
from onward.errors import Refused, StepTimeout
from onward.fingerprint import Fingerprint, digest_of
from onward.history import History
from onward.keys import Key
from onward.once import Recorder, Step
from onward.plan import seed_of

__all__ = ["Answer", "Ask", "BlockingContext", "Call", "Context", "Message", "Meter", "Usage", "World", "in_thread", "trial_context"]

_TICK = 5.0
"""Seconds of active time that a kill may forget."""


@dataclass(frozen=True, slots=True)
class World:
    """What one run hands to all its contexts."""

    recorder: Recorder
    ask: Ask
    blob: Callable[[str], bytes]
    """The content of a file of the run by its digest."""
    seed: int = 0
    on_text: Callable[[Key, str], None] | None = None
    """Told of each piece of text as it arrives, by the key of the call; None: calls are not streamed."""


class Meter:
    """A trial's active time: the sum over its attempts, less waiting for our limiter or a provider's Retry-After."""

    def __init__(self, clock: Clock, limit: float | None, before: float = 0.0, tokens: int | None = None) -> None:
        self.clock, self.limit, self.tokens = clock, limit, tokens
        self._before, self._started, self._running, self._waited = before, 0.0, 0, 0.0
        self.used_tokens = 0

    @property
    def active(self) -> float:
        """Seconds so far, over all attempts."""
        now = self.clock.ticks() - self._started - self._waited if self._running else 0.0
        return self._before + max(0.0, now)

    def waited(self, seconds: float) -> None:
        """So much of the time does not count."""
        self._waited += seconds

    def spent(self, tokens: int) -> None:
        """Count tokens against the trial's own limit. Raises StepTimeout when it is passed."""
        self.used_tokens += tokens
        self.check()

    def check(self) -> None:
        """Raise StepTimeout where the trial's token limit is used up: before a call, so none is paid in vain."""
        if self.tokens is not None and self.used_tokens >= self.tokens:
            raise StepTimeout(f"the trial's limit of {self.tokens} tokens is used up", kind="TokenLimit")

    async def run(self, body: Awaitable[Any], tick: Callable[[float], Awaitable[None]]) -> Any:
        """Await the body within what is left of the limit. Samples of one trial share the meter."""
        if not self._running:
            self._started, self._waited = self.clock.ticks(), 0.0
        self._running += 1
        task = asyncio.ensure_future(body)
        try:
            while True:
                left = None if self.limit is None else self.limit - self.active
                if left is not None and left <= 0:
                    raise StepTimeout(f"the trial's limit of {self.limit:g} s of active time", kind="TimeLimit")
                pause = asyncio.ensure_future(self.clock.sleep(_TICK if left is None else min(_TICK, left)))
                done, _ = await asyncio.wait({task, pause}, return_when=asyncio.FIRST_COMPLETED)
                pause.cancel()
                if task in done:
                    return task.result()
                await tick(self.active)
        finally:
            if not task.done():
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
            self._before = self.active if self._running == 1 else self._before
            self._running -= 1


@dataclass(slots=True)
class Context:
    """What a body is given. `key` names the step that runs it; steps and calls it makes are children of that key."""

    key: Key
    world: World
    history: History
    meter: Meter | None = None
    seed: int = 0
    """For sampling: from task, trial, sample and generation, so a retried step asks the same and a redone one anew."""
    model: str = ""
    """The model that `ask` uses when none is named."""
    parent: str = ""
    """Digest of the step that runs the body: what a named step below it depends on besides its own inputs."""
    names: dict[str, int] = field(default_factory=dict)

    def child(self, name: str, digest: str = "") -> Context:
        """The context of a step below this one."""
        world, history = self.world, self.history
        return Context(self.key / name, world, history, self.meter, self.seed, self.model, digest or self.parent)

    def child_path(self, path: str) -> Context:
        """The context of a step below this one, by a path of names that need no escaping (`generate/0`)."""
        key = Key(f"{self.key}/{path}")
        return Context(key, self.world, self.history, self.meter, self.seed, self.model, self.parent)

    async def run(
        self, child: Context, fingerprint: Fingerprint, body: Callable[[], Awaitable[Any]],
        *, fails_as: Outcome = "failed", timed: bool = False,
    ) -> Any:  # fmt: skip
        """The verb, for a step below this one with a fingerprint of its own (`fails_as`: see `onward.once.Step`)."""
        child.parent = fingerprint.digest
        step = Step(child.key, fingerprint, body, fails_as, self.meter if timed else None)
        return await self.world.recorder.once(self.history, step)

    async def step(
        self, name: str, body: Callable[..., Any], *, key: str | None = None, depends: Any = None,
    ) -> Any:  # fmt: skip
        """Do something once: `await ctx.step("fetch", fetch)`. On resume its recorded value comes back instead.

        `body` is a function, sync or async, of no argument or of the child's Context; it returns JSON. Two steps of
        one name under one parent need a `key` each. `depends` is JSON that the value depends on beyond the code:
        a step whose `depends` changed runs again. Raises Refused for a name used twice or a value that is not JSON.
        """
        full = name if key is None else f"{name}:{key}"
        if full in self.names:
            raise Refused(f"step {full!r} is used twice under {self.key}: tell them apart with key=")
        self.names[full] = 1
        fingerprint = Fingerprint.of(step=name, depends=depends, within=self.parent)
        below = self.child(full, fingerprint.digest)
        arguments = (below,) if _takes_context(body) else ()

        async def run() -> Any:
            value = body(*arguments)
            return await value if inspect.isawaitable(value) else value

        return await self.world.recorder.once(self.history, Step(below.key, fingerprint, run))

    async def ask(
        self, messages: str | Sequence[Message], *, model: str | None = None, name: str | None = None,
        system: str | None = None, **params: Any,
    ) -> Answer:  # fmt: skip
        """Ask a model once: sent and paid for at most once to completion, whatever is killed.

        `messages` is text or a list of `{"role", "content"}`; `params` go into the request (temperature, max_tokens,
        seed, tools, …). A call without a `name` is known by its content, and as the k-th equal one under this parent,
        so five equal calls are five draws. Raises StepFailed (rejected), StepOwed (no answer within bounds),
        StepTimeout (the trial's token limit), Stopping.
        """
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        if system is not None:
            messages = [{"role": "system", "content": system}, *messages]
        world = self.world
        call = world.ask.prepare(model or self.model, messages, params)
        model_digest, request = digest_of(f"{call.provider}/{call.model}"), digest_of([call.protocol, call.body])
        fingerprint = Fingerprint.join({"model": model_digest, "request": request})
        key = self.key / self._call_name(name, fingerprint.digest)
        on_text = world.on_text
        listen = None if on_text is None else lambda text: on_text(key, text)
        if self.meter is not None:
            self.meter.check()

        async def body() -> Any:
            raise AssertionError("a call is sent, not run")

        step = Step(key, fingerprint, body, "error", self.meter)
        answer = await world.recorder.call(self.history, step, call, lambda: world.ask.send(call, listen))
        if self.meter is not None:
            self.meter.spent(answer.usage.total)
        return answer

    def _call_name(self, name: str | None, digest: str) -> str:
        if name is not None:
            if name in self.names:
                raise Refused(f"call {name!r} is used twice under {self.key}")
            self.names[name] = 1
            return name
        same = f"llm:{digest[:12]}"
        self.names[same] = count = self.names.get(same, 0) + 1
        return f"{same}#{count}"

    def sample_seed(self, *parts: str | int) -> int:
        """A seed for a draw below this key, in its present generation."""
        return seed_of(self.world.seed, *parts, self.history.generation(self.key))


class BlockingContext:
    """The Context of a sync function, which runs in a thread: `ask` and `step` wait for their result."""

    def __init__(self, ctx: Context, loop: asyncio.AbstractEventLoop) -> None:
        self._ctx, self._loop = ctx, loop
        self.key, self.seed, self.model = ctx.key, ctx.seed, ctx.model

    def ask(self, messages: str | Sequence[Message], **options: Any) -> Answer:
        """See `Context.ask`."""
        return asyncio.run_coroutine_threadsafe(self._ctx.ask(messages, **options), self._loop).result()

    def step(self, name: str, body: Callable[..., Any], *, key: str | None = None, depends: Any = None) -> Any:
        """See `Context.step`; the body runs in a thread of its own, and is sync too."""

        async def run(below: Context) -> Any:
            arguments = (BlockingContext(below, self._loop),) if _takes_context(body) else ()
            return await in_thread(body, *arguments)

        steps = self._ctx.step(name, run, key=key, depends=depends)
        return asyncio.run_coroutine_threadsafe(steps, self._loop).result()


async def in_thread(body: Callable[..., Any], *arguments: Any) -> Any:
    """Run a sync function in a thread of its own: a pool could fill up with bodies that wait for steps in it."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_exception(error) if error is not None else future.set_result(value)

    def run() -> None:
        value, error = None, None
        try:
            value = body(*arguments)
        except BaseException as found:
            error = found
        with suppress(RuntimeError):  # the loop is gone: the run was stopped while the body went on
            loop.call_soon_threadsafe(settle, value, error)

    Thread(target=run, name="onward body", daemon=True).start()
    return await future


def _takes_context(body: Callable[..., Any]) -> bool:
    try:
        needed = [
            parameter for parameter in inspect.signature(body).parameters.values()
            if parameter.default is parameter.empty and parameter.kind in (0, 1)
        ]  # fmt: skip
    except (TypeError, ValueError):
        return False
    return len(needed) == 1


def trial_context(world: World, key: Key, history: History, bounds: Mapping[str, Any]) -> Context:
    """The context of a trial, with what its earlier attempts used of its own limits."""
    seconds, tokens = bounds.get("time"), bounds.get("tokens")
    meter = None
    if seconds is not None or tokens is not None:
        meter = Meter(world.recorder.clock, seconds, history.active(), tokens)
    return Context(key, world, history, meter)
