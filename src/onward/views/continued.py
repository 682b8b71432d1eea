"""A run that continues another's timed-out trials: of what, on what terms, and both scores.

What its trials had scored at their limit is kept in the run itself (`at_limit`, when it is made), so that both scores
can be told wherever the run lies. All other trials are the parent's, and count in both alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onward.runs import Run
from onward.views.means import came_to_limit, mean_of, outcome_of, read_marks, standings
from onward.views.summary import planned_trials, score_steps

__all__ = ["BothScores", "Continuation", "at_limit", "continuation", "together"]


@dataclass(frozen=True, slots=True)
class BothScores:
    """One solver's mean over the trials that have both scores."""

    solver: str
    score: str
    at_limit: float | None
    """None where nothing was scored at the limit: a recording that its host cut, say."""
    continued: float


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a continuation says of itself."""

    of: str
    """The run that it continues, by its name then."""
    trials: tuple[str, ...]
    again: tuple[str, ...]
    """Those that came to their limit once more."""
    recorded: tuple[str, ...]
    """Models that the recorded part was asked."""
    live: str
    """The model of the live part, where it was another."""
    timeout: float | None
    policy: str
    replay_only: bool
    mismatches: tuple[str, ...]
    scores: list[BothScores] = field(default_factory=list)

    @property
    def models(self) -> str:
        """`a (recorded), b (live)`, where they are two."""
        return ", ".join((*(f"{one} (recorded)" for one in self.recorded), f"{self.live} (live)")) if self.live else ""


def at_limit(run: Run, trials: Iterable[str]) -> dict[str, dict[str, float]]:
    """What these trials have scored, by trial and score. Those that were continued before have what they had scored at
    their first limit."""
    found: dict[str, dict[str, float]] = dict((run.facts.get("continues") or {}).get("at_limit", {}))
    wanted = set(trials) - set(found)
    heads, marks, shape = standings(run), read_marks(run), run.plan.shape
    for _, _, key, scored in planned_trials(run):
        if key in wanted:
            outcome = outcome_of(heads.get(key, {}), shape, scored=scored)
            own = ((name, marks.value(key, step, outcome)) for name, step in score_steps(shape))
            found[str(key)] = {name: value for name, value in own if value is not None}
    return found


def continuation(run: Run) -> Continuation | None:
    """What this run continues; None where it is no continuation."""
    facts: Mapping[str, Any] = run.facts.get("continues") or {}
    derivation: Mapping[str, Any] = run.facts["run"].get("derivation") or {}
    if derivation.get("verb") != "continue" or not facts:
        return None
    then: dict[str, dict[str, float]] = facts["at_limit"]
    own = derivation["trials"]
    heads, marks, shape = standings(run), read_marks(run), run.plan.shape
    pairs: dict[tuple[str, str], list[tuple[str, float | None, float]]] = {}
    again = []
    for solver, task, key, scored in planned_trials(run):
        outcome = outcome_of(heads.get(key, {}), shape, scored=scored)
        if key in own and came_to_limit(heads.get(key, {})):
            again.append(str(key))
        for name, step in score_steps(shape):
            value = marks.value(key, step, outcome) if scored or not step.startswith("score/") else None
            if value is not None:
                before = then[key].get(name) if key in then else value
                pairs.setdefault((solver, name), []).append((task, before, value))
    solvers = run.config["spec"].get("solver") or []
    asked = {one["model"] for one in solvers if one.get("agent") and one.get("model")}
    return Continuation(
        facts["of"], tuple(own), tuple(again), tuple(sorted(asked)), str(derivation.get("model") or ""),
        derivation.get("timeout"), str(derivation.get("on_divergence") or "warn"),
        bool(derivation.get("replay_only")), tuple(derivation.get("mismatches") or ()),
        [_both(solver, name, found) for (solver, name), found in pairs.items()],
    )  # fmt: skip


def together(found: Iterable[tuple[str, Sequence[BothScores]]]) -> list[BothScores]:
    """Of several continuations of other tasks, by names that tell them apart."""
    pairs: dict[tuple[str, str], list[tuple[str, float | None, float]]] = {}
    for name, scores in found:
        for one in scores:
            pairs.setdefault((one.solver, one.score), []).append((name, one.at_limit, one.continued))
    return [_both(solver, score, values) for (solver, score), values in pairs.items()]


def _both(solver: str, name: str, found: list[tuple[str, float | None, float]]) -> BothScores:
    """Over those that have both; where none has, the later one alone."""
    both = [(task, before, value) for task, before, value in found if before is not None]
    if not both:
        return BothScores(solver, name, None, mean_of((task, value) for task, _, value in found).value)
    limit, now = mean_of((task, before) for task, before, _ in both), mean_of((task, value) for task, _, value in both)
    return BothScores(solver, name, limit.value, now.value)
