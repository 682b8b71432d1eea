"""A recorded answer of a provider, `{"status", "frames": [[milliseconds, text] …] or "body": text, …}`, read whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onward.protocols import PROTOCOLS, Malformed, Reported
from onward.protocols.sse import Event, event_of
from onward.protocols.wire import compact, load, whole

__all__ = ["assembled", "read_whole", "response_of"]


def response_of(protocol: str, value: Mapping[str, Any]) -> Mapping[str, Any]:
    """The response, in the shape of one that was not streamed; nothing where it was a refusal or is in no format."""
    if not 200 <= value["status"] < 300:
        return {}
    try:
        if "body" in value:
            return read_whole(protocol, value["body"])
        return assembled(protocol, value["frames"])
    except (Malformed, Reported):
        return {}


def read_whole(protocol: str, text: str) -> Mapping[str, Any]:
    """The response in a body. Gemini's may be a list: a stream without server-sent events. Raises Malformed,
    Reported."""
    if not text.lstrip().startswith("["):
        found: Mapping[str, Any] = whole(load(text), text)
        return found
    assembly = PROTOCOLS[protocol].assembly()
    for item in load(f'{{"items":{text}}}')["items"]:
        assembly.feed(Event("", compact(item)))
    if not assembly.done:
        raise Malformed("the answer was cut: its list ends before the last chunk")
    return assembly.response()


def assembled(protocol: str, frames: Sequence[Sequence[Any]]) -> Mapping[str, Any]:
    """The response in the frames of a stream. Raises Malformed, Reported."""
    assembly, odd = PROTOCOLS[protocol].assembly(), False
    for _, text in frames:
        event = event_of(text.encode())
        if event is not None and (not assembly.done or protocol == "gemini"):
            odd = odd or "\\ud" in event.data or "\\uD" in event.data
            assembly.feed(event)
    found: Mapping[str, Any] = whole(assembly.response(), "\\ud" if odd else "")
    return found
