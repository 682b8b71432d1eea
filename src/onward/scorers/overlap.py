"""How many words an answer and the target share."""

from __future__ import annotations

import re
import string
from collections import Counter
from typing import Any

from onward.scorers.score import Score, alternatives, plain, scorer
from onward.tasks.task import Task

__all__ = ["f1"]

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def _tokens(value: Any) -> list[str]:
    """SQuAD's normalisation: lower case, no ASCII punctuation, no articles, split at white space."""
    words = plain(value).lower().translate(_PUNCTUATION)
    return re.sub(r"\b(a|an|the)\b", " ", words).split()


def _f1(found: list[str], wanted: list[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    shared = sum((Counter(found) & Counter(wanted)).values())
    return 2 * shared / (len(found) + len(wanted))


@scorer(version="1")
def f1(answer: Any, task: Task) -> Score:
    """The harmonic mean of precision and recall over words, 0 to 1; the best over the target's alternatives.

    Source: the official evaluation of SQuAD (Rajpurkar et al. 2016, arXiv 1606.05250; 2.0 for empty answers).
    """
    found = _tokens(answer)
    return Score(max((_f1(found, _tokens(target)) for target in alternatives(None, task.target)), default=0.0))
