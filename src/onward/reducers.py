"""One answer out of several samples: `fn(candidates, task, **options) -> Candidate`.

A new reducer is one function under `@reducer(version=…)`. It is handed the candidates that did not fail, lowest sample
first, and at least one; it returns one of them. `reduce` leaves out the failed ones, counts them, and counts votes.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onward.errors import SpecError, StepFailed
from onward.fingerprint import digest_of
from onward.functions import Function, Registry
from onward.scorers import score as score_of
from onward.scorers import scorer as scorers
from onward.tasks.task import Task

__all__ = ["Candidate", "best_of", "first", "majority", "reduce", "reducer"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sample of a trial. `parsed` is what the parser makes of it (the output itself where there is no parser)."""

    sample: int
    output: Any = None
    parsed: Any = None
    score: float | None = None
    """Its score, where it is known already; `best_of` then asks no scorer."""
    failed: bool = False


class _Reducers(Registry):
    """The registry of reducers. `best_of` holds another function, a scorer, that may be a user's own."""

    def resolve(self, reference: Any, folder: Path | None = None, *, field: str = "") -> Function:
        """See `Registry.resolve`. The scorer of `{best_of: SCORER}` is resolved too, and part of its identity."""
        if isinstance(reference, Mapping) and list(reference) == ["best_of"]:
            given = reference["best_of"]
            chosen = given["scorer"] if isinstance(given, Mapping) and list(given) == ["scorer"] else given
            if chosen is not None:
                return _best_by(scorers.resolve(chosen, folder, field=field or self.kind))
        return super().resolve(reference, folder, field=field)

    def load(self, source: str, name: str, options: Mapping[str, Any] | None = None) -> Function:
        """See `Registry.load`; the source of a `best_of` is that of its scorer."""
        if name == "best_of" and options and isinstance(options.get("scorer"), Mapping):
            inner = options["scorer"]
            return _best_by(scorers.load(source, inner["name"], inner.get("options")))
        return super().load(source, name, options)


reducer = _Reducers("reducer", positional=2)
"""Decorator and registry: `@reducer(version="1")`, `reducer.resolve("majority")`."""


def reduce(function: Function, candidates: Sequence[Candidate], task: Task) -> dict[str, Any]:
    """What a resolved reducer chooses, as JSON: `output`, `sample`, `left_out` (samples that failed), `votes`.

    `votes`: how many samples left have the parsed value of the chosen one. Raises StepFailed where every sample failed;
    ValueError for a reducer that returns none of the candidates; what it raises itself comes out: an error of ours.
    """
    standing = sorted((candidate for candidate in candidates if not candidate.failed), key=lambda c: c.sample)
    if not standing:
        raise StepFailed("no sample is left: each failed or could not be parsed", kind="reduce")
    chosen = function.call(standing, task)
    if not isinstance(chosen, Candidate) or chosen not in standing:
        raise ValueError(f"{function.name} must return one of the candidates, not {type(chosen).__name__}")
    votes = Counter(digest_of(candidate.parsed) for candidate in standing)
    return {
        "output": chosen.output,
        "sample": chosen.sample,
        "votes": votes[digest_of(chosen.parsed)],
        "left_out": len(candidates) - len(standing),
    }


@reducer(version="1")
def majority(candidates: Sequence[Candidate], task: Task) -> Candidate:
    """The earliest sample with the parsed value that most samples have; among equally frequent values, the earliest."""
    votes = Counter(digest_of(candidate.parsed) for candidate in candidates)
    return max(candidates, key=lambda candidate: (votes[digest_of(candidate.parsed)], -candidate.sample))


@reducer(version="1")
def first(candidates: Sequence[Candidate], task: Task) -> Candidate:
    """The lowest sample that did not fail."""
    return min(candidates, key=lambda candidate: candidate.sample)


@reducer(version="1")
def best_of(candidates: Sequence[Candidate], task: Task, scorer: Any = None) -> Candidate:
    """The sample with the highest score; among equals the lowest.

    `scorer` is any scorer, as in `{best_of: numeric}`; scores that are known already need none. One that looks at the
    target makes this an oracle: the share of tasks that any sample solves. Where a task has no target and a sample no
    score, the lowest sample is taken.
    """
    judged = scorer if isinstance(scorer, Function) or scorer is None else scorers.resolve(scorer)

    def value(candidate: Candidate) -> float:
        if candidate.score is not None:
            return candidate.score
        if judged is None:
            raise SpecError("best_of needs a scorer: {best_of: numeric}", field="reduce")
        return 0.0 if task.target is None else score_of(judged, candidate.parsed, task).value

    return max(candidates, key=lambda candidate: (value(candidate), -candidate.sample))


def _best_by(judged: Function) -> Function:
    identity = {"name": "best_of", "version": "1", "options": {"scorer": dict(judged.identity)}}
    return Function("best_of", functools.partial(best_of, scorer=judged), identity, judged.source)
