"""The verb without the doing: a run can be asked what it would do, and a new run what it can take over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from onward.ask import Call, Reply
from onward.clock import Clock
from onward.entry import unpack
from onward.history import History
from onward.journal.contract import Journal, Stored
from onward.limits import Limits
from onward.once import Missing, Recorder, Step

__all__ = ["Peek"]


class Peek(Recorder):
    """The same verb without the doing: what is recorded is returned, what is not raises Missing. It never appends."""

    def __init__(self, journal: Journal, clock: Clock, limits: Limits) -> None:
        super().__init__(journal, clock, limits)
        self.kept: list[Stored] = []

    def _recall(self, kept: Stored) -> Any:
        self.kept.append(kept)
        return super()._recall(kept)

    async def _run(self, history: History, step: Step) -> Any:
        raise self._missing(history, step)

    async def _send(self, history: History, step: Step, call: Call, send: Callable[[], Awaitable[Reply]]) -> Any:
        raise self._missing(history, step)

    def _missing(self, history: History, step: Step) -> Missing:
        kept = history.newest(step.key)
        if kept is None:
            return Missing(step.key, "not done yet")
        older = unpack(kept.row, self.journal.blob, seq=kept.seq).fingerprint
        if older is None or older.digest == step.fingerprint.digest:
            return Missing(step.key, "error, owed again")
        changes = step.fingerprint.changes(older.parts)
        return Missing(step.key, f"{', '.join(changes)} changed", changes)

    async def _append(self, *_: Any, **__: Any) -> None:
        raise AssertionError("a peek never appends")
