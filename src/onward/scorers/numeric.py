"""Equality of numbers, within a tolerance."""

from __future__ import annotations

import math
from typing import Any

from onward.parsers import number_in
from onward.scorers.score import Score, alternatives, scorer
from onward.tasks.task import Task

__all__ = ["numeric"]


def _number(value: Any) -> int | float | None:
    """A number, or the one that a text ends on: "1,000", and a worked solution that ends on `#### 18`."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return number_in(value) if isinstance(value, str) else None


def _check(absolute: Any = 0.0, relative: Any = 0.0) -> None:
    for name, value in (("absolute", absolute), ("relative", relative)):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ValueError(f"{name} is a tolerance, a number from 0, not {value!r}")


@scorer(version="1", check=_check)
def numeric(answer: Any, task: Task, absolute: float = 0.0, relative: float = 0.0) -> Score:
    """1 if answer and target are the same number.

    Either is a number or text that ends on one (see `parsers.number_in`). They may differ by `absolute`, or by
    `relative` times the target's size, whichever is more; by default not at all, save the rounding of a binary float
    (one part in 10^12, where either is not an integer).
    """
    found = _number(answer)
    if found is None:
        return Score(0.0, "the answer is no number")
    wanted = [number for target in alternatives(answer, task.target) if (number := _number(target)) is not None]
    return Score(float(any(_close(found, number, absolute, relative) for number in wanted)))


def _close(found: float, wanted: float, absolute: float, relative: float) -> bool:
    if found == wanted:
        return True
    if isinstance(found, int) and isinstance(wanted, int) and not absolute and not relative:
        return False
    try:
        within = max(absolute, max(relative, 1e-12) * abs(float(wanted)))
        return abs(float(found) - float(wanted)) <= within
    except OverflowError:
        return False
