"""How an invocation goes, for whoever watches: counts that a display can draw at any moment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from onward.episode import Told
from onward.keys import Key
from onward.meter import Meter
from onward.once import Event

__all__ = ["Event", "Progress", "Quiet", "Watch"]


@dataclass(slots=True)
class Progress:
    """Counts of one invocation. Trials that earlier invocations settled are in `before`."""

    run: str
    total: int
    before: int
    wanted: int
    """Trials that this invocation set out to settle (less than what is owed, where it was narrowed)."""
    primary: str = ""
    """The score shown live."""
    settled: int = 0
    failed: int = 0
    errors: int = 0
    retries: int = 0
    calls: int = 0
    unpriced: int = 0
    """Calls of which nobody knows what they cost: they are no part of `usd`."""
    reused: int = 0
    served: int = 0
    """Exchanges that were given to an agent again."""
    usd: float = 0.0
    """Spent in this invocation, where prices are known."""
    spent_before: float = 0.0
    reused_usd: float = 0.0
    tokens: int = 0
    in_flight: int = 0
    """Trials that are open."""
    asking: Callable[[], int] = lambda: 0
    """Calls that are in flight now."""
    working: dict[Key, Meter] = field(default_factory=dict)
    """Agents' trials that are open: what each has used of its time, and whether it is at work now."""
    score_sum: float = 0.0
    scored: int = 0
    started: float = 0.0
    """Seconds on the run's clock that never jumps."""
    note: str = ""
    """What it waits for, if it does."""

    @property
    def done(self) -> int:
        """Trials settled so far, all invocations together."""
        return self.before + self.settled

    @property
    def mean(self) -> float | None:
        """Mean of the primary score over what this invocation has scored."""
        return self.score_sum / self.scored if self.scored else None

    def take(self, event: Event) -> None:
        """Count what happened."""
        if event.type == "step.completed":
            if event.tokens is not None:
                self.calls += 1
                self.usd += event.usd or 0.0
                self.unpriced += event.usd is None
                self.tokens += event.tokens
        elif event.type == "step.reused":
            self.reused += 1
            self.served += event.tokens is not None
        elif event.type == "step.retried":
            self.retries += 1

    def score(self, scores: Mapping[str, Any]) -> None:
        """Take in a settled trial's scores; a failed one has none and counts as 0."""
        value = scores.get(self.primary)
        self.scored += 1
        self.score_sum += float(value["value"]) if value else 0.0


class Watch(Protocol):
    """Who is told. Every method returns quickly; it is called on the event loop."""

    def say(self, line: str) -> None:
        """One line for people."""
        ...

    def begin(self, progress: Progress, facts: Mapping[str, Any]) -> None:
        """The run starts or goes on; `progress` changes from here on. `facts`: run id, folder, arguments."""
        ...

    def event(self, event: Event) -> None:
        """A step was completed, reused, retried, or failed."""
        ...

    def text(self, key: Key, text: str) -> None:
        """A piece of a streamed answer."""
        ...

    def exchange(self, told: Told) -> None:
        """An agent has its answer, where answers are streamed."""
        ...

    def trial(self, key: Key, outcome: str, scores: Mapping[str, Any], output: Any) -> None:
        """A trial was settled or left owed (`error`)."""
        ...

    def end(self, facts: Mapping[str, Any]) -> None:
        """The invocation ended; always the last call, also on abort."""
        ...


@dataclass(slots=True)
class Quiet:
    """Watches nothing, but keeps the lines: what Python callers get."""

    lines: list[str] = field(default_factory=list)

    def say(self, line: str) -> None:
        """Keep it."""
        self.lines.append(line)

    def begin(self, progress: Progress, facts: Mapping[str, Any]) -> None:
        """Nothing."""

    def event(self, event: Event) -> None:
        """Nothing."""

    def text(self, key: Key, text: str) -> None:
        """Nothing."""

    def exchange(self, told: Told) -> None:
        """Nothing."""

    def trial(self, key: Key, outcome: str, scores: Mapping[str, Any], output: Any) -> None:
        """Nothing."""

    def end(self, facts: Mapping[str, Any]) -> None:
        """Nothing."""
