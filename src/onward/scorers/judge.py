"""A model as judge: what it is asked and how its verdict is read. Pure; the asking is the stage's."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from onward.scorers.score import Score, plain
from onward.tasks.task import Task

__all__ = ["judging_messages", "verdict"]

_SYSTEM = (
    "You grade an answer by a rubric. Reply with one JSON object and nothing else: "
    '{"score": a number from 0 (wrong) to 1 (right), "reason": "one sentence"}.'
)
_WORDS = {"pass": 1.0, "fail": 0.0, "correct": 1.0, "incorrect": 0.0, "yes": 1.0, "no": 0.0}
_GRADES = {"A": 1.0, "B": 0.75, "C": 0.5, "D": 0.25, "F": 0.0}


def judging_messages(rubric: str, task: Task, output: Any) -> list[dict[str, str]]:
    """What the judge is asked: the rubric, the task, the known answer if there is one, and the answer to grade."""
    parts = [f"Rubric:\n{rubric}", f"Task:\n{plain(task.input)}"]
    if task.target is not None:
        parts.append(f"Known answer:\n{plain(task.target)}")
    parts.append(f"Answer to grade:\n{plain(output)}")
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": "\n\n".join(parts)}]


def verdict(text: str) -> Score:
    """The judge's verdict: a JSON object with `score` in 0..1, or a grade A to F, or pass/fail as the only word.

    Raises ValueError where it is none of these: an error of the judge's, asked again; never a wrong answer.
    """
    for found in re.finditer(r"\{", text):
        try:
            value, _ = json.JSONDecoder().raw_decode(text, found.start())
        except ValueError:
            continue
        if isinstance(value, dict) and "score" in value:
            return _of_json(value)
    word = text.strip().strip(".!*\"'`").strip()
    if word.upper() in _GRADES and len(word) == 1:
        return Score(_GRADES[word.upper()])
    if word.lower() in _WORDS:
        return Score(_WORDS[word.lower()])
    raise ValueError(f"the judge's verdict cannot be read: {text[:200]!r}")


def _of_json(value: dict[str, Any]) -> Score:
    score = value["score"]
    if isinstance(score, bool):
        score = float(score)
    if not isinstance(score, int | float) or not math.isfinite(score) or not 0 <= score <= 1:
        raise ValueError(f"the judge's score is a number from 0 to 1, not {score!r}")
    reason = value.get("reason", "")
    return Score(float(score), reason if isinstance(reason, str) else json.dumps(reason))
