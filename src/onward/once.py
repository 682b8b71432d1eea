"""The verb. Every grain of work goes through `Recorder.once`; with plan and void entries it alone appends.

    its result is in the journal  →  return it, or raise it if what was recorded is a failure
    it is not, or is owed again   →  run the body, append the result, return it

A hit on a parent hides its children; a miss runs the body again, and its children hit. That is all of resuming.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections import ChainMap, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from typing import Any, NamedTuple, Protocol

from onward.ask import Call, Reply
from onward.clock import Clock, iso
from onward.entry import Entry, Links, Outcome, Row, Turns, pack, unpack
from onward.errors import (
    BudgetReached,
    CallError,
    CallTransient,
    OnwardError,
    ProviderStopped,
    Refused,
    StepError,
    StepFailed,
    StepOwed,
    StepTimeout,
    Stopping,
)  # fmt: skip
from onward.fingerprint import Fingerprint, plain
from onward.history import History
from onward.journal.contract import Journal, Stored
from onward.keys import ROOT, Key
from onward.limits import Limits
from onward.retry import Retry

__all__ = ["Event", "Missing", "Recorder", "Step"]

_UNTIMED = nullcontext()
_RAISED = {"failed": StepFailed, "timeout": StepTimeout, "error": StepOwed}


class Event(NamedTuple):
    """What listeners are told, after it is durable: `step.completed`, `step.reused`, `step.failed`, `step.retried`."""

    type: str
    key: Key
    outcome: str
    usd: float | None = None
    tokens: int | None = None
    detail: Mapping[str, Any] | None = None


class Timer(Protocol):
    """What bounds a step's active time (see `onward.context.Meter`)."""

    async def run(self, body: Awaitable[Any], tick: Callable[[float], Awaitable[None]]) -> Any:
        """Await the body within what is left; raise StepTimeout at the limit; call `tick` every five seconds."""
        ...

    def waiting(self) -> AbstractContextManager[None]:
        """For our own limiter, or for a provider's Retry-After: it does not count, unless a call is under way."""
        ...

    def sending(self) -> AbstractContextManager[None]:
        """A call is under way."""
        ...

    @property
    def active(self) -> float:
        """Seconds counted so far, over all attempts."""
        ...


class Step(NamedTuple):
    """One call of the verb."""

    key: Key
    fingerprint: Fingerprint
    body: Callable[[], Awaitable[Any]]
    fails_as: Outcome = "failed"
    """What an exception of the body's own means: the thing under test `failed`, or an `error` of ours."""
    timer: Timer | None = None
    whole: bool = True
    """Whether the timer bounds the whole body; else the body says what it bounds (`Recorder.timed`)."""


class Missing(Exception):
    """Raised by a `Peek` instead of running a body: the step is owed, and why (`changes` of its fingerprint)."""

    def __init__(self, key: Key, why: str, changes: Sequence[str] = ()) -> None:
        super().__init__(f"{key}: {why}")
        self.key, self.why, self.changes = key, why, list(changes)
        self.others: list[Missing] = []
        """Further steps of the same trial that are owed."""


class _Acknowledgements:
    """From the writer's thread to the loop: one wake-up for all that became durable together."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._landed: deque[tuple[asyncio.Future[None], BaseException | None]] = deque()
        self._called = False

    def expect(self) -> tuple[asyncio.Future[None], Callable[[BaseException | None], None]]:
        future: asyncio.Future[None] = self._loop.create_future()

        def done(error: BaseException | None) -> None:
            self._landed.append((future, error))
            if not self._called:
                self._called = True
                self._loop.call_soon_threadsafe(self._settle)

        return future, done

    def _settle(self) -> None:
        self._called = False
        while self._landed:
            future, error = self._landed.popleft()
            if future.done():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)


class Recorder:
    """The one way into a run's journal. Made inside the event loop of the run's driver, which holds the lease."""

    def __init__(self, journal: Journal, clock: Clock, limits: Limits, retry: Retry | None = None) -> None:
        self.journal, self.clock, self.limits = journal, clock, limits
        self.retry = retry or Retry()
        self.listeners: list[Callable[[Event], None]] = []
        self.broken: BaseException | None = None
        """Why the journal took an entry no more. Nothing is appended after that, and no step is judged by it."""
        self._acks = _Acknowledgements()
        self._links = Links()
        self._noted = (0, "")
        self._open: dict[Key, int] = {}
        """The attempt under way at each step that has a timer."""

    # the verb

    async def once(self, history: History, step: Step) -> Any:
        """The step's value: recorded, or made now. Raises StepFailed, StepTimeout or StepOwed as recorded or made."""
        kept = history.newest(step.key)
        if kept is not None and kept.row.fingerprint == step.fingerprint.digest and kept.row.outcome != "error":
            return self._recall(kept)
        return await self._run(history, step)

    async def call(self, history: History, step: Step, call: Call, send: Callable[[], Awaitable[Reply]]) -> Any:
        """`once` for a leaf that costs money: permitted, intended, sent, and tried again within bounds."""
        kept = history.newest(step.key)
        if kept is not None and kept.row.fingerprint == step.fingerprint.digest and kept.row.outcome != "error":
            return self._recall(kept)
        return await self._send(history, step, call, send)

    async def served(self, history: History, key: Key, data: Mapping[str, Any]) -> Any:
        """The recorded value of an exchange that is given again to an agent whose body runs again, which is noted.

        `data`: digest of the live request, match level, first difference. Raises LookupError where there is no value.
        """
        kept = history.newest(key)
        if kept is None or kept.row.outcome != "ok":
            raise LookupError(f"{key} has no recorded value")
        value = self._recall(kept)
        generation = history.generation(key)
        entry = Entry("served", key, self._at(), data, attempt=kept.row.attempt, generation=generation)
        await self._append(entry, None)
        return value

    def _recall(self, kept: Stored) -> Any:
        entry = unpack(kept.row, self.journal.blob, seq=kept.seq)
        self._tell("step.reused", entry.key, kept.row.outcome or "", entry.usd, entry.tokens)
        if entry.outcome == "ok":
            return entry.value
        error = entry.data.get("error", {})
        made = _RAISED[str(entry.outcome)]
        reason = error.get("reason", "no reason was recorded")
        raise made(reason, key=entry.key, kind=error.get("kind", ""), value=entry.value)

    async def _run(self, history: History, step: Step) -> Any:
        attempt = history.attempts(step.key) + 1
        try:
            value = plain(await (step.body() if step.timer is None else self._bounded(history, step, attempt)))
        except (Stopping, BudgetReached, Missing):
            raise
        except Exception as error:
            outcome = _outcome_of(error, step.fails_as)
            if outcome is None or self.broken is not None:
                raise
            data: dict[str, Any] = {"error": _described(error)}
            if isinstance(error, StepTimeout) and error.value is not None:
                data["value"] = plain(error.value)
            await self._result(history, step, attempt, outcome, data)
            said, made = data["error"], type(error) if isinstance(error, StepError) else _RAISED[outcome]
            raise made(said["reason"], key=step.key, kind=said["kind"], value=data.get("value")) from error
        await self._result(history, step, attempt, "ok", {"value": value})
        return value

    async def _bounded(self, history: History, step: Step, attempt: int) -> Any:
        self._open[step.key] = attempt
        try:
            return await (self.timed(history, step, step.body()) if step.whole else step.body())
        finally:
            del self._open[step.key]

    async def timed(self, history: History, step: Step, body: Awaitable[Any]) -> Any:
        """Await what the step's timer bounds; its active time is noted as it goes, so that a kill forgets little."""
        timer = step.timer
        assert timer is not None

        async def tick(active: float) -> None:
            await self.note(history, step, {"active": round(active, 3)})

        return await timer.run(body, tick)

    async def note(self, history: History, step: Step, data: Mapping[str, Any]) -> None:
        """Write down what is about to be done in an attempt that is under way: a sandbox to be made, time used."""
        await self._append(self._entry("intent", history, step, self._open[step.key], data), history)

    async def _result(
        self, history: History, step: Step, attempt: int, outcome: Outcome, data: dict[str, Any],
        *, usd: float | None = None, tokens: int | None = None,
    ) -> None:  # fmt: skip
        if step.timer is not None:
            data["active"] = round(step.timer.active, 3)
        entry = self._entry("result", history, step, attempt, data, outcome=outcome, usd=usd, tokens=tokens)
        await self._append(entry, history)
        detail = data.get("error")
        self._tell("step.completed" if outcome == "ok" else "step.failed", step.key, outcome, usd, tokens, detail)

    # leaves

    async def _send(self, history: History, step: Step, call: Call, send: Callable[[], Awaitable[Reply]]) -> Any:
        failures = 0
        while True:
            if self.journal.low:
                self.limits.stop("the disk is nearly full: make room, then resume")
            with step.timer.waiting() if step.timer else _UNTIMED:
                permit = await self.limits.enter(call)
            attempt = history.attempts(step.key) + 1
            usd: float | None = None
            tokens: int | None = None
            trouble: CallError | None = None
            try:
                await self._intent(history, step, call, attempt)
                with step.timer.sending() if step.timer else _UNTIMED:
                    value, usd, tokens = await _replied(send, call)
                await self._result(history, step, attempt, "ok", {"value": value}, usd=usd, tokens=tokens)
                return value
            except CallError as error:
                trouble = error
                usd, tokens = (call.usd, call.tokens) if error.sent_whole else (None, None)
                data = {"error": _described(error)}
                outcome: Outcome = "failed" if error.outcome == "failed" else "error"
                await self._result(history, step, attempt, outcome, data, usd=usd, tokens=tokens)
            except asyncio.CancelledError:
                usd, tokens = call.usd, call.tokens
                raise
            finally:
                self.limits.leave(permit, usd=usd, tokens=tokens, error=trouble)
            failures += 1
            await self._wait_or_raise(step, trouble, failures)

    async def _intent(self, history: History, step: Step, call: Call, attempt: int) -> None:
        data = {"provider": call.provider, "protocol": call.protocol, "model": call.model, "request": call.body}
        entry = self._entry("intent", history, step, attempt, data, usd=call.usd, tokens=call.tokens or 0)
        await self._append(entry, history, call.turns)

    async def _wait_or_raise(self, step: Step, error: CallError, failures: int) -> None:
        """Wait before the next attempt, or raise what the step comes to. The permit is given back already."""
        if isinstance(error, ProviderStopped):
            error.recorded = True
            raise error
        if error.outcome == "failed":
            raise StepFailed(str(error), key=step.key, kind=type(error).__name__) from error
        pause = self.retry.wait(failures, error.retry_after, random.random())
        if pause is None:
            after = f"({failures} attempt{'s' if failures > 1 else ''})"
            raise StepOwed(f"{error} {after}", key=step.key, kind=type(error).__name__) from error
        self._tell("step.retried", step.key, "error", None, None, {**_described(error), "wait": round(pause, 1)})
        if error.retry_after:
            return
        with step.timer.waiting() if step.timer else _UNTIMED:
            await self.limits.pause(pause)

    # plans and voids: the only other entries, both about what is wanted

    async def plan(self, data: Mapping[str, Any], blobs: Mapping[bytes, bytes], taken_over: Iterable[Row] = ()) -> None:
        """Write or extend the plan, with what is taken over from other runs: all in one transaction.

        A plan is extended, never silently changed. `taken_over` and `blobs` are drawn from as they are written.
        """
        row, named = pack(Entry("plan", ROOT, iso(self.clock.now()), data))
        landed, done = self._acks.expect()
        every: Mapping[bytes, bytes] = ChainMap(named, blobs)  # type: ignore[arg-type]  # only read
        self.journal.append(chain([row], taken_over), every, done)
        await landed

    async def void(self, prefixes: Iterable[str], why: str) -> None:
        """Take every earlier entry under these prefixes out of account: one atomic entry for one command."""
        data = {"prefixes": list(prefixes), "why": why}
        await self._append(Entry("void", ROOT, iso(self.clock.now()), data), None)

    # appending

    def _entry(
        self, kind: Any, history: History, step: Step, attempt: int, data: Mapping[str, Any],
        *, outcome: Outcome | None = None, usd: float | None = None, tokens: int | None = None,
    ) -> Entry:  # fmt: skip
        return Entry(
            kind, step.key, self._at(), data, outcome, attempt, history.generation(step.key),
            step.fingerprint if kind == "result" else None, usd, tokens,
        )  # fmt: skip

    def _at(self) -> str:
        """Now, as entries note it: to the millisecond, and made once for all that land in the same one."""
        now = int(self.clock.now() * 1000)
        if now != self._noted[0]:
            self._noted = (now, iso(now / 1000))
        return self._noted[1]

    async def _append(self, entry: Entry, history: History | None, turns: Turns | None = None) -> None:
        if self.broken is not None:
            raise self.broken
        row, blobs = pack(entry, self._links, turns)
        landed, done = self._acks.expect()
        self.journal.append([row], blobs, done)
        try:
            await landed
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            self.broken = error
            raise
        if history is not None:
            history.add(row)

    def _tell(
        self, type_: str, key: Key, outcome: str, usd: float | None, tokens: int | None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        if self.listeners:
            event = Event(type_, key, outcome, usd, tokens, detail)
            for listener in self.listeners:
                listener(event)


async def _replied(send: Callable[[], Awaitable[Reply]], call: Call) -> Reply:
    try:
        return await send()
    except (CallError, OnwardError):
        raise
    except Exception as error:
        # A model that runs in this process can raise anything; it is the provider's trouble all the same.
        raise CallTransient(f"{type(error).__name__}: {error}", provider=call.provider) from error


def _outcome_of(error: Exception, own: Outcome) -> Outcome | None:
    """What an exception makes of the step: the recorded outcome of what it called, or what its own failing means.

    None: it is about the run, not the step (a lost lease, a damaged journal, a provider that was stopped before).
    """
    if isinstance(error, ProviderStopped):
        return "error" if error.recorded else None
    if isinstance(error, StepError | CallError):
        return error.outcome  # type: ignore[return-value]
    if isinstance(error, Refused):
        return own
    if isinstance(error, OnwardError):
        return None
    if isinstance(error, OSError) and error.errno == 28:
        return "error"
    return own


def _described(error: BaseException) -> dict[str, Any]:
    reason = error.reason if isinstance(error, StepError) else str(error)  # the key is on the entry already
    if isinstance(error, KeyError):
        reason = f"KeyError: {reason}"  # its own words are but the key
    described: dict[str, Any] = {"reason": _text(reason[:2000]) or type(error).__name__, "kind": type(error).__name__}
    if isinstance(error, CallError):
        described["status"] = error.status
    elif not isinstance(error, StepError | Refused):
        described["trace"] = _text("".join(traceback.format_exception(error)[-3:])[-2000:])
    return described


def _text(text: str) -> str:
    """Text that a journal can hold: an exception may quote half a character."""
    return text.encode("utf-8", "replace").decode()
