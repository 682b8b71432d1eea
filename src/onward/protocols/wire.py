"""What a wire format is here, and what all of them share: the common form of messages, tools and parts.

Common form of a message, on top of `role` and `content`:

    content     text, or parts: {"type": "text", "text"}, {"type": "image", "media_type", "data"} with base64 data,
                {"type": "file", "name", "media_type", "data"}; a part of any other type goes out as it is
    assistant   may hold `tool_calls`: {"id", "name", "arguments"} each, as in `Answer.tool_calls`
    tool        holds `tool_call_id` and the tool's output as content

A tool is {"name", "description", "parameters"}, or the same inside Chat's {"type": "function", "function"}; any other
object (a provider's own tool) goes out as it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from onward.ask import Answer, Message
from onward.errors import UsageError
from onward.fingerprint import digest_of
from onward.protocols.sse import Event

__all__ = [
    "Assembly", "Function", "Malformed", "Reported", "Wire", "arguments_of", "chunks_of", "compact", "data_url",
    "function_of", "id_of", "load", "names_of_calls", "parts_of", "text_of", "whole",
]  # fmt: skip

Json = dict[str, Any]


class Malformed(ValueError):
    """A response is not in its wire format: truncated JSON, a missing field, a field of the wrong type."""


class Reported(Exception):
    """A response with status 200 says that it failed. `error` is the provider's own error object."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(str(error.get("message") or error.get("type") or "an error without a message"))
        self.error = error


class Assembly(Protocol):
    """Turns the events of a stream into the response that would have come without streaming."""

    @property
    def done(self) -> bool:
        """Whether the format's terminal event has been seen."""
        ...

    def feed(self, event: Event) -> str:
        """Takes the next event; the text that it adds. Raises Malformed, Reported."""
        ...

    def response(self) -> Json:
        """The whole response, in the shape of one that was not streamed."""
        ...


class Wire(Protocol):
    """A wire format: a module of pure functions."""

    NAME: str

    def body(self, model: str, messages: Sequence[Message], params: Mapping[str, Any]) -> Json:
        """The request body, without what only concerns delivery. Raises UsageError for what the format cannot say."""
        ...

    def delivered(self, body: Mapping[str, Any], stream: bool) -> Mapping[str, Any]:
        """The body with what concerns delivery."""
        ...

    def path(self, model: str, stream: bool) -> str:
        """What follows the base URL."""
        ...

    def headers(self, key: str | None) -> dict[str, str]:
        """The headers that carry the key (where there is one) and the format's version."""
        ...

    def largest_output(self, body: Mapping[str, Any]) -> int | None:
        """Most tokens that the answer can have, all choices together; None where the body does not say."""
        ...

    def parse(self, response: Any) -> Answer:
        """The answer in a whole response. Raises Malformed, Reported."""
        ...

    def assembly(self) -> Assembly:
        """A fresh assembly for one stream."""
        ...

    def render(self, answer: Answer, model: str) -> Json:
        """A response that says this: the inverse of `parse`, for scripted providers and imported recordings."""
        ...

    def frames(self, response: Mapping[str, Any]) -> Iterator[bytes]:
        """The response as a stream of frames: the inverse of `assembly`."""
        ...


class Function(NamedTuple):
    """A tool that the caller runs, in the form that all formats share."""

    name: str
    description: str
    parameters: Mapping[str, Any]
    strict: bool | None


def function_of(tool: Mapping[str, Any]) -> Function | None:
    """The function that a tool declares; None for a provider's own tool."""
    inner = tool.get("function") if tool.get("type", "function") == "function" else None
    found = inner if isinstance(inner, Mapping) else tool
    if "name" not in found or tool.get("type", "function") != "function":
        return None
    parameters = found.get("parameters") or {"type": "object", "properties": {}}
    return Function(str(found["name"]), str(found.get("description", "")), parameters, found.get("strict"))


def parts_of(content: Any) -> list[Mapping[str, Any]]:
    """A message's content as parts. Raises UsageError where it is neither text nor a list of parts."""
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    if content is None:
        return []
    if isinstance(content, list | tuple) and all(isinstance(part, Mapping) for part in content):
        return list(content)
    raise UsageError(f"a message's content is text or a list of parts, not {type(content).__name__}")


def text_of(content: Any) -> str:
    """The text in a message's content, parts joined."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) for part in parts_of(content) if part.get("type") == "text")


def data_url(part: Mapping[str, Any]) -> str:
    """An image's or file's base64 data as a `data:` URL."""
    return f"data:{part.get('media_type', 'application/octet-stream')};base64,{part['data']}"


def arguments_of(text: Any) -> Any:
    """A tool call's arguments as an object. What is no JSON object stays as the model wrote it, under `_text`."""
    if isinstance(text, Mapping):
        return dict(text)
    try:
        found = _decode(text or "{}")
    except (ValueError, RecursionError, TypeError):
        found = None
    return found if isinstance(found, dict) else {"_text": text}


def names_of_calls(messages: Sequence[Message]) -> dict[str, str]:
    """Tool names by call id, from the assistant turns: some formats want the name again beside a tool's output."""
    return {
        str(call.get("id")): str(call.get("name") or call.get("function", {}).get("name", ""))
        for message in messages
        for call in message.get("tool_calls") or ()
    }


def id_of(answer: Answer) -> str:
    """An id for an answer that is rendered: agents take what bears one id for parts of one answer, and join them."""
    own = answer.response.get("id") or answer.response.get("responseId")
    return digest_of([own, answer.text, [dict(call) for call in answer.tool_calls]])[:24]


compact = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""A JSON value as compact text."""


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_mended(item) for item in value]
    return {_mended(name): _mended(item) for name, item in value.items()} if isinstance(value, dict) else value


def whole(value: Any, seen: str) -> Any:
    """The value with lone surrogates replaced (halves of a pair joined): no journal can hold them, and they are paid.

    `seen` is the JSON text it came from, which tells cheaply that there is nothing to do.
    """
    return _mended(value) if "\\ud" in seen or "\\uD" in seen else value


def load(text: str | bytes) -> Json:
    """The JSON object in a response or an event. Raises Malformed; never lets NaN or a nesting bomb through."""
    try:
        found = _decode(text if isinstance(text, str) else text.decode())
    except (ValueError, RecursionError) as error:
        raise Malformed(f"the answer is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise Malformed(f"the answer is not a JSON object but {type(found).__name__}")
    return found


def chunks_of(text: str, size: int = 12) -> Iterator[str]:
    """A text in pieces, as streams deliver it."""
    for start in range(0, len(text), size):
        yield text[start : start + size]
