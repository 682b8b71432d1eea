"""What a task's own verifier gave for an agent's work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onward.scorers.score import Score, scorer
from onward.tasks.task import Task

__all__ = ["reward"]


@scorer(version="1")
def reward(answer: Any, task: Task, name: str = "") -> Score:
    """The reward as the task's verifier gave it, with the tests that failed; `name`: one of several that it gave.

    Raises ValueError where there is none: the work was not judged.
    """
    given = answer if isinstance(answer, Mapping) else {}
    found = (given.get("rewards") or {}).get(name) if name else given.get("reward")
    if not isinstance(found, int | float) or isinstance(found, bool):
        which = f"reward {name!r}" if name else "reward"
        raise ValueError(f"the work has no {which}: this scorer is for agents whose tasks have a verifier")
    note = given.get("note")
    return Score(float(found), note if isinstance(note, str) else "")
