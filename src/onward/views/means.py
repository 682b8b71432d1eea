"""Scores of a run, in one pass: what each trial comes to now, and what it came to the first time.

A trial's first go is what stood before its answer was first made again: a replay of later stages over the same answer
is still the first go, so its newest scores count.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from onward.entry import unpack_value
from onward.fingerprint import digest_of
from onward.keys import Key
from onward.plan import Result, Shape, fold
from onward.runs import Run
from onward.stats import mean_with_error

__all__ = [
    "Marks",
    "Mean",
    "Standings",
    "came_to_limit",
    "mean_of",
    "number_of",
    "outcome_of",
    "read_marks",
    "standings",
    "trial_of",
]


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of scores with its standard error (clustered by task over trials), over `n` trials."""

    value: float
    error: float
    n: int


def outcome_of(heads: Mapping[str, Result], shape: Shape, *, scored: bool, until: str | None = None) -> str:
    """A trial's outcome from the heads under it: `ok`, `failed`, `timeout`, `error` or `missing`."""
    outcome = "ok"
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
        bad = [head for head in found if head is not None and head.outcome != "ok"]
        if len(bad) == len(found) and stage in ("generate", "reduce", "parse"):
            outcome = bad[0].outcome
            if not any(map(shape.goes_on, bad)):
                break
    return outcome


def trial_of(key: str) -> str:
    """The key of the trial that a step belongs to."""
    return "/".join(key.split("/", 3)[:3])


Standings = dict[str, dict[str, Result]]
"""Trial key → relative key → head of the newest result that counts."""


def standings(run: Run) -> Standings:
    """What stands under each trial, by one pass over the index. A step whose upstream value is newer, and that was not
    made from it, does not stand: it is owed."""
    found = dict(fold(run.heads(), run.voids))
    if run.voids.count:
        for trial, heads in found.items():
            _drop_stale(run, trial, heads)
    return found


def came_to_limit(heads: Mapping[str, Result]) -> bool:
    """Whether a limit ended the work, whatever was made of what it had come to: an answer that is not there yet is
    one that cannot be parsed, too."""
    return any(step.startswith("generate/") and head.outcome == "timeout" for step, head in heads.items())


def _drop_stale(run: Run, trial: str, heads: dict[str, Result]) -> None:
    """Take out what was made from a value that has been replaced since (a redo that was cut off does that)."""
    above = 0
    for stage in ("generate", "reduce", "parse", "score", "judge"):
        steps = [step for step in heads if step.partition("/")[0] == stage]
        if steps and any(heads[step].seq < above for step in steps):
            later = [step for step in heads if _ORDER[step.partition("/")[0]] >= _ORDER[stage]]
            kept = _made_from_what_stands(run, trial, heads)
            for step in later:
                if step not in kept:
                    del heads[step]
            return
        if stage in ("generate", "reduce", "parse") and steps:
            above = max(above, *(heads[step].seq for step in steps))


_ORDER = {"generate": 0, "reduce": 1, "parse": 2, "score": 3, "judge": 4}


def _made_from_what_stands(run: Run, trial: str, heads: Mapping[str, Result]) -> set[str]:
    """The steps whose recorded dependence on the value above them is on the value that stands there."""
    shape, entries = run.plan.shape, {}
    for entry in run.entries(trial, ("result",)):
        relative = entry.key[len(trial) + 1 :]
        if relative in heads and entry.seq == heads[relative].seq:
            entries[relative] = entry
    samples = [entries[step] for step in shape.steps("generate") if step in entries]
    kept = {step for step in entries if step.startswith("generate/")}
    outputs = [None if entry.value is None else entry.value["output"] for entry in samples]
    output = next((value for value, entry in zip(outputs, samples, strict=True) if entry.value is not None), None)
    if shape.reduce and "reduce" in entries:
        triples = [
            [n, value, entry.value is None] for n, (value, entry) in enumerate(zip(outputs, samples, strict=True))
        ]
        if not _depends(entries["reduce"], "samples", digest_of(triples)):
            return kept
        kept.add("reduce")
        output = entries["reduce"].value["output"] if entries["reduce"].outcome == "ok" else None
    answer = output
    if shape.parse and "parse" in entries and _depends(entries["parse"], "output", digest_of(output)):
        kept.add("parse")
        answer = entries["parse"].value
    kept |= {
        step for step in entries if step.startswith("score/") and _depends(entries[step], "answer", digest_of(answer))
    }
    return kept | {
        step for step in entries if step.startswith("judge/") and _depends(entries[step], "output", digest_of(output))
    }


def _depends(entry: object, part: str, digest: str) -> bool:
    fingerprint = getattr(entry, "fingerprint", None)
    return fingerprint is not None and fingerprint.parts.get(part) == digest[:12]


@dataclass(slots=True)
class Marks:
    """Score values by the key of the step, now and at the first go; a trial that failed has 0 at every scorer."""

    now: dict[str, float] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    first_outcome: dict[str, str] = field(default_factory=dict)
    """How the first go of a trial ended that was done again since."""
    elsewhere: set[str] = field(default_factory=set)
    """Trials that were done again in a parent, which has their first go; here what was taken over stands for it."""

    def value(self, trial: str, step: str, outcome: str, *, first: bool = False) -> float | None:
        """A trial's score at one scorer; None where there is none (it is owed, or was never scored)."""
        if first and trial in self.first_outcome:
            found = _scored(self.first.get(f"{trial}/{step}"), self.first_outcome[trial])
            if found is not None or self.first_outcome[trial] != "missing":
                return found
        return _scored(self.now.get(f"{trial}/{step}"), outcome)


def _scored(mark: float | None, outcome: str) -> float | None:
    """A failure is worth nothing, and so is a timeout unless what it had come to was judged."""
    if outcome == "failed" or (outcome == "timeout" and mark is None):
        return 0.0
    return mark


def number_of(run: Run, body: str) -> float:
    """The value of a score, out of a row's body; a long score is in a blob."""
    value = json.loads(body)["value"]
    return float((value if "value" in value else unpack_value(json.dumps(value), run.journal.blob))["value"])


def read_marks(run: Run) -> Marks:
    """One pass over the results of the stages."""
    marks, again = Marks(), run.voids.count > 0
    early: Standings = {}
    cuts: dict[str, int] = {}
    for seq, row in run.journal.rows("", kinds=("result",)):
        depth = row.key.count("/")
        if depth not in (3, 4):
            continue
        stage = row.key.split("/", 4)[3]
        is_score = depth == 4 and stage in ("score", "judge") and row.outcome == "ok"
        number = number_of(run, row.body) if is_score else 0.0
        if is_score and (not again or seq > run.voids.since(row.key)):
            marks.now[row.key] = number
        if not again:
            continue
        trial = trial_of(row.key)
        if trial not in cuts:
            cuts[trial] = run.voids.first(f"{trial}/generate/0")
        if cuts[trial] and seq < cuts[trial]:
            early.setdefault(trial, {})[row.key[len(trial) + 1 :]] = Result(
                row.key, seq, str(row.outcome), row.generation, row.fingerprint
            )
            if is_score:
                marks.first[row.key] = number
    unscored = {Key.of(task) for chunk in run.plan.chunks for task in chunk.unscored}
    for trial, cut in cuts.items():
        if cut and trial not in early:
            if run.facts["run"].get("parents"):
                marks.first_outcome[trial] = "missing"
                marks.elsewhere.add(trial)
        elif cut:
            scored = trial.split("/", 2)[1] not in unscored
            marks.first_outcome[trial] = outcome_of(early.get(trial, {}), run.plan.shape, scored=scored)
    return marks


def mean_of(pairs: Iterable[tuple[str, float]]) -> Mean:
    """The mean of (task, value) pairs."""
    found = list(pairs)
    value, error = mean_with_error(found)
    return Mean(value, error, len(found))
