"""Rows and content on their way into the tables: sealed one after the other, inserted together.

Each statement gives the interpreter's lock away, and whoever else computes meanwhile keeps it a while: what a group of
appends brings goes into as few of them as can be.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from itertools import chain

from onward.entry import Row
from onward.journal.blobs import shrunk
from onward.journal.line import chained, depth_of, digits_of, normal, origin_usd

__all__ = ["Sealing"]

_ENTRIES, _BLOBS = "INSERT INTO entries VALUES ", "INSERT INTO blobs VALUES "
_ONCE = " ON CONFLICT (digest) DO NOTHING"
_TOGETHER = 32
"""Lines that one statement inserts: each number of them is a statement of its own, which SQLite compiles once."""
_LONG_BODY = 64


class Sealing:
    """The rows of one transaction. `seq` and `chain` are those of the last row that was added."""

    __slots__ = ("_blobs", "_connection", "_lines", "chain", "seq")

    def __init__(self, connection: sqlite3.Connection, seq: int, chain: bytes) -> None:
        self._connection, self.seq, self.chain = connection, seq, chain
        self._blobs: list[tuple[object, ...]] = []
        self._lines: list[tuple[object, ...]] = []

    def store(self, name: bytes, content: bytes) -> None:
        """Take in content. Stored already, it stays as it is."""
        self._blobs.append((bytes(name), shrunk(content)))
        if len(self._blobs) >= _TOGETHER:
            self._insert_blobs()

    def add(self, given: Row) -> None:
        """Seal a row. Raises ValueError, and adds nothing, where it cannot be."""
        row = normal(given)
        chain = chained(self.chain, row)
        self._lines.append(_line(self.seq + 1, row, chain))
        self.seq, self.chain = self.seq + 1, chain
        if len(self._lines) >= _TOGETHER:
            self.insert()

    def insert(self) -> None:
        """Write what was added."""
        self._insert_blobs()
        lines, self._lines = self._lines, []
        if lines:
            _insert(self._connection, _ENTRIES, lines)

    def _insert_blobs(self) -> None:
        blobs, self._blobs = self._blobs, []
        if blobs:
            _insert(self._connection, _BLOBS, blobs, _ONCE)

    def back(self, seq: int, chain: bytes) -> None:
        """Forget what was added after this row; what of it was written is the caller's to roll back."""
        self._blobs.clear()
        self._lines.clear()
        self.seq, self.chain = seq, chain


def _insert(connection: sqlite3.Connection, into: str, lines: Sequence[tuple[object, ...]], rest: str = "") -> None:
    places = f"({', '.join('?' * len(lines[0]))})"
    connection.execute(into + ", ".join([places] * len(lines)) + rest, list(chain.from_iterable(lines)))


def _line(seq: int, row: Row, checksum: bytes) -> tuple[object, ...]:
    kind, key, attempt, generation, outcome, print_, at, usd, tokens, body = row
    stored: str | bytes = body
    if len(body) >= _LONG_BODY:
        small = shrunk(body.encode())
        stored = small if len(small) < len(body) else body
    digest: str | bytes | None = print_
    if print_ is not None and len(print_) == 32:
        try:
            raw = bytes.fromhex(print_)
        except ValueError:
            raw = b""
        digest = raw if raw.hex() == print_ else print_
    reused = origin_usd(row) if kind == "result" else None
    return (
        seq, kind, key, depth_of(key), attempt, generation, outcome, digest, digits_of(at), usd, tokens, reused,
        checksum, stored,
    )  # fmt: skip
