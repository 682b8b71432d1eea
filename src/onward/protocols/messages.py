"""Anthropic Messages.

Source of the format: the Anthropic API reference, "Messages" and "Streaming messages" (`POST /v1/messages`, version
2023-06-01). Terminal event of a stream: `message_stop`. The format has no `seed` (left out), and wants `max_tokens`
always: DEFAULT_OUTPUT where nothing is said.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onward.ask import Answer, Message, Usage
from onward.errors import UsageError
from onward.protocols.sse import Event, frame_of
from onward.protocols.wire import (
    Malformed,
    Reported,
    arguments_of,
    chunks_of,
    compact,
    function_of,
    id_of,
    load,
    parts_of,
    text_of,
)

__all__ = [
    "DEFAULT_OUTPUT", "NAME", "assembly", "body", "delivered", "frames", "headers", "largest_output", "parse", "path",
    "render",
]  # fmt: skip

NAME = "messages"
DEFAULT_OUTPUT = 4096
"""The most that every model of this format accepts."""
Json = dict[str, Any]
_FINISH = {"max_tokens": "length", "model_context_window_exceeded": "length", "tool_use": "tool", "refusal": "refused"}


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    kind, media = part.get("type"), str(part.get("media_type", ""))
    if kind not in ("image", "file") or "data" not in part:
        return part
    source = {"type": "base64", "media_type": media, "data": part["data"]}
    if kind == "image":
        return {"type": "image", "source": source}
    if media.startswith("text/"):
        text = base64.b64decode(part["data"]).decode("utf-8", "replace")
        source = {"type": "text", "media_type": "text/plain", "data": text}
    return {"type": "document", "source": source, "title": part.get("name", "file")}


def _turn(message: Message) -> tuple[str, Any]:
    """Role and content. A tool's output is a block in a user turn here, a tool call one in the assistant's."""
    content = message.get("content")
    if message["role"] == "tool":
        inner = content if isinstance(content, str) else [_part(part) for part in parts_of(content)]
        return "user", [{"type": "tool_result", "tool_use_id": message.get("tool_call_id", ""), "content": inner}]
    if isinstance(content, str) and not message.get("tool_calls"):
        return str(message["role"]), content
    blocks = [_part(part) for part in parts_of(content)]
    for call in message.get("tool_calls") or ():
        inner = call.get("function", call)
        given = arguments_of(inner.get("arguments"))
        blocks.append({"type": "tool_use", "id": call.get("id", ""), "name": inner["name"], "input": given})
    return str(message["role"]), blocks


def _turns(messages: Sequence[Message]) -> list[Json]:
    """The conversation, with outputs of parallel tool calls joined into one turn, as the format wants them."""
    made: list[Json] = []
    for message in messages:
        role, content = _turn(message)
        if message["role"] == "tool" and made and made[-1]["role"] == "user" and isinstance(made[-1]["content"], list):
            made[-1]["content"] = [*made[-1]["content"], *content]
        else:
            made.append({"role": role, "content": content})
    return made


def _system(messages: Sequence[Message]) -> Any:
    if any(not isinstance(message.get("content"), str) for message in messages):
        return [part for message in messages for part in parts_of(message.get("content"))]
    return "\n\n".join(text_of(message["content"]) for message in messages)


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    made = None if "input_schema" in tool else function_of(tool)
    if made is None:
        return tool
    return {"name": made.name, "description": made.description, "input_schema": made.parameters}


def _choice(choice: Any) -> Any:
    if isinstance(choice, str):
        return {"type": "any" if choice == "required" else choice}
    inner = choice.get("function") if isinstance(choice, Mapping) else None
    return {"type": "tool", "name": inner["name"]} if isinstance(inner, Mapping) else choice


def _format(wanted: Mapping[str, Any]) -> Json:
    inner = wanted.get("json_schema")
    if wanted.get("type") != "json_schema" or not isinstance(inner, Mapping):
        raise UsageError("the Messages format knows only response_format of type json_schema; else ask in the prompt")
    return {"type": "json_schema", "schema": inner["schema"]}


def body(model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> Json:
    """The request body."""
    first = [message for message in messages if message["role"] in ("system", "developer")]
    rest = [message for message in messages if message["role"] not in ("system", "developer")]
    made: Json = {"model": model, "max_tokens": DEFAULT_OUTPUT, "messages": _turns(rest)}
    if first:
        made["system"] = _system(first)
    for name, value in params.items():
        if name == "seed":
            continue
        if name == "stop":
            if value:
                made["stop_sequences"] = [value] if isinstance(value, str) else list(value)
        elif name == "tools":
            made["tools"] = [_tool(tool) for tool in value]
        elif name == "tool_choice":
            made["tool_choice"] = _choice(value)
        elif name == "response_format":
            made["output_config"] = {**made.get("output_config", {}), "format": _format(value)}
        elif name == "output_config":
            made["output_config"] = {**value, **made.get("output_config", {})}
        elif name != "max_tokens" or value:
            made[name] = value
    return made


def delivered(body: Mapping[str, Any], stream: bool) -> Mapping[str, Any]:
    """With `stream`."""
    return {**body, "stream": True} if stream else body


def path(model: str, stream: bool) -> str:
    """`/v1/messages`; the base URL is the bare host."""
    return "/v1/messages"


def headers(key: str | None) -> dict[str, str]:
    """`x-api-key`, and the version of the format."""
    version = {"anthropic-version": "2023-06-01"}
    return {"x-api-key": key, **version} if key else version


def largest_output(body: Mapping[str, Any]) -> int | None:
    """`max_tokens`, thinking included."""
    return int(body["max_tokens"])


def _usage(found: Any) -> Usage:
    """Its `input_tokens` leaves out what touched the cache; ours holds all."""
    if not isinstance(found, Mapping):
        return Usage()
    read = int(found.get("cache_read_input_tokens") or 0)
    written = int(found.get("cache_creation_input_tokens") or 0)
    made = found.get("output_tokens_details") or {}
    return Usage(
        int(found.get("input_tokens") or 0) + read + written,
        int(found.get("output_tokens") or 0),
        read,
        int(made.get("thinking_tokens") or 0),
    )


def parse(response: Any) -> Answer:
    """The text and tool blocks. Thinking is no part of the text; it stays in `response`."""
    if response.get("type") == "error" or isinstance(response.get("error"), Mapping):
        raise Reported(response.get("error") or {})
    try:
        blocks = response["content"]
        texts = [block["text"] for block in blocks if block["type"] == "text"]
        calls = [
            {"id": str(block["id"]), "name": str(block["name"]), "arguments": arguments_of(block["input"])}
            for block in blocks
            if block["type"] == "tool_use"
        ]
        finish = _FINISH.get(response.get("stop_reason") or "", "stop")
        return Answer("".join(texts), finish, calls, _usage(response.get("usage")), None, response)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Malformed(f"no content in the answer: {error!r}") from None


class _Assembly:
    """Blocks grow by index; `message_delta` brings the end's reason and the final counts."""

    def __init__(self) -> None:
        self.done = False
        self._message: Json = {}
        self._blocks: dict[int, Json] = {}
        self._inputs: dict[int, str] = {}

    def feed(self, event: Event) -> str:
        found = load(event.data)
        kind = found.get("type") or event.name
        if kind == "error" or (not found.get("type") and "error" in found):
            error = found.get("error")
            raise Reported(error if isinstance(error, Mapping) else {"message": str(error or event.data)})
        try:
            return self._take(kind, found)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, Malformed):
                raise
            raise Malformed(f"an event of the stream is not in the format: {error!r}") from None

    def _take(self, kind: str, found: Json) -> str:
        if kind == "message_start":
            self._message = dict(found["message"])
            self._message["usage"] = dict(self._message.get("usage") or {})
        elif kind == "content_block_start":
            self._blocks[found["index"]] = dict(found["content_block"])
            return str(found["content_block"].get("text") or "") if found["content_block"]["type"] == "text" else ""
        elif kind == "content_block_delta":
            return self._grow(found["index"], found["delta"])
        elif kind == "content_block_stop" and found["index"] in self._inputs:
            self._blocks[found["index"]]["input"] = arguments_of(self._inputs[found["index"]])
        elif kind == "message_delta":
            self._message.update(found["delta"])
            self._message["usage"].update(found.get("usage") or {})
        elif kind == "message_stop":
            self.done = True
        return ""

    def _grow(self, index: int, delta: Mapping[str, Any]) -> str:
        block, kind = self._blocks[index], delta["type"]
        if kind == "input_json_delta":
            self._inputs[index] = self._inputs.get(index, "") + delta["partial_json"]
        elif kind == "citations_delta":
            block["citations"] = [*(block.get("citations") or ()), delta["citation"]]
        elif kind in ("text_delta", "thinking_delta", "signature_delta"):
            name = kind.removesuffix("_delta")
            block[name] = block.get(name, "") + delta[name]
            return str(delta["text"]) if name == "text" else ""
        return ""

    def response(self) -> Json:
        return {**self._message, "content": [self._blocks[index] for index in sorted(self._blocks)]}


def assembly() -> _Assembly:
    """A fresh assembly."""
    return _Assembly()


def render(answer: Answer, model: str) -> Json:
    """A `message` that says this."""
    blocks: list[Json] = [{"type": "text", "text": answer.text}] if answer.text or not answer.tool_calls else []
    blocks.extend(
        {"type": "tool_use", "id": call["id"], "name": call["name"], "input": dict(call["arguments"])}
        for call in answer.tool_calls
    )
    used = answer.usage
    finish = {"length": "max_tokens", "tool": "tool_use", "refused": "refusal"}.get(answer.finish, "end_turn")
    return {
        "id": f"msg_{id_of(answer)}", "type": "message", "role": "assistant", "model": model, "content": blocks,
        "stop_reason": finish, "stop_sequence": None,
        "usage": {
            "input_tokens": used.input - used.cached, "cache_read_input_tokens": used.cached,
            "cache_creation_input_tokens": 0, "output_tokens": used.output,
            "output_tokens_details": {"thinking_tokens": used.reasoning},
        },
    }  # fmt: skip


def _events(response: Mapping[str, Any]) -> Iterator[Json]:
    used = response.get("usage") or {}
    open_ended = {"stop_reason": None, "stop_sequence": None, "usage": {**used, "output_tokens": 1}}
    begun = {**response, "content": [], **open_ended}
    yield {"type": "message_start", "message": begun}
    yield {"type": "ping"}
    for index, block in enumerate(response["content"]):
        kind = block["type"]
        pieces: Iterator[Json] = iter(())
        shell = dict(block)
        if kind == "text":
            shell["text"] = ""
            pieces = ({"type": "text_delta", "text": piece} for piece in chunks_of(block["text"]))
        elif kind == "tool_use":
            shell["input"] = {}
            pieces = ({"type": "input_json_delta", "partial_json": p} for p in chunks_of(compact(block["input"])))
        elif kind == "thinking":
            shell = {"type": "thinking", "thinking": "", "signature": ""}
            thought = [{"type": "thinking_delta", "thinking": piece} for piece in chunks_of(block["thinking"])]
            pieces = iter([*thought, {"type": "signature_delta", "signature": block.get("signature", "")}])
        yield {"type": "content_block_start", "index": index, "content_block": shell}
        yield from ({"type": "content_block_delta", "index": index, "delta": piece} for piece in pieces)
        yield {"type": "content_block_stop", "index": index}
    ended = {"stop_reason": response.get("stop_reason"), "stop_sequence": response.get("stop_sequence")}
    yield {"type": "message_delta", "delta": ended, "usage": used}
    yield {"type": "message_stop"}


def frames(response: Mapping[str, Any]) -> Iterator[bytes]:
    """The events of each block between `message_start` and `message_stop`."""
    for event in _events(response):
        yield frame_of(json.dumps(event), event["type"])
