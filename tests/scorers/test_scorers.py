"""How answers are judged."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.errors import OnwardError, SpecError
from onward.scorers import Score, as_score, score, scorer
from onward.tasks import Task


def value(reference: Any, answer: Any, target: Any) -> float:
    return score(scorer.resolve(reference), answer, Task("1", "?", target)).value


# ---------------------------------------------------------------- exact and choice


@pytest.mark.parametrize(
    ("options", "answer", "target", "expected"),
    [
        ({}, " Paris\n", "Paris", 1),
        ({}, "paris", "Paris", 0),
        ("case", "paris", "Paris", 1),
        ({"ignore": ["case", "punctuation"]}, "“paris.”", "Paris", 1),
        ("space", "a  b c", "abc", 1),
        ({}, 18, "18", 1),
        ({}, 18.0, 18, 1),
        ({}, 2**60, str(2**60), 1),
        ({}, "b", ["a", "b"], 1),
        ({}, ["a", "b"], ["a", "b"], 1),
        ({}, ["b", "a"], ["a", "b"], 0),
        ({}, {"b": 1, "a": 2}, {"a": 2, "b": 1}, 1),
        ({}, None, "", 0),
    ],
)
def test_exact(options: Any, answer: Any, target: Any, expected: float) -> None:
    assert value({"exact": options}, answer, target) == expected


def test_exact_refuses_to_ignore_what_it_does_not_know() -> None:
    with pytest.raises(SpecError, match="ignore takes case, space, punctuation, not 'accents'"):
        scorer.resolve({"exact": ["accents"]})


@pytest.mark.parametrize(
    ("answer", "target", "expected"),
    [
        ("C", "C", 1),
        ("c", "C", 1),
        ("The answer is (C).", "C", 1),
        ("B", 1, 1),
        ("B", "A", 0),
        ("?", "A", 0),
        (7, "A", 0),
    ],
)
def test_choice(answer: Any, target: Any, expected: float) -> None:
    assert value("choice", answer, target) == expected


# ---------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("answer", "target", "expected"),
    [
        (18, 18, 1),
        (18, 18.0, 1),
        ("1,000", 1000, 1),
        (1000, "1,000", 1),
        (18, "She makes $18.\n#### 18", 1),
        (0.1 + 0.2, 0.3, 1),
        (17, 18, 0),
        (10**16, 10**16 + 1, 0),
        (10**400, 1.5, 0),
        ("none", 18, 0),
        (True, 1, 0),
        (None, 1, 0),
        (5, [4, 5], 1),
        (5, "no number", 0),
    ],
)
def test_numeric(answer: Any, target: Any, expected: float) -> None:
    assert value("numeric", answer, target) == expected


def test_numeric_takes_tolerances() -> None:
    assert value({"numeric": 0.5}, 10.4, 10) == 1
    assert value({"numeric": {"relative": 0.01}}, 100.9, 100) == 1
    assert value({"numeric": {"relative": 0.01}}, 101.1, 100) == 0
    with pytest.raises(SpecError, match="absolute is a tolerance, a number from 0, not -1"):
        scorer.resolve({"numeric": -1})


# ---------------------------------------------------------------- words


def test_f1_is_that_of_squad() -> None:
    assert value("f1", "The cat sat.", "a cat sat") == 1
    assert value("f1", "cat", "cat sat down") == pytest.approx(0.5)
    assert value("f1", "dog", "cat") == 0
    assert value("f1", "", "") == 1
    assert value("f1", "the", "cat") == 0
    assert value("f1", "big cat", ["dog", "cat"]) == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("options", "answer", "target", "expected"),
    [
        ({}, "it is Paris, France", "paris", 1),
        ({"case": True}, "it is Paris", "paris", 0),
        ({}, "a party", "art", 0),
        ({"words": False}, "a party", "art", 1),
        ({}, "it is 100", "10", 0),
        ({}, "3.14", "14", 0),
        ({}, "-5", "5", 0),
        ({}, "it is 5.", "5", 1),
        ({}, "答案是巴黎。", "巴黎", 1),
        ({}, "anything", "", 0),
        ({}, "C++ is it", "C++", 1),
        ({}, 42, "42", 1),
    ],
)
def test_includes(options: Any, answer: Any, target: Any, expected: float) -> None:
    assert value({"includes": options}, answer, target) == expected


# ---------------------------------------------------------------- GAIA


@pytest.mark.parametrize(
    ("answer", "target", "expected"),
    [
        # a number: the same float, without $, % and commas
        ("17", "17", 1),
        ("17.0", "17", 1),
        ("$1,000", "1000", 1),
        ("25%", "25", 1),
        ("17.0001", "17", 0),
        ("it is 17", "17", 0),
        ("1e3", "1000", 1),
        ("1_000", "1000", 1),
        (17, "17", 1),
        (17.0, 17, 1),
        # a list: as many, in order, punctuation kept
        ("a, b", "a,b", 1),
        ("A;  b", "a, B", 1),
        ("b, a", "a, b", 0),
        ("a, b, c", "a, b", 0),
        ("a., b", "a, b", 0),
        ("$5, x", "5, x", 1),
        (["a", "b"], "a, b", 1),
        # "1,000" as the true answer is no float, so it is a list of two
        ("1000", "1,000", 0),
        ("1,000", "1,000", 1),
        ("1, 000", "1,000", 1),
        # text: white space, case and ASCII punctuation do not count; articles and accents do
        ("St. Petersburg", "saintpetersburg", 0),
        ("st petersburg", "St. Petersburg", 1),
        ("the cat", "cat", 0),
        ("Café", "cafe", 0),
        # nothing said
        (None, "None", 1),
        (None, "x", 0),
        ("", "x", 0),
        ("", "17", 0),
        # edges that the official rules have, and so have we
        ("no number", "inf", 1),
        ("nan", "nan", 0),
    ],
)
def test_gaia_scores_as_its_leaderboard_does(answer: Any, target: Any, expected: float) -> None:
    assert value("gaia", answer, target) == expected


@pytest.mark.parametrize(
    ("answer", "target"),
    [("", "Paris"), ("1", "10"), ("it is 100", "10"), ("a", "Paris"), ("-5", "5"), ("3.14", "314"), ("é", "x")],
)
def test_gaia_is_not_fooled_by_what_a_containment_rule_takes_for_right(answer: str, target: str) -> None:
    assert value("gaia", answer, target) == 0


# ---------------------------------------------------------------- all of them

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)
NAMES = ["exact", "choice", "numeric", "f1", "includes", "gaia"]


def test_these_are_the_scorers() -> None:
    assert scorer.names() == sorted([*NAMES, "reward"])  # which judges work, not answers


@given(st.sampled_from(NAMES), json_values, json_values.filter(lambda target: target is not None))
def test_every_scorer_has_an_opinion_on_every_json_answer(name: str, answer: Any, target: Any) -> None:
    assert 0 <= value(name, answer, target) <= 1


@given(st.sampled_from(["exact", "includes"]), st.text(min_size=1).filter(lambda text: text.strip() != ""))
def test_the_target_itself_is_right(name: str, target: str) -> None:
    assert value(name, target, target) == 1


def test_a_users_scorer_may_return_a_bool_a_number_a_score_or_a_mapping() -> None:
    assert as_score(True) == Score(1.0)
    assert as_score(0.5) == Score(0.5)
    assert as_score({"value": 1, "note": "yes"}) == Score(1.0, "yes")
    assert as_score(Score(2, "n", {"a": 1})) == Score(2.0, "n", {"a": 1})
    assert Score.from_json(Score(1.0, "n", [1]).to_json()) == Score(1.0, "n", [1])
    assert Score(0.0).to_json() == {"value": 0.0}


@pytest.mark.parametrize("bad", [None, "1", float("nan"), float("inf"), {"score": 1}, Score(1.0, 5), [1]])  # type: ignore[arg-type]
def test_what_is_no_score_is_an_error_of_the_scorer(bad: Any) -> None:
    with pytest.raises(ValueError, match="score"):
        as_score(bad)


def test_details_must_be_json() -> None:
    with pytest.raises(OnwardError, match="not JSON"):
        as_score(Score(1.0, "", {1, 2}))


def test_what_a_scorer_raises_comes_out() -> None:
    def broken(answer: Any, task: Task) -> float:
        return 1 / 0

    with pytest.raises(ZeroDivisionError):
        score(scorer.resolve(broken), "x", Task("1", "?", "x"))
