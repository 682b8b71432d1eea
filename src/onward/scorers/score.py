"""What a scorer returns, and the registry of all scorers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from onward.errors import OnwardError
from onward.fingerprint import canonical
from onward.functions import Function, Registry
from onward.tasks.task import Task

__all__ = ["Score", "alternatives", "as_score", "plain", "score", "scorer"]


@dataclass(frozen=True, slots=True)
class Score:
    """A judgement: `value` (1 right, 0 wrong, anything finite is allowed), why in a line, and any JSON with it."""

    value: float
    note: str = ""
    details: Any = None

    def to_json(self) -> dict[str, Any]:
        """The form in which it is journalled: without what is empty."""
        form: dict[str, Any] = {"value": self.value}
        if self.note:
            form["note"] = self.note
        if self.details is not None:
            form["details"] = self.details
        return form

    @classmethod
    def from_json(cls, form: Mapping[str, Any]) -> Score:
        """The inverse of `to_json`."""
        return cls(float(form["value"]), form.get("note", ""), form.get("details"))


scorer = Registry("scorer", positional=2)
"""Decorator and registry: `@scorer(version="1")`, `scorer.resolve({"numeric": {"relative": 0.01}})`."""


def as_score(value: Any) -> Score:
    """A scorer's result as a Score: a Score, a bool, a finite number, or a mapping with `value`, `note`, `details`.

    Raises ValueError for anything else: an error of the scorer, not of the answer.
    """
    if isinstance(value, Mapping) and "value" in value and not {*value} - {"value", "note", "details"}:
        value = Score(value["value"], value.get("note", ""), value.get("details"))
    given = value if isinstance(value, Score) else Score(value)
    size: Any = given.value
    note: Any = given.note
    if not isinstance(size, int | float) or not math.isfinite(size):
        raise ValueError(f"a scorer returns a Score, a finite number or a bool, not {size!r}")
    if not isinstance(note, str):
        raise ValueError(f"the note of a score is text, not {type(note).__name__}")
    canonical(given.details)
    return Score(float(size), note, given.details)


def score(function: Function, answer: Any, task: Task) -> Score:
    """What a resolved scorer makes of an answer. Whatever it raises comes out: an error of ours."""
    return as_score(function.call(answer, task))


def alternatives(answer: Any, target: Any) -> Iterable[Any]:
    """The targets that an answer may meet: the items of a list, unless the answer is a list itself."""
    return target if isinstance(target, list | tuple) and not isinstance(answer, list | tuple) else (target,)


def plain(value: Any) -> str:
    """A JSON value as the text to compare: 18.0 is "18", true is "true", what has parts is its canonical JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    try:
        return canonical(value).decode()
    except OnwardError:
        return json.dumps(value, sort_keys=True, ensure_ascii=False)
