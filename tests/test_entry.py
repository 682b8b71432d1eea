"""What is packed comes back as it was, and what repeats is stored once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.ask import Answer
from onward.entry import Entry, Links, Turns, blob_digest, pack, pack_value, unpack, unpack_value
from onward.errors import Damaged, Refused
from onward.fingerprint import Fingerprint
from onward.keys import Key
from onward.protocols import PROTOCOLS

LONG = "long enough for a place of its own " * 20
names = st.one_of(
    st.sampled_from(
        [
            "messages",
            "input",
            "contents",
            "$text",
            "$json",
            "$chain",
            "$said",
            "$plain",
            "body",
            "frames",
            "n",
            "value",
            "parts",
        ]
    ),
    st.text(max_size=4),
)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=8), st.text(min_size=1, max_size=3).map(lambda text: text * 200),
)  # fmt: skip


def nested(most: int) -> st.SearchStrategy[Any]:
    """Any JSON of so many leaves."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, max_size=12),
            st.dictionaries(names, inner, max_size=5),
            st.dictionaries(st.text(max_size=5), inner, min_size=8, max_size=12),
        ),
        max_leaves=most,
    )


values, messages = nested(40), nested(6)
"""A message is a smaller value: what counts is which of them stand in which row, and making one is the slow part."""
outcomes = st.sampled_from([None, "ok", "failed", "timeout", "error"])
prints = st.one_of(
    st.none(), st.dictionaries(st.text(max_size=5), leaves, max_size=3).map(lambda p: Fingerprint.of(**p))
)
entries = st.builds(
    Entry,
    seq=st.just(0),
    kind=st.sampled_from(["plan", "intent", "result", "served", "void"]),
    key=st.lists(st.text(min_size=1, max_size=4), max_size=4).map(lambda parts: Key.of(*parts)),
    at=st.text(max_size=5),
    data=st.dictionaries(names.filter(lambda name: name not in ("parts", "recipe")), values, max_size=4),
    outcome=outcomes,
    attempt=st.integers(1, 9),
    generation=st.integers(0, 9),
    fingerprint=prints,
    usd=st.one_of(st.none(), st.floats(0, 9)),
    tokens=st.one_of(st.none(), st.integers(0, 9)),
)  # fmt: skip


@given(values)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    text, blobs = pack_value(value)
    assert unpack_value(text, blobs.__getitem__) == value
    assert json.dumps(unpack_value(text, blobs.__getitem__)) == json.dumps(value)


@given(entries)
def test_any_entry_comes_back_as_it_was(entry: Entry) -> None:
    row, blobs = pack(entry)
    assert unpack(row, blobs.__getitem__) == entry


@given(values)
def test_every_blob_is_named_by_its_content(value: Any) -> None:
    _, blobs = pack_value(value)
    assert all(blob_digest(content) == name for name, content in blobs.items())


turns = st.tuples(
    st.sampled_from([{"role": "assistant"}, {"role": "model"}, {"type": "reasoning"}, {"type": "function_call"}]),
    st.lists(messages, max_size=1),
).map(lambda turn: [{**turn[0], "content": LONG}, *turn[1], {"role": "user", "content": "?"}])


@given(st.lists(messages, max_size=3), st.lists(turns, max_size=2), turns)
def test_a_longer_conversation_adds_only_what_is_new(asked: list[Any], talk: list[list[Any]], turn: list[Any]) -> None:
    history = [{"role": "system", "content": LONG}, *asked, *(message for turn in talk for message in turn), "?"]
    _, before = pack_value({"messages": history})
    _, after = pack_value({"messages": [*history, *turn]})
    _, alone = pack_value({"said": turn})
    assert before.keys() < after.keys()
    assert len(after.keys() - before.keys()) <= 1 + len(alone)


def test_messages_that_no_model_answers_between_are_shared_all_the_same() -> None:
    said = [{"role": "user", "content": f"{at} {LONG}"} for at in range(100)]
    _, before = pack_value({"messages": said[:99]})
    _, after = pack_value({"messages": said})
    assert len(after.keys() - before.keys()) == 2


def test_a_role_that_is_no_role_cuts_nothing() -> None:
    said = [{"role": ["assistant"]}, {"role": {"a": "model"}}, {"role": None, "type": 7}, "model", None, LONG]
    text, blobs = pack_value({"input": said})
    assert len(blobs) == 2 and unpack_value(text, blobs.__getitem__) == {"input": said}


@given(st.lists(st.lists(messages, min_size=1, max_size=6), min_size=1, max_size=6), st.sampled_from([0, 200, 2**20]))
def test_what_was_handed_over_before_is_not_again_and_comes_back_all_the_same(talks: list[Any], most: int) -> None:
    links, kept = Links(most), dict[bytes, bytes]()
    for messages in [*talks, *talks, *(one + two for one in talks for two in talks)]:
        entry = Entry("intent", Key.of("a"), "now", {"request": {"messages": messages}})
        row, blobs = pack(entry, links)
        alone, every = pack(entry)
        assert row == alone and blobs.items() <= every.items()
        kept.update(blobs)
        assert kept.items() >= every.items()
        assert unpack(row, kept.__getitem__).data == entry.data


def test_a_conversation_that_goes_on_hands_over_its_new_messages_alone() -> None:
    roles = ("user", "assistant")
    links, said = Links(), [{"role": roles[at % 2], "content": f"{at} {LONG}"} for at in range(9)]
    for upto in (7, 9):
        _, blobs = pack(Entry("intent", Key.of("a"), "now", {"request": {"messages": said[:upto]}}), links)
    assert len(blobs) == 3


@given(st.data(), st.lists(st.lists(messages, min_size=2, max_size=6), min_size=1, max_size=4))
def test_a_conversation_of_which_the_links_are_remembered_is_packed_as_any_other(data: Any, talks: list[Any]) -> None:
    said = [message for talk in talks for message in talk]
    links, turns, kept = Links(), Turns(), dict[bytes, bytes]()
    for _ in range(5):  # it goes on, loses its end, goes on in another way, or holds another like itself
        messages = said[: data.draw(st.integers(0, len(said)))] + data.draw(st.sampled_from([[], *talks, [said]]))
        nested = [{"role": "user", "messages": messages}] * data.draw(st.integers(0, 2))
        entry = Entry("intent", Key.of("a"), "now", {"request": {"messages": [*messages, *nested]}, "long": LONG})
        row, blobs = pack(entry, links, turns)
        alone, every = pack(entry)
        assert row == alone and blobs.items() <= every.items()
        kept.update(blobs)
        assert kept.items() >= every.items()
        assert unpack(row, kept.__getitem__).data == entry.data


def test_messages_that_are_the_very_same_are_not_looked_at_again() -> None:
    said = [{"role": ("user", "assistant")[at % 2], "content": f"{at} {LONG}"} for at in range(9)]
    links, turns = Links(), Turns()
    entry = Entry("intent", Key.of("a"), "now", {"request": {"messages": said[:7]}})
    pack(entry, links, turns)
    said[1]["content"] = object()  # nobody does this: it shows that nobody looks
    _, blobs = pack(entry._replace(data={"request": {"messages": list(said)}}), links, turns)
    assert len(blobs) == 3
    with pytest.raises(Refused):
        pack(entry._replace(data={"request": {"messages": list(said)}}), links)


ANSWER = f'He said "no":\n\t{LONG}'
frames = st.lists(
    st.tuples(st.integers(0, 10**6), st.builds(lambda text: f'data: {json.dumps({"content": text})}\n\n', st.text()))
    .map(list)
)  # fmt: skip


@given(st.one_of(frames, st.lists(values), values.map(json.dumps), values))
def test_any_answer_as_it_was_sent_comes_back(sent: Any) -> None:
    for name in ("frames", "body"):
        text, blobs = pack_value({"status": 200, name: sent})
        assert json.dumps(unpack_value(text, blobs.__getitem__)[name]) == json.dumps(sent)


@pytest.mark.parametrize("name", [*PROTOCOLS])
@pytest.mark.parametrize("is_stream", [False, True])
def test_what_was_said_is_stored_once_though_the_next_request_says_it_again(name: str, is_stream: bool) -> None:
    wire = PROTOCOLS[name]
    response = wire.render(Answer(ANSWER), "m-1")
    sent: dict[str, Any] = {"body": json.dumps(response)}
    if is_stream:
        sent = {"frames": [[7 * at, frame.decode()] for at, frame in enumerate(wire.frames(response))]}
    result = Entry("result", Key.of("a"), "now", {"value": {"status": 200, **sent}})
    row, kept = pack(result)
    assert unpack(row, kept.__getitem__) == result
    talk = [
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": ANSWER},
        {"role": "user", "content": "Why?"},
    ]
    _, asked = pack(Entry("intent", Key.of("a"), "now", {"request": wire.body("m-1", talk, {})}))
    assert [content for content in (kept | asked).values() if LONG.encode() in content] == [ANSWER.encode()]


@pytest.mark.parametrize(
    "sent", [[[0, "a"], [1.0, "b"]], [[0, "a"], [True, "b"]], [[0, "a", 1]], [[-1, "a"]], [["a", 0]], [0, "a"], [], {}]
)
def test_what_only_looks_like_frames_is_kept_as_it_is(sent: Any) -> None:
    text, blobs = pack_value({"frames": sent, "body": LONG})
    assert json.dumps(unpack_value(text, blobs.__getitem__)["frames"]) == json.dumps(sent)


def test_what_cannot_be_packed_leaves_nothing_taken_for_handed_over() -> None:
    links, said = Links(), [{"content": LONG}, {"content": 1}]
    with pytest.raises(Refused):
        pack(Entry("intent", Key.of("a"), "now", {"request": {"messages": [*said, {"content": object()}]}}), links)
    _, blobs = pack(Entry("intent", Key.of("a"), "now", {"request": {"messages": said}}), links)
    assert len(blobs) == 2
    turns = Turns()
    with pytest.raises(Refused):
        pack(
            Entry("intent", Key.of("b"), "now", {"request": {"messages": [*said, {"content": object()}]}}), None, turns
        )
    _, blobs = pack(Entry("intent", Key.of("b"), "now", {"request": {"messages": said}}), None, turns)
    assert len(blobs) == 2


def test_a_row_that_is_not_json_is_damage() -> None:
    row, _ = pack(Entry("result", Key.of("a"), "now", {"value": 1}))
    for body in (
        "",
        "{",
        '{"value":{"$text":"zz"}}',
        '{"value":{"$text":7}}',
        '{"value":{"$chain":"00"}}',
        '{"value":{"$chain":7}}',
        '{"value":{"$said":7}}',
        '{"value":{"$said":{"forms":[["a\\u007f",0]],"columns":[]}}}',
        '{"value":{"$said":{"forms":[["a"]],"columns":[],"after":[1,2]}}}',
    ):
        with pytest.raises(Damaged, match="entry 7"):
            unpack(row._replace(body=body), {}.__getitem__, seq=7)
