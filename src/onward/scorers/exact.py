"""Equality, and equality of a choice."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from onward.parsers import ParseFailed, choice_letter
from onward.scorers.score import Score, alternatives, plain, scorer
from onward.tasks.task import Task

__all__ = ["choice", "exact"]

_IGNORABLE = ("case", "space", "punctuation")


def _ignored(ignore: str | Sequence[str]) -> Sequence[str]:
    return [ignore] if isinstance(ignore, str) else ignore


def _check_ignore(ignore: Any = ()) -> None:
    for what in _ignored(ignore):
        if what not in _IGNORABLE:
            raise ValueError(f"ignore takes {', '.join(_IGNORABLE)}, not {what!r}")


def _folded(value: Any, ignore: Sequence[str]) -> str:
    words = plain(value).strip()
    if "case" in ignore:
        words = words.casefold()
    if "punctuation" in ignore:
        words = "".join(sign for sign in words if unicodedata.category(sign)[0] != "P")
    return re.sub(r"\s+", "", words) if "space" in ignore else words


@scorer(version="1", check=_check_ignore)
def exact(answer: Any, task: Task, ignore: str | Sequence[str] = ()) -> Score:
    """1 if the answer is the target, compared as text without white space around it.

    `ignore`: any of `case`, `space` (all white space), `punctuation` (Unicode category P).
    """
    dropped = _ignored(ignore)
    found = _folded(answer, dropped)
    same = any(found == _folded(target, dropped) for target in alternatives(answer, task.target))
    return Score(float(same))


def _letter(value: Any) -> str:
    if isinstance(value, str):
        try:
            return str(choice_letter(value.upper() if len(value.strip()) == 1 else value))
        except ParseFailed:
            pass
    return ""


@scorer(version="1")
def choice(answer: Any, task: Task) -> Score:
    """1 if the answer chooses the target's letter. The target: `C`, `(C)`, or its place from 0 (2 is C).

    The answer is a letter, or text from which `choice_letter` reads one.
    """
    target = task.target
    if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < 26:
        target = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[target]
    found, wanted = _letter(answer), [_letter(item) for item in alternatives(answer, target)]
    return Score(float(bool(found) and found in wanted), "" if found else "chooses nothing")
