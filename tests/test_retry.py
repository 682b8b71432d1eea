"""Bounded retries, as arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from onward.retry import ONCE, Retry

CHANCE = st.floats(0, 1, exclude_max=True)


@given(st.integers(1, 20), CHANCE)
def test_attempts_are_bounded(attempts: int, chance: float) -> None:
    retry = Retry(attempts=attempts)
    assert all(retry.wait(failed, None, chance) is not None for failed in range(1, attempts))
    assert retry.wait(attempts, None, chance) is None
    assert retry.wait(attempts, 1.0, chance) is None


def test_five_attempts_are_the_default() -> None:
    assert Retry().attempts == 5
    assert ONCE.wait(1, None, 0.0) is None


@given(st.integers(1, 60), CHANCE)
def test_own_waits_double_within_bounds(failed: int, chance: float) -> None:
    waited = Retry(attempts=100).wait(failed, None, chance)
    assert waited is not None
    whole = min(60.0, 2.0 ** (failed - 1))
    assert whole / 2 <= waited <= whole


def test_a_retry_after_is_kept_to_exactly() -> None:
    assert Retry().wait(1, 3600.0, 0.9) == 3600.0


def test_a_retry_after_beyond_max_wait_is_owed_at_once() -> None:
    assert Retry(max_wait=100.0).wait(1, 101.0, 0.0) is None
    assert Retry(max_wait=100.0).wait(1, 100.0, 0.0) == 100.0
