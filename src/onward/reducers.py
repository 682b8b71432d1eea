"""One answer out of several samples: `fn(candidates, task, **options) -> Candidate`.

A new reducer is one function under `@reducer(version=…)`. Failed samples are left out and counted by the stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from onward.errors import StepFailed
from onward.fingerprint import digest_of
from onward.functions import Function, Registry
from onward.scorers import score
from onward.scorers import scorer as scorers
from onward.tasks.task import Task

__all__ = ["Candidate", "best_of", "first", "majority", "reduce", "reducer"]

reducer = Registry("reducer", positional=2)
"""Decorator and registry: `@reducer(version="1")`, `reducer.resolve("majority")`."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One sample of a trial. `parsed` is what the parser makes of it (the output itself where there is no parser)."""

    sample: int
    output: Any = None
    parsed: Any = None
    failed: bool = False


def reduce(function: Function, candidates: Sequence[Candidate], task: Task) -> dict[str, Any]:
    """What a resolved reducer chooses: `output`, `sample`, and how many were `left_out`, as JSON.

    Raises StepFailed where every sample failed. What the reducer itself raises comes out: an error of ours.
    """
    standing = [candidate for candidate in candidates if not candidate.failed]
    if not standing:
        raise StepFailed("no sample is left: each failed or could not be parsed", kind="reduce")
    chosen: Candidate = function.call(standing, task)
    value = {"output": chosen.output, "sample": chosen.sample, "left_out": len(candidates) - len(standing)}
    if function.name == "majority":
        votes = Counter(digest_of(candidate.parsed) for candidate in standing)
        value["votes"] = votes[digest_of(chosen.parsed)]
    return value


@reducer(version="1")
def majority(candidates: Sequence[Candidate], task: Task) -> Candidate:
    """The parsed value that most samples have; among equals the one seen first. The earliest sample that has it."""
    votes = Counter(digest_of(candidate.parsed) for candidate in candidates)
    return max(candidates, key=lambda candidate: (votes[digest_of(candidate.parsed)], -candidate.sample))


@reducer(version="1")
def first(candidates: Sequence[Candidate], task: Task) -> Candidate:
    """The lowest sample."""
    return min(candidates, key=lambda candidate: candidate.sample)


@reducer(version="1")
def best_of(candidates: Sequence[Candidate], task: Task, scorer: Any = "exact") -> Candidate:
    """The sample that `scorer` likes best; among equals the lowest. Needs a target, as scoring does."""
    judged = scorers.resolve(scorer)
    return max(candidates, key=lambda candidate: (score(judged, candidate.parsed, task).value, -candidate.sample))
