"""The rules by which the GAIA leaderboard scores a final answer, edge cases included.

Format: the `question_scorer` of the leaderboard's own space (Mialon et al. 2023, arXiv 2311.12983). A number among the
true answers is met by the same float only; a list by the same number of elements in the same order; text without
white space, case and ASCII punctuation. What follows from it, and stays: "1,000" meets 1000, but the true answer
"1,000" is a list of two; `inf` as a true answer is met by anything that is no number; articles and accents count.
"""

from __future__ import annotations

import re
import string
from typing import Any

from onward.scorers.score import Score, plain, scorer
from onward.tasks.task import Task

__all__ = ["gaia"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_MONEY = str.maketrans("", "", "$%,")


def _float(words: str) -> float | None:
    try:
        return float(words)
    except ValueError:
        return None


def _text(value: Any) -> str:
    """An answer as it would be submitted: None as "None", a list as its elements between commas."""
    if value is None:
        return "None"
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return plain(value)


def _same_number(found: str, wanted: float) -> bool:
    number = _float(found.translate(_MONEY))
    return (float("inf") if number is None else number) == wanted


def _squeezed(words: str) -> str:
    return re.sub(r"\s", "", words).lower()


@scorer(version="1")
def gaia(answer: Any, task: Task) -> Score:
    """1 if the final answer is right by the leaderboard's rules (see the module). Parse with `final_answer` first."""
    found, wanted = _text(answer), _text(task.target)
    number = _float(wanted)
    if number is not None:
        return Score(float(_same_number(found, number)), "compared as a number")
    if "," in wanted or ";" in wanted:
        left, right = re.split("[,;]", found), re.split("[,;]", wanted)
        if len(left) != len(right):
            return Score(0.0, f"a list of {len(left)}, not of {len(right)}")
        return Score(float(all(map(_same_element, left, right))), "compared as a list")
    same = _squeezed(found).translate(_PUNCTUATION) == _squeezed(wanted).translate(_PUNCTUATION)
    return Score(float(same), "compared as text")


def _same_element(found: str, wanted: str) -> bool:
    number = _float(wanted)
    return _squeezed(found) == _squeezed(wanted) if number is None else _same_number(found, number)
