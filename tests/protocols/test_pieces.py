"""What is read out of messages as providers and agents send them."""

from __future__ import annotations

from typing import Any

import pytest

from onward.ask import Answer
from onward.protocols import PROTOCOLS
from onward.protocols.pieces import Piece, pieces
from onward.protocols.turns import FORMS

CALL = Piece("call", "", "c1", "bash", {"command": "ls"})
RESULT = Piece("result", "a\nb", "c1")

MESSAGES: dict[str, list[tuple[dict[str, Any], list[Piece]]]] = {
    "chat": [
        ({"role": "user", "content": "go"}, [Piece("text", "go")]),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, [Piece("other", "image_url")]),
        (
            {"role": "assistant", "content": None, "reasoning_content": "hm", "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": '{"command": "ls"}'}}]},
            [Piece("thinking", "hm"), CALL],
        ),
        ({"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "a\nb"}]}, [RESULT]),
        ({"role": "assistant", "refusal": "no"}, [Piece("text", "no")]),
    ],
    "responses": [
        ({"role": "user", "content": [{"type": "input_text", "text": "go"}]}, [Piece("text", "go")]),
        (
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}], "encrypted_content": "x"},
            [Piece("thinking", "hm")],
        ),
        ({"type": "function_call", "call_id": "c1", "name": "bash", "arguments": '{"command": "ls"}'}, [CALL]),
        ({"type": "function_call_output", "call_id": "c1", "output": "a\nb"}, [RESULT]),
        (
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": "*** Begin Patch"},
            [Piece("call", "", "c1", "apply_patch", {"_text": "*** Begin Patch"})],
        ),
        ({"type": "compaction", "id": "x"}, [Piece("other", "compaction")]),
    ],
    "messages": [
        ({"role": "user", "content": "go"}, [Piece("text", "go")]),
        (
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "redacted_thinking", "data": "x"},
                {"type": "tool_use", "id": "c1", "name": "bash", "input": {"command": "ls"}}]},
            [Piece("thinking", "hm"), Piece("thinking", ""), CALL],
        ),
        (
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "is_error": True, "content": [
                {"type": "text", "text": "a\nb"}, {"type": "image", "source": {}}]}]},
            [Piece("result", "a\nb\n[image]", "c1", failed=True)],
        ),
    ],
    "gemini": [
        (
            {"role": "user", "parts": [{"text": "go"}, {"inlineData": {}}]},
            [Piece("text", "go"), Piece("other", "inlineData")],
        ),
        (
            {"role": "model", "parts": [
                {"text": "hm", "thought": True},
                {"functionCall": {"id": "c1", "name": "bash", "args": {"command": "ls"}}, "thoughtSignature": "s"}]},
            [Piece("thinking", "hm"), CALL],
        ),
        (
            {"role": "user", "parts": [{"functionResponse": {"name": "bash", "response": {"error": "a\nb"}}}]},
            [Piece("result", "a\nb", "bash", "bash", failed=True)],
        ),
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("protocol", "message", "said"), [(name, *pair) for name, pairs in MESSAGES.items() for pair in pairs]
)
def test_what_a_message_says_is_read(protocol: str, message: dict[str, Any], said: list[Piece]) -> None:
    assert pieces(protocol, message) == said


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_answer_says_the_same_in_every_format(protocol: str) -> None:
    answer = Answer("Let me look.", "tool", [{"id": "c1", "name": "bash", "arguments": {"command": "ls"}}])
    turn = FORMS[protocol].turn(PROTOCOLS[protocol].render(answer, "m"))
    assert [one for message in turn for one in pieces(protocol, message)] == [Piece("text", "Let me look."), CALL]


ODD: list[Any] = [None, 3, "x", [], [3], {}, {"type": 5}, [{"type": None}], {"role": "assistant", "content": 7}]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_in_no_format_is_read_without_raising(protocol: str) -> None:
    names = (
        "content",
        "parts",
        "tool_calls",
        "input",
        "output",
        "type",
        "arguments",
        "summary",
        "reasoning",
        "refusal",
    )
    for odd in ODD:
        for name in names:
            for role in ("user", "assistant", "tool", "model"):
                pieces(protocol, {"role": role, name: odd})
        for kind in ("tool_use", "tool_result", "thinking", "text"):
            pieces(protocol, {"role": "user", "content": [{"type": kind, "text": odd, "input": odd, "content": odd}]})
        pieces(protocol, {"role": "model", "parts": [{"functionCall": odd, "functionResponse": odd, "text": odd}]})
        pieces(protocol, {"role": "user", "parts": [{"functionResponse": {"response": odd}}]})
        pieces(protocol, {"role": "assistant", "tool_calls": [{"function": odd}, {"function": {"arguments": odd}}]})
