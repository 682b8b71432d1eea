"""What went wrong, grouped by reason; and what left and never came back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from onward.entry import Entry, unpack
from onward.journal import Stored
from onward.keys import Key
from onward.runs import Run
from onward.views.means import outcome_of, standings, trial_of
from onward.views.summary import planned_trials

__all__ = ["Attempt", "Doubt", "Trouble", "in_doubt", "troubles"]

_PASSED_ON = frozenset({"StepOwed", "StepFailed", "StepTimeout"})
"""Kinds of a step that only passes on what a step below it ended with."""
_COUNTED = re.compile(r" \(\d+ attempts\)$")


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt that did not end well."""

    key: Key
    number: int
    at: str
    outcome: str
    reason: str


@dataclass(slots=True)
class Trouble:
    """One reason, and the trials that it holds up or made fail."""

    outcome: str
    """`error` (owed again), `failed` or `timeout` (they count as 0)."""
    kind: str
    reason: str
    trials: list[Key] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    trace: str = ""


def troubles(run: Run) -> tuple[list[Trouble], int]:
    """The reasons, errors first and then by how many trials they concern; and how many trials with an attempt that
    went wrong have come out well since."""
    heads, wrong = standings(run), dict[str, str]()
    for _, _, key, scored in planned_trials(run):
        outcome = outcome_of(heads.get(key, {}), run.plan.shape, scored=scored)
        if outcome != "ok":
            wrong[key] = outcome
    by_trial: dict[str, list[Stored]] = {}
    repaired: set[str] = set()
    healed: set[str] = set()
    for stored in run.journal.rows("", kinds=("result",)):
        if stored.row.outcome == "ok":
            healed.add(stored.row.key)
            continue
        healed.discard(stored.row.key)
        trial = trial_of(stored.row.key)
        if trial not in wrong:
            repaired.add(trial)
        elif stored.seq > run.voids.since(stored.row.key):
            by_trial.setdefault(trial, []).append(stored)
    groups: dict[tuple[str, str, str], Trouble] = {}
    for trial, found in by_trial.items():
        entries = [unpack(row, run.journal.blob, seq=seq) for seq, row in found]
        standing = [entry for entry in entries if entry.key not in healed]
        if not standing:
            continue  # it was cut off after all of that had been made good
        worst = min(reversed(standing), key=lambda entry: entry.key.count("/"))
        outcome = "error" if wrong[trial] == "missing" else wrong[trial]
        error = worst.data.get("error", {})
        inner = [entry for entry in entries if entry.key != worst.key] if error.get("kind") in _PASSED_ON else []
        kind = str((inner[-1] if inner else worst).data.get("error", {}).get("kind", ""))
        reason = _COUNTED.sub("", _reason(worst))
        group = groups.setdefault((outcome, kind, reason), Trouble(outcome, kind, reason))
        group.trials.append(Key(trial))
        group.trace = group.trace or str(error.get("trace", ""))
        shown = inner or entries
        group.attempts += [Attempt(e.key, e.attempt, e.at, str(e.outcome), _reason(e)) for e in shown]
    order = {"error": 0, "timeout": 1, "failed": 2}
    return sorted(groups.values(), key=lambda group: (order[group.outcome], -len(group.trials))), len(repaired)


def _reason(entry: Entry) -> str:
    return str(entry.data.get("error", {}).get("reason", "no reason was recorded"))


@dataclass(frozen=True, slots=True)
class Doubt:
    """A call that left and whose answer is not in the journal: in flight, or cut off by a kill."""

    key: Key
    attempt: int
    since: str
    model: str
    usd: float | None
    """At most so much; None where price or largest output is unknown."""
    tokens: int
    again: bool
    """Whether a later attempt of the same call has been made since."""


def in_doubt(run: Run) -> list[Doubt]:
    """Calls without a result, oldest first."""
    waiting: dict[tuple[str, int, int], Stored] = {}
    last: dict[str, int] = {}
    for stored in run.journal.rows("", kinds=("intent", "result")):
        row = stored.row
        if row.kind == "result":
            waiting.pop((row.key, row.generation, row.attempt), None)
        elif row.tokens is not None:
            waiting[row.key, row.generation, row.attempt] = stored
        last[row.key] = stored.seq
    return [_doubt(run, stored, again=last[stored.row.key] > stored.seq) for stored in waiting.values()]


def _doubt(run: Run, stored: Stored, *, again: bool) -> Doubt:
    row = stored.row
    data: dict[str, Any] = dict(unpack(row, run.journal.blob, seq=stored.seq).data)
    model = "/".join(str(data[name]) for name in ("provider", "model") if data.get(name))
    return Doubt(Key(row.key), row.attempt, row.at, model, row.usd, row.tokens or 0, again)


def attempts_of(group: Trouble) -> Iterator[Attempt]:
    """The attempts of one reason, by trial."""
    yield from sorted(group.attempts, key=lambda attempt: (attempt.key, attempt.at))
