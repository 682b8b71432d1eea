"""What a body holds while it runs: its key, its seed, `step()` and `ask()`.

A body sees nothing else of the house: not the journal, not the network, not whether its result was known already.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any, Protocol, Self

from onward.ask import Answer, Ask, Call, Message, Reply, Usage
from onward.entry import Outcome
from onward.episode import Episode, Told
from onward.errors import BudgetReached, CallRejected, Refused, StepTimeout, Stopping
from onward.fingerprint import Fingerprint, digest_of
from onward.history import History
from onward.keys import Key
from onward.meter import Meter
from onward.once import Recorder, Step
from onward.plan import seed_of

__all__ = [
    "Answer", "Ask", "BlockingContext", "Call", "Context", "Message", "Meter", "Performer", "Usage", "World",
    "in_thread", "trial_context",
]  # fmt: skip

_ENDS = (BudgetReached, StepTimeout, Stopping)


class Performer(Protocol):
    """Performs episodes: what evaluation knows of sandboxes and agents."""

    async def perform(self, ctx: Context, episode: Episode) -> Any:
        """Let the agent work, and have its work judged: `{"output": …, …}`. Exchanges become children of `ctx`.

        Raises StepTimeout with such a value where the trial's limit ended it; StepFailed for the agent's own failure.
        """
        ...


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
    on_exchange: Callable[[Told], None] | None = None
    """Told of each exchange of an agent's, when it has its answer."""
    performer: Performer | None = None
    """Who performs the episodes of agents."""


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
    ended: Exception | None = None
    """Why nothing more may be done here: the run stops, or the trial's own limit is reached. A body that catches it
    and returns something all the same has not come to a result."""
    within: Step | None = None
    """The step that runs the body."""

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
        *, fails_as: Outcome = "failed", timed: bool = False, whole: bool = True,
    ) -> Any:  # fmt: skip
        """The verb, for a step below this one with a fingerprint of its own (`fails_as`: see `onward.once.Step`).

        `timed` against the trial's limit; not `whole`: only what its body awaits by `child.timed`."""
        child.parent = fingerprint.digest

        async def bodied() -> Any:
            value = await body()
            if child.ended is not None:
                raise child.ended
            return value

        step = Step(child.key, fingerprint, bodied, fails_as, self.meter if timed else None, whole)
        child.within = step
        try:
            return await self.world.recorder.once(self.history, step)
        finally:
            child.within = None  # the two hold each other: left alone, each would wait for the collector of cycles

    async def timed(self, body: Awaitable[Any]) -> Any:
        """Await within what is left of the trial's own limit. Raises StepTimeout, and has cancelled it then."""
        assert self.within is not None, "only a step that is timed knows its limit"
        return await self.world.recorder.timed(self.history, self.within, body)

    async def note(self, **data: Any) -> None:
        """Write down, durably, what this step is about to do."""
        assert self.within is not None, "only a step that is timed has an attempt to write to"
        await self.world.recorder.note(self.history, self.within, data)

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
            value = await value if inspect.isawaitable(value) else value
            if below.ended is not None:
                raise below.ended
            return value

        try:
            return await self.world.recorder.once(self.history, Step(below.key, fingerprint, run))
        except _ENDS as error:
            self.ended = error
            raise

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

        async def body() -> Any:
            raise AssertionError("a call is sent, not run")

        step = Step(key, fingerprint, body, "error", self.meter)
        try:
            if self.meter is not None:
                self.meter.check()
            value = await world.recorder.call(self.history, step, call, lambda: _asked(world.ask, call, listen))
            answer = Answer.from_json(value)
            if self.meter is not None:
                self.meter.spent(answer.usage.total)
        except _ENDS as error:
            self.ended = error
            raise
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
        self._ctx, self._loop, self._closed = ctx, loop, False
        self._pending: set[Future[Any]] = set()
        self.key, self.seed, self.model = ctx.key, ctx.seed, ctx.model

    def ask(self, messages: str | Sequence[Message], **options: Any) -> Answer:
        """See `Context.ask`."""
        answer: Answer = self._result(self._ctx.ask(messages, **options))
        return answer

    def step(self, name: str, body: Callable[..., Any], *, key: str | None = None, depends: Any = None) -> Any:
        """See `Context.step`; the body runs in a thread of its own, and is sync too."""

        async def run(below: Context) -> Any:
            if not _takes_context(body):
                return await in_thread(body)
            with BlockingContext(below, self._loop) as inner:
                return await in_thread(body, inner)

        return self._result(self._ctx.step(name, run, key=key, depends=depends))

    def _result(self, work: Coroutine[Any, Any, Any]) -> Any:
        if self._closed:
            work.close()
            raise Stopping(f"{self.key} is over: its thread outlived it")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        self._pending.add(future)
        self._stop_if_over(future)
        try:
            return future.result()
        finally:
            self._pending.discard(future)

    def _stop_if_over(self, future: Future[Any]) -> None:
        if self._closed:
            future.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """The step is over. A thread cannot be ended, but it can do nothing more."""
        self._closed = True
        for future in list(self._pending):
            future.cancel()


async def _asked(ask: Ask, call: Call, listen: Callable[[str], None] | None) -> Reply:
    """Send a call. Raises CallRejected for an answer with half a character: it cannot be recorded, nor asked better."""
    answer = await ask.send(call, listen)
    if not answer.text.isascii():
        try:
            answer.text.encode()
        except UnicodeEncodeError:
            raise CallRejected("the answer is not text: it holds half a character", provider=call.provider) from None
    return Reply(answer.to_json(), answer.usd, answer.usage.total)


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
        except BaseException as found:  # noqa: BLE001 (handed on to whoever awaits it)
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
        own = bool(bounds.get("fresh"))
        used = history.settled_tokens(own=own) if tokens is not None else 0
        meter = Meter(world.recorder.clock, seconds, history.active(own=own), tokens, used, own=own)
    return Context(key, world, history, meter)
