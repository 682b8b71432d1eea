"""One answer out of several samples."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.errors import SpecError, StepFailed
from onward.reducers import Candidate, reduce, reducer
from onward.tasks import Task

TASK = Task("1", "?", "b")


def told(*parsed: Any) -> list[Candidate]:
    """Candidates with these values; None is a failed one."""
    return [Candidate(n, f"says {value}", value, failed=value is None) for n, value in enumerate(parsed)]


def test_the_earliest_sample_of_the_majority_wins_and_failed_ones_are_counted() -> None:
    found = reduce(reducer.resolve("majority"), told("a", None, "b", "b"), TASK)
    assert found == {"output": "says b", "sample": 2, "votes": 2, "left_out": 1}


def test_a_tie_goes_to_the_lowest_sample() -> None:
    assert reduce(reducer.resolve("majority"), told("c", "b", "b", "c"), TASK)["sample"] == 0


def test_equal_numbers_vote_together_however_they_are_written() -> None:
    assert reduce(reducer.resolve("majority"), told(7, 18, 18.0), TASK)["sample"] == 1


def test_first_takes_the_lowest_that_did_not_fail() -> None:
    assert reduce(reducer.resolve("first"), told(None, "b", "c"), TASK)["sample"] == 1


def test_the_best_by_a_scorer_wins_and_a_tie_goes_to_the_lowest() -> None:
    chosen = reducer.resolve({"best_of": "exact"})
    assert reduce(chosen, told("a", "b", "b"), TASK)["sample"] == 1
    assert reduce(chosen, told("x", "y"), TASK)["sample"] == 0
    assert reduce(chosen, told("x", "b"), Task("1", "?"))["sample"] == 0


def test_scores_that_are_known_need_no_scorer() -> None:
    found = [Candidate(0, "a", "a", 0.2), Candidate(1, "b", "b", 0.9)]
    assert reduce(reducer.resolve("best_of"), found, TASK)["sample"] == 1
    with pytest.raises(SpecError, match="best_of needs a scorer"):
        reduce(reducer.resolve("best_of"), told("a"), TASK)


def test_the_scorer_of_best_of_is_part_of_its_identity_and_survives_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def longest(answer, task, per=1):\n    return len(answer) / per\n")
    chosen = reducer.resolve({"best_of": {"mine.py:longest": {"per": 2}}}, tmp_path)
    assert chosen.identity["options"]["scorer"]["name"] == "longest"
    assert chosen.identity != reducer.resolve({"best_of": {"mine.py:longest": {"per": 3}}}, tmp_path).identity
    (tmp_path / "mine.py").unlink()
    assert chosen.source is not None
    again = reducer.load(chosen.source, chosen.name, chosen.identity["options"])
    assert again.identity == chosen.identity
    assert reduce(again, told("a", "long", "b"), TASK)["sample"] == 1


def test_nothing_left_is_a_failure() -> None:
    with pytest.raises(StepFailed, match="no sample is left"):
        reduce(reducer.resolve("majority"), told(None, None), TASK)


def test_a_reducer_that_makes_up_an_answer_is_an_error_of_ours() -> None:
    def invents(candidates: list[Candidate], task: Task) -> str:
        return "new"

    with pytest.raises(ValueError, match="invents must return one of the candidates, not str"):
        reduce(reducer.resolve(invents), told("a"), TASK)


@given(st.lists(st.one_of(st.none(), st.sampled_from("abc")), min_size=1, max_size=12), st.randoms())
def test_the_order_in_which_samples_arrive_does_not_matter(parsed: list[str | None], dice: Any) -> None:
    candidates = told(*parsed)
    if all(value is None for value in parsed):
        return
    expected = reduce(reducer.resolve("majority"), candidates, TASK)
    dice.shuffle(candidates)
    assert reduce(reducer.resolve("majority"), candidates, TASK) == expected
    winner = parsed[expected["sample"]]
    assert parsed.index(winner) == expected["sample"]
    assert all(parsed.count(value) <= expected["votes"] for value in parsed if value is not None)
