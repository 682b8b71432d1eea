"""Which exchanges of an episode are one conversation. Pure; by content, since parallel ones mix in the journal.

A request repeats its conversation, so an exchange continues another whose request and answer its own begins with. Tool
results are left out of that: a served exchange was recorded with one result, and what follows it live holds another.
What continues nothing opens a lane; of several that continue the same, one stays in the lane and the others branch off.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onward.fingerprint import digest_of
from onward.protocols.pieces import Piece

__all__ = ["Lanes", "Path", "Spoken", "paths", "reply_of"]


def reply_of(said: Iterable[Piece]) -> str:
    """What an assistant turn comes to, as a digest: its text and calls, which agents send back as they were. Empty
    where it says nothing."""
    known = list(said)
    text = "".join(one.text for one in known if one.kind == "text").strip()
    calls = [[one.tool, one.arguments] for one in known if one.kind == "call"]
    return digest_of([text, calls]) if text or calls else ""


@dataclass(slots=True, eq=False)
class Spoken:
    """What places an exchange."""

    opening: tuple[str, ...] = ()
    """What was said before the model first spoke, the system prompt left out."""
    replies: tuple[str, ...] = ()
    """The assistant turns of its request, as `reply_of` each."""
    reply: str = ""
    """The one that its answer adds."""
    messages: Sequence[Mapping[str, Any]] = ()
    id: str = ""
    previous: str = ""
    """The id of its answer, and of the answer that it names as the one before it (Responses)."""


@dataclass(slots=True)
class Path:
    """A lane: places in the list of exchanges, and where it branched off from (a place in another lane)."""

    places: list[int] = field(default_factory=list)
    after: int | None = None


def paths(exchanges: Sequence[Spoken]) -> list[Path]:
    """The lanes, by their first exchange; given in the order in which the newest attempt had its answers, and behind
    these what it did without."""
    before = _before(exchanges)
    following: dict[int, list[int]] = defaultdict(list)
    for place, found in enumerate(before):
        if found is not None:
            following[found].append(place)
    made, starts = [], [Path([place]) for place, found in enumerate(before) if found is None]
    while starts:
        path = starts.pop()
        made.append(path)
        while following[path.places[-1]]:
            last = path.places[-1]
            first, *others = following[last]
            starts += [Path([place], last) for place in others]
            path.places.append(first)
    return sorted(made, key=lambda path: path.places[0])


class _Known:
    """Places by what is asked of them."""

    def __init__(self, exchanges: Sequence[Spoken]) -> None:
        self.ids: dict[str, list[int]] = defaultdict(list)
        self.after: dict[tuple[str, ...], list[int]] = defaultdict(list)
        """By the assistant turns up to and with its answer."""
        self.said: dict[str, list[int]] = defaultdict(list)
        for place, one in enumerate(exchanges):
            self.take(place, one)

    def take(self, place: int, one: Spoken) -> None:
        """One more."""
        if one.id:
            self.ids[one.id].append(place)
        if one.reply:
            self.after[*one.replies, one.reply].append(place)
            self.said[one.reply].append(place)


class Lanes:
    """Lanes while they grow, numbered as `paths` are: an exchange is placed when it comes, after what has come before
    it."""

    def __init__(self) -> None:
        self._exchanges: list[Spoken] = []
        self._known = _Known(())
        self._at: list[tuple[int, int]] = []
        self._named: dict[str, int] = {}
        self._continued: set[int] = set()
        self._lanes = 0

    def place(self, name: str, one: Spoken) -> tuple[int, int]:
        """Its lane and its turn there, each from 1. An answer that is given again has the place that it had."""
        place = self._named.setdefault(name, len(self._exchanges))
        if place < len(self._at):
            return self._at[place]
        self._exchanges.append(one)
        before = _plainly(one, self._exchanges, self._known)
        if before is None:
            before = next(_loosely(place, self._exchanges, self._known), None)
        self._known.take(place, one)
        if before is None or before in self._continued:
            self._lanes += 1
            self._at.append((self._lanes, 1))
            return self._at[-1]
        self._continued.add(before)
        self._exchanges[before].messages = ()  # the next one of its lane holds them too
        lane, turn = self._at[before]
        self._at.append((lane, turn + 1))
        return self._at[-1]


def _before(exchanges: Sequence[Spoken]) -> list[int | None]:
    """The exchange that each continues: first where content says so plainly, then where its history was rewritten."""
    known = _Known(exchanges)
    found: list[int | None] = [_plainly(one, exchanges, known) for one in exchanges]
    for place, one in enumerate(exchanges):
        if found[place] is None and one.replies:
            found[place] = next((at for at in _loosely(place, exchanges, known) if place not in _back(at, found)), None)
    return found


def _plainly(one: Spoken, exchanges: Sequence[Spoken], known: _Known) -> int | None:
    """By the answer's id; else the one whose conversation with its answer this request has, and that most of it."""
    if one.previous and known.ids[one.previous]:
        return known.ids[one.previous][-1]
    candidates = known.after[one.replies] if one.replies else []

    def shared(place: int) -> tuple[bool, int]:
        theirs = exchanges[place].messages
        pairs = zip(one.messages, theirs, strict=False)
        return exchanges[place].opening == one.opening, sum(mine == other for mine, other in pairs)

    return max(candidates, key=shared, default=None)


def _loosely(place: int, exchanges: Sequence[Spoken], known: _Known) -> Iterator[int]:
    """Earlier exchanges whose answer this request still holds, the latest answer first."""
    one = exchanges[place]
    for reply in reversed(one.replies):
        earlier = [at for at in known.said[reply] if at < place]
        yield from sorted(earlier, key=lambda at: (exchanges[at].opening == one.opening, at), reverse=True)


def _back(place: int | None, before: Sequence[int | None]) -> set[int]:
    """An exchange and all that it continues."""
    seen: set[int] = set()
    while place is not None and place not in seen:
        seen.add(place)
        place = before[place]
    return seen
