"""A row as it is sealed is the row that is read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.journal.line import digits_of, time_of


@given(st.one_of(st.text(), st.datetimes().map(lambda at: at.isoformat(timespec="milliseconds") + "Z")))
def test_any_time_comes_back(at: str) -> None:
    assert time_of(digits_of(at)) == at


def test_a_time_lies_there_as_one_number_in_order() -> None:
    assert digits_of("2026-11-21T16:31:31.497Z") == 20261121163131497


@pytest.mark.parametrize(
    "at",
    ["", "now", "20261121163131497", "0026-11-21T16:31:31.497Z", "2026-11-21T16:31:31Z", "２026-11-21T16:31:31.497Z"],
)
def test_other_text_stays_text(at: str) -> None:
    assert digits_of(at) == at
