"""A step's name is a path of names, and a name may be anything."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.keys import ROOT, Key

NAME = st.text(min_size=1)
NAMES = st.lists(NAME, min_size=1, max_size=5)
CLOSE = st.lists(st.sampled_from(["a", "a/", "ab", "a%2Fb", "%", "/", "\x00", "é", "a b"]), min_size=1, max_size=4)


@given(NAMES)
def test_names_come_back_as_they_went_in(names: list[str]) -> None:
    key = Key.of(*names)
    assert key.names == tuple(names)
    assert key.name == names[-1]
    assert key.depth == len(names)


@given(NAMES)
def test_a_key_is_one_line_of_text_without_control_characters(names: list[str]) -> None:
    assert not any(ord(letter) < 32 or ord(letter) == 127 for letter in Key.of(*names))


@given(NAMES | CLOSE, NAMES | CLOSE)
def test_a_prefix_covers_what_is_under_it_and_nothing_else(one: list[str], other: list[str]) -> None:
    assert Key.of(*one).covers(Key.of(*other)) == (other[: len(one)] == one)


@given(NAMES, NAMES)
def test_equal_keys_are_equal_names(one: list[str], other: list[str]) -> None:
    assert (Key.of(*one) == Key.of(*other)) == (one == other)


@given(NAMES, NAME)
def test_a_child_lies_below_its_parent(names: list[str], child: str) -> None:
    parent = Key.of(*names)
    assert (parent / child).parent == parent
    assert (parent / child).names == (*parent.names, child)
    assert parent.covers(parent / child) and not (parent / child).covers(parent)


def test_the_root_covers_all_and_has_no_name() -> None:
    assert ROOT.covers(Key.of("a", "b")) and ROOT.covers(ROOT)
    assert (ROOT.names, ROOT.name, ROOT.depth) == ((), "", 0)
    assert Key.of("a").parent == ROOT == ROOT.parent


@pytest.mark.parametrize("names", [("",), ("a", ""), ("", "a")])
def test_an_empty_name_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be empty"):
        Key.of(*names)


def test_a_key_reads_as_the_path_in_the_documents() -> None:
    assert Key.of("gpt", "t/1", "1", "generate", "0") / "llm:3f9a1c0d2b7e#1" == (
        "gpt/t%2F1/1/generate/0/llm:3f9a1c0d2b7e#1"
    )
