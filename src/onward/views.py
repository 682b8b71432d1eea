"""What a run shows: folds over its entries. Rebuildable at any moment; nothing here writes.

Error is not failure is not missing. A failed trial counts 0; errors and missing are counted beside the mean, never in
it. Scores say what they are: the first go, and after reruns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from onward.entry import Entry, unpack_value
from onward.keys import Key
from onward.plan import STAGES, Result, Shape, fold
from onward.runs import Run
from onward.stats import mean_with_error

__all__ = ["Mean", "SolverSummary", "Summary", "Trial", "below_mark", "completed_through", "summary", "trial", "trials"]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of scores with its standard error (clustered by task over trials), over `n` trials."""

    value: float
    error: float
    n: int


@dataclass(slots=True)
class SolverSummary:
    """One solver's part of a run."""

    planned: int = 0
    ok: int = 0
    failed: int = 0
    timeout: int = 0
    errors: int = 0
    missing: int = 0
    unscored: int = 0
    rerun: int = 0
    """Trials that count in a later generation than their first."""
    scores: dict[str, Mean] = field(default_factory=dict)
    first_go: dict[str, Mean] = field(default_factory=dict)
    """The same scores as of the first generation, where some trials were done again."""

    @property
    def owed(self) -> int:
        """Trials that a resume would do."""
        return self.errors + self.missing


@dataclass(slots=True)
class Summary:
    """A run at a glance."""

    run: str
    id: str
    created: str
    last_write: str
    planned: int
    completed_through: str | None
    """The last stage that every trial has been through; None: not even generate."""
    usd: float
    tokens: int
    calls: int
    reused_usd: float
    reused: int
    doubt_usd: float
    doubt: int
    solvers: dict[str, SolverSummary] = field(default_factory=dict)

    @property
    def done(self) -> int:
        """Trials that are settled through every stage or ended in a failure."""
        return sum(part.ok + part.failed + part.timeout for part in self.solvers.values())

    @property
    def owed(self) -> int:
        """Trials that a resume would do."""
        return self.planned - self.done


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


def _outcome(heads: Mapping[str, Result], shape: Shape, *, scored: bool, until: str | None = None) -> str:
    """A trial's outcome from the heads under it."""
    for stage in shape.until(until):
        if stage == "score" and not scored:
            continue
        found = [heads.get(step) for step in shape.steps(stage)]
        if not found:
            continue
        if any(head is not None and head.outcome == "error" for head in found):
            return "error"
        if any(head is None for head in found):
            return "missing"
        bad = [head.outcome for head in found if head is not None and head.outcome != "ok"]
        if len(bad) == len(found) and stage in ("generate", "reduce", "parse"):
            return bad[0]
    return "ok"


def _values(run: Run) -> tuple[dict[str, float], dict[str, float]]:
    """Score values by key: those that count now, and those of the first generation."""
    now: dict[str, float] = {}
    first: dict[str, float] = {}
    for seq, row in run.journal.rows("", kinds=("result",)):
        if row.outcome != "ok" or row.key.count("/") != 4:
            continue
        stage = row.key.split("/", 4)[3]
        if stage in ("score", "judge"):
            value = json.loads(row.body)["value"]
            number = float((value if "value" in value else unpack_value(json.dumps(value), run.journal.blob))["value"])
            if row.generation == 0:
                first[row.key] = number
            if not run.voids.count or seq > run.voids.since(row.key):
                now[row.key] = number
    return now, first


def summary(run: Run, until: str | None = None) -> Summary:
    """A run at a glance: one pass over its heads, one over its scores."""
    sums, facts = run.journal.sums(), run.facts["run"]
    found = Summary(
        run.name, run.id, facts["created"], _last_write(run), len(run.plan), completed_through(run), *sums.spent,
        sums.reused[0], sums.reused[2], sums.doubt[0], sums.doubt[2],
    )  # fmt: skip
    heads = dict(fold(run.heads(), run.voids))
    now, first = _values(run)
    names = (*run.plan.shape.scores, *run.plan.shape.judges)
    steps = [*run.plan.shape.steps("score"), *run.plan.shape.steps("judge")]
    samples: dict[tuple[str, str, bool], list[tuple[str, float]]] = {}
    for chunk in run.plan.chunks:
        for solver, task, key in run.plan.trial_keys(chunk):
            part = found.solvers.setdefault(solver, SolverSummary())
            scored = task not in chunk.unscored
            outcome = _outcome(heads.get(key, {}), run.plan.shape, scored=scored, until=until)
            _count(part, outcome, scored=scored, again=run.voids.generation(f"{key}/generate/0") > 0)
            for name, step in zip(names, steps, strict=True):
                if not scored and step.startswith("score/"):
                    continue
                full = f"{key}/{step}"
                for values, is_now in ((now, True), (first, False)):
                    value = 0.0 if is_now and outcome in ("failed", "timeout") else values.get(full)
                    if value is not None:
                        samples.setdefault((solver, name, is_now), []).append((task, value))
    for (solver, name, is_now), pairs in samples.items():
        part = found.solvers[solver]
        value, error = mean_with_error(pairs)
        (part.scores if is_now else part.first_go)[name] = Mean(value, error, len(pairs))
    for part in found.solvers.values():
        if not part.rerun:
            part.first_go = {}
    return found


def _count(part: SolverSummary, outcome: str, *, scored: bool, again: bool) -> None:
    part.planned += 1
    part.unscored += not scored
    part.rerun += again
    if outcome == "error":
        part.errors += 1
    elif outcome == "missing":
        part.missing += 1
    else:
        setattr(part, outcome, getattr(part, outcome) + 1)


def _last_write(run: Run) -> str:
    last = run.journal.head().seq
    for _, row in run.journal.rows("", after=max(0, last - 1)):
        return row.at
    return str(run.facts["run"]["created"])


def completed_through(run: Run) -> str | None:
    """The last stage that every planned trial has been through; None if some have not generated."""
    reached = None
    planned = len(run.plan)
    for stage in STAGES:
        if not run.plan.shape.steps(stage):
            continue
        settled = sum(1 for standing in run.standings(stage).values() if standing == "settled")
        if settled < planned:
            break
        reached = stage
    return reached


def trial(run: Run, key: Key, *, scored: bool = True) -> Trial:
    """One trial, whole."""
    found = Trial(key, "missing", generation=run.voids.generation(f"{key}/generate/0"))
    heads: dict[str, Result] = {}
    newest: dict[str, Entry] = {}
    for entry in run.entries(key, ("intent", "result")):
        found.started = found.started or entry.at
        found.ended = entry.at
        if entry.kind != "result":
            continue
        found.calls += entry.tokens is not None
        found.usd += 0.0 if entry.reused else entry.usd or 0.0
        found.tokens += entry.tokens or 0
        found.reused += entry.reused
        found.attempts = max(found.attempts, entry.attempt)
        if entry.seq > run.voids.since(entry.key):
            relative = entry.key[len(key) + 1 :]
            newest[relative] = entry
            digest = entry.fingerprint.digest if entry.fingerprint else None
            heads[relative] = Result(entry.key, entry.seq, str(entry.outcome), entry.generation, digest)
    found.outcome = _outcome(heads, run.plan.shape, scored=scored)
    _fill(found, newest, run.plan.shape)
    return found


def _fill(found: Trial, newest: Mapping[str, Entry], shape: Shape) -> None:
    for step in (*shape.steps("generate"), *shape.steps("reduce")):
        entry = newest.get(step)
        if entry is not None and entry.outcome == "ok" and (found.output is None or step == "reduce"):
            found.output = entry.value["output"]
    parsed = newest.get("parse")
    found.answer = parsed.value if parsed is not None and parsed.outcome == "ok" else None
    if not shape.parse:
        found.answer = found.output
    for stage in ("score", "judge"):
        for step in shape.steps(stage):
            entry = newest.get(step)
            if entry is not None and entry.outcome == "ok":
                found.scores[Key(step).name] = entry.value
    bad = [entry for entry in newest.values() if entry.outcome not in ("ok", None)]
    if bad and found.outcome != "ok":
        worst = min(bad, key=lambda entry: entry.key.count("/"))
        found.reason = str(worst.data.get("error", {}).get("reason", ""))


def trials(run: Run) -> Iterator[Trial]:
    """All planned trials, in the plan's order."""
    for chunk in run.plan.chunks:
        for _, task, key in run.plan.trial_keys(chunk):
            yield trial(run, key, scored=task not in chunk.unscored)


def below_mark(run: Run) -> list[str]:
    """Keys of the planned trials whose primary score is below the pass mark, or that have none."""
    mark = float(run.facts["identity"].get("pass_mark", 1.0))
    steps = [*run.plan.shape.steps("score"), *run.plan.shape.steps("judge")]
    now, _ = _values(run)
    heads = dict(fold(run.heads(), run.voids))
    found = []
    for chunk in run.plan.chunks:
        for _, task, key in run.plan.trial_keys(chunk):
            scored = task not in chunk.unscored
            own = steps if scored else run.plan.shape.steps("judge")
            outcome = _outcome(heads.get(key, {}), run.plan.shape, scored=scored)
            value = now.get(f"{key}/{own[0]}") if own else None
            if outcome != "ok" or (value is not None and value < mark):
                found.append(str(key))
    return found
