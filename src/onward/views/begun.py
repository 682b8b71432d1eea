"""What is recorded of an agent's episode: its exchanges, how long they take to be served again, what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from onward.entry import unpack
from onward.runs import Run

__all__ = ["Begun", "replay_seconds", "samples", "unfinished"]

_STEP = 0.3
"""Seconds that an agent takes for itself between an answer and its next request (0.1 to 0.5 were seen)."""
_DEPTH = 4
"""Slashes in the key of a generate step."""

Span = tuple[float, float]


@dataclass(slots=True)
class Begun:
    """One sample of an agent's trial, as far as it has come."""

    key: str
    """Of its generate step."""
    usd: float | None = None
    """None where nothing says what it cost."""
    active: float = 0.0
    outcome: str | None = None
    """What the step came to; None: nothing yet."""
    spans: list[Span] = field(default_factory=list, repr=False)
    """When each exchange was under way."""

    @property
    def exchanges(self) -> int:
        """How many are served again."""
        return len(self.spans)

    @property
    def ended(self) -> bool:
        """Whether it has come to an end that stands."""
        return self.outcome in ("ok", "failed", "timeout")


def replay_seconds(calls: Sequence[Span]) -> float:
    """How long a replay takes: the time from the first call to the last answer in which none was under way, and a
    little for each exchange."""
    if not calls:
        return 0.0
    busy, free, until = sorted(calls), 0.0, min(calls)[0]
    for began, ended in busy:
        free += max(0.0, began - until)
        until = max(until, ended)
    return free + _STEP * len(calls)


def samples(run: Run, trial: str) -> list[Begun]:
    """Of one trial: what counts below its generate steps. What a call cost is on its result; of an imported recording,
    on the step's."""
    found: dict[str, Begun] = {}
    began: dict[str, float] = {}
    for seq, row in run.journal.rows(trial, kinds=("intent", "result")):
        if not row.key.startswith(f"{trial}/generate/") or seq <= run.voids.since(row.key):
            continue
        step = "/".join(row.key.split("/", _DEPTH + 1)[: _DEPTH + 1])
        sample = found.setdefault(step, Begun(step))
        if row.kind == "intent":
            began.setdefault(row.key, _seconds(row.at))
            continue
        if row.usd is not None:
            sample.usd = (sample.usd or 0.0) + row.usd
        if row.key == step:
            sample.outcome = row.outcome
            sample.active = float(unpack(row, run.journal.blob, seq=seq).data.get("active", 0.0))
        elif row.outcome == "ok" and row.key in began:
            sample.spans.append((began[row.key], _seconds(row.at)))
    return list(found.values())


def unfinished(run: Run, trial: str) -> Iterator[Begun]:
    """Those that were left in the middle: they are served what they were answered, and go on."""
    yield from (one for one in samples(run, trial) if one.exchanges and not one.ended)


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()
