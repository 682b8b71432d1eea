"""What was said, taken out of the text in which a provider sent it.

An answer is recorded as it came, as a body or as the frames of a stream, and comes again as a message of the next
request: the same words, in quotes there, in pieces here. Taken out and joined they are one text, stored once:

    forms    each different text, with a gap for each string that was taken out: [text, column, column …]
    order    which form each text has, in runs: [form, count, form, count …]; absent where each comes once, in order
    columns  what belongs into the gaps: [words, length, length …] (one piece: no length), or for numbers [null, step …]
    ascii    whether the words are spelled in ASCII alone; `escaped`: characters that are written as \\u00XX besides

It knows names under which the wire formats keep what a model says, and nothing more of them. What would not come back
as it was stays in its place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate, islice, pairwise, takewhile
from json.encoder import encode_basestring_ascii
from typing import Any, NamedTuple

import orjson

__all__ = ["taken_out", "told"]

_WORDS = (
    "content", "text", "delta", "arguments", "partial_json", "thinking", "reasoning_content", "reasoning", "refusal",
    "signature", "thoughtSignature", "encrypted_content", "obfuscation",
)  # fmt: skip
_FOUND = re.compile(rf'"(?:({"|".join(_WORDS)})"\s*:\s*"|sequence_number"\s*:\s*(0|[1-9][0-9]{{0,14}})\b)')
_PLACE = re.compile(r'index"\s*:\s*([0-9]+)')
"""Which choice, block or call a frame is about: their words are joined apart."""
_NUMBER = re.compile("0|[1-9][0-9]{0,14}")
_ESCAPED = re.compile(r"\\u00([2-6][0-9a-f]|7[0-9a-e])")
_GAP = "\x7f"
"""Stands in a form for what was taken out. A text that has one of its own is left as it is."""
_STRIDE = 64
"""Texts that are looked at together: a bound on what is looked at again after one that is spelled in another way."""


class _Spelling(NamedTuple):
    """How a provider writes strings, as far as it differs from what orjson writes."""

    ascii: bool
    escaped: str

    @classmethod
    def of(cls, text: str) -> _Spelling:
        """The one of this text. It may be wrong for some of its strings: each is looked at."""
        found = {chr(int(code, 16)) for code in _ESCAPED.findall(text)} if "\\u00" in text else ()
        return cls(text.isascii(), "".join(sorted(letter for letter in found if not letter.isalnum())))

    def tokens(self, words: Sequence[str]) -> list[str]:
        """Strings as they stand between their quotes."""
        every = _GAP.join(words)
        if not self.ascii or every.isascii():
            every = orjson.dumps(every)[1:-1].decode()
        else:
            every = _GAP.join([encode_basestring_ascii(word)[1:-1] for word in words])
        for letter in self.escaped:
            every = every.replace(letter, f"\\u{ord(letter):04x}")
        return every.split(_GAP)

    def words(self, tokens: Sequence[str]) -> list[str] | None:
        """What these tokens say; None where one of them is spelled in another way."""
        try:
            words: list[str] = orjson.loads(f'"{_GAP.join(tokens)}"').split(_GAP)
        except ValueError:
            return None
        return words if self.tokens(words) == tokens else None


class _Column:
    """Strings of one kind in their order, or numbers."""

    __slots__ = ("are_numbers", "pieces", "size")

    def __init__(self, *, are_numbers: bool) -> None:
        self.are_numbers, self.pieces, self.size = are_numbers, list[Any](), 0

    def add(self, pieces: Sequence[Any]) -> None:
        """These come next."""
        self.pieces += pieces
        if not self.are_numbers:
            self.size += sum(map(len, pieces))

    def says(self, words: str) -> bool:
        """Whether this is all that was said in it so far."""
        return self.size == len(words) and "".join(self.pieces) == words

    def read(self, tokens: Sequence[str], spelling: _Spelling) -> Sequence[Any] | None:
        """The pieces that these tokens are; None where one of them is none."""
        if not self.are_numbers:
            return spelling.words(tokens)
        return [int(token) for token in tokens] if all(map(_NUMBER.fullmatch, tokens)) else None

    def packed(self) -> list[Any]:
        """As it is stored."""
        pieces = self.pieces
        if self.are_numbers:
            return [None, *(number - before for before, number in zip([0, *pieces], pieces, strict=False))]
        return ["".join(pieces), *(map(len, pieces) if len(pieces) > 1 else ())]


class _Form(NamedTuple):
    at: int
    pieces: tuple[str, ...]
    columns: tuple[int, ...]

    @property
    def size(self) -> int:
        """Characters that each text of this form has, whatever stands in its gaps."""
        return sum(map(len, self.pieces))

    def gaps(self, texts: Iterable[str], most: int) -> list[list[str]]:
        """What stands in the gaps of the first of these texts that have this form, gap by gap; `most`: characters."""
        first, *others, last = self.pieces
        start, cut, least = len(first), -len(last) or None, self.size
        between = list[str]()
        for text in texts:
            if not (least <= len(text) < least + most and text.startswith(first) and text.endswith(last)):
                break
            between.append(text[start:cut])
        if not others:
            return [between]
        rows = list(takewhile(bool, (_split(text, others) for text in between)))
        return [list(gap) for gap in zip(*rows, strict=True)] or [[]]


def _split(text: str, pieces: Sequence[str]) -> list[str]:
    """What stands between these; nothing where they do not follow each other."""
    tokens, start = list[str](), 0
    for piece in pieces:
        end = text.find(piece, start)
        if end < 0:
            return []
        tokens.append(text[start:end])
        start = end + len(piece)
    return [*tokens, text[start:]]


def _end(text: str, start: int) -> int:
    """Where the string ends that begins here: at the first quote before which no backslash escapes it."""
    end = text.find('"', start)
    while end > start and text[end - 1] == "\\":
        first = end - 1
        while first > start and text[first - 1] == "\\":
            first -= 1
        if (end - first) % 2 == 0:
            break
        end = text.find('"', end + 1)
    return end


class _Taking:
    """Takes texts apart. Strings shorter than `least` stay; those from `long` on may be repetitions."""

    def __init__(self, spelling: _Spelling, least: int, long: int) -> None:
        self._spelling, self._least, self._long = spelling, least, long
        self._forms: dict[tuple[tuple[str, ...], tuple[int, ...]], _Form] = {}
        self._kinds: dict[tuple[str, str], int] = {}
        self._order: list[int] = []
        self.columns: list[_Column] = []

    def take(self, texts: Sequence[str]) -> None:
        """Take these."""
        at = 0
        while at < len(texts):
            form = self._cut(texts[at])
            count = 1 + (self._run(form, texts, at + 1) if form.columns and at + 1 < len(texts) else 0)
            if self._order and self._order[-2] == form.at:
                self._order[-1] += count
            else:
                self._order += (form.at, count)
            at += count

    def _run(self, form: _Form, texts: Sequence[str], at: int) -> int:
        """Take as many from here on as have the same form, as most of a stream have. Returns how many."""
        if len(set(form.columns)) < len(form.columns):
            return 0
        columns = [self.columns[number] for number in form.columns]
        gaps = form.gaps(islice(texts, at, at + _STRIDE), self._long)
        while gaps[0]:
            read = [column.read(gap, self._spelling) for column, gap in zip(columns, gaps, strict=True)]
            if None not in read:
                for column, pieces in zip(columns, read, strict=True):
                    column.add(pieces or ())
                break
            gaps = [gap[: len(gap) // 2] for gap in gaps]  # one is spelled in another way: take some before it
        return len(gaps[0])

    def _cut(self, text: str) -> _Form:
        pieces, columns, start = list[str](), list[int](), 0
        place = ",".join(_PLACE.findall(text))
        for found in _FOUND.finditer(text):
            kind, number = found.groups()
            if number is not None:
                begin, end = found.span(2)
                column = self._column("", place)
                self.columns[column].add([int(number)])
            else:
                begin, end = found.end(), _end(text, found.end())
                if end - begin < self._least or (words := self._spelling.words([text[begin:end]])) is None:
                    continue
                column = self._column(kind, place, words[0])
                self.columns[column].add(words)
            pieces.append(text[start:begin])
            columns.append(column)
            start = end
        pieces.append(text[start:])
        name = tuple(pieces), tuple(columns)
        return self._forms.setdefault(name, _Form(len(self._forms), *name))

    def _column(self, kind: str, place: str, words: str = "") -> int:
        """Where it belongs. A long text stands alone in a body, and where a stream says again what it said."""
        at = len(self.columns)
        if len(words) < self._long or not (self._least > 1 or any(column.says(words) for column in self.columns)):
            at = self._kinds.setdefault((kind, place), at)
        if at == len(self.columns):
            self.columns.append(_Column(are_numbers=not kind))
        return at

    def packed(self) -> dict[str, Any]:
        """As it is stored."""
        made: dict[str, Any] = {"forms": [[_GAP.join(form.pieces), *form.columns] for form in self._forms.values()]}
        if self._order != [each for at in range(len(self._forms)) for each in (at, 1)]:
            made["order"] = self._order
        made["columns"] = [column.packed() for column in self.columns]
        if self._spelling.ascii and not all("".join(c.pieces).isascii() for c in self.columns if not c.are_numbers):
            made["ascii"] = True
        if self._spelling.escaped:
            made["escaped"] = self._spelling.escaped
        return made


def taken_out(texts: Sequence[str], *, least: int, long: int) -> dict[str, Any] | None:
    """The texts with what was said taken out; None where nothing is. The inverse of `told`.

    Strings shorter than `least` are left in their places; those from `long` on may stand for themselves."""
    every = "".join(texts)
    if _GAP in every:
        return None
    taking = _Taking(_Spelling.of(every), least, long)
    taking.take(texts)
    if not taking.columns:
        return None
    made = taking.packed()
    try:
        return made if told(made) == list(texts) else None
    except (ValueError, LookupError, TypeError):
        return None  # an answer that is paid for must not be lost by a mistake of ours


def told(made: Mapping[str, Any]) -> list[str]:
    """The texts again. Raises ValueError, KeyError, IndexError or TypeError for what `taken_out` did not make."""
    spelling = _Spelling(bool(made.get("ascii")), made.get("escaped", ""))
    columns = [iter(_tokens(column, spelling)) for column in made["columns"]]
    forms = [(form[0].split(_GAP), [columns[at] for at in form[1:]]) for form in made["forms"]]
    order = made.get("order", [each for at in range(len(forms)) for each in (at, 1)])
    texts = list[str]()
    for at, count in zip(order[::2], order[1::2], strict=True):
        (first, *others), gaps = forms[at]
        run = [first] * count
        for tokens, piece in zip(gaps, others, strict=True):
            run = [f"{text}{token}{piece}" for text, token in zip(run, islice(tokens, count), strict=True)]
        texts += run
    return texts


def _tokens(column: Sequence[Any], spelling: _Spelling) -> Iterable[str]:
    words, *numbers = column
    if words is None:
        return map(str, accumulate(numbers))
    ends = list(accumulate(numbers, initial=0)) if numbers else [0, len(words)]
    return spelling.tokens([words[start:end] for start, end in pairwise(ends)])
