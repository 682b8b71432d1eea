"""What became of each recorded exchange: in what order they were asked, whose they are, which answers were used.

A line is written when its call completes, so lines are in the order of the ends. Nothing says which conversation a call
belongs to, which attempt it is, or whether its answer was ever read: content and times tell. Pure.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any, Literal

from onward.fingerprint import digest_of
from onward.formats.benchflow.answers import answer_in
from onward.formats.benchflow.rows import Row
from onward.protocols.turns import FORMS, Said

__all__ = ["SERVED", "Exchange", "Standing", "inversions", "stood", "ties"]

Standing = Literal["consumed", "last", "unseen", "late", "error", "tail error", "in flight", "unparsable"]
"""
consumed    its answer is in a later request
last        nothing later could hold it: it is the last of its lane
unseen      the lane went on without it: the agent rewrote it
late        it came after the agent had asked again, and the other answer was used
error       a refusal, after which the agent went on
tail error  a refusal, after which nothing was answered any more
in flight   there is no answer in it
unparsable  the line cannot be read
"""

SERVED: frozenset[Standing] = frozenset({"consumed", "last", "unseen", "error"})
"""What is served again. The rest was never part of what the agent went through, or is what ended it."""

_LATEST = 4
"""Turns of a request that are looked at: the last is the answer before it, those before were the last once, unless
lines between them are lost."""
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d[\d:.]*)?")
"""Agents tell the model what time it is, and one that went on says another."""
_TOLD = 80
"""Characters of an answer by which it is found again in a tool's result."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A row in its place."""

    row: Row
    standing: Standing
    lane: int = 0
    """Which conversation: 0 is the main one, others are side calls and sub-agents, in the order in which they began."""
    thinking: bool = True
    """Whether the agent was given the model's thinking, as far as its next request shows."""

    @property
    def served(self) -> bool:
        """Whether it is given to an agent again."""
        return self.standing in SERVED


def _in_order(rows: Sequence[Row]) -> list[Row]:
    """By the time of asking. A row without one stays behind the row that it follows; ties stay as they are."""
    keyed: list[tuple[float, int, Row]] = []
    last = float("-inf")
    for place, row in enumerate(rows):
        last = row.asked if row.asked is not None else last
        keyed.append((last, place, row))
    return [row for _, _, row in sorted(keyed, key=lambda one: one[:2])]


def inversions(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """Neighbours in the file of which the second was asked first."""
    known = [(row.asked, row) for row in rows if row.asked is not None]
    return [(one, two) for (before, one), (after, two) in pairwise(known) if after < before]


def ties(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that were asked at the very same time: nothing says which came first."""
    found: dict[float, list[Row]] = {}
    for row in rows:
        if row.asked is not None:
            found.setdefault(row.asked, []).append(row)
    return [equal for equal in found.values() if len(equal) > 1]


def stood(rows: Sequence[Row]) -> list[Exchange]:
    """All rows, in the order in which they were asked, with what became of each."""
    ordered = _in_order([row for row in rows if not row.trouble])
    lanes = _lanes(ordered)
    seen = _Seen(ordered, lanes)
    made = [Exchange(row, seen.standing(at), lanes[at], seen.thinking(at)) for at, row in enumerate(ordered)]
    return made + [Exchange(row, "unparsable") for row in rows if row.trouble]


# ---------------------------------------------------------------- lanes


def _words(value: Any) -> str:
    """The text in a message's content, whatever else is on its blocks: cache marks move from request to request."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return "\n".join(_words(part) for part in value)
    if isinstance(value, Mapping):
        return "\n".join(_words(value[name]) for name in ("text", "content", "output", "parts") if name in value)
    return ""


def _names(tools: Any) -> list[str]:
    given = tools if isinstance(tools, list) else []
    inner = (tool.get("function", tool) if isinstance(tool, dict) else {} for tool in given)
    return [str(one.get("name") or "") if isinstance(one, dict) else "" for one in inner]


def _opening(row: Row) -> str:
    """A digest of how a conversation begins: the tools on offer, and all up to the first thing that the model said."""
    form = FORMS[row.protocol]
    messages = form.messages(row.request)
    runs = form.runs(messages)
    first = messages[: runs[0][0]] if runs else messages
    said = [[form.role(one), _DATE.sub("DATE", _words(one))] for one in first]
    return digest_of([row.protocol, _names(form.tools(row.request)), said])


def _lanes(ordered: Sequence[Row]) -> list[int]:
    """Lane numbers. The main lane is the longest; the first, of equally long ones."""
    openings = [_opening(row) for row in ordered]
    counts = Counter(openings)
    main = max(counts, key=lambda one: counts[one], default="")  # a Counter keeps the order of first appearance
    numbers = {main: 0}
    for opening in openings:
        numbers.setdefault(opening, len(numbers))
    return [numbers[opening] for opening in openings]


# ---------------------------------------------------------------- what became of an answer


class _Seen:
    """What later requests hold of earlier answers."""

    def __init__(self, ordered: Sequence[Row], lanes: Sequence[int]) -> None:
        self._rows, self._lanes = ordered, lanes
        self._said = [self._answer(row) for row in ordered]
        self._turns: dict[tuple[int, str], int] = {}
        """(lane, what the model said) → the last row whose request holds it."""
        self._bare: dict[tuple[int, str], bool] = {}
        """The same → whether it stands there without thinking."""
        self._tails: list[str] = []
        self._lengths: list[int] = []
        for at, row in enumerate(ordered):
            self._index(at, row)
        answered = [at for at, row in enumerate(ordered) if row.is_answer]
        self._last_answer = answered[-1] if answered else -1

    def _index(self, at: int, row: Row) -> None:
        form = FORMS[row.protocol]
        messages = form.messages(row.request)
        runs = form.runs(messages)
        for start, stop in runs[-_LATEST:]:
            said = form.said(messages[start:stop])
            if said:
                name = (self._lanes[at], _digest(said))
                self._turns[name] = at
                self._bare[name] = not any(_has_thinking(one) for one in messages[start:stop])
        end = runs[-1][1] if runs else len(messages)
        self._lengths.append(len(messages))
        self._tails.append("\n".join(map(_words, messages[end:])))

    @staticmethod
    def _answer(row: Row) -> tuple[str, str]:
        """Digest and text of what was said."""
        answer = answer_in(row) if row.is_answer else None
        form = FORMS[row.protocol]
        said = form.said(form.turn(answer)) if answer is not None else None
        return (_digest(said), said.text) if said else ("", "")

    def _is_consumed(self, at: int) -> bool:
        digest, text = self._said[at]
        if digest and self._turns.get((self._lanes[at], digest), -1) > at:
            return True
        start = text[:_TOLD]
        return len(start) == _TOLD and any(
            start in tail for later, tail in enumerate(self._tails[at + 1 :], at + 1)
            if self._lanes[later] != self._lanes[at]
        )  # fmt: skip

    def _goes_on(self, at: int) -> Iterator[int]:
        return (later for later in range(at + 1, len(self._rows)) if self._lanes[later] == self._lanes[at])

    def standing(self, at: int) -> Standing:
        """What became of the row at this place in the order of asking."""
        row = self._rows[at]
        if row.is_error:
            return "error" if at < self._last_answer else "tail error"
        if not row.is_answer:
            return "in flight"
        if self._is_consumed(at):
            return "consumed"
        if row.answered is not None and any(self._again(row, later) for later in self._goes_on(at)):
            return "late"
        longer = any(self._lengths[later] > self._lengths[at] for later in self._goes_on(at))
        return "unseen" if longer else "last"

    def _again(self, row: Row, later: int) -> bool:
        """Whether that row is this request asked again before it was answered, and its answer the one that was used."""
        other = self._rows[later]
        overlaps = other.asked is not None and row.answered is not None and other.asked < row.answered
        return overlaps and other.digest == row.digest and other.is_answer and self._is_consumed(later)

    def thinking(self, at: int) -> bool:
        """Whether the agent carried the turn on with its thinking; true where nothing shows it."""
        digest, _ = self._said[at]
        return not (digest and self._bare.get((self._lanes[at], digest), False))


def _digest(said: Said) -> str:
    """Of what was said; a call's arguments may hold numbers for which there is no canonical form."""
    return sha256(json.dumps([said.text, said.calls], sort_keys=True).encode()).hexdigest()


def _has_thinking(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    blocks = content if isinstance(content, list) else []
    return any(isinstance(one, dict) and one.get("type") in ("thinking", "redacted_thinking") for one in blocks)
