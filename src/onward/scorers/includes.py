"""Whether the target stands in the answer."""

from __future__ import annotations

import re
from typing import Any

from onward.scorers.score import Score, alternatives, plain, scorer
from onward.tasks.task import Task

__all__ = ["includes"]

_SPACED = r"[^\W\u2e80-\uffef\U00020000-\U0003ffff]"
"""Letters and digits of scripts that put spaces between words."""


@scorer(version="1")
def includes(answer: Any, task: Task, case: bool = False, words: bool = True) -> Score:
    """1 if the answer contains the target.

    `words`: only as whole words, so that 1 is not found in 10 nor in 2.1, and "art" not in "party". `case`: letters
    must agree in case. An empty target is contained in nothing.
    """
    text = plain(answer)
    for target in alternatives(None, task.target):
        wanted = plain(target).strip()
        if not wanted:
            continue
        pattern = re.escape(wanted)
        if words:
            before = rf"(?<!{_SPACED})(?<![0-9][.,])(?<![-\u2212])" if wanted[0].isdecimal() else rf"(?<!{_SPACED})"
            after = rf"(?!{_SPACED})(?![.,][0-9])" if wanted[-1].isdecimal() else rf"(?!{_SPACED})"
            pattern = (before if wanted[0].isalnum() else "") + pattern + (after if wanted[-1].isalnum() else "")
        if re.search(pattern, text, 0 if case else re.IGNORECASE):
            return Score(1.0)
    return Score(0.0)
