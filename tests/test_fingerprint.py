"""What a step depends on: one hash, and parts that say why it changed."""

from __future__ import annotations

import math
from collections import UserDict
from enum import IntEnum, StrEnum
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from onward.errors import Refused
from onward.fingerprint import RECIPE, Fingerprint, canonical, digest_of, plain

SAFE = st.integers(-(2**53) + 1, 2**53 - 1)
LEAF = st.none() | st.booleans() | SAFE | st.floats(allow_nan=False, allow_infinity=False) | st.text()
JSON = st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=20)


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    TWO = 2


@given(JSON)
def test_canonical_json_is_that_of_rfc_8785(value: Any) -> None:
    assert canonical(value) == rfc8785.dumps(value)


@given(JSON)
def test_what_is_kept_is_what_json_gives_back(value: Any) -> None:
    assert plain(value) == value and canonical(plain(value)) == canonical(value)


def test_one_is_one_whole_or_not() -> None:
    assert digest_of(1) == digest_of(1.0) and digest_of({"t": 0}) == digest_of({"t": -0.0})
    assert len({digest_of(value) for value in (1, True, "1", None, 0, False, "", [], {})}) == 9


def test_the_order_of_names_does_not_matter_and_that_of_lists_does() -> None:
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    assert digest_of([1, 2]) != digest_of([2, 1])
    assert digest_of((1, 2)) == digest_of([1, 2])


@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, b"bytes", {1: "a"}, {1, 2}, object(), "\ud800", {"\udfff": 1}, [[math.nan]]],
)
def test_what_is_not_json_is_refused(value: Any) -> None:
    with pytest.raises(Refused):
        canonical(value)
    with pytest.raises(Refused):
        plain(value)


def test_what_json_would_turn_into_something_else_is_turned_at_once() -> None:
    given = {"pair": (1, (2,)), "mapping": UserDict(a=1), "colour": Colour.RED, "level": Level.TWO, Colour.RED: True}
    kept = plain(given)
    assert kept == {"pair": [1, [2]], "mapping": {"a": 1}, "colour": "red", "level": 2, "red": True}
    assert type(kept["colour"]) is str and type(kept["level"]) is int and type(kept["mapping"]) is dict
    assert all(type(name) is str for name in kept)


def test_integers_beyond_what_json_holds_exactly_stay_apart() -> None:
    assert digest_of(2**53) != digest_of(2**53 + 1)
    assert plain(2**60 + 1) == 2**60 + 1
    with pytest.raises(Refused):
        plain(2**64)


def test_golden_digests_of_recipe_1() -> None:
    """An upgrade of Onward stales nothing: these never change; a new recipe gets a new number."""
    assert RECIPE == 1
    assert digest_of(None) == "74234e98afe7498fb5daf1f36ac2d78a"
    assert digest_of({"b": [1, 2.5, "é"], "a": {"ü": None, "x": True}}) == "2c4821a373970759c5acda6acb98606f"
    assert digest_of(1e21) == "241c4643fa70b1dcde1205b71be4e3be"
    made = Fingerprint.of(model="openai/gpt-4o", prompt="Say yes.", seed=7)
    assert made.digest == "2ee9737774a4d4b49560bfaabe1d26db"
    assert made.parts == {"model": "fd6d7a47b5d5", "prompt": "5483f28cc6d5", "seed": "7902699be42c"}
    assert Fingerprint.of().digest == "b4364ac9d56c3c0f14477628ea6cf5e9"


def test_parts_explain_a_change() -> None:
    older = Fingerprint.of(model="a", prompt="p", seed=1)
    newer = Fingerprint.of(model="b", prompt="p", seed=1, tools=[])
    assert newer.changes(older.parts) == ["model", "tools"]
    assert older.changes(older.parts) == []


@given(st.dictionaries(st.sampled_from("abc"), JSON), st.dictionaries(st.sampled_from("abc"), JSON))
def test_two_fingerprints_are_equal_exactly_if_no_part_changed(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = Fingerprint.of(**one), Fingerprint.of(**other)
    assert (first.digest == second.digest) == (first.changes(second.parts) == [])


def test_parts_joined_by_digest_are_the_parts_themselves() -> None:
    assert Fingerprint.join({"a": digest_of(1), "b": digest_of("x")}) == Fingerprint.of(b="x", a=1)
