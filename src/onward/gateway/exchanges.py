"""An agent's requests and recorded exchanges as matching sees them: computed once, indexed by content. Pure.

A conversation is known by hashes of its beginnings, h_i = H(h_{i-1}, message i): two requests share their first i
messages where they share h_i. What surrounds it (model, tools, system prompt, sampling) is its envelope.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from operator import is_not
from typing import Any

from onward.fingerprint import canonical
from onward.gateway.bodies import Said
from onward.gateway.normalisers import GENERIC, Rules, normalised
from onward.protocols.turns import FORMS

__all__ = ["Exchange", "Recorded", "Request", "hash_of", "link", "request_of", "said_hash"]

Json = Mapping[str, Any]


def link(*parts: bytes) -> bytes:
    """The hash of hashes."""
    return sha256(b"".join(parts)).digest()[:16]


def hash_of(value: Any) -> bytes:
    """The hash of a JSON value. Raises Refused for what is none."""
    return link(canonical(value))


@dataclass(frozen=True, eq=False)
class Request:
    """A request as the match sees it, every piece computed once (see `request_of`), and not before it is asked for."""

    protocol: str
    target: str
    rest: Json = field(repr=False)
    """The normalised body without its messages, and those."""
    messages: tuple[Json, ...] = field(repr=False)
    envelope: bytes
    kind: bytes
    """Model and tools."""
    hashes: tuple[bytes, ...] = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    """h_0 … h_n: the conversation's beginnings, the envelope left out."""

    @cached_property
    def whole(self) -> bytes:
        """The hash of all of it."""
        return link(self.envelope, self.chain[-1])

    @cached_property
    def runs(self) -> tuple[tuple[int, int], ...]:
        """Where the assistant turns are."""
        return tuple(FORMS[self.protocol].runs(self.messages))

    @cached_property
    def skeleton(self) -> bytes:
        """The whole, but for what tools answered after the last assistant turn."""
        form, end = FORMS[self.protocol], self.end
        after = zip(self.messages[end:], self.hashes[end:], strict=True)
        bare = (hash_of(shape) if (shape := form.skeleton(one)) is not one else known for one, known in after)
        return link(b"skeleton", self.envelope, self.chain[end], *bare)

    @cached_property
    def replies(self) -> bytes:
        """Model, tools and the assistant messages."""
        return link(b"replies", self.kind, *(one for start, stop in self.runs for one in self.hashes[start:stop]))

    @cached_property
    def words(self) -> bytes:
        """Of a first request, what it asks for itself (see `Form.words`); empty for every other."""
        said = None if self.runs else FORMS[self.protocol].words(self.rest, self.messages)
        return hash_of([self.protocol, self.target, said]) if said else b""

    @property
    def opening(self) -> bytes:
        """The conversation before the first assistant turn, with model and tools."""
        return link(self.kind, self.chain[self.runs[0][0] if self.runs else -1])

    @property
    def end(self) -> int:
        """Where the last assistant turn ends; 0 where there is none."""
        return self.runs[-1][1] if self.runs else 0

    @property
    def tail(self) -> tuple[bytes, ...]:
        """Hashes of the messages after the last assistant turn."""
        return self.hashes[self.end :]


def request_of(
    protocol: str, body: Json, rules: Rules = GENERIC, *, target: str = "", said: Sequence[Said] = (),
    before: Request | None = None, same_around: bool = False,
) -> Request:  # fmt: skip
    """What matching needs of a request body. `target`: what the path says and the body does not (Gemini's model,
    `count_tokens`), never the host. `said`: its messages, with what earlier requests worked out of them under the same
    rules. `before`: an earlier request under these rules; the messages that both hold are not hashed again, nor what
    surrounds them, where that was read from the same bytes (`same_around`). Raises Refused for what is not JSON."""
    form = FORMS[protocol]
    seen = normalised(protocol, body, rules, said)
    messages, rest = tuple(form.messages(seen)), form.rest(seen)
    hashes, links = [], [link(protocol.encode())]
    kind = envelope = b""
    if before is not None and (before.protocol, before.target) == (protocol, target):
        shared = _shared(messages, before.messages)
        hashes, links = list(before.hashes[:shared]), list(before.chain[: shared + 1])
        if same_around and rest == before.rest:  # of the same bytes, what is equal has equal JSON
            kind, envelope = before.kind, before.envelope
    for message in messages[len(hashes) :]:
        hashes.append(hash_of(message))
        links.append(link(links[-1], hashes[-1]))
    if not envelope:
        kind = hash_of([protocol, target, form.model(seen), form.tools(seen)])
        envelope = link(kind, hash_of({name: value for name, value in rest.items() if name != "tools"}))
    return Request(protocol, target, rest, messages, envelope, kind, tuple(hashes), tuple(links))


def _shared(messages: Sequence[Json], others: Sequence[Json]) -> int:
    """How many leading messages are the very same values: equal ones need not have equal JSON (1 and true)."""
    differ = map(is_not, messages, others)
    return next((at for at, one in enumerate(differ) if one), min(len(messages), len(others)))


@dataclass(frozen=True, slots=True, eq=False)
class Exchange:
    """A recorded exchange. `said` is a hash of what was answered, empty where nothing was."""

    key: str
    request: Request
    said: bytes = b""
    delivered: bool = True
    """Whether some client saw the answer's end."""
    complete: bool = True
    """Whether there is an answer. One that is in doubt is never served, but known: its equal is the cut."""
    parent_changed: bool = False
    """Whether the parent's fingerprint changed since: then only the exact level serves it."""

    @classmethod
    def of(cls, key: str, request: Request, turn: Sequence[Json], **flags: bool) -> Exchange:
        """The exchange of a request and the assistant turn (see `turns`) that its answer adds."""
        return cls(key, request, said_hash(request.protocol, turn), **flags)


def said_hash(protocol: str, turn: Sequence[Json]) -> bytes:
    """What an assistant turn comes to, as a hash; empty where it says nothing."""
    said = FORMS[protocol].said(turn)
    return hash_of([said.text, said.calls]) if said else b""


class Recorded(Sequence[Exchange]):
    """The exchanges recorded under one trial, in the order in which they were sent, indexed by content.

    A call that went live joins by `add` once it is recorded. Equal messages are shared between all requests.
    """

    def __init__(self, exchanges: Iterable[Exchange] = ()) -> None:
        self._all: list[Exchange] = []
        self.named: dict[str, Exchange] = {}
        self._shared: dict[Any, Any] = {}
        self.whole: dict[bytes, list[Exchange]] = {}
        self.skeletons: dict[bytes, list[Exchange]] = {}
        self.replies: dict[bytes, list[Exchange]] = {}
        self.after: dict[bytes, list[Exchange]] = {}
        """By the conversation up to and with an assistant turn, each of them."""
        self.openings: dict[bytes, list[Exchange]] = {}
        self.words: dict[bytes, list[Exchange]] = {}
        """First requests, those without an answer among them."""
        self.kinds: dict[bytes, list[Exchange]] = {}
        self.said: dict[bytes, list[Exchange]] = {}
        for exchange in exchanges:
            self.add(exchange)

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: Any) -> Any:
        return self._all[index]

    def add(self, exchange: Exchange) -> Exchange:
        """Takes an exchange in; the very value that the index holds."""
        exchange = replace(exchange, request=self._pooled(exchange.request))
        asked = exchange.request
        self._all.append(exchange)
        self.named[exchange.key] = exchange
        self.whole.setdefault(asked.whole, []).append(exchange)
        if asked.words:
            self.words.setdefault(asked.words, []).append(exchange)
        if not exchange.complete:
            return exchange
        for _, stop in asked.runs:
            self.after.setdefault(asked.chain[stop], []).append(exchange)
        if asked.runs:
            self.skeletons.setdefault(asked.skeleton, []).append(exchange)
            self.replies.setdefault(asked.replies, []).append(exchange)
        self.openings.setdefault(asked.opening, []).append(exchange)
        self.kinds.setdefault(asked.kind, []).append(exchange)
        if exchange.said:
            self.said.setdefault(exchange.said, []).append(exchange)
        return exchange

    def _pooled(self, asked: Request) -> Request:
        pool = self._shared
        return replace(
            asked,
            rest=pool.setdefault(("rest", asked.envelope), asked.rest),
            messages=tuple(map(pool.setdefault, asked.hashes, asked.messages)),
            hashes=tuple(pool.setdefault(("hash", one), one) for one in asked.hashes),
            chain=tuple(pool.setdefault(("hash", one), one) for one in asked.chain),
        )
