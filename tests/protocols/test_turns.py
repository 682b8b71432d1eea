"""What an agent's messages are in each wire format, held to requests as agents send them."""

from __future__ import annotations

from typing import Any

import pytest

from onward.ask import Answer
from onward.protocols import PROTOCOLS
from onward.protocols.sse import Frames, event_of
from onward.protocols.turns import FORMS

CALLS = [{"id": "c1", "name": "bash", "arguments": {"cmd": "date"}}, {"id": "c2", "name": "bash", "arguments": {}}]
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Go."},
    {"role": "assistant", "content": "I look.", "tool_calls": CALLS},
    {"role": "tool", "tool_call_id": "c1", "content": "noon"},
    {"role": "tool", "tool_call_id": "c2", "content": "none"},
    {"role": "user", "content": "Well?"},
]
TOOL = {"name": "bash", "description": "runs", "parameters": {"type": "object", "properties": {}}}
ALL = pytest.mark.parametrize("protocol", sorted(FORMS))


def body(protocol: str) -> Any:
    return PROTOCOLS[protocol].body("m", TALK, {"tools": [TOOL]})


def test_the_formats_are_those_of_the_protocols() -> None:
    assert set(FORMS) == set(PROTOCOLS)


@pytest.mark.parametrize(
    ("protocol", "roles"),
    [
        ("chat", ["system", "user", "assistant", "tool", "tool", "user"]),
        (
            "responses",
            ["system", "user", *["assistant"] * 3, "function_call_output", "function_call_output", "user"],
        ),
        ("messages", ["user", "assistant", "user", "user"]),
        ("gemini", ["user", "assistant", "user", "user"]),
    ],
)
def test_who_speaks(protocol: str, roles: list[str]) -> None:
    form, asked = FORMS[protocol], body(protocol)
    assert [form.role(one) for one in form.messages(asked)] == roles
    start, stop = roles.index("assistant"), len(roles) - roles[::-1].index("assistant")
    assert form.runs(form.messages(asked)) == [(start, stop)]


@ALL
def test_tool_results_and_their_call_ids(protocol: str) -> None:
    form = FORMS[protocol]
    found = [call for one in form.messages(body(protocol)) for call in form.results(one)]
    assert found == (["bash", "bash"] if protocol == "gemini" else ["c1", "c2"])


@ALL
def test_a_skeleton_keeps_which_calls_are_answered_and_all_other_text(protocol: str) -> None:
    form, asked = FORMS[protocol], body(protocol)
    shapes = [form.skeleton(one) for one in form.messages(asked)]
    text = repr(shapes)
    assert "noon" not in text and "none" not in text
    assert "Go." in text and "Well?" in text and "date" in text
    assert all(shape is one for shape, one in zip(shapes, form.messages(asked), strict=True) if not form.results(one))
    assert [form.results(shape) for shape in shapes] == [form.results(one) for one in form.messages(asked)]


@ALL
def test_model_tools_and_the_rest(protocol: str) -> None:
    form, asked = FORMS[protocol], body(protocol)
    assert form.model(asked) == ("" if protocol == "gemini" else "m")
    assert "bash" in repr(form.tools(asked))
    assert form.history not in form.rest(asked) and {form.history, *form.rest(asked)} == set(asked)


def test_old_functions_are_tools() -> None:
    assert FORMS["chat"].tools({"functions": [TOOL]}) == [TOOL]
    old = {"role": "function", "name": "bash", "content": "noon"}
    assert FORMS["chat"].results(old) == ("bash",)


@ALL
def test_an_answer_adds_its_turn_streamed_or_not(protocol: str) -> None:
    wire, form = PROTOCOLS[protocol], FORMS[protocol]
    response = wire.render(Answer("I look. ", "tool", CALLS), "m")
    assembly, frames = wire.assembly(), Frames()
    for frame in frames.feed(b"".join(wire.frames(response))):
        event = event_of(frame)
        if event:
            assembly.feed(event)
    turn = form.turn(response)
    assert turn and all(form.is_assistant(one) for one in turn)
    assert form.said(turn) == form.said(form.turn(assembly.response()))
    assert form.said(turn) == ("I look.", (("bash", {"cmd": "date"}), ("bash", {})))


@ALL
def test_a_turn_says_the_same_in_an_answer_and_in_the_next_request(protocol: str) -> None:
    form = FORMS[protocol]
    messages = form.messages(body(protocol))
    (start, stop) = form.runs(messages)[0]
    response = PROTOCOLS[protocol].render(Answer("I look.", "tool", CALLS), "m")
    assert form.said(messages[start:stop]) == form.said(form.turn(response))


def test_thinking_is_no_part_of_what_is_said() -> None:
    blocks = [{"type": "thinking", "thinking": "Hm", "signature": "s"}, {"type": "text", "text": "Yes"}]
    assert FORMS["messages"].said([{"role": "assistant", "content": blocks}]) == ("Yes", ())
    parts = [{"text": "Hm", "thought": True}, {"text": "Yes"}]
    assert FORMS["gemini"].said([{"role": "model", "parts": parts}]) == ("Yes", ())
    items = [
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Yes"}]},
    ]
    assert FORMS["responses"].runs(items) == [(0, 2)]
    assert FORMS["responses"].said(items) == ("Yes", ())


def test_thinking_stays_in_the_turn_for_it_must_be_handed_back() -> None:
    blocks = [{"type": "thinking", "thinking": "", "signature": "s"}, {"type": "text", "text": "Yes"}]
    assert FORMS["messages"].turn({"type": "message", "content": blocks})[0]["content"] == blocks


@pytest.mark.parametrize(
    ("kind", "call", "answer"),
    [
        ("custom_tool", {"name": "apply_patch", "input": "*** Begin"}, {"output": "ok"}),
        ("local_shell", {"action": {"type": "exec", "command": ["ls"]}}, {"output": "{}"}),
        ("mcp", {"name": "x", "arguments": "{}"}, {"output": "y"}),
    ],
)
def test_every_sort_of_call_in_responses_is_the_models(kind: str, call: Any, answer: Any) -> None:
    form = FORMS["responses"]
    made = {"type": f"{kind}_call", "call_id": "c1", **call}
    given = {"type": f"{kind}_call_output", "call_id": "c1", **answer}
    assert form.is_assistant(made) and not form.is_assistant(given)
    assert form.results(given) == ("c1",) and form.results(made) == ()
    assert form.skeleton(given) == {"type": f"{kind}_call_output", "call_id": "c1"}
    assert form.said([made]).calls


def test_an_input_that_is_text_is_a_users_message() -> None:
    assert FORMS["responses"].messages({"input": "Go."}) == [{"role": "user", "content": "Go."}]


@pytest.mark.parametrize(
    ("protocol", "made"),
    [
        ("chat", lambda ids: [{"role": "tool", "tool_call_id": one, "content": one} for one in ids]),
        ("responses", lambda ids: [{"type": "function_call_output", "call_id": one, "output": one} for one in ids]),
        ("messages", lambda ids: [{"role": "user", "content": [
            *({"type": "tool_result", "tool_use_id": one, "content": one} for one in ids),
            {"type": "text", "text": "and now?"},
        ]}]),
        ("gemini", lambda ids: [{"role": "user", "parts": [
            {"functionResponse": {"id": one, "name": "x", "response": {}}} for one in ids
        ]}]),
    ],
)  # fmt: skip
def test_parallel_results_without_a_call_are_put_in_the_order_of_their_ids(protocol: str, made: Any) -> None:
    form = FORMS[protocol]
    came = made(["b", "c", "a"])
    assert form.in_order(came) == made(["a", "b", "c"])
    assert came == made(["b", "c", "a"])


CALLED: dict[str, Any] = {
    "chat": lambda ids: {"role": "assistant", "tool_calls": [{"id": one} for one in ids]},
    "messages": lambda ids: {"role": "assistant", "content": [{"type": "tool_use", "id": one} for one in ids]},
    "gemini": lambda ids: {"role": "model", "parts": [{"functionCall": {"id": one, "name": "x"}} for one in ids]},
}


@ALL
def test_parallel_results_are_put_in_the_order_of_their_calls(protocol: str) -> None:
    form = FORMS[protocol]
    if protocol == "responses":
        calls = [{"type": "function_call", "call_id": one} for one in "cab"]

        def came(ids: str) -> Any:
            return [*calls, *({"type": "function_call_output", "call_id": one} for one in ids)]
    else:

        def came(ids: str) -> Any:
            results = {
                "chat": [{"role": "tool", "tool_call_id": one} for one in ids],
                "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": one} for one in ids]}],
                "gemini": [{"role": "user", "parts": [{"functionResponse": {"id": one}} for one in ids]}],
            }
            return [CALLED[protocol]("cab"), *results[protocol]]

    assert form.in_order(came("abc")) == came("cab") == form.in_order(came("bca"))
    ordered = came("cab")
    assert form.in_order(ordered) is ordered


def test_results_of_different_turns_are_not_mixed() -> None:
    talk = [
        {"role": "tool", "tool_call_id": "z", "content": "1"},
        {"role": "assistant", "content": "hm"},
        {"role": "tool", "tool_call_id": "a", "content": "2"},
    ]
    assert FORMS["chat"].in_order(talk) == talk


@ALL
@pytest.mark.parametrize("given", [None, 1, {}, [1], ["x"], [None, {}]])
def test_a_body_that_is_not_in_its_format_has_no_messages(protocol: str, given: Any) -> None:
    form = FORMS[protocol]
    odd = {form.history: given}
    assert list(form.messages(odd)) == []
    assert form.rest(odd) == odd


@ALL
@pytest.mark.parametrize(
    "response",
    [
        {}, {"error": {"message": "no"}}, {"type": "error", "content": [{"type": "text"}]}, {"choices": []},
        {"choices": [{}]}, {"candidates": [{"content": {}}]}, {"output": None}, {"content": "x"},
    ],
)  # fmt: skip
def test_an_error_adds_no_turn(protocol: str, response: Any) -> None:
    assert FORMS[protocol].turn(response) == []


@ALL
def test_odd_messages_raise_nothing(protocol: str) -> None:
    form = FORMS[protocol]
    for odd in (
        {}, {"role": 1, "content": 7, "parts": 7}, {"content": [1, {"type": "tool_result"}]}, {"parts": [None]},
        {"role": "assistant", "tool_calls": [{"function": None}], "content": [{"type": "tool_use"}]},
        {"type": "function_call", "call_id": 1}, {"role": "model", "parts": [{"functionCall": {}}]},
    ):  # fmt: skip
        form.results(odd), form.skeleton(odd), form.in_order([odd]), form.said([odd]), form.role(odd)
