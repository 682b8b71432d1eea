"""Trials as they stand, one or all: outcome, answer, scores, money, times."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from onward.entry import Entry, unpack
from onward.journal import Stored
from onward.keys import Key
from onward.plan import Result
from onward.runs import Run
from onward.views.means import outcome_of, trial_of
from onward.views.summary import planned_trials

__all__ = ["Trial", "follow", "is_reused", "trial", "trials"]


@dataclass(slots=True)
class Trial:
    """One trial as it stands."""

    key: Key
    outcome: str
    """`ok`, `failed`, `timeout`, `error` or `missing`."""
    output: Any = None
    answer: Any = None
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    reason: str = ""
    attempts: int = 0
    calls: int = 0
    usd: float = 0.0
    tokens: int = 0
    reused: int = 0
    reused_usd: float = 0.0
    generation: int = 0
    started: str = ""
    ended: str = ""

    @property
    def solver(self) -> str:
        """The solver's name."""
        return self.key.names[0]

    @property
    def task(self) -> str:
        """The task's id."""
        return self.key.names[1]

    @property
    def number(self) -> str:
        """Which trial of its task it is, from 1."""
        return self.key.names[2]


def is_reused(body: str) -> bool:
    """Whether a row's body says that it was taken over from another run."""
    return '"origin":' in body and "origin" in json.loads(body)


@dataclass(slots=True)
class _Gathered:
    """What a pass over the journal keeps of one trial: rows of its stages, packed, and sums over all the rest."""

    trial: Trial
    newest: dict[str, Stored] = field(default_factory=dict)
    trouble: Stored | None = None
    own: bool = False
    """Whether something of it happened in this run."""

    def take(self, stored: Stored, relative: str, since: int) -> None:
        """Take in one intent or result."""
        row, trial = stored.row, self.trial
        reused = is_reused(row.body)
        if not reused and not self.own:
            self.own, trial.started = True, ""  # what it took over happened elsewhere, at another time
        if not (reused and self.own):
            trial.started, trial.ended = trial.started or row.at, row.at
        if row.kind != "result":
            return
        trial.attempts = max(trial.attempts, row.attempt)
        if reused:
            trial.reused += 1
            trial.reused_usd += row.usd or 0.0
        else:
            trial.calls += row.tokens is not None
            trial.usd += row.usd or 0.0
            trial.tokens += row.tokens or 0
        if stored.seq <= since:
            return
        if relative.count("/") <= 1:
            self.newest[relative] = stored
        elif row.outcome != "ok":
            self.trouble = stored
        elif self.trouble is not None and self.trouble.row.key == row.key:
            self.trouble = None


def _gather(run: Run, rows: Iterable[Stored]) -> dict[str, _Gathered]:
    found: dict[str, _Gathered] = {}
    for stored in rows:
        key = trial_of(stored.row.key)
        gathered = found.get(key)
        if gathered is None:
            generation = run.voids.generation(f"{key}/generate/0")
            gathered = found[key] = _Gathered(Trial(Key(key), "missing", generation=generation))
        since = run.voids.since(stored.row.key) if run.voids.count else 0
        gathered.take(stored, stored.row.key[len(key) + 1 :], since)
    return found


def _finished(run: Run, gathered: _Gathered, *, scored: bool) -> Trial:
    """The trial with its values, which are read only here."""
    found, shape = gathered.trial, run.plan.shape
    heads = {
        step: Result(row.key, seq, str(row.outcome), row.generation, row.fingerprint)
        for step, (seq, row) in gathered.newest.items()
    }
    found.outcome = outcome_of(heads, shape, scored=scored)
    entries = {step: unpack(row, run.journal.blob, seq=seq) for step, (seq, row) in gathered.newest.items()}
    _fill(run, found, entries)
    bad = [entry for entry in entries.values() if entry.outcome != "ok"]
    if found.outcome != "ok" and (bad or gathered.trouble is not None):
        stored = gathered.trouble
        worst = bad[0] if bad else unpack(stored.row, run.journal.blob) if stored else None
        found.reason = str(worst.data.get("error", {}).get("reason", "")) if worst is not None else ""
    return found


def _fill(run: Run, found: Trial, entries: Mapping[str, Entry]) -> None:
    shape = run.plan.shape
    for step in (*shape.steps("generate"), *shape.steps("reduce")):
        entry = entries.get(step)
        if entry is not None and entry.value is not None and (found.output is None or step == "reduce"):
            found.output = entry.value["output"]
    parsed = entries.get("parse")
    found.answer = parsed.value if parsed is not None and parsed.outcome == "ok" else None
    if not shape.parse:
        found.answer = found.output
    for stage in ("score", "judge"):
        for step in shape.steps(stage):
            entry = entries.get(step)
            if entry is not None and entry.outcome == "ok":
                found.scores[Key(step).name] = entry.value


_KINDS = ("intent", "result")


def trial(run: Run, key: Key, *, scored: bool = True) -> Trial:
    """One trial, whole."""
    gathered = _gather(run, run.journal.rows(key, kinds=_KINDS)).get(key)
    return Trial(key, "missing") if gathered is None else _finished(run, gathered, scored=scored)


def trials(run: Run) -> Iterator[Trial]:
    """All planned trials, in the plan's order, by one pass over the journal."""
    gathered = _gather(run, run.journal.rows("", kinds=_KINDS))
    for _, _, key, scored in planned_trials(run):
        one = gathered.pop(key, None)
        yield Trial(key, "missing") if one is None else _finished(run, one, scored=scored)


def follow(run: Run, after: int) -> tuple[list[Entry], int]:
    """What the stages have come to since `after`: the results in order, and the seq to go on from.

    It reads what is committed and waits for nothing, so it never holds up the writer.
    """
    end, found = run.journal.head().seq, list[Entry]()
    for seq, row in run.journal.rows("", after=after, kinds=("result",)):
        end = max(end, seq)
        if row.key.count("/") in (3, 4):
            found.append(unpack(row, run.journal.blob, seq=seq))
    return found, end
