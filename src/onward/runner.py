"""Drives trials through the window, keeps the lease, listens to the mailbox, and stops in one of two ways.

It knows nothing of what a trial does: it is given coroutines, and sorts what they end with.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field

from onward.errors import (
    BudgetReached,
    OnwardError,
    OutOfReach,
    ProviderStopped,
    StepError,
    StepFailed,
    StepTimeout,
    Stopping,
)  # fmt: skip
from onward.once import Missing, Recorder

__all__ = ["Outcome", "Runner"]

Work = Callable[[], Awaitable[None]]
_BEAT = 10.0
_POLL = 1.0


@dataclass(slots=True)
class Outcome:
    """How an invocation ended: how many trials it settled, how many it left owed, and why it stopped early."""

    settled: int = 0
    owed: int = 0
    stopped: str | None = None
    reasons: dict[str, int] = field(default_factory=dict)


class Runner:
    """Runs trials, at most `window` open at a time."""

    def __init__(self, recorder: Recorder, *, window: int, max_errors: int = 20) -> None:
        self.recorder, self.window, self.max_errors = recorder, window, max_errors
        self.outcome = Outcome()
        self._in_row = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._fatal: BaseException | None = None
        self._beaten = recorder.clock.ticks()

    def stop(self, why: str) -> None:
        """Start nothing more; what is in flight finishes."""
        self.outcome.stopped = self.outcome.stopped or why
        self.recorder.limits.stop(why)

    def stop_now(self, why: str) -> None:
        """Stop at once: what is in flight is left in doubt."""
        self.stop(why)
        for task in self._tasks:
            task.cancel()

    async def run(self, work: Iterator[Work]) -> Outcome:
        """Run all of it, or until stopped. Raises what is about the run itself: Fenced, Damaged, OSError, a bug."""
        upkeep = asyncio.create_task(self._upkeep())
        self._tasks = {asyncio.create_task(self._worker(work)) for _ in range(self.window)}
        try:
            await asyncio.wait(self._tasks)
        finally:
            upkeep.cancel()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(upkeep, *self._tasks, return_exceptions=True)
        if self._fatal is not None:
            raise self._fatal
        return self.outcome

    async def _worker(self, work: Iterator[Work]) -> None:
        while self.outcome.stopped is None:
            body = next(work, None)
            if body is None:
                return
            try:
                await body()
            except (StepFailed, StepTimeout):
                self._settled()
            except asyncio.CancelledError:
                self.outcome.owed += 1
                raise
            except BaseException as error:  # noqa: BLE001  # sorted by what it means; nothing is swallowed
                self._owed(error)
            else:
                self._settled()

    def _settled(self) -> None:
        self.outcome.settled += 1
        self._in_row = 0

    def _owed(self, error: BaseException) -> None:
        outcome = self.outcome
        outcome.owed += 1
        if isinstance(error, Stopping):
            outcome.stopped = outcome.stopped or str(error)
            return
        if isinstance(error, Missing):
            return
        if isinstance(error, BudgetReached):
            self.stop(f"budget: {error.reason}")
            return
        if not isinstance(error, StepError | ProviderStopped):
            self._fatal = self._fatal or error
            self.stop_now(f"{type(error).__name__}: {error}")
            return
        reason = str(error.reason)
        outcome.reasons[reason] = outcome.reasons.get(reason, 0) + 1
        if isinstance(error, OutOfReach):
            return
        self._in_row += 1
        if isinstance(error, StepError) and self._in_row >= self.max_errors:
            self.stop(f"{self._in_row} errors in a row, the last: {reason}")

    async def _upkeep(self) -> None:
        """Heartbeats and mail. A lost lease stops everything here, if no commit has found it out before."""
        recorder = self.recorder
        seen = 0
        while True:
            await recorder.clock.sleep(_POLL)
            try:
                if recorder.clock.ticks() - self._beaten >= _BEAT:
                    recorder.journal.beat(recorder.clock.now())
                    self._beaten = recorder.clock.ticks()
                posts = recorder.journal.poll()
                for number, message in posts:
                    if number > seen:
                        seen = number
                        self._read(message)
                if posts:
                    recorder.journal.clear(seen)
            except (OnwardError, OSError) as error:
                self._fatal = self._fatal or error
                self.stop_now(str(error))
                return

    def _read(self, message: str) -> None:
        try:
            wanted = json.loads(message)
        except ValueError:
            return
        if wanted.get("want") == "stop":
            (self.stop_now if wanted.get("now") else self.stop)("stopped by `onward stop`")
