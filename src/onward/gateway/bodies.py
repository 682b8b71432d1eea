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

from onward.entry import Turns

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

    __slots__ = ("form", "text", "value")

    def __init__(self, value: Any, text: bytes = b"") -> None:
        self.value, self.text = value, text
        self.form: Any = None
        """As the match sees it, where that does not depend on other messages."""


class Around:
    """What surrounds a conversation in its body: the bytes before the first message and after the last, and the body
    that they make where the list has one item that is no message."""

    __slots__ = ("head", "request", "same", "tail", "turns", "value")

    def __init__(self, head: bytes, tail: bytes, value: dict[str, Any], before: Around | None = None) -> None:
        self.head, self.tail, self.value = head, tail, value
        self.request: Any = before.request if before is not None else None
        """What the conversation came to as a request, this time or the last: for whoever works that out to keep."""
        self.same = before is not None and value is before.value
        """Whether these are the very bytes of the last time."""
        self.turns: Turns = before.turns if before is not None else Turns()
        """How the conversation lies in the journal."""


class Body(NamedTuple):
    """A body that was read. `said`: its messages, where it holds a list of objects in the field for them."""

    value: dict[str, Any]
    said: list[Said]
    around: Around | None = None


class _Track(NamedTuple):
    """A conversation: its messages, and what surrounds them."""

    around: Around
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
            found = _resumed(raw, history, best.around, best.said[:most], at)
            if found is not None and found.around is not None:
                # What has only lost its end is the same conversation going on; what forked long ago is another.
                if most >= len(best.said) - 2:
                    self._tracks.remove(best)
                self._keep(found.around, found.said, len(raw))
                return found
        value = orjson.loads(raw)
        if type(value) is not dict:
            raise ValueError("it is not an object")
        given = value.get(history)
        if type(given) is not list or not given or any(type(one) is not dict for one in given):
            return Body(value, [])
        head, texts, end = _cut(raw, history)
        rest = _rest(head, raw[end:], history) if len(texts) == len(given) else None
        if rest is None:
            return Body(value, [Said(one) for one in given])
        said, around = list(map(Said, given, texts)), Around(head, raw[end:], rest)
        self._keep(around, said, len(raw))
        return Body({**rest, history: given}, said, around)

    def _keep(self, around: Around, said: list[Said], size: int) -> None:
        self._tracks.insert(0, _Track(around, said, size))
        while len(self._tracks) > _KEPT or sum(track.size for track in self._tracks) > _MOST:
            self._tracks.pop()


def _shared(track: _Track, raw: bytes) -> tuple[int, int]:
    """How many of the conversation's messages the body begins with, and where they end."""
    if not raw.startswith(track.around.head):
        return 0, 0
    at = len(track.around.head)
    for count, one in enumerate(track.said):
        if not raw.startswith(one.text, at):
            return count, at
        at += len(one.text)
    return len(track.said), at


def _resumed(raw: bytes, history: str, before: Around, known: list[Said], at: int) -> Body | None:
    """The body, of which the messages up to `at` are known; None where it cannot be told from its parts."""
    goes_on = _GOES_ON.match(raw, at)
    if goes_on is None:
        return None
    try:
        texts, end = _items(raw, at, goes_on.end())
        new = orjson.loads(b"[" + b"".join(texts).lstrip(b", \t\n\r") + b"]")
    except (ValueError, RecursionError):
        return None
    tail = raw[end:]
    value = before.value if tail == before.tail else _rest(before.head, tail, history)
    if value is None or len(new) != len(texts):
        return None
    said = [*known, *map(Said, new, texts)]
    whole = {**value, history: [one.value for one in said]}
    return Body(whole, said, Around(before.head, tail, value, before))


def _rest(head: bytes, tail: bytes, history: str) -> dict[str, Any] | None:
    """What stands around a conversation, read with one item that is no message for all of it: a second field of this
    name further on would be seen, and then there is nothing."""
    try:
        rest = orjson.loads(b"%b0%b" % (head, tail))
    except (ValueError, RecursionError):
        return None
    return rest if type(rest) is dict and rest.get(history) == [0] else None


def _cut(raw: bytes, history: str) -> tuple[bytes, list[bytes], int]:
    """The bytes up to the first message, those of each message with what stands before it, and where the last ends.
    Nothing where the body is laid out in a way that is not understood here."""
    try:
        text = raw.decode()
        at = _after(text, 0, "{")
        while True:
            name, at = _scan(text, _after(text, at))
            at = _after(text, _after(text, at, ":"))
            if name == history and text[at] == "[":
                start = len(text[: at + 1].encode())
                return raw[:start], *_items(raw, start, start)
            at = _after(text, _scan(text, at)[1], ",")
    except (ValueError, IndexError, RecursionError):
        return b"", [], 0


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
