"""A trial's request bodies, of which only what is new is read.

An agent's request repeats the conversation so far, byte for byte. The last conversations are kept as the bytes of
their messages; where a body begins with the same bytes, its first messages are the very values that were read before,
and whatever was worked out from them (see `Said`) still holds. Everything that is not plainly so is read as a whole.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

import orjson

__all__ = ["Bodies", "Body", "Said"]

_KEPT = 4
"""Conversations of one trial that are remembered: an agent, and some sub-agents beside it."""
_MOST = 8 * 1024 * 1024
"""Bytes of their bodies at most; one that is longer is read as a whole each time."""
_SPACE = re.compile(rb"[ \t\n\r]*")
_GOES_ON = re.compile(rb"[ \t\n\r]*(?:,[ \t\n\r]*(?=\{)|(?=\]))")
"""What may stand behind a message: a comma and the next one, or the end of the list."""
_scan = json.JSONDecoder().raw_decode


class Said:
    """One message of a conversation at its place in it, and what is known of it. Nobody changes `value`."""

    __slots__ = ("form", "hashed", "linked", "text", "value")

    def __init__(self, value: Any, text: bytes = b"") -> None:
        self.value, self.text = value, text
        self.form: Any = None
        """As the match sees it, where that does not depend on other messages."""
        self.hashed: bytes = b""
        """The hash of `form`."""
        self.linked: tuple[bytes, bytes] = (b"", b"")
        """The hash of the conversation before it, and with it."""


class Body(NamedTuple):
    """A body that was read. `said`: its messages, where it holds a list of objects in the field for them."""

    value: dict[str, Any]
    said: list[Said]


class _Track(NamedTuple):
    """A conversation: the bytes before its first message, and its messages."""

    head: bytes
    said: list[Said]
    size: int


class Bodies:
    """Reads one trial's bodies. `history`, the field with the conversation, goes by the wire format."""

    def __init__(self) -> None:
        self._tracks: list[_Track] = []

    def read(self, raw: bytes, history: str) -> Body:
        """The body. Raises ValueError for what is no JSON object."""
        best, most, at = None, 0, 0
        for track in self._tracks:
            count, end = _shared(track, raw)
            if count > most:
                best, most, at = track, count, end
        if best is not None:
            found = _resumed(raw, history, best.head, best.said[:most], at)
            if found is not None:
                # What has only lost its end is the same conversation going on; what forked long ago is another.
                if most >= len(best.said) - 2:
                    self._tracks.remove(best)
                self._keep(best.head, found.said, len(raw))
                return found
        value = orjson.loads(raw)
        if type(value) is not dict:
            raise ValueError("it is not an object")
        given = value.get(history)
        if type(given) is not list or not given or any(type(one) is not dict for one in given):
            return Body(value, [])
        head, texts = _cut(raw, history)
        if len(texts) != len(given):
            return Body(value, [Said(one) for one in given])
        body = Body(value, [Said(one, text) for one, text in zip(given, texts, strict=True)])
        self._keep(head, body.said, len(raw))
        return body

    def _keep(self, head: bytes, said: list[Said], size: int) -> None:
        self._tracks.insert(0, _Track(head, said, size))
        while len(self._tracks) > _KEPT or sum(track.size for track in self._tracks) > _MOST:
            self._tracks.pop()


def _shared(track: _Track, raw: bytes) -> tuple[int, int]:
    """How many of the conversation's messages the body begins with, and where they end."""
    if not raw.startswith(track.head):
        return 0, 0
    at = len(track.head)
    for count, one in enumerate(track.said):
        if not raw.startswith(one.text, at):
            return count, at
        at += len(one.text)
    return len(track.said), at


def _resumed(raw: bytes, history: str, head: bytes, known: list[Said], at: int) -> Body | None:
    """The body, of which the messages up to `at` are known; None where it cannot be told from its parts."""
    goes_on = _GOES_ON.match(raw, at)
    if goes_on is None:
        return None
    try:
        texts, end = _items(raw, at, goes_on.end())
        new = orjson.loads(b"[" + b"".join(texts).lstrip(b", \t\n\r") + b"]")
        # One item that is no message stands for all: a second field of this name further on would be seen.
        rest = orjson.loads(b"%b0%b" % (head, raw[end:]))
    except (ValueError, RecursionError):
        return None
    if type(rest) is not dict or rest.get(history) != [0] or len(new) != len(texts):
        return None
    said = [*known, *map(Said, new, texts)]
    rest[history] = [one.value for one in said]
    return Body(rest, said)


def _cut(raw: bytes, history: str) -> tuple[bytes, list[bytes]]:
    """The bytes up to the first message, and those of each message with what stands before it. Nothing where the body
    is laid out in a way that is not understood here."""
    try:
        text = raw.decode()
        at = _after(text, 0, "{")
        while True:
            name, at = _scan(text, _after(text, at))
            at = _after(text, _after(text, at, ":"))
            if name == history and text[at] == "[":
                start = len(text[: at + 1].encode())
                return raw[:start], _items(raw, start, start)[0]
            at = _after(text, _scan(text, at)[1], ",")
    except (ValueError, IndexError, RecursionError):
        return b"", []


def _after(text: str, at: int, mark: str = "") -> int:
    """The position after white space and this mark. Raises ValueError where it is not there."""
    while text[at] in " \t\n\r":
        at += 1
    if not text.startswith(mark, at):
        raise ValueError(f"{mark} is missing")
    return at + len(mark)


def _items(raw: bytes, start: int, at: int) -> tuple[list[bytes], int]:
    """The objects of a list from `at` on, each with what stands before it since `start` or the one before; where the
    list ends. Raises ValueError for what is not that."""
    text = raw[at:].decode()
    ascii_only, here, texts = len(text) == len(raw) - at, 0, []
    while text[here : here + 1] == "{":
        end = _scan(text, here)[1]
        stop = at + (end if ascii_only else len(text[:end].encode()))
        texts.append(raw[start:stop])
        start = stop
        goes_on = _GOES_ON.match(raw, stop)
        if goes_on is None:
            raise ValueError("the list does not go on")
        here = end + goes_on.end() - stop
    space = _SPACE.match(raw, start)
    end_at = space.end() if space is not None else start
    if raw[end_at : end_at + 1] != b"]":
        raise ValueError("the list does not end")
    return texts, start
