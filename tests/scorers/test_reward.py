"""Rewards of a task's own verifier."""

from typing import Any

import pytest

from onward.scorers import score, scorer
from onward.tasks import Task


@pytest.mark.parametrize(
    ("reference", "answer", "expected"),
    [
        ("reward", {"final": "done", "reward": 0.25, "rewards": {"reward": 0.25}}, 0.25),
        ("reward", {"reward": 0}, 0),
        ({"reward": {"name": "style"}}, {"reward": 0, "rewards": {"style": 1}}, 1),
    ],
)
def test_the_reward_is_the_one_that_the_verifier_gave(reference: Any, answer: Any, expected: float) -> None:
    assert score(scorer.resolve(reference), answer, Task("1", "?", 1)).value == expected


def test_the_tests_that_failed_are_its_note() -> None:
    answer = {"final": "done", "reward": 0.5, "rewards": {"reward": 0.5}, "note": "1 of 2 tests failed: test_b"}
    assert score(scorer.resolve("reward"), answer, Task("1", "?", 1)).note == "1 of 2 tests failed: test_b"


@pytest.mark.parametrize("answer", ["done", None, {"reward": None}, {"reward": True}, {"reward": "1"}])
def test_work_that_was_not_judged_has_no_reward(answer: Any) -> None:
    with pytest.raises(ValueError, match="has no reward: this scorer is for agents"):
        score(scorer.resolve("reward"), answer, Task("1", "?", 1))
