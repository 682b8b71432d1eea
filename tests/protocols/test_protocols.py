"""Wire formats: what a body looks like, what an answer means, and that a stream adds up to the answer unstreamed.

The streams and responses below follow the examples in the providers' own references, so that the formats are held to
them and not only to our own rendering.
"""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.ask import Answer, Usage
from onward.errors import UsageError
from onward.protocols import PROTOCOLS, Malformed, Reported
from onward.protocols.sse import Frames, event_of
from onward.protocols.wire import load, whole

CAT = base64.b64encode(b"a cat").decode()
TOOL = {"name": "add", "description": "adds", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [
        {"type": "text", "text": "What is this?"},
        {"type": "image", "media_type": "image/png", "data": CAT},
        {"type": "file", "name": "a.pdf", "media_type": "application/pdf", "data": CAT},
    ]},
    {"role": "assistant", "content": "Let me add.", "tool_calls": [
        {"id": "c1", "name": "add", "arguments": {"a": 1}}, {"id": "c2", "name": "add", "arguments": {"a": 2}},
    ]},
    {"role": "tool", "tool_call_id": "c1", "content": "1"},
    {"role": "tool", "tool_call_id": "c2", "content": "2"},
]  # fmt: skip
SETTINGS = {
    "max_tokens": 50, "temperature": 0, "seed": 7, "tools": [TOOL], "tool_choice": "required", "extra": 1,
    "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}},
}  # fmt: skip


def streamed(name: str, raw: bytes, size: int = 7) -> tuple[str, dict[str, Any], bool]:
    assembly, frames, text = PROTOCOLS[name].assembly(), Frames(), ""
    for start in range(0, len(raw), size):
        for frame in frames.feed(raw[start : start + size]):
            event = event_of(frame)
            if event:
                text += assembly.feed(event)
    return text, assembly.response(), assembly.done


def test_chat_says_everything_in_openais_words() -> None:
    made = PROTOCOLS["chat"].body("gpt", TALK, {**SETTINGS, "stop": ["x"]})
    assert made["model"] == "gpt"
    assert [part["type"] for part in made["messages"][1]["content"]] == ["text", "image_url", "file"]
    assert made["messages"][1]["content"][1]["image_url"]["url"] == f"data:image/png;base64,{CAT}"
    assert made["messages"][1]["content"][2]["file"]["filename"] == "a.pdf"
    called = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":1}'}}
    assert made["messages"][2]["tool_calls"][0] == called
    assert made["messages"][3] == {"role": "tool", "tool_call_id": "c1", "content": "1"}
    assert made["tools"] == [{"type": "function", "function": TOOL}]
    assert {name: made[name] for name in ("max_tokens", "temperature", "seed", "stop", "extra")} == {
        "max_tokens": 50, "temperature": 0, "seed": 7, "stop": ["x"], "extra": 1,
    }  # fmt: skip


def test_responses_says_calls_and_outputs_as_items() -> None:
    made = PROTOCOLS["responses"].body("gpt", TALK, SETTINGS)
    kinds = [item.get("type", item.get("role")) for item in made["input"]]
    assert kinds == ["system", "user", "assistant", *["function_call"] * 2, *["function_call_output"] * 2]
    assert [part["type"] for part in made["input"][1]["content"]] == ["input_text", "input_image", "input_file"]
    assert made["input"][3] == {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":1}'}
    assert made["max_output_tokens"] == 50
    assert "seed" not in made
    assert made["text"]["format"] == {"type": "json_schema", "name": "s", "schema": {"type": "object"}}
    assert made["tools"][0] == {"type": "function", **TOOL, "strict": False}
    assert made["store"] is False
    with pytest.raises(UsageError, match="no `stop`"):
        PROTOCOLS["responses"].body("gpt", TALK, {"stop": "x"})


def test_messages_joins_parallel_outputs_and_lifts_the_system_text_out() -> None:
    made = PROTOCOLS["messages"].body("claude", TALK, {**SETTINGS, "stop": "x"})
    assert made["system"] == "Be brief."
    assert [turn["role"] for turn in made["messages"]] == ["user", "assistant", "user"]
    assert [part["type"] for part in made["messages"][0]["content"]] == ["text", "image", "document"]
    assert made["messages"][1]["content"][1] == {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}
    assert [block["tool_use_id"] for block in made["messages"][2]["content"]] == ["c1", "c2"]
    assert made["tools"][0]["input_schema"] == TOOL["parameters"]
    assert (made["tool_choice"], made["stop_sequences"], made["max_tokens"]) == ({"type": "any"}, ["x"], 50)
    assert made["output_config"]["format"] == {"type": "json_schema", "schema": {"type": "object"}}
    assert "seed" not in made
    assert made["extra"] == 1


def test_messages_always_says_how_long_an_answer_may_be() -> None:
    wire = PROTOCOLS["messages"]
    assert wire.largest_output(wire.body("claude", TALK, {})) == 4096


def test_gemini_says_it_in_parts_with_the_settings_apart() -> None:
    made = PROTOCOLS["gemini"].body("gemini-x", TALK, {**SETTINGS, "stop": "x", "safetySettings": []})
    assert made["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    assert [turn["role"] for turn in made["contents"]] == ["user", "model", "user"]
    assert made["contents"][0]["parts"][1] == {"inlineData": {"mimeType": "image/png", "data": CAT}}
    assert made["contents"][2]["parts"][1] == {"functionResponse": {"name": "add", "response": {"output": "2"}}}
    config = made["generationConfig"]
    assert (config["maxOutputTokens"], config["seed"], config["stopSequences"]) == (50, 7, ["x"])
    assert config["responseMimeType"] == "application/json"
    assert made["toolConfig"] == {"functionCallingConfig": {"mode": "ANY"}}
    assert made["tools"][0]["functionDeclarations"][0]["name"] == "add"
    assert (made["extra"], made["safetySettings"]) == (1, [])


ANSWERS = [
    Answer("", usage=Usage(1, 1)),
    Answer("a text long enough for several pieces, with ümläut and 漢字 🦜 \0 and \u2028", usage=Usage(10, 20, 4, 6)),
    Answer("cut", "length", usage=Usage(3, 9)),
    Answer("I will add", "tool", [
        {"id": "c1", "name": "add", "arguments": {"a": [1, 2.5, {"b": "ç"}]}},
        {"id": "c2", "name": "now", "arguments": {}},
    ], Usage(8, 8)),
    Answer("", "tool", [{"id": "c1", "name": "add", "arguments": {"a": "x" * 60}}], Usage(8, 8)),
    Answer("I cannot help with that", "refused", usage=Usage(5, 5)),
]  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.finish)
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_stream_adds_up_to_the_very_answer_unstreamed(name: str, answer: Answer) -> None:
    wire = PROTOCOLS[name]
    response = wire.render(answer, "m")
    text, assembled, done = streamed(name, b"".join(wire.frames(response)))
    assert assembled == response
    assert done
    parsed = wire.parse(response)
    assert parsed == wire.parse(assembled)
    assert text == parsed.text == answer.text
    assert (parsed.finish, parsed.usage, list(parsed.tool_calls)) == (
        answer.finish,
        answer.usage,
        list(answer.tool_calls),
    )


@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_stream_cut_at_any_frame_is_not_done(name: str) -> None:
    wire = PROTOCOLS[name]
    frames = list(wire.frames(wire.render(ANSWERS[1], "m")))
    for count in range(len(frames)):
        assert not streamed(name, b"".join(frames[:count]))[2], count
    raw = b"".join(frames)
    assert not streamed(name, raw[:-3])[2]


@pytest.mark.parametrize("name", PROTOCOLS)
@given(text=st.text(max_size=200), size=st.integers(1, 40))
def test_text_survives_any_cut_of_its_bytes(name: str, text: str, size: int) -> None:
    wire = PROTOCOLS[name]
    raw = b"".join(wire.frames(wire.render(Answer(text, usage=Usage(1, 1)), "m")))
    assert streamed(name, raw, size)[0] == text


def sse(*events: tuple[str, Any]) -> bytes:
    lines = [(f"event: {name}\r\n" if name else "") + f"data: {json.dumps(data)}\r\n\r\n" for name, data in events]
    return "".join(lines).encode()


def test_openais_own_chat_stream_is_understood() -> None:
    def chunk(delta: Any, finish: Any = None, usage: Any = None) -> tuple[str, Any]:
        return "", {
            "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "gpt", "usage": usage,
            "service_tier": "default", "system_fingerprint": "fp", "obfuscation": "xy",
            "choices": [] if delta is None else [
                {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
        }  # fmt: skip

    used = {
        "prompt_tokens": 19, "completion_tokens": 10, "total_tokens": 29,
        "prompt_tokens_details": {"cached_tokens": 5}, "completion_tokens_details": {"reasoning_tokens": 2},
    }  # fmt: skip
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": ""}}
    raw = (
        sse(
            chunk({"role": "assistant", "content": None, "tool_calls": [call], "refusal": None}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"city'}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": '":"Rome"}'}}]}),
            chunk({}, "tool_calls"),
            chunk(None, usage=used),
        )
        + b": keep-alive\n\ndata: [DONE]\n\n"
    )
    _, response, done = streamed("chat", raw)
    assert done
    assert response["choices"][0]["message"] == {
        "role": "assistant", "content": None, "refusal": None,
        "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'}}
        ],
    }  # fmt: skip
    answer = PROTOCOLS["chat"].parse(response)
    assert (answer.finish, answer.usage) == ("tool", Usage(19, 10, 5, 2))
    assert answer.tool_calls == [{"id": "call_1", "name": "get_weather", "arguments": {"city": "Rome"}}]
    assert "obfuscation" not in response


def test_anthropics_own_stream_is_understood() -> None:
    def delta(index: int, **rest: Any) -> tuple[str, Any]:
        return "content_block_delta", {"type": "content_block_delta", "index": index, "delta": rest}

    def start(index: int, **rest: Any) -> tuple[str, Any]:
        return "content_block_start", {"type": "content_block_start", "index": index, "content_block": rest}

    def stop(index: int) -> tuple[str, Any]:
        return "content_block_stop", {"type": "content_block_stop", "index": index}

    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude", "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": 10, "cache_creation_input_tokens": 7, "cache_read_input_tokens": 100, "output_tokens": 1,
        },
    }  # fmt: skip
    raw = sse(
        ("message_start", {"type": "message_start", "message": message}),
        start(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="Let me "),
        delta(0, type="thinking_delta", thinking="think"),
        delta(0, type="signature_delta", signature="EqQB"),
        stop(0),
        ("ping", {"type": "ping"}),
        start(1, type="text", text=""),
        delta(1, type="text_delta", text="Okay, "),
        delta(1, type="text_delta", text="checking."),
        stop(1),
        start(2, type="tool_use", id="toolu_1", name="get_weather", input={}),
        delta(2, type="input_json_delta", partial_json=""),
        delta(2, type="input_json_delta", partial_json='{"location": "San Fra'),
        delta(2, type="input_json_delta", partial_json='ncisco"}'),
        stop(2),
        ("message_delta", {
            "type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 89},
        }),
        ("message_stop", {"type": "message_stop"}),
    )  # fmt: skip
    text, response, done = streamed("messages", raw)
    answer = PROTOCOLS["messages"].parse(response)
    assert done
    assert text == answer.text == "Okay, checking."
    assert response["content"][0] == {"type": "thinking", "thinking": "Let me think", "signature": "EqQB"}
    assert answer.tool_calls == [{"id": "toolu_1", "name": "get_weather", "arguments": {"location": "San Francisco"}}]
    assert (answer.finish, answer.usage) == ("tool", Usage(117, 89, 100))


def test_a_tool_call_that_was_cut_at_the_limit_is_an_answer_and_was_paid() -> None:
    block = {"type": "tool_use", "id": "t", "name": "n", "input": {}}
    piece = {"type": "input_json_delta", "partial_json": '{"a": "unfin'}
    raw = sse(
        ("", {"type": "message_start", "message": {"type": "message", "content": [], "usage": {"input_tokens": 1}}}),
        ("", {"type": "content_block_start", "index": 0, "content_block": block}),
        ("", {"type": "content_block_delta", "index": 0, "delta": piece}),
        ("", {"type": "content_block_stop", "index": 0}),
        ("", {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 5}}),
        ("", {"type": "message_stop"}),
    )  # fmt: skip
    answer = PROTOCOLS["messages"].parse(streamed("messages", raw)[1])
    assert answer.finish == "length"
    assert answer.tool_calls[0]["arguments"] == {"_text": '{"a": "unfin'}


def test_geminis_own_stream_is_understood() -> None:
    def chunk(parts: list[Any], used: Any, **rest: Any) -> tuple[str, Any]:
        content = {"parts": parts, "role": "model"}
        return "", {
            "candidates": [{"content": content, "index": 0, **rest}],
            "usageMetadata": used,
            "modelVersion": "g",
        }

    raw = sse(
        chunk([{"text": "I plan ", "thought": True}], {"promptTokenCount": 4}),
        chunk([{"text": "it", "thought": True}], {"promptTokenCount": 4}),
        chunk([{"text": "Hello "}], {"promptTokenCount": 4, "candidatesTokenCount": 1}),
        chunk([{"text": "there", "thoughtSignature": "sig"}], {"promptTokenCount": 4}),
        chunk([{"functionCall": {"name": "f", "args": {"x": 1}}}], {
            "promptTokenCount": 4, "candidatesTokenCount": 3, "thoughtsTokenCount": 5, "cachedContentTokenCount": 2,
            "totalTokenCount": 12,
        }, finishReason="STOP"),
    )  # fmt: skip
    text, response, done = streamed("gemini", raw)
    answer = PROTOCOLS["gemini"].parse(response)
    assert done
    assert text == answer.text == "Hello there"
    assert response["candidates"][0]["content"]["parts"] == [
        {"text": "I plan it", "thought": True},
        {"text": "Hello there", "thoughtSignature": "sig"},
        {"functionCall": {"name": "f", "args": {"x": 1}}},
    ]
    assert (answer.finish, answer.usage) == ("tool", Usage(4, 8, 2, 5))


def test_openais_own_responses_stream_is_understood() -> None:
    final = {
        "id": "resp_1", "object": "response", "status": "incomplete", "error": None, "model": "gpt",
        "incomplete_details": {"reason": "max_output_tokens"},
        "output": [
            {"id": "rs_1", "type": "reasoning", "summary": []},
            {"id": "msg_1", "type": "message", "role": "assistant", "status": "incomplete",
             "content": [{"type": "output_text", "text": "In a", "annotations": []}]},
        ],
        "usage": {"input_tokens": 37, "input_tokens_details": {"cached_tokens": 3}, "output_tokens": 11,
                  "output_tokens_details": {"reasoning_tokens": 8}, "total_tokens": 48},
    }  # fmt: skip
    raw = sse(
        (
            "response.created",
            {"type": "response.created", "response": {**final, "output": [], "status": "in_progress"}},
        ),
        ("response.output_text.delta", {"type": "response.output_text.delta", "output_index": 1, "delta": "In "}),
        ("response.output_text.delta", {"type": "response.output_text.delta", "output_index": 1, "delta": "a"}),
        ("response.incomplete", {"type": "response.incomplete", "response": final}),
    )
    text, response, done = streamed("responses", raw)
    assert done
    assert response == final
    assert PROTOCOLS["responses"].parse(response) == Answer("In a", "length", [], Usage(37, 11, 3, 8), None, final)
    assert text == "In a"


@pytest.mark.parametrize(
    ("name", "response"),
    [
        ("chat", {"error": {"message": "m", "code": 502}}),
        ("messages", {"type": "error", "error": {"type": "overloaded_error", "message": "m"}}),
        ("gemini", {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}}),
        ("responses", {"status": "failed", "error": {"code": "server_error", "message": "m"}, "output": []}),
    ],
)
def test_an_error_inside_a_200_is_no_answer(name: str, response: dict[str, Any]) -> None:
    with pytest.raises(Reported):
        PROTOCOLS[name].parse(response)


@pytest.mark.parametrize("name", PROTOCOLS)
@pytest.mark.parametrize(
    "wrong", [{}, {"choices": 3, "output": 3, "content": 3, "candidates": 3}, {"choices": [{"message": "x"}]}]
)
def test_a_response_of_another_shape_is_malformed(name: str, wrong: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        PROTOCOLS[name].parse(wrong)


@pytest.mark.parametrize("text", ['{"a":', "[1]", "null", "", '{"a": NaN}', '{"a":"\0"}', "[" * 100_000])
def test_what_is_no_json_object_is_malformed(text: str) -> None:
    with pytest.raises(Malformed):
        load(text)


def test_half_a_character_is_mended_because_no_journal_could_hold_it() -> None:
    raw = '{"a": "x\\ud83d", "b": ["\\ud83e\\udd9c"], "c": 1}'
    assert whole(load(raw), raw) == {"a": "x\ufffd", "b": ["🦜"], "c": 1}


def test_several_choices_are_all_kept() -> None:
    def chunk(index: int, text: str, finish: Any = None) -> tuple[str, Any]:
        return "", {"id": "1", "choices": [{"index": index, "delta": {"content": text}, "finish_reason": finish}]}

    raw = sse(chunk(0, "a"), chunk(1, "x"), chunk(0, "b", "stop"), chunk(1, "y", "stop")) + b"data: [DONE]\n\n"
    text, response, _ = streamed("chat", raw)
    assert text == "ab"
    assert [choice["message"]["content"] for choice in response["choices"]] == ["ab", "xy"]
