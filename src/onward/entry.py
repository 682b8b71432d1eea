"""One immutable line of the journal, and how it becomes bytes.

An entry's head (kind, key, attempt, outcome, money) is what folds read; its `data` is JSON with the rest:

    plan     what is wanted: axes, task ids, names of the blobs that hold spec and tasks
    intent   a call is about to leave: `request`, `provider`, `model`; `usd` and `tokens` are its upper bound
    result   `value`, or `error` {reason, kind, …}; `usd` and `tokens` are what this step itself was billed;
             `origin` {run, seq, usd} when it was taken over from another run
    served   a recorded exchange was given again: `request` digest, `level`, `difference`
    void     `prefixes` out of account from here on, and `why`

Packing stores every long text once. Model requests repeat their whole history, so what grows with each turn must be the
turn: long strings become blobs by content; a conversation becomes a chain of blobs, each naming the one before it; and
of an answer as it was sent, in a body or in frames, what was said is taken out, for the next request says it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import orjson

from onward.errors import Damaged, Refused
from onward.fingerprint import Fingerprint
from onward.keys import Key
from onward.said import taken_out, told

__all__ = [
    "BlobRef", "Entry", "Kind", "Links", "Outcome", "Row", "Turns", "blob_digest", "link_of", "pack", "pack_value",
    "unpack", "unpack_value",
]  # fmt: skip

Kind = Literal["plan", "intent", "result", "served", "void"]
Outcome = Literal["ok", "failed", "timeout", "error"]

_LONG_TEXT = 256
"""Characters from which a string is stored as a blob of its own: a blob costs some 60 bytes of index."""
_LONG_JSON = 512
"""The same for a list or object (tool definitions, say) by the length of its packed text."""
_HISTORIES = frozenset({"messages", "input", "contents"})
"""Fields in which the wire protocols repeat the conversation so far (Chat and Messages, Responses, Gemini)."""
_MODELS = frozenset({"assistant", "model", "function_call", "custom_tool_call", "reasoning"})
"""Roles of messages that a model said (Responses: types of items), which the request that asked for them had not."""
_MOST_TURN = 16
"""Messages in a link at most."""
_LONG_SENT = 1024
"""The same for an answer as it was sent, without what was said. No two are equal, so little is won by a blob."""
_SENT = frozenset({"body", "frames"})
"""Fields that hold an answer as it was sent: its text, or its pieces with the milliseconds after which they came."""


class BlobRef(str):
    """A blob's digest in hex, as a value: it stays a reference when the entry is read, and `verify` follows it."""

    __slots__ = ()


class Row(NamedTuple):
    """An entry as a journal stores it: text and numbers, the body packed. `digest` of the blobs it names are in it."""

    kind: str
    key: str
    attempt: int
    generation: int
    outcome: str | None
    fingerprint: str | None
    at: str
    usd: float | None
    tokens: int | None
    body: str


class Entry(NamedTuple):
    """One line of the journal. `seq` is 0 until the journal has given it one. `at` is UTC, ISO 8601."""

    kind: Kind
    key: Key
    at: str
    data: Mapping[str, Any] = MappingProxyType({})
    outcome: Outcome | None = None
    attempt: int = 1
    generation: int = 0
    fingerprint: Fingerprint | None = None
    usd: float | None = None
    tokens: int | None = None
    seq: int = 0

    @property
    def value(self) -> Any:
        """What the step returned."""
        return self.data.get("value")

    @property
    def reused(self) -> bool:
        """Whether it was taken over from another run (its money was spent there)."""
        return "origin" in self.data


def blob_digest(content: bytes) -> bytes:
    """A blob's name: the first 128 bits of SHA-256 over its content."""
    return sha256(content).digest()[:16]


Blobs = dict[bytes, bytes]
Link = tuple[bytes, bytes]
"""A link of a conversation: the name of the one before it, and the JSON of its messages."""
_BEGINNING = bytes(16)
"""Stands for the link before the first."""


class Links:
    """Links that one journal was given: what repeats them is not packed again, and not given to it again.

    It must be given them first, and no entry after one that it did not take. `most`: bytes that are remembered, twice.
    """

    def __init__(self, most: int = 8 * 1024 * 1024) -> None:
        self._most, self._size = most, 0
        self._young: dict[Link, bytes] = {}
        self._old: dict[Link, bytes] = {}

    def get(self, link: Link) -> bytes | None:
        """Its name, where it is remembered."""
        name = self._young.get(link)
        if name is None and (name := self._old.get(link)) is not None:
            self.add(link, name)
        return name

    def add(self, link: Link, name: bytes) -> None:
        """Remember it."""
        before, text = link
        self._young[before, bytes(bytearray(text))] = name  # a copy: the encoder gives text with room to grow
        self._size += len(text)
        if self._size > self._most:
            self._young, self._old, self._size = {}, self._young, 0


class Turns:
    """The links of one conversation that goes on, and whose messages nobody changes: those that are the very values
    of the last time are not looked at again. It goes with one `Links`."""

    __slots__ = ("_items", "_links")

    def __init__(self) -> None:
        self._items: Sequence[Any] = ()
        self._links: Sequence[tuple[int, bytes]] = ()

    def begun(self, items: Sequence[Any]) -> list[tuple[int, bytes]]:
        """The links that these have in common with the last ones: where each ends, and its name."""
        pairs = enumerate(zip(items, self._items, strict=False))
        shared = next((at for at, (one, last) in pairs if one is not last), min(len(items), len(self._items)))
        return [link for link in self._links if link[0] < shared]  # what follows a turn decides where it ends

    def keep(self, items: Sequence[Any], links: Sequence[tuple[int, bytes]]) -> None:
        """All links of these, which are the last ones from now on."""
        self._items, self._links = items, links


class _Packed(Blobs):
    """The blobs of one entry; links that were given before are none of them."""

    def __init__(self, known: Links | None, turns: Turns | None = None) -> None:
        self.known, self.turns = known, turns
        self.conversation: tuple[Sequence[Any], list[tuple[int, bytes]]] | None = None
        self.fresh: list[tuple[Link, bytes]] = []


def _dumps(value: Any) -> bytes:
    """JSON, in UTF-8. Raises Refused for what is not JSON."""
    try:
        return orjson.dumps(value, default=_plainer, option=orjson.OPT_PASSTHROUGH_SUBCLASS)
    except TypeError as error:
        raise Refused(f"the value is not JSON: {error}") from None


def _plainer(value: Any) -> Any:
    if isinstance(value, BlobRef):
        return {"$blob": str(value)}
    if isinstance(value, str):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _text(value: str, blobs: _Packed) -> Any:
    if len(value) < _LONG_TEXT:
        return value
    content = value.encode()
    name = blob_digest(content)
    blobs[name] = content
    return {"$text": name.hex()}


def _chain(items: list[Any], blobs: _Packed) -> Any:
    """A conversation as a chain: each link is a blob of (the link before, the messages of a turn), so that what a
    conversation begins with is shared by all that begin so."""
    ends = blobs.turns.begun(items) if blobs.turns is not None else []
    if blobs.turns is not None:
        blobs.turns, blobs.conversation = None, (items, ends)  # what a message holds is no conversation that goes on
    end, name = ends[-1] if ends else (0, _BEGINNING)
    for turn in _turns(items[end:]):
        link = name, _dumps(turn)
        found = blobs.known.get(link) if blobs.known is not None else None
        if found is None:
            content = name + _dumps([_shrink(item, blobs) for item in turn])
            found = blob_digest(content)
            blobs[found] = content
            if b'"$' not in link[1]:  # there a reference and its like in plain text would be one
                blobs.fresh.append((link, found))
        name = found
        end += len(turn)
        ends.append((end, name))
    return {"$chain": name.hex()}


def _turns(items: list[Any]) -> Iterator[list[Any]]:
    """The messages, cut where requests are likely to have ended: before the answer that they got. It depends on nothing
    but the messages, so a request that is packed again is the same."""
    start, was_said = 0, True
    for at, item in enumerate(items):
        speaker = item.get("role") or item.get("type") if type(item) is dict else None
        is_said = type(speaker) is str and speaker in _MODELS
        if (is_said and not was_said) or at - start == _MOST_TURN:
            yield items[start:at]
            start = at
        was_said = is_said
    yield items[start:]


def _shrink(value: Any, blobs: _Packed, *, whole: bool = False) -> Any:
    kind = type(value)
    if kind is str:
        return value if len(value) < _LONG_TEXT else _text(value, blobs)
    if kind is dict:
        packed: Any = {}
        for name, item in value.items():
            if name in _HISTORIES and type(item) is list and len(item) > 1:
                packed[name] = _chain(item, blobs)
            elif name in _SENT and (sent := _sent(item, blobs)) is not None:
                packed[name] = {"$said": sent}
            else:
                packed[name] = _shrink(item, blobs)
        if any(name.startswith("$") for name in value):
            packed = {"$plain": packed}
    elif kind is list or kind is tuple:
        packed = [_shrink(item, blobs) for item in value]
    else:
        return value
    return packed if len(packed) < 8 or whole else _placed(packed, blobs, _LONG_JSON)


def _placed(packed: Any, blobs: _Packed, least: int) -> Any:
    """A packed value where it is, or in a blob of its own if its text has so many bytes."""
    content = _dumps(packed)
    if len(content) < least:
        return packed
    name = blob_digest(content)
    blobs[name] = content
    return {"$json": name.hex()}


def _sent(value: Any, blobs: _Packed) -> dict[str, Any] | None:
    """An answer as it was sent, taken apart; None for what is none, and for one that is better left as it is."""
    if type(value) is str:
        is_json = len(value) >= _LONG_TEXT and value.lstrip()[:1] in ("{", "[")
        made = taken_out([value], least=_LONG_TEXT, long=_LONG_TEXT) if is_json else None
    elif type(value) is list and all(map(_is_frame, value)):
        made = taken_out([text for _, text in value], least=1, long=_LONG_TEXT)
        if made is not None:
            made["after"] = [offset - before for (before, _), (offset, _) in pairwise([(0, ""), *value])]
    else:
        return None
    if made is not None:
        made["columns"] = [
            [words if words is None else _text(words, blobs), *numbers] for words, *numbers in made["columns"]
        ]
        made = _placed(made, blobs, _LONG_SENT)
    return made


def _is_frame(item: Any) -> bool:
    return (
        type(item) is list and len(item) == 2 and type(item[0]) is int and type(item[1]) is str
        and 0 <= item[0] < 2**53
    )  # fmt: skip


def _unsent(made: Mapping[str, Any]) -> Any:
    texts = told(made)
    if "after" not in made:
        (body,) = texts
        return body
    return [list(frame) for frame in zip(accumulate(made["after"]), texts, strict=True)]


def pack_value(value: Any) -> tuple[str, Blobs]:
    """A JSON value as text that names blobs, and those blobs. The inverse of `unpack_value`."""
    blobs = _Packed(None)
    return _packed(value, blobs), blobs


def _packed(value: Any, blobs: _Packed) -> str:
    """The packed text. Most values are short, and then their JSON is it: nothing in them is long enough to move."""
    text = b"" if blobs.turns is not None else _dumps(value)
    if not text or len(text) >= _LONG_TEXT or b'"$' in text:
        text = _dumps(_shrink(value, blobs, whole=True))
    return text.decode()


def _grow(value: Any, fetch: Callable[[bytes], bytes]) -> Any:
    if type(value) is list:
        return [_grow(item, fetch) for item in value]
    if type(value) is not dict:
        return value
    if "$text" in value:
        return fetch(bytes.fromhex(value["$text"])).decode()
    if "$json" in value:
        return _grow(orjson.loads(fetch(bytes.fromhex(value["$json"]))), fetch)
    if "$chain" in value:
        return _unchain(bytes.fromhex(value["$chain"]), fetch)
    if "$said" in value:
        return _unsent(_grow(value["$said"], fetch))
    if "$blob" in value:
        return BlobRef(value["$blob"])
    if "$plain" in value:
        value = value["$plain"]
    return {name: _grow(item, fetch) for name, item in value.items()}


def _unchain(link: bytes, fetch: Callable[[bytes], bytes]) -> list[Any]:
    turns = list[list[Any]]()
    while link:
        content = fetch(link)
        link, body = link_of(content)
        turns.append(_grow(orjson.loads(body), fetch))
    return [item for turn in reversed(turns) for item in turn]


def link_of(content: bytes) -> tuple[bytes, bytes]:
    """What a link's blob holds: the name of the link before it (none: nothing), and the packed text of its messages."""
    before = content[:16]
    return b"" if before == _BEGINNING else before, content[16:]


def unpack_value(text: str, fetch: Callable[[bytes], bytes]) -> Any:
    """The JSON value that `pack_value` packed; `fetch` gives a blob's content by its digest."""
    return _grow(orjson.loads(text), fetch)


def pack(entry: Entry, known: Links | None = None, turns: Turns | None = None) -> tuple[Row, Blobs]:
    """An entry as a row and the blobs that it names, but for those that are `known`, where it leaves what is new.

    `turns`: of the conversation in it, which goes on from entry to entry. Raises Refused (see `canonical`) where `data`
    is not JSON."""
    data = dict(entry.data)
    print_ = entry.fingerprint
    if print_ is not None:
        data["parts"] = print_.parts
        if print_.recipe != 1:
            data["recipe"] = print_.recipe
    blobs = _Packed(known, turns)
    body = _packed(data, blobs)
    if known is not None:
        for link, name in blobs.fresh:
            known.add(link, name)
    if turns is not None and blobs.conversation is not None:
        turns.keep(*blobs.conversation)
    digest = print_.digest if print_ is not None else None
    row = Row(
        entry.kind, entry.key, entry.attempt, entry.generation, entry.outcome, digest, entry.at, entry.usd,
        entry.tokens, body,
    )  # fmt: skip
    return row, blobs


def unpack(row: Row, fetch: Callable[[bytes], bytes], *, seq: int = 0) -> Entry:
    """The entry that a row holds. Raises Damaged where the body or a blob it names cannot be read."""
    try:
        data = unpack_value(row.body, fetch)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise Damaged(f"entry {seq} ({row.key}) cannot be read: {error}") from error
    parts, recipe = data.pop("parts", None), data.pop("recipe", 1)
    made = Fingerprint(parts or {}, row.fingerprint, recipe) if row.fingerprint else None
    return Entry(
        kind=row.kind,  # type: ignore[arg-type]
        key=Key(row.key), at=row.at, data=data,
        outcome=row.outcome,  # type: ignore[arg-type]
        attempt=row.attempt, generation=row.generation, fingerprint=made, usd=row.usd, tokens=row.tokens, seq=seq,
    )  # fmt: skip
