"""Server-sent events: frames come out whole, byte for byte, however they were cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.protocols.sse import Event, Frames, event_of, frame_of


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_three_line_ends_are_read(end: str) -> None:
    raw = end.join(["event: a", "data: 1", "data: 2", "", ": ping", "", "data:3", "", ""]).encode()
    frames = Frames().feed(raw)
    assert b"".join(frames) == raw
    assert [event_of(frame) for frame in frames] == [Event("a", "1\n2"), None, Event("", "3")]


@given(st.lists(st.text(alphabet="ab é\u2028", min_size=1), max_size=6), st.lists(st.integers(1, 9), min_size=1))
def test_no_cut_of_the_bytes_changes_the_frames(texts: list[str], sizes: list[int]) -> None:
    raw, frames, got, at, turn = b"".join(frame_of(text) for text in texts), Frames(), [], 0, 0
    while at < len(raw):
        size = sizes[turn % len(sizes)]
        got += frames.feed(raw[at : at + size])
        at, turn = at + size, turn + 1
    assert b"".join(got) == raw
    assert [event.data for frame in got if (event := event_of(frame))] == [text.removeprefix("") for text in texts]
    assert frames.rest == b""


def test_a_frame_that_has_not_ended_is_no_frame() -> None:
    frames = Frames()
    assert frames.feed(b"data: [DONE]\n") == []
    assert frames.rest == b"data: [DONE]\n"
