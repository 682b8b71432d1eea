"""Means, intervals and tests against published and hand-computed values."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.stats import (
    mcnemar,
    mean_with_error,
    paired,
    paired_by_task,
    pass_at_k,
    pass_hat_k,
    t_quantile,
    wilson,
)

values = st.lists(st.floats(-100, 100), min_size=2, max_size=30)


@given(values)
def test_with_one_trial_a_task_the_error_is_that_of_the_textbook(found: list[float]) -> None:
    mean, error = mean_with_error((str(task), value) for task, value in enumerate(found))
    assert mean == pytest.approx(statistics.fmean(found), abs=1e-9)
    assert error == pytest.approx(statistics.stdev(found) / math.sqrt(len(found)), abs=1e-9)


@given(values)
def test_repeating_every_trial_does_not_make_the_error_smaller(found: list[float]) -> None:
    once = [(str(task), value) for task, value in enumerate(found)]
    assert mean_with_error(once * 3) == pytest.approx(mean_with_error(once), abs=1e-9)


def test_the_clustered_error_by_hand() -> None:
    # mean 0.5; sums of deviations: a +1, b -0.5, c -0.5; sqrt(3/2 * 1.5) / 6... with n = 4: a 1,1 · b 0 · c 0
    assert mean_with_error([("a", 1), ("a", 1), ("b", 0), ("c", 0)]) == (0.5, math.sqrt(1.5 * 1.5) / 4)


def test_nothing_and_one_task_have_no_error() -> None:
    assert mean_with_error([]) == (0.0, 0.0)
    assert mean_with_error([("a", 1), ("a", 0)]) == (0.5, 0.0)


@pytest.mark.parametrize(
    ("successes", "count", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, Statist. Med. 17, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes: int, count: int, low: float, high: float) -> None:
    assert wilson(successes, count) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_rate_and_stays_within_0_and_1(count: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, count))
    low, high = wilson(successes, count)
    assert 0 <= low <= successes / count <= high <= 1


@pytest.mark.parametrize(
    ("p", "degrees", "t"),
    [
        (0.975, 1, 12.7062),
        (0.975, 2, 4.3027),
        (0.975, 10, 2.2281),
        (0.995, 5, 4.0321),
        (0.95, 30, 1.6973),
        (0.975, 10**6, 1.95996),
        (0.5, 7, 0.0),
        (0.025, 4, -2.7764),
    ],
)
def test_students_t_gives_the_tables_values(p: float, degrees: int, t: float) -> None:
    assert t_quantile(p, degrees) == pytest.approx(t, abs=5e-5)


def test_a_paired_difference_has_the_interval_of_the_paired_t_test() -> None:
    # differences 1, 2, 3, 4, 5: mean 3, s/sqrt(n) = 0.7071, t(4) = 2.7764
    found = paired([(str(n), n) for n in range(1, 6)])
    assert found == (3, pytest.approx(3 - 1.96324, abs=1e-4), pytest.approx(3 + 1.96324, abs=1e-4), 5)
    assert paired_by_task({"a": 0, "b": 1, "x": 9}, {"a": 1, "b": 1, "y": 9}).mean == 0.5
    assert paired([("a", 1.0)]) == (1.0, -math.inf, math.inf, 1)


@pytest.mark.parametrize(
    ("a", "b", "p"), [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (1, 9, 0.021484375), (10, 1, 12 / 1024)]
)
def test_mcnemar_is_exact(a: int, b: int, p: float) -> None:
    assert mcnemar(a, b) == p == mcnemar(b, a)


def test_mcnemar_takes_many_pairs() -> None:
    assert mcnemar(5000, 5000) == 1.0
    assert 0 <= mcnemar(0, 10_000) < 1e-300


def test_pass_at_k_by_hand() -> None:
    assert pass_at_k(5, 2, 1) == pytest.approx(0.4)
    assert pass_at_k(5, 2, 2) == pytest.approx(0.7)  # 1 - 3/10
    assert pass_at_k(5, 2, 4) == 1.0
    assert pass_hat_k(5, 2, 2) == pytest.approx(0.1)  # 1/10
    assert pass_hat_k(4, 4, 4) == 1.0


@given(st.integers(1, 40), st.data())
def test_all_right_is_rarer_than_any_right(count: int, data: st.DataObject) -> None:
    correct, k = data.draw(st.integers(0, count)), data.draw(st.integers(1, count))
    assert 0 <= pass_hat_k(count, correct, k) <= pass_at_k(count, correct, k) <= 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(3, 2), "3 successes among 2"),
        (lambda: wilson(1, 2, 1.0), "confidence"),
        (lambda: mcnemar(-1, 2), "not negative"),
        (lambda: pass_at_k(2, 1, 3), "k=3"),
        (lambda: pass_hat_k(2, 3, 1), "correct=3"),
        (lambda: t_quantile(0.9, 0), "degrees"),
    ],
)
def test_what_cannot_be_is_refused(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
