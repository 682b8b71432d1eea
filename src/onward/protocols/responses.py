"""OpenAI Responses.

Source of the format: the OpenAI API reference, "Responses" and "Streaming events" (`POST /responses`).
Terminal events of a stream: `response.completed`, `response.incomplete`, `response.failed`; each holds the response
whole. The format has neither `seed` (left out) nor `stop` (refused).
"""

from __future__ import annotations

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
    data_url,
    function_of,
    id_of,
    load,
    parts_of,
    text_of,
)

__all__ = ["NAME", "assembly", "body", "delivered", "frames", "headers", "largest_output", "parse", "path", "render"]

NAME = "responses"
Json = dict[str, Any]
_TERMINAL = ("response.completed", "response.incomplete", "response.failed")


def _part(part: Mapping[str, Any], role: str) -> Mapping[str, Any]:
    kind = part.get("type")
    if kind == "text":
        return {"type": "output_text" if role == "assistant" else "input_text", "text": part["text"]}
    if kind == "image":
        return {"type": "input_image", "image_url": data_url(part)}
    if kind == "file" and "data" in part:
        return {"type": "input_file", "filename": part.get("name", "file"), "file_data": data_url(part)}
    return part


def _items(message: Message) -> Iterator[Mapping[str, Any]]:
    """A message as input items: a tool call and a tool's output are items of their own here."""
    role, content = message.get("role"), message.get("content")
    if role is None:
        yield message  # an item of the format itself: a reasoning item, say, handed back as it came
    elif role == "tool":
        yield {"type": "function_call_output", "call_id": message.get("tool_call_id", ""), "output": text_of(content)}
    else:
        if isinstance(content, str) and content:
            yield {"role": role, "content": content}
        elif content:
            yield {"role": role, "content": [_part(part, role) for part in parts_of(content)]}
        for call in message.get("tool_calls") or ():
            inner = call.get("function", call)
            arguments = inner.get("arguments", {})
            text = arguments if isinstance(arguments, str) else compact(arguments)
            yield {"type": "function_call", "call_id": call.get("id", ""), "name": inner["name"], "arguments": text}


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    made = function_of(tool)
    if made is None:
        return tool
    flat = {"type": "function", "name": made.name, "description": made.description, "parameters": made.parameters}
    return {**flat, "strict": bool(made.strict)}


def _format(wanted: Mapping[str, Any]) -> Mapping[str, Any]:
    inner = wanted.get("json_schema")
    return {"type": "json_schema", **inner} if isinstance(inner, Mapping) else wanted


def body(model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> Json:
    """The request body. `store` is false unless asked for: the provider need not keep what the journal keeps."""
    made: Json = {"model": model, "input": [item for message in messages for item in _items(message)], "store": False}
    for name, value in params.items():
        if name == "stop" and value:
            raise UsageError("the Responses format has no `stop`: use openai/MODEL (Chat Completions), or leave it out")
        if name in ("stop", "seed"):
            continue
        if name == "max_tokens":
            made["max_output_tokens"] = value
        elif name == "response_format":
            made["text"] = {**made.get("text", {}), "format": _format(value)}
        elif name == "tools":
            made["tools"] = [_tool(tool) for tool in value]
        elif name == "tool_choice" and isinstance(value, Mapping) and "function" in value:
            made[name] = {"type": "function", "name": value["function"]["name"]}
        elif name == "text":
            made["text"] = {**value, **made.get("text", {})}
        else:
            made[name] = value
    return made


def delivered(body: Mapping[str, Any], stream: bool) -> Mapping[str, Any]:
    """With `stream`."""
    return {**body, "stream": True} if stream else body


def path(model: str, stream: bool) -> str:
    """`/responses`; the base URL holds the version."""
    return "/responses"


def headers(key: str | None) -> dict[str, str]:
    """A bearer token."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def largest_output(body: Mapping[str, Any]) -> int | None:
    """`max_output_tokens`, reasoning included."""
    limit = body.get("max_output_tokens")
    return int(limit) if limit else None


def _usage(found: Any) -> Usage:
    if not isinstance(found, Mapping):
        return Usage()
    read = found.get("input_tokens_details") or {}
    made = found.get("output_tokens_details") or {}
    return Usage(
        int(found.get("input_tokens") or 0),
        int(found.get("output_tokens") or 0),
        int(read.get("cached_tokens") or 0),
        int(made.get("reasoning_tokens") or 0),
    )


def parse(response: Any) -> Answer:
    """The output's text and function calls. A refusal is the answer's text, with `finish` "refused"."""
    if response.get("error") or response.get("status") == "failed":
        error = response.get("error")
        raise Reported(error if isinstance(error, Mapping) else {"message": str(error or "the response failed")})
    texts: list[str] = []
    calls: list[Json] = []
    refused = False
    try:
        for item in response["output"]:
            if item["type"] == "message":
                for part in item["content"]:
                    refused = refused or part["type"] == "refusal"
                    texts.append(part["refusal"] if part["type"] == "refusal" else part.get("text", ""))
            elif item["type"] == "function_call":
                arguments = arguments_of(item.get("arguments"))
                calls.append({"id": str(item["call_id"]), "name": str(item["name"]), "arguments": arguments})
        reason = (response.get("incomplete_details") or {}).get("reason")
        finish = "tool" if calls else "stop"
        if response.get("status") == "incomplete":
            finish = "refused" if reason == "content_filter" else "length"
        return Answer(
            "".join(texts), "refused" if refused else finish, calls, _usage(response.get("usage")), None, response
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Malformed(f"no output in the answer: {error!r}") from None


class _Assembly:
    """The terminal event holds the response whole; the items' own events stand in where a server leaves it empty."""

    def __init__(self) -> None:
        self.done = False
        self._response: Json = {}
        self._items: dict[int, Json] = {}

    def feed(self, event: Event) -> str:
        if event.data == "[DONE]":
            return ""
        found = load(event.data)
        kind = found.get("type") or event.name
        if kind == "error" or (not kind and "error" in found):
            error = found.get("error")
            raise Reported(error if isinstance(error, Mapping) else {**found, "type": found.get("code") or "error"})
        try:
            if kind in ("response.output_text.delta", "response.refusal.delta"):
                return _text(found["delta"])
            if kind == "response.output_item.done":
                self._items[int(found["output_index"])] = found["item"]
            elif kind in _TERMINAL:
                self._response, self.done = dict(found["response"]), True
        except (KeyError, TypeError, ValueError) as error:
            raise Malformed(f"an event of the stream is not in the format: {error!r}") from None
        return ""

    def response(self) -> Json:
        if self._items and not self._response.get("output"):
            self._response["output"] = [self._items[index] for index in sorted(self._items)]
        return self._response


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a delta is not text but {type(value).__name__}")
    return value


def assembly() -> _Assembly:
    """A fresh assembly."""
    return _Assembly()


def render(answer: Answer, model: str) -> Json:
    """A `response` object that says this."""
    own = id_of(answer)
    output: list[Json] = []
    if answer.text or not answer.tool_calls:
        part: Json = {"type": "output_text", "text": answer.text, "annotations": []}
        if answer.finish == "refused":
            part = {"type": "refusal", "refusal": answer.text}
        output.append(
            {"id": f"msg_{own}", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
        )
    output.extend(
        {
            "id": f"fc_{call['id']}", "type": "function_call", "status": "completed", "call_id": call["id"],
            "name": call["name"], "arguments": compact(call["arguments"]),
        }
        for call in answer.tool_calls
    )  # fmt: skip
    used, short = answer.usage, answer.finish == "length"
    return {
        "id": f"resp_{own}", "object": "response", "created_at": 0, "model": model, "error": None, "output": output,
        "status": "incomplete" if short else "completed",
        "incomplete_details": {"reason": "max_output_tokens"} if short else None,
        "usage": {
            "input_tokens": used.input, "output_tokens": used.output, "total_tokens": used.total,
            "input_tokens_details": {"cached_tokens": used.cached},
            "output_tokens_details": {"reasoning_tokens": used.reasoning},
        },
    }  # fmt: skip


def _events(response: Mapping[str, Any]) -> Iterator[Json]:
    begun = {**response, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    for index, item in enumerate(response["output"]):
        here = {"output_index": index, "item_id": item.get("id", "")}
        empty: Json = {"content": []} if item["type"] == "message" else {"arguments": ""}
        yield {"type": "response.output_item.added", "output_index": index, "item": {**item, **empty}}
        for place, part in enumerate(item.get("content") or () if item["type"] == "message" else ()):
            kind = "text" if part["type"] == "output_text" else "refusal"
            name = "response.output_text" if kind == "text" else "response.refusal"
            at = {**here, "content_index": place}
            yield {"type": "response.content_part.added", **at, "part": {**part, kind: ""}}
            for piece in chunks_of(part[kind]):
                yield {"type": f"{name}.delta", **at, "delta": piece}
            yield {"type": f"{name}.done", **at, kind: part[kind]}
            yield {"type": "response.content_part.done", **at, "part": part}
        if item["type"] == "function_call":
            for piece in chunks_of(item["arguments"]):
                yield {"type": "response.function_call_arguments.delta", **here, "delta": piece}
            yield {"type": "response.function_call_arguments.done", **here, "arguments": item["arguments"]}
        yield {"type": "response.output_item.done", "output_index": index, "item": item}
    yield {"type": f"response.{response['status']}", "response": dict(response)}


def frames(response: Mapping[str, Any]) -> Iterator[bytes]:
    """The events of each output item, then the terminal one."""
    for number, event in enumerate(_events(response)):
        yield frame_of(json.dumps({**event, "sequence_number": number}), event["type"])
