"""Rows on their way into the table: sealed one after the other, inserted together."""

from __future__ import annotations

import sqlite3

from onward.entry import Row
from onward.journal.blobs import shrunk
from onward.journal.line import chained, depth_of, digits_of, normal, origin_usd

__all__ = ["Sealing"]

_INSERT = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_TOGETHER = 512
"""Lines that are kept before they are inserted: a bound on memory where a whole run is taken over."""
_LONG_BODY = 64


class Sealing:
    """The rows of one transaction. `seq` and `chain` are those of the last row that was added."""

    __slots__ = ("_connection", "_lines", "chain", "seq")

    def __init__(self, connection: sqlite3.Connection, seq: int, chain: bytes) -> None:
        self._connection, self.seq, self.chain = connection, seq, chain
        self._lines: list[tuple[object, ...]] = []

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
        lines, self._lines = self._lines, []
        if lines:
            self._connection.executemany(_INSERT, lines)

    def back(self, seq: int, chain: bytes) -> None:
        """Forget what was added after this row; what of it was written is the caller's to roll back."""
        self._lines.clear()
        self.seq, self.chain = seq, chain


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
