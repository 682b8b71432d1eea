"""What can still be read of a damaged journal, put into a new one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onward.entry import Row, blob_digest
from onward.errors import Damaged
from onward.journal.blobs import whole
from onward.journal.contract import Journal
from onward.journal.database import NAME, PAGE
from onward.journal.line import START, chained
from onward.journal.pages import Cell, Pages
from onward.journal.reading import row_of
from onward.journal.walk import Walk

__all__ = ["Salvaged", "salvage"]

_BATCH = 500
_PEEK = 64
_KINDS = frozenset({"plan", "intent", "result", "served", "void"})


@dataclass(slots=True)
class Salvaged:
    """What came of it. Seqs are those of the damaged journal: the new one counts anew, without gaps."""

    recovered: int = 0
    lost: list[int] = field(default_factory=list)
    """Rows that are missing, edited, or name a blob that is."""
    unproven: list[int] = field(default_factory=list)
    """Recovered rows that read well, but the row before them, which their checksum builds on, is lost."""


class _Wreck:
    """The rows and blobs that are found by looking at every page, trusting neither indexes nor trees."""

    def __init__(self, path: Path) -> None:
        self._pages = Pages(path, PAGE)
        self._entries: dict[int, list[Cell]] = {}
        self._blobs: dict[bytes, list[Cell]] = {}
        self.head = 0
        for cell, rowid in self._pages.cells():
            try:
                columns = self._pages.record(cell, _PEEK)
            except ValueError:
                continue
            if len(columns) == 14 and columns[0] is None and columns[1] in _KINDS:
                self._entries.setdefault(rowid, []).append(cell)
            elif len(columns) == 2 and isinstance(columns[0], bytes) and len(columns[0]) == 16:
                self._blobs.setdefault(columns[0], []).append(cell)
            elif len(columns) == 3 and columns[0] is None and isinstance(columns[2], bytes) and len(columns[2]) == 16:
                self.head = max(self.head, columns[1] if isinstance(columns[1], int) else 0)

    @property
    def end(self) -> int:
        """The last seq that there was, as far as can be seen."""
        return max(self.head, max(self._entries, default=0))

    def rows(self, seq: int) -> Iterator[tuple[Row, bytes]]:
        """What is found as this row, with its stored checksum: none, or one, or stale copies too."""
        for cell in self._entries.get(seq, ()):
            try:
                columns = self._pages.record(cell)
                yield _row(seq, columns), columns[12]
            except (ValueError, Damaged):
                continue

    def blob(self, digest: bytes) -> bytes:
        """A blob that is what its digest says. Raises Damaged where there is none."""
        for cell in self._blobs.get(digest, ()):
            try:
                content = whole(self._pages.record(cell)[1])
            except (ValueError, TypeError, Damaged):
                continue
            if blob_digest(content) == digest:
                return content
        raise Damaged(f"blob {digest.hex()} is lost")


def _row(seq: int, columns: list[Any]) -> Row:
    _, kind, key, _, attempt, generation, outcome, print_, at, usd, tokens, _, checksum, body = columns
    money = float(usd) if usd is not None else None  # a whole number is stored as one
    row = row_of((seq, kind, key, attempt, generation, outcome, print_, at, money, tokens, body, checksum)).row
    if not isinstance(json.loads(row.body), dict) or not isinstance(checksum, bytes):
        raise ValueError(f"row {seq} is not a row")
    return row


def salvage(source: Path, target: Journal) -> Salvaged:
    """Put every readable row of the journal in this folder, with its blobs, into a new journal whose lease we hold."""
    wreck, result = _Wreck(Path(source) / NAME), Salvaged()
    blobs: dict[bytes, bytes] = {}

    def fetch(digest: bytes) -> bytes:
        blobs[digest] = wreck.blob(digest)
        return blobs[digest]

    walk, rows = Walk(fetch), list[Row]()
    before: bytes | None = START
    for seq in range(1, wreck.end + 1):
        found, after = _best(wreck, seq, before)
        if found is None or walk.fault(found) is not None:
            result.lost.append(seq)
        else:
            rows.append(found)
            if before is None:
                result.unproven.append(seq)
        before = after
        if len(rows) >= _BATCH:
            target.commit(rows, blobs)
            result.recovered += len(rows)
            rows, blobs = [], {}
    target.commit(rows, blobs)
    result.recovered += len(rows)
    return result


def _best(wreck: _Wreck, seq: int, before: bytes | None) -> tuple[Row | None, bytes | None]:
    """The row, if one can be believed, and the checksum that the next builds on, if it is known."""
    last: bytes | None = None
    for row, checksum in wreck.rows(seq):
        if before is None or chained(before, row) == checksum:
            return row, checksum
        last = checksum
    return None, last
