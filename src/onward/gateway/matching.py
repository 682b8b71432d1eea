"""Which recorded exchange answers a live request: by content, never by order. Pure; SEMANTICS §7 in code.

    exact      the same request, after the normalising rules; among equals first in, first out
    opening    a first request of an agent that we know: the same words, and the same tools by name; what is said around
               them differs (the system prompt, what the tools do), and no other request was recorded that has them
    prefix     the same length, equal up to the last assistant message; after it only tool results differ
    anchored   the live request extends, message for message, the live request that was matched to a recorded exchange,
               with the assistant turn that we served; and so does a recorded request that recorded one
    replies    the same model, tools and sequence of assistant messages, for agents that rewrite their history: only
               where the live request extends none, and only after a reply that this attempt was served

Each level serves what its content proves. Where several recorded exchanges fit and nothing but their order tells them
apart, none is served: that is how one sub-agent got another's answer. Hence also what anchored asks of the tail: if the
turn called tools, what follows may differ in their results alone; a fork of the conversation is another lane.

`Recorded` is the index, `State` what one attempt of a trial was served so far. A match costs some dictionary look-ups.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, NamedTuple

from onward.gateway.exchanges import Exchange, Recorded, Request, hash_of, link, request_of, said_hash
from onward.gateway.normalisers import ABSENT, Difference, differences
from onward.protocols.turns import FORMS

__all__ = ["Exchange", "Level", "Match", "Recorded", "Request", "State", "match", "request_of"]

Level = Literal["exact", "opening", "prefix", "anchored", "replies"]

_LOOKED_AT = 32
"""How many recorded exchanges are compared to find the one that a miss names."""


class State:
    """What one attempt of a trial was served so far. A new attempt begins with a new one.

    `opens`: whether the level `opening` serves: the asker is an agent that we know, and not anybody's program, to which
    another system prompt may be another question."""

    def __init__(self, *, opens: bool = False) -> None:
        self.opens = opens
        self._taken: set[str] = set()
        self._owed: set[str] = set()
        self._begins: dict[bytes, int] = {}
        self.anchors: dict[bytes, dict[tuple[bytes, bytes], Exchange]] = {}
        """By a live request's conversation: the exchanges that it was matched to, by its envelope and their whole."""
        self.gone_live: dict[bytes, tuple[str, ...]] = {}
        """By the conversation of a live request that missed: what was left of its lane then."""

    @property
    def untouched(self) -> bool:
        """Whether this attempt was served nothing and has been answered nothing."""
        return not self._taken

    def free(self, exchange: Exchange) -> bool:
        """Whether this attempt may still be served it."""
        return exchange.complete and exchange.key not in self._taken

    def owed(self, exchange: Exchange) -> bool:
        """Whether its answer was never fully delivered: it comes first."""
        return not exchange.delivered or exchange.key in self._owed

    def served(self, request: Request, exchange: Exchange) -> None:
        """This live request is answered by this exchange. To be called before the next request is matched."""
        self._taken.add(exchange.key)
        known = self.anchors.setdefault(request.chain[-1], {})
        known.setdefault((request.envelope, exchange.request.whole), exchange)

    def missed(self, request: Request, found: Match) -> None:
        """This live request goes to the model. When its answer is recorded: `add` it to the record, and `served`."""
        known = self.gone_live.get(request.chain[-1], ())
        self.gone_live[request.chain[-1]] = tuple(dict.fromkeys((*known, *found.lane)))

    def undelivered(self, key: str) -> None:
        """The client did not see the end of this answer: its next equal is served it."""
        self._taken.discard(key)
        self._owed.add(key)
        self._begins.clear()

    def abandoned(self, keys: Iterable[str]) -> None:
        """These are not served any more: the lane was forked."""
        self._taken.update(keys)

    def waiting(self, name: bytes, bucket: Sequence[Exchange]) -> Iterator[Exchange]:
        """Those of a bucket that are free. Its served beginning is skipped from then on: records are long."""
        begin = self._begins.get(name, 0)
        while begin < len(bucket) and not self.free(bucket[begin]):
            begin += 1
        self._begins[name] = begin
        return (one for at in range(begin, len(bucket)) if self.free(one := bucket[at]))


@dataclass(frozen=True, slots=True)
class Match:
    """The exchange that answers a live request, or why none does."""

    key: str | None
    level: Level | None = None
    difference: Difference | None = None
    """Where the live request first differs: from the exchange served, or from the nearest one. None at level exact."""
    nearest: str | None = None
    """At a miss: the recorded exchange that comes nearest, of those not served yet."""
    left: bool = False
    """At a miss: whether the lane has recorded exchanges left: a divergence. If it has none, this is the cut point."""
    lane: tuple[str, ...] = ()
    """At a miss: those of them that are surely this lane's. Of a first request that differs nothing is sure: `left` is
    then true where a recorded one with its model and tools still waits, because silence would be worse."""

    @property
    def reason(self) -> str:
        """What happened, in words."""
        where = f", and differs at {self.difference}" if self.difference else ""
        if self.level:
            return f"answered by {self.key} ({self.level}){where}"
        what = "a divergence" if self.left else "the cut point"
        near = f"the nearest left is {self.nearest}{where}" if self.nearest else "nothing recorded is left"
        return f"no recorded exchange matches: {what}; {near}"


class _Extension(NamedTuple):
    """A live request that the present one extends by an assistant turn."""

    envelope: bytes
    exchange: Exchange
    """What it was matched to."""
    after: bytes
    """The hash of that exchange's conversation with the turn added."""


def match(request: Request, recorded: Recorded, state: State) -> Match:
    """The recorded exchange that answers this live request, by the first level that finds one. Changes nothing."""
    equals = recorded.whole.get(request.whole, ())
    waiting = [one for one in equals if state.free(one)]
    if waiting:
        return Match(min(waiting, key=lambda one: not state.owed(one)).key, "exact")
    extensions = list(_extensions(request, state))
    if not equals and (first := _opening(request, recorded, state)):
        return Match(first.key, "opening", _first(first.request, request))
    if request.runs and all(one.complete for one in equals):
        found, level = _inexact(request, extensions, recorded, state)
        if found:
            return Match(found.key, level, _first(found.request, request))
    return _miss(request, extensions, recorded, state, known=bool(equals))


def _inexact(
    request: Request, extensions: Sequence[_Extension], recorded: Recorded, state: State
) -> tuple[Exchange | None, Level | None]:
    found = _prefix(request, recorded, state)
    if found:
        return found, "prefix"
    found = _anchored(request, extensions, recorded, state)
    if found:
        return found, "anchored"
    return (None, None) if extensions else (_replies(request, recorded, state), "replies")


def _allowed(candidates: Iterable[Exchange], state: State) -> list[Exchange]:
    """Those that a level below exact may serve."""
    return [one for one in candidates if state.free(one) and not one.parent_changed]


def _nearest_of(request: Request, candidates: list[Exchange]) -> list[Exchange]:
    """Those with the most messages after the last assistant turn in common with the request."""
    if len(candidates) < 2:
        return candidates
    tail = set(request.tail)
    shared = [len(tail.intersection(one.request.tail)) for one in candidates]
    return [one for one, count in zip(candidates, shared, strict=True) if count == max(shared)]


def _only(candidates: Sequence[Exchange]) -> Exchange | None:
    """The first, if all are the same request; nothing if their order alone would tell them apart."""
    return candidates[0] if len({one.request.whole for one in candidates}) == 1 else None


def _opening(request: Request, recorded: Recorded, state: State) -> Exchange | None:
    """The one first request that was recorded with these words: whatever it answered, it answered them."""
    alike = recorded.words.get(request.words, ()) if state.opens else ()
    return next(iter(_allowed(alike, state)), None) if _only(alike) else None


def _prefix(request: Request, recorded: Recorded, state: State) -> Exchange | None:
    """Equal but for what the tools answered. Several of them are equals as far as this level looks: first in first."""
    found = _nearest_of(request, _allowed(recorded.skeletons.get(request.skeleton, ()), state))
    return found[0] if found else None


def _extensions(request: Request, state: State) -> Iterator[_Extension]:
    """The live requests that this one extends, longest first."""
    if not request.runs:
        return
    start, stop = request.runs[-1]
    for at in range(stop - 1, start - 1, -1):
        for (envelope, _), exchange in state.anchors.get(request.chain[at], {}).items():
            after = exchange.request.chain[-1]
            for one in request.hashes[at:stop]:
                after = link(after, one)
            yield _Extension(envelope, exchange, after)


def _anchored(request: Request, extensions: Sequence[_Extension], recorded: Recorded, state: State) -> Exchange | None:
    """What extends the recorded exchange as this request extends the live one that was matched to it.

    The envelope either stayed as it was, in both, or is the very one recorded.
    """
    for before in extensions:
        candidates = [
            one
            for one in _allowed(recorded.after.get(before.after, ()), state)
            if one.request.chain[one.request.end] == before.after
            and (
                one.request.envelope == request.envelope
                or (request.envelope == before.envelope and one.request.envelope == before.exchange.request.envelope)
            )
        ]
        if not candidates:
            continue
        shape = _shape(request)
        close = [one for one in candidates if _shape(one.request) == shape]
        if close:
            return _nearest_of(request, close)[0]
        start, stop = request.runs[-1]
        if FORMS[request.protocol].said(request.messages[start:stop]).calls:
            continue
        # No tool was called, so what came back of the world is told as text: it may differ, in what it says alone.
        told = [one for one in candidates if _roles(one.request) == _roles(request)]
        found = _only(_nearest_of(request, told))
        if found:
            return found
    return None


def _shape(request: Request) -> list[bytes]:
    """What follows the last assistant turn, but for what tools answered."""
    form = FORMS[request.protocol]
    return [hash_of(form.skeleton(one)) for one in request.messages[request.end :]]


def _roles(request: Request) -> list[str]:
    form = FORMS[request.protocol]
    return [form.role(one) for one in request.messages[request.end :]]


def _replies(request: Request, recorded: Recorded, state: State) -> Exchange | None:
    """The same assistant messages, of which the last that is an answer at all answered one known request, served.

    Synthetic turns look like replies, and two lanes may have had the same reply: neither proves whose answer it is.
    """
    candidates = _allowed(recorded.replies.get(request.replies, ()), state)
    if not candidates:
        return None
    for start, stop in reversed(request.runs):
        askers = recorded.said.get(said_hash(request.protocol, request.messages[start:stop]), ())
        earlier = [one for one in askers if len(one.request.runs) < len(request.runs)]
        if earlier:
            longest = max(len(one.request.runs) for one in earlier)
            latest = [one for one in earlier if len(one.request.runs) == longest]
            if not _only(latest) or all(state.free(one) for one in latest):
                return None
            return _only(_nearest_of(request, candidates))
    return None


def _miss(
    request: Request, extensions: Sequence[_Extension], recorded: Recorded, state: State, *, known: bool
) -> Match:
    """Says what is left of the lane. `known`: the request was recorded, and is now asked once more than it was then."""
    waiting = state.waiting(b"", recorded)
    if known:
        return _missed(request, _closest(request, waiting))
    lane = _lane(request, extensions, recorded, state)
    if lane is not None:
        left = [one for one in dict.fromkeys(lane) if state.free(one)]
        near = _closest(request, left or waiting)
        return _missed(request, near, tuple(one.key for one in left), left=bool(left))
    alike = _first_of_all if state.untouched else _alike
    guessed = list(islice(alike(request, recorded, state), _LOOKED_AT))
    return _missed(request, _closest(request, guessed or waiting), left=bool(guessed))


def _alike(request: Request, recorded: Recorded, state: State) -> Iterator[Exchange]:
    """What may be left of a lane that content does not tell: what opened like it, else what has its model and tools
    and is as far: begun, or not."""
    if request.runs and request.opening in recorded.openings:
        return state.waiting(request.opening, recorded.openings[request.opening])
    alike = state.waiting(request.kind, recorded.kinds.get(request.kind, ()))
    return (one for one in alike if bool(one.request.runs) == bool(request.runs))


def _first_of_all(request: Request, recorded: Recorded, state: State) -> Iterator[Exchange]:
    """What may be left before anything was asked as it was recorded: an agent with tools that begins otherwise (of
    another version, told something else) has left its record, whatever tools these are."""
    yield from _alike(request, recorded, state)
    if _has_tools(request):
        others = state.waiting(b"", recorded)
        yield from (one for one in others if one.request.protocol == request.protocol and _has_tools(one.request))


def _has_tools(request: Request) -> bool:
    return bool(FORMS[request.protocol].tools(request.rest))


def _missed(request: Request, near: Exchange | None, lane: tuple[str, ...] = (), *, left: bool = False) -> Match:
    if near is None:
        return Match(None, left=left, lane=lane)
    return Match(None, None, _first(near.request, request), near.key, left, lane)


def _lane(
    request: Request, extensions: Sequence[_Extension], recorded: Recorded, state: State
) -> list[Exchange] | None:
    """What was recorded of this request's conversation, by what it extends; None where content does not say."""
    if not request.runs:
        return None
    start, stop = request.runs[-1]
    live = [one for one in request.chain[start:stop] if one in state.gone_live]
    if extensions or live:
        found = [one for before in extensions for one in recorded.after.get(before.after, ())]
        return found + [recorded.named[key] for one in live for key in state.gone_live[one]]
    for _, stop in reversed(request.runs):
        if any(state.free(one) for one in recorded.after.get(request.chain[stop], ())):
            return recorded.after[request.chain[stop]]
    return None


def _closest(request: Request, candidates: Iterable[Exchange]) -> Exchange | None:
    """The candidate that shares the most: leading messages, then the length, then messages anywhere."""
    mine = set(request.hashes)

    def shared(one: Exchange) -> tuple[int, int, int]:
        theirs = one.request.hashes
        return _common(request.hashes, theirs), -abs(len(theirs) - len(request.hashes)), len(mine.intersection(theirs))

    return max(islice(candidates, _LOOKED_AT), key=shared, default=None)


def _common(ours: Sequence[bytes], theirs: Sequence[bytes]) -> int:
    """How many leading messages two conversations share."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((at for at, (mine, other) in pairs if mine != other), min(len(ours), len(theirs)))


def _first(recorded: Request, live: Request) -> Difference | None:
    """The first place where two requests differ: in the envelope, else in the conversation."""
    if recorded.protocol != live.protocol:
        return Difference("(format)", recorded.protocol, live.protocol)
    if recorded.envelope != live.envelope:
        found = next(differences(recorded.rest, live.rest), None)
        if found:
            return found
    history = FORMS[live.protocol].history
    at = _common(recorded.hashes, live.hashes)
    if at < min(len(recorded.messages), len(live.messages)):
        return next(differences(recorded.messages[at], live.messages[at], f"{history}[{at}]"), None)
    if len(recorded.messages) == len(live.messages):
        return None
    ends = [one.messages[at] if at < len(one.messages) else ABSENT for one in (recorded, live)]
    return Difference(f"{history}[{at}]", ends[0], ends[1])
