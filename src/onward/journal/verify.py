"""Is everything there, and is it what was written?"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

from onward.entry import Row
from onward.errors import Damaged
from onward.journal.contract import Journal, Problem
from onward.journal.line import START, chained, depth_of, origin_usd
from onward.journal.reading import SELECT, Reading, row_of
from onward.journal.walk import Walk

__all__ = ["check"]

_SELECT = SELECT.replace(" FROM", ", depth, reused FROM")
_PAGE = 256
_REPORTED = 20
"""Faults of the file itself that are named: after so many the rest says nothing new."""


def check(journal: Journal, reading: Reading) -> Iterator[Problem]:
    """Everything wrong with a journal, in order: the file, its rows and the blobs they name, its end."""
    yield from _file(reading)
    try:
        yield from _rows(journal, reading)
    except (Damaged, OSError, sqlite3.Error) as error:
        yield Problem(0, f"the rows cannot all be read: {error}")


def _file(reading: Reading) -> Iterator[Problem]:
    try:
        with reading() as connection:
            found = connection.execute(f"PRAGMA integrity_check({_REPORTED})").fetchall()
    except (Damaged, OSError) as error:
        found = [(str(error),)]
    for (words,) in found:
        if words != "ok":
            yield Problem(0, f"the file is damaged: {words}")


def _derived(row: Row) -> tuple[int, float | None]:
    return depth_of(row.key), origin_usd(row) if row.kind == "result" else None


def _rows(journal: Journal, reading: Reading) -> Iterator[Problem]:
    walk = Walk(journal.blob)
    head = journal.head()
    seq, chain = 0, START
    while True:
        with reading() as connection:
            found = connection.execute(
                f"{_SELECT} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT {_PAGE}", (seq, head.seq)
            ).fetchall()
        if not found:
            break
        for line in found:
            *columns, checksum, depth, reused = line
            try:
                stored = row_of((*columns, checksum))
            except Damaged as error:
                yield Problem(columns[0], f"the row is not what was appended: {error}")
                seq, chain = columns[0], checksum if isinstance(checksum, bytes) else START
                continue
            if stored.seq != seq + 1:
                yield Problem(seq + 1, f"rows {seq + 1} to {stored.seq - 1} are missing")
            elif chained(chain, stored.row) != checksum or (depth, reused) != _derived(stored.row):
                yield Problem(stored.seq, "the row is not what was appended")
            seq, chain = stored.seq, checksum
            fault = walk.fault(stored.row)
            if fault is not None:
                yield Problem(seq, fault)
    if seq < head.seq:
        yield Problem(seq + 1, f"rows {seq + 1} to {head.seq} are missing at the end")
    elif chain.hex() != head.chain:
        yield Problem(seq, "the last row is not the one the head names")
