"""What a model said is found in an answer however it was sent, and every answer comes back as it was sent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.ask import Answer, Usage
from onward.protocols import PROTOCOLS
from onward.said import taken_out, told

LONG = 256
ANSWER = 'She said "no":\n\tü 漢字 🦜 <b>&amp;</b> \\ \x01 it\'s = \u2028 over. ' * 12

keys = st.sampled_from(
    ["content", "text", "delta", "arguments", "partial_json", "index", "sequence_number", "x", "signature"]
)
words = st.one_of(
    st.text(max_size=9), st.sampled_from(["", '"', "\\", "\x7f", "\\u007f", "\\ud83d", "🦜", "</b>", "é", ANSWER]),
    st.integers(0, 300).map("word ".__mul__),
)  # fmt: skip
values = st.recursive(
    st.one_of(words, st.integers(-3, 10**16), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)
WRITERS = {
    "compact": lambda value: orjson.dumps(value).decode(),
    "ascii": json.dumps,
    "raw": lambda value: json.dumps(value, ensure_ascii=False, separators=(", ", " :  ")),
    "html": lambda value: orjson.dumps(value).decode().replace("<", "\\u003c").replace("'", "\\u0027"),
    "upper": lambda value: orjson.dumps(value).decode().replace("<", "\\u003C").replace("/", "\\/"),
    "cut": lambda value: orjson.dumps(value).decode()[3:-2],
}
half = st.sampled_from(['{"index":0,"content":"\\ud83d"}', '{"content":"\\ud83d\\ude00"}', '{"content":"\\uDE00\\/"}'])
written = st.builds(lambda write, value: f"data: {WRITERS[write](value)}\n\n", st.sampled_from([*WRITERS]), values)
alike = st.builds(
    lambda write, value, pieces: [WRITERS[write]({"index": 1, **value, "delta": piece}) for piece in pieces],
    st.sampled_from([*WRITERS]), st.dictionaries(keys, values, max_size=3), st.lists(words, max_size=9),
)  # fmt: skip
streams = st.lists(
    st.one_of(alike, st.lists(st.one_of(written, half, st.text(max_size=20)), max_size=4)), max_size=4
).map(lambda runs: [text for run in runs for text in run])


def again(made: dict[str, Any] | None) -> list[str]:
    assert made is not None
    return told(orjson.loads(orjson.dumps(made)))


def texts_in(made: dict[str, Any] | None) -> list[str]:
    assert made is not None
    return [words for words, *_ in made["columns"] if words is not None]


@given(streams, st.sampled_from([1, LONG]))
def test_any_texts_come_back_as_they_were(texts: list[str], least: int) -> None:
    made = taken_out(texts, least=least, long=LONG)
    assert made is None or again(made) == texts


@given(st.text(), st.lists(st.integers(1, 9), min_size=1), st.sampled_from([*WRITERS]))
def test_a_stream_in_any_spelling_comes_back(said: str, cuts: list[int], write: str) -> None:
    texts = list(chunks(said, cuts, write))
    made = taken_out(texts, least=1, long=LONG)
    assert made is None or again(made) == texts
    plain = said.isascii() and said.isprintable() and "<" not in said and "/" not in said
    if said and plain and write != "cut":
        assert texts_in(made) == [said]


def chunks(said: str, cuts: list[int], write: str = "compact") -> Iterator[str]:
    """A stream in pieces of these lengths, over and over."""
    start = at = 0
    while start < len(said):
        piece = said[start : start + cuts[at % len(cuts)]]
        yield f"data: {WRITERS[write]({'choices': [{'index': 0, 'delta': {'content': piece}}]})}\n\n"
        start, at = start + len(piece), at + 1


@pytest.mark.parametrize("write", ["compact", "ascii", "raw", "html"])
def test_words_are_found_in_every_usual_spelling(write: str) -> None:
    texts = list(chunks(ANSWER, [7, 1, 12], write))
    made = taken_out(texts, least=1, long=LONG)
    assert texts_in(made) == [ANSWER]
    assert again(made) == texts
    body = WRITERS[write]({"content": ANSWER})
    assert texts_in(taken_out([body], least=LONG, long=LONG)) == [ANSWER]


@pytest.mark.parametrize("name", [*PROTOCOLS])
@pytest.mark.parametrize("is_stream", [False, True])
def test_the_words_of_an_answer_are_one_text_in_every_wire_format(name: str, is_stream: bool) -> None:
    wire = PROTOCOLS[name]
    response = wire.render(Answer(ANSWER, usage=Usage(10, 20)), "m-1")
    texts = [frame.decode() for frame in wire.frames(response)] if is_stream else [json.dumps(response)]
    made = taken_out(texts, least=1 if is_stream else LONG, long=LONG)
    assert set(texts_in(made)) == {ANSWER}
    assert again(made) == texts


@pytest.mark.parametrize("name", ["chat", "responses", "messages"])
def test_the_arguments_of_parallel_calls_are_told_apart(name: str) -> None:
    wire = PROTOCOLS[name]
    calls = [{"id": f"c{at}", "name": "write", "arguments": {"text": f"{at} {ANSWER}"}} for at in range(2)]
    texts = [frame.decode() for frame in wire.frames(wire.render(Answer("", "tool", calls), "m-1"))]
    made = taken_out(texts, least=1, long=LONG)
    asked = [orjson.loads(words) for words in texts_in(made) if words.startswith("{")]
    assert {call["text"] for call in asked} == {call["arguments"]["text"] for call in calls}
    assert again(made) == texts


def test_choices_that_come_by_turns_are_told_apart() -> None:
    texts = [
        json.dumps({"choices": [{"index": choice, "delta": {"content": f"{choice}{turn} "}}]})
        for turn in range(9) for choice in range(2)
    ]  # fmt: skip
    made = taken_out(texts, least=1, long=LONG)
    assert texts_in(made) == ["".join(f"{choice}{turn} " for turn in range(9)) for choice in range(2)]
    assert again(made) == texts


def test_a_stream_becomes_a_few_forms_however_many_frames_it_has() -> None:
    events = [
        {"type": "response.output_text.delta", "sequence_number": at, "output_index": 0, "delta": f"w{at} ",
         "obfuscation": "x" * (at % 16)}
        for at in range(256)
    ]  # fmt: skip
    texts = [json.dumps(event) for event in events]
    made = taken_out(texts, least=1, long=LONG)
    assert made is not None and len(made["forms"]) <= 3 and len(made["order"]) <= 6
    assert again(made) == texts


def test_pieces_that_are_spelled_in_another_way_stay_and_stop_nothing() -> None:
    texts = [json.dumps({"delta": f"w{at} "}).replace("w", "\\/" if at % 5 == 0 else "w") for at in range(300)]
    made = taken_out(texts, least=1, long=LONG)
    assert texts_in(made) == ["".join(f"w{at} " for at in range(300) if at % 5)]
    assert again(made) == texts


def test_a_text_in_which_nothing_is_said_is_left_alone() -> None:
    for texts in ([], [""], ["data: [DONE]\n\n"], ['{"content": "short"}'], [f'{{"title": "{ANSWER}"}}']):
        assert taken_out(texts, least=LONG, long=LONG) is None


def test_a_text_with_a_mark_like_ours_is_left_alone() -> None:
    assert taken_out([f'{{"content": "{"a" * 300}\x7f"}}'], least=LONG, long=LONG) is None


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"forms": [["a\x7fb", 0]], "columns": []},
        {"forms": [["a\x7fb", 0]], "columns": [[]]},
        {"forms": [["a\x7fb"]], "columns": [["x"]]},
        {"forms": [["a\x7fb", 0]], "columns": [["x"]], "order": [0]},
        {"forms": [["a\x7fb", 0]], "columns": [["x"]], "order": [0, 2]},
        {"forms": [["a\x7fb", 0]], "columns": [["x"]], "order": [1, 1]},
        {"forms": [["a\x7fb", 0]], "columns": [[None, "1", 1]], "order": [0, 2]},
        {"forms": [[7, 0]], "columns": [["x"]]},
    ],
)
def test_what_was_not_made_here_is_refused(made: dict[str, Any]) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        told(made)
