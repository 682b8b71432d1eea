"""OpenAI Chat Completions, and what is compatible with it.

Source of the format: the OpenAI API reference, "Chat Completions" and "Streaming" (`POST /chat/completions`).
Terminal event of a stream: `data: [DONE]`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from onward.ask import Answer, Message, Usage
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
)

__all__ = ["NAME", "assembly", "body", "delivered", "frames", "headers", "largest_output", "parse", "path", "render"]

NAME = "chat"
Json = dict[str, Any]
_FINISH = {"tool_calls": "tool", "function_call": "tool", "length": "length", "content_filter": "refused"}


def _part(part: Mapping[str, Any]) -> Mapping[str, Any]:
    if part.get("type") == "image":
        return {"type": "image_url", "image_url": {"url": data_url(part)}}
    if part.get("type") == "file" and "data" in part:
        return {"type": "file", "file": {"filename": part.get("name", "file"), "file_data": data_url(part)}}
    return part


def _call(call: Mapping[str, Any]) -> Mapping[str, Any]:
    if "function" in call:
        return call
    arguments = call.get("arguments", {})
    text = arguments if isinstance(arguments, str) else compact(arguments)
    return {"id": call.get("id", ""), "type": "function", "function": {"name": call["name"], "arguments": text}}


def _message(message: Message) -> Json:
    found = dict(message)
    content = found.get("content")
    if isinstance(content, list | tuple):
        found["content"] = [_part(part) for part in content]
    if found.get("tool_calls"):
        found["tool_calls"] = [_call(call) for call in found["tool_calls"]]
        found.setdefault("content", None)
    return found


def _tool(tool: Mapping[str, Any]) -> Mapping[str, Any]:
    made = function_of(tool)
    if made is None or "function" in tool:
        return tool
    inner: Json = {"name": made.name, "description": made.description, "parameters": made.parameters}
    return {"type": "function", "function": inner if made.strict is None else {**inner, "strict": made.strict}}


def body(model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> Json:
    """The request body. All of `temperature`, `max_tokens`, `seed`, `stop`, `response_format` are the format's own."""
    made: Json = {"model": model, "messages": [_message(message) for message in messages], **params}
    if made.get("tools"):
        made["tools"] = [_tool(tool) for tool in made["tools"]]
    return made


def delivered(body: Mapping[str, Any], stream: bool) -> Mapping[str, Any]:
    """With `stream`, and the usage asked for (a stream leaves it out otherwise)."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}} if stream else body


def path(model: str, stream: bool) -> str:
    """`/chat/completions`; the base URL holds the version."""
    return "/chat/completions"


def headers(key: str | None) -> dict[str, str]:
    """A bearer token."""
    return {"Authorization": f"Bearer {key}"} if key else {}


def largest_output(body: Mapping[str, Any]) -> int | None:
    """`max_completion_tokens` or `max_tokens`, times `n`."""
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    return int(limit) * int(body.get("n") or 1) if limit else None


def _usage(found: Any) -> Usage:
    if not isinstance(found, Mapping):
        return Usage()
    read = found.get("prompt_tokens_details") or {}
    made = found.get("completion_tokens_details") or {}
    return Usage(
        int(found.get("prompt_tokens") or 0),
        int(found.get("completion_tokens") or 0),
        int(read.get("cached_tokens") or 0),
        int(made.get("reasoning_tokens") or 0),
    )


def _asked(calls: Any) -> list[Json]:
    return [
        {
            "id": str(call.get("id") or ""),
            "name": str(call["function"]["name"]),
            "arguments": arguments_of(call["function"].get("arguments")),
        }
        for call in calls or ()
        if call.get("type", "function") == "function"
    ]


def parse(response: Any) -> Answer:
    """The first choice. A `refusal` is the answer's text, with `finish` "refused"."""
    if isinstance(response.get("error"), Mapping):
        raise Reported(response["error"])
    try:
        choice = response["choices"][0]
        message = choice["message"]
        text, calls = message.get("content"), _asked(message.get("tool_calls"))
        if isinstance(text, list):
            text = "".join(part.get("text", "") for part in text)
        if text is not None and not isinstance(text, str):
            raise Malformed(f"the answer's content is not text but {type(text).__name__}")
        finish = _FINISH.get(choice.get("finish_reason") or "stop", "stop")
        if not text and message.get("refusal"):
            text, finish = str(message["refusal"]), "refused"
        if calls and finish == "stop":
            finish = "tool"
        return Answer(text or "", finish, calls, _usage(response.get("usage")), None, response)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise error if isinstance(error, Malformed) else Malformed(f"no choice in the answer: {error!r}") from None


class _Assembly:
    """Merges the deltas of each choice; whatever else a chunk carries is kept, the last one that says something."""

    def __init__(self) -> None:
        self.done = False
        self._top: Json = {}
        self._choices: dict[int, Json] = {}

    def feed(self, event: Event) -> str:
        if event.data == "[DONE]":
            self.done = True
            return ""
        chunk = load(event.data)
        error = chunk.get("error")
        if error or event.name == "error":
            raise Reported(error if isinstance(error, Mapping) else {"message": str(error or event.data)})
        added = ""
        try:
            for choice in chunk.get("choices") or ():
                text = self._choice(choice)
                if choice.get("index", 0) == 0:
                    added += text
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise Malformed(f"a chunk of the stream is not in the format: {error!r}") from None
        for name, value in chunk.items():
            if name not in ("choices", "obfuscation") and (value is not None or name not in self._top):
                self._top[name] = value
        return added

    def _choice(self, found: Mapping[str, Any]) -> str:
        index = int(found.get("index", 0))
        mine = self._choices.setdefault(index, {"index": index, "message": {}, "logprobs": None, "finish_reason": None})
        delta = found.get("delta") or {}
        text = delta.get("content") or delta.get("refusal") or ""
        if not isinstance(text, str):
            raise Malformed(f"a chunk's content is not text but {type(text).__name__}")
        _merge(mine["message"], delta)
        for name, value in found.items():
            if name in ("index", "delta") or value is None:
                continue
            if name == "logprobs" and mine["logprobs"]:
                _extend(mine["logprobs"], value)
            else:
                mine[name] = value
        return text

    def response(self) -> Json:
        made = {**self._top, "object": "chat.completion"}
        made["choices"] = [self._choices[index] for index in sorted(self._choices)]
        for choice in made["choices"]:
            choice["message"].setdefault("content", None)
            for call in choice["message"].get("tool_calls") or ():
                call.pop("index", None)
        return made


def _extend(mine: Json, more: Mapping[str, Any]) -> None:
    for name, items in more.items():
        mine[name] = [*(mine.get(name) or ()), *items] if items is not None else mine.get(name)


def _merge(message: Json, delta: Mapping[str, Any]) -> None:
    for name, value in delta.items():
        if name == "tool_calls":
            for piece in value or ():
                _merge_call(message.setdefault("tool_calls", []), piece)
        elif isinstance(value, str) and isinstance(message.get(name), str) and name != "role":
            message[name] += value
        elif value is not None or name not in message:
            message[name] = value


def _merge_call(calls: list[Json], piece: Mapping[str, Any]) -> None:
    index = int(piece.get("index", len(calls)))
    mine = next((call for call in calls if call["index"] == index), None)
    if mine is None:
        mine = {"index": index, "id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        calls.append(mine)
    inner = piece.get("function") or {}
    mine["function"]["name"] += inner.get("name") or ""
    mine["function"]["arguments"] += inner.get("arguments") or ""
    mine.update({name: value for name, value in piece.items() if name != "function" and value is not None})


def assembly() -> _Assembly:
    """A fresh assembly."""
    return _Assembly()


def render(answer: Answer, model: str) -> Json:
    """A `chat.completion` that says this."""
    message: Json = {"role": "assistant", "content": answer.text or None}
    if answer.finish == "refused":
        message = {"role": "assistant", "content": None, "refusal": answer.text}
    if answer.tool_calls:
        message["tool_calls"] = [_call(call) for call in answer.tool_calls]
    elif answer.finish != "refused":
        message["content"] = answer.text
    used = answer.usage
    finish = {"tool": "tool_calls", "refused": "content_filter"}.get(answer.finish, answer.finish)
    return {
        "id": f"chatcmpl-{id_of(answer)}", "object": "chat.completion", "created": 0, "model": model,
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": {
            "prompt_tokens": used.input, "completion_tokens": used.output, "total_tokens": used.total,
            "prompt_tokens_details": {"cached_tokens": used.cached},
            "completion_tokens_details": {"reasoning_tokens": used.reasoning},
        },
    }  # fmt: skip


def _deltas(message: Mapping[str, Any]) -> Iterator[Json]:
    text = message.get("content")
    first = {name: value for name, value in message.items() if name not in ("content", "refusal", "tool_calls")}
    yield {**first, "content": "" if text is not None else None}
    for name in ("content", "refusal"):
        yield from ({name: piece} for piece in chunks_of(message.get(name) or ""))
    for index, call in enumerate(message.get("tool_calls") or ()):
        inner = call["function"]
        yield {"tool_calls": [{**call, "index": index, "function": {"name": inner["name"], "arguments": ""}}]}
        for piece in chunks_of(inner["arguments"]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def frames(response: Mapping[str, Any]) -> Iterator[bytes]:
    """Chunks, then the usage, then `[DONE]`."""
    top = {name: value for name, value in response.items() if name not in ("choices", "usage")}
    top["object"] = "chat.completion.chunk"
    for choice in response["choices"]:
        for delta in _deltas(choice["message"]):
            piece = {"index": choice["index"], "delta": delta, "finish_reason": None}
            yield frame_of(json.dumps({**top, "choices": [piece]}))
        rest = {name: value for name, value in choice.items() if name != "message"}
        yield frame_of(json.dumps({**top, "choices": [{**rest, "delta": {}}]}))
    if "usage" in response:
        yield frame_of(json.dumps({**top, "choices": [], "usage": response["usage"]}))
    yield frame_of("[DONE]")
