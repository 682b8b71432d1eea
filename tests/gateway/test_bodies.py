"""A body that repeats its conversation is read as it would be alone, and what it repeats is read once."""

from __future__ import annotations

import json
import random
from typing import Any

import orjson
import pytest

from onward.gateway.bodies import Bodies
from onward.gateway.exchanges import request_of
from onward.gateway.normalisers import GENERIC, Rule, Rules, rules_for
from onward.protocols.turns import FORMS

HISTORIES = {"chat": "messages", "responses": "input", "messages": "messages", "gemini": "contents"}
ALIASES = Rules(
    "some", "0", (Rule("ids", "alias", ("messages[*].content", "system"), r"agentId: (\w+)", "agent"), *GENERIC.rules)
)


def body_of(messages: list[Any], **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": messages, "max_tokens": 5, **more}


def talk(count: int, seed: int = 0) -> list[dict[str, Any]]:
    chance = random.Random(seed)
    words = ["plain", "größer", '"quoted"', "agentId: b7", "agentId: a1", "{[,]}", "\\u0041 \\", "line\nbreak"]
    return [{"role": ("user", "assistant")[at % 2], "content": f"{at} {chance.choice(words)}"} for at in range(count)]


def test_of_a_conversation_that_goes_on_only_what_is_new_is_read() -> None:
    bodies, messages = Bodies(), talk(6)
    first = bodies.read(json.dumps(body_of(messages[:4])).encode(), "messages")
    second = bodies.read(json.dumps(body_of(messages)).encode(), "messages")
    assert second.value == body_of(messages)
    for known, again in zip(first.value["messages"], second.value["messages"], strict=False):
        assert known is again
    assert list(map(id, first.said)) == list(map(id, second.said[:4]))


def test_lanes_between_each_other_are_each_read_on() -> None:
    bodies, lanes = Bodies(), [talk(8, seed) for seed in range(4)]
    for turn in range(2, 9, 2):
        for lane in lanes:
            found = bodies.read(json.dumps(body_of(lane[:turn])).encode(), "messages")
            assert found.value == body_of(lane[:turn])
    again = bodies.read(json.dumps(body_of(lanes[0])).encode(), "messages")
    assert again.said[0] is bodies.read(json.dumps(body_of(lanes[0][:1])).encode(), "messages").said[0]


DUMPS = [
    lambda body: json.dumps(body).encode(),
    lambda body: json.dumps(body, ensure_ascii=False).encode(),
    lambda body: json.dumps(body, indent=2, ensure_ascii=False).encode(),
    orjson.dumps,
]


@pytest.mark.parametrize("protocol", HISTORIES)
@pytest.mark.parametrize("dumps", DUMPS, ids=["spaced", "unicode", "indented", "dense"])
def test_any_sequence_of_bodies_is_read_and_matched_as_each_would_be_alone(protocol: str, dumps: Any) -> None:
    history, chance = HISTORIES[protocol], random.Random(7)
    for rules in (GENERIC, ALIASES, rules_for("claude-code", "99"), rules_for("gemini-cli", "99")):
        bodies = Bodies()
        for _ in range(60):
            messages = talk(chance.randrange(1, 12), chance.randrange(3))
            tail = {
                "system": chance.choice(["agentId: a1", "be brief"]),
                "tools": [{"name": "t" * chance.randrange(3)}],
            }
            body = {"stream": True, history: messages, **tail} if chance.random() < 0.8 else {**tail, history: messages}
            found = bodies.read(dumps(body), history)
            assert found.value == body and list(found.value) == list(body)
            before, same = (found.around.request, found.around.same) if found.around is not None else (None, False)
            seen = request_of(protocol, found.value, rules, said=found.said, before=before, same_around=same)
            alone = request_of(protocol, body, rules)
            if found.around is not None:
                found.around.request = seen
            assert (seen.whole, seen.chain, seen.replies) == (alone.whole, alone.chain, alone.replies)
            assert seen.messages == alone.messages and FORMS[protocol].messages(found.value) == messages


def test_what_two_requests_share_is_hashed_once_and_what_only_looks_equal_is_not_shared() -> None:
    bodies, made = Bodies(), []
    bodies_of = [[{"a": 1}, {"b": 2}], [{"a": 1}, {"b": 2}, {"c": 3}], [{"a": True}, {"b": 2}]]
    for body in [*map(body_of, bodies_of), body_of(bodies_of[0], max_tokens=True), body_of(bodies_of[0], max_tokens=1)]:
        found = bodies.read(orjson.dumps(body), "messages")
        assert found.around is not None
        before, same = found.around.request, found.around.same
        made.append(request_of("chat", found.value, said=found.said, before=before, same_around=same))
        found.around.request = made[-1]
        assert made[-1].whole == request_of("chat", body).whole
    assert made[1].envelope is made[0].envelope and made[1].hashes[0] is made[0].hashes[0]
    assert made[3].whole != made[4].whole


def test_a_list_that_is_there_twice_is_never_gone_on_from() -> None:
    bodies = Bodies()
    assert bodies.read(b'{"messages": [{"a": 1}], "messages": [{"c": 3}]}', "messages").value["messages"] == [{"c": 3}]
    assert bodies.read(b'{"messages": [{"a": 1}, {"b": 2}]}', "messages").value["messages"] == [{"a": 1}, {"b": 2}]


ODD = {
    "a second list further on": b'{"messages": [{"a": 1}, {"b": 2}], "messages": [{"c": 3}]}',
    "a second list, spelled otherwise": b'{"messages": [{"a": 1}, {"b": 2}], "message\\u0073": [{"c": 3}]}',
    "one that is empty": b'{"messages": [{"a": 1}], "messages": []}',
    "a number further on": b'{"messages": [{"a": 1}, 2]}',
    "nothing but text": b'{"messages": "a"}',
    "nothing": b'{"messages": []}',
    "a longer number": b'{"messages": [{"a": 1}], "n": 12}',
    "a great number": b'{"messages": [{"a": 1}, {"b": 123456789012345678901234567890}]}',
    "a list in a list": b'{"x": {"messages": [{"a": 1}]}, "messages": [{"a": 1}, {"x": [{"messages": [0]}]}]}',
}
WRONG = {
    "a comma too many": b'{"messages": [{"a": 1}, ]}',
    "two commas": b'{"messages": [{"a": 1},, {"b": 2}]}',
    "a comma too few": b'{"messages": [{"a": 1} {"b": 2}]}',
    "no end": b'{"messages": [{"a": 1}, {"b": 2}',
    "no number": b'{"messages": [{"a": 1}, {"b": NaN}]}',
    "something behind it": b'{"messages": [{"a": 1}]}}',
    "half a character": b'{"messages": [{"a": 1}, {"b": "\xc3"}]}',
    "no object": b"[]",
}


@pytest.mark.parametrize("raw", ODD.values(), ids=ODD)
def test_an_odd_body_is_read_as_it_would_be_alone(raw: bytes) -> None:
    bodies = Bodies()
    for before in (b'{"messages": [{"a": 1}]}', b'{"messages": [{"a": 1}, {"b": 2}]}'):
        bodies.read(before, "messages")
        assert bodies.read(raw, "messages").value == orjson.loads(raw)


@pytest.mark.parametrize("raw", WRONG.values(), ids=WRONG)
def test_what_is_no_json_object_is_refused_whatever_came_before(raw: bytes) -> None:
    bodies = Bodies()
    with pytest.raises(ValueError):
        bodies.read(raw, "messages")
    bodies.read(b'{"messages": [{"a": 1}]}', "messages")
    with pytest.raises(ValueError):
        bodies.read(raw, "messages")


def test_what_is_remembered_is_bounded() -> None:
    bodies = Bodies()
    for number in range(20):
        bodies.read(json.dumps(body_of([{"role": "user", "content": f"{number}" + "x" * 2**20}])).encode(), "messages")
        assert sum(track.size for track in bodies._tracks) <= 8 * 2**20 and len(bodies._tracks) <= 4
    bodies.read(json.dumps(body_of([{"role": "user", "content": "x" * 9 * 2**20}])).encode(), "messages")
    assert not bodies._tracks
