"""An agent's request, and the answer to it on its way: written once as it comes, read by whoever waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from onward.entry import Turns
from onward.gateway.exchanges import Request
from onward.keys import Key

__all__ = ["Asked", "Cut", "Flight", "Head"]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came from an agent."""

    protocol: str
    model: str
    body: Mapping[str, Any] = field(repr=False)
    raw: bytes = field(repr=False)
    """The very bytes, which are what is sent on."""
    path: str
    """What follows the provider's base URL, with the query."""
    headers: Mapping[str, str] = field(repr=False)
    """What is sent on of the headers: nothing that tells who the caller is."""
    stream: bool
    retried: bool
    """Whether an SDK says that it has sent this before."""
    request: Request = field(repr=False)
    """As the match sees it."""
    turns: Turns | None = field(default=None, repr=False)
    """Of a conversation that goes on."""

    def as_model(self, name: str) -> Asked:
        """The same, asked of another model: what goes out where a continuation has a model of its own."""
        if self.protocol == "gemini":
            path = self.path.replace(f"/models/{self.model}:", f"/models/{name}:", 1)
            return replace(self, model=name, path=path)
        body = {**self.body, "model": name}
        return replace(self, model=name, body=body, raw=orjson.dumps(body))

    @property
    def digest(self) -> bytes:
        """Hash of the normalised body: equal requests have equal ones."""
        return self.request.whole


@dataclass(frozen=True, slots=True)
class Head:
    """What goes before an answer's body."""

    status: int
    headers: Mapping[str, str]


class Cut(Exception):
    """A client has read a part of an answer that came to nothing: its connection must break, as the answer did."""


class Flight:
    """One exchange under way. Readers get what has come so far, and then what comes.

    An attempt that fails is forgotten with all it brought: who has seen a part of it is `Cut`, who has seen nothing
    waits for the next attempt.
    """

    def __init__(self, key: Key, asked: Asked) -> None:
        self.key, self.asked = key, asked
        self.readers = 0
        self.delivered = False
        """Whether some client was there when the end was written."""
        self.answered = False
        """Whether there is a recorded answer, and this is it."""
        self.over = False
        self.refused: tuple[Head, bytes] | None = None
        """What the provider said to the last attempt, where it said no."""
        self._head: Head | None = None
        self._pieces: list[bytes] = []
        self._attempt = 0
        self._waiting: set[asyncio.Future[None]] = set()

    @property
    def seen(self) -> bool:
        """Whether a part of this attempt has been passed on."""
        return bool(self._pieces)

    @property
    def alone(self) -> bool:
        """Whether nobody waits for it any more."""
        return self.readers == 0

    def begin(self) -> None:
        """A new attempt."""
        if self._pieces:
            self._head, self._pieces = None, []
            self._attempt += 1
            self.wake()
        self.refused = None

    def show(self, head: Head, piece: bytes) -> None:
        """A part of the answer, to be passed on at once."""
        self._head = head
        self._pieces.append(piece)
        self.wake()

    def end(self, head: Head, pieces: Sequence[bytes], *, answered: bool) -> None:
        """The rest of it, and that nothing follows."""
        if self._pieces and not answered:
            self._attempt += 1
        self._head = self._head or head
        self._pieces.extend(pieces)
        self.answered, self.over = answered, True
        self.wake()

    def wake(self) -> None:
        """Let all readers look again."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def read(self, gone: asyncio.Future[Any]) -> AsyncIterator[tuple[Head, bytes, bool]]:
        """Head, bytes, and whether they are the last, until the end or until `gone`. Raises Cut."""
        at, attempt = 0, self._attempt
        gone.add_done_callback(lambda _: self.wake())
        while not gone.done():
            if attempt != self._attempt:
                if at:
                    raise Cut
                attempt = self._attempt
            if (at < len(self._pieces) or self.over) and self._head is not None:
                pieces, at, over = self._pieces[at:], len(self._pieces), self.over
                yield self._head, pieces[0] if len(pieces) == 1 else b"".join(pieces), over
                if over:
                    return
                continue
            change: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.add(change)
            try:
                await change
            finally:
                self._waiting.discard(change)
