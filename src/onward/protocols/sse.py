"""Server-sent events as bytes: cut a stream into frames, read a frame. Pure; knows no wire format.

Source of the format: the WHATWG HTML standard, "Server-sent events". A frame ends at a blank line; what follows the
last blank line when the stream ends is no frame (the stream was cut inside it).
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Event", "Frames", "event_of", "frame_of"]

_BLANK = re.compile(rb"\r\n\r\n|\n\n|\r\r")


class Event(NamedTuple):
    """One event: its `event:` field (empty where it has none) and its `data:` lines joined by newlines."""

    name: str
    data: str


class Frames:
    """Cuts chunks of bytes into whole frames, each with its blank line, byte for byte as they came."""

    __slots__ = ("_rest", "_seen")

    def __init__(self) -> None:
        self._rest = b""
        self._seen = 0

    def feed(self, chunk: bytes) -> list[bytes]:
        """The frames that this chunk completes."""
        text = self._rest + chunk if self._rest else chunk
        frames, start = [], 0
        found = _BLANK.search(text, self._seen)
        while found:
            frames.append(text[start : found.end()])
            start = found.end()
            found = _BLANK.search(text, start)
        self._rest = text[start:]
        self._seen = max(len(self._rest) - 3, 0)
        return frames

    @property
    def rest(self) -> bytes:
        """Bytes of a frame that is not complete yet."""
        return self._rest


def event_of(frame: bytes) -> Event | None:
    """The event in a frame; None where it holds only comments (keep-alives)."""
    name, data, some = "", [], False
    for line in frame.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        field, _, value = line.partition(":")
        if field == "data":
            data.append(value.removeprefix(" "))
            some = True
        elif field == "event":
            name, some = value.removeprefix(" "), True
    return Event(name, "\n".join(data)) if some else None


def frame_of(data: str, name: str = "") -> bytes:
    """The frame of one event. `data` must not hold line breaks (JSON text never does)."""
    return (f"event: {name}\ndata: {data}\n\n" if name else f"data: {data}\n\n").encode()
