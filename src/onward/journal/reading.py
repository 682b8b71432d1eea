"""What is asked of the database: rows under a prefix, the newest results, sums. All by pages."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from itertools import starmap
from typing import Any

from onward.entry import Row
from onward.errors import Damaged
from onward.journal.blobs import whole
from onward.journal.contract import Newest, Stored, Sums
from onward.journal.line import depth_of, time_of

__all__ = ["SELECT", "Reading", "newest", "row_of", "rows", "sums"]

Reading = Callable[[], AbstractContextManager[sqlite3.Connection]]
SELECT = (
    "SELECT seq, kind, key, attempt, generation, outcome, fingerprint, at, usd, tokens, body, checksum FROM entries"
)
"""What `row_of` reads."""
_PLACES = "SELECT seq FROM entries INDEXED BY by_key WHERE seq > ?"
# max() beside bare columns takes these from the row that has the maximum: SQLite promises it.
_NEWEST = """SELECT key, max(seq), outcome, generation,
    iif(typeof(fingerprint) = 'blob', lower(hex(fingerprint)), fingerprint)
    FROM entries INDEXED BY by_key WHERE depth = ? AND key >= ? AND kind = 'result'
    GROUP BY key ORDER BY key LIMIT 4096"""
_BILLED = """SELECT total(usd) FILTER (WHERE reused IS NULL), total(tokens) FILTER (WHERE reused IS NULL),
    count(*) FILTER (WHERE reused IS NULL AND (usd IS NOT NULL OR tokens IS NOT NULL)),
    total(reused), total(tokens) FILTER (WHERE reused IS NOT NULL), count(reused)
    FROM entries INDEXED BY by_key WHERE kind = 'result'"""
_DOUBT = """SELECT total(usd), total(tokens), count(*) FROM entries AS sent INDEXED BY by_key
    WHERE kind = 'intent' AND tokens IS NOT NULL AND NOT EXISTS (
        SELECT 1 FROM entries AS ended INDEXED BY by_key WHERE ended.depth = sent.depth AND ended.key = sent.key
        AND ended.generation = sent.generation AND ended.attempt = sent.attempt AND ended.kind = 'result')"""
_PAGE = 256
_SWEEP = 4096


def row_of(found: tuple[Any, ...]) -> Stored:
    """The row that these columns hold. Raises Damaged where they do not hold one."""
    seq, kind, key, attempt, generation, outcome, print_, at, usd, tokens, body, checksum = found
    if isinstance(print_, bytes):
        print_ = print_.hex()
    if isinstance(body, bytes):
        try:
            body = whole(body).decode()
        except UnicodeDecodeError as error:
            raise Damaged(f"row {seq} is not text: {error}") from error
    if not (isinstance(kind, str) and isinstance(key, str) and isinstance(body, str) and isinstance(checksum, bytes)):
        raise Damaged(f"row {seq} is not a row")
    return Stored(seq, Row(kind, key, attempt, generation, outcome, print_, time_of(at), usd, tokens, body))


def _range(connection: sqlite3.Connection, prefix: str) -> tuple[str, list[str | int]]:
    """A condition for "this key or under it", in the terms of the index, which begins with the depth."""
    if not prefix:
        return "depth >= 0", []
    deepest = connection.execute("SELECT max(depth) FROM entries").fetchone()[0] or 0
    depth = depth_of(prefix)
    below = ", ".join(map(str, range(depth + 1, deepest + 1))) or "-1"
    return f"((depth = {depth} AND key = ?) OR (depth IN ({below}) AND key >= ? AND key < ?))", [
        prefix, prefix + "/", prefix + "0",
    ]  # fmt: skip


def _kinds(kinds: Collection[str]) -> tuple[str, list[str]]:
    return (f" AND kind IN ({', '.join('?' * len(kinds))})", list(kinds)) if kinds else ("", [])


def rows(reading: Reading, prefix: str, after: int, kinds: Collection[str]) -> Iterator[Stored]:
    """Rows in order. All rows are swept by seq; a part is found in the index first."""
    if not prefix and not kinds:
        yield from _sweep(reading, after)
        return
    also, names = _kinds(kinds)
    with reading() as connection:
        where, values = _range(connection, prefix)
        found = connection.execute(
            f"{_PLACES} AND {where}{also}",
            [after, *values, *names],
        )
        wanted = array("q", sorted(seq for (seq,) in found))
    for start in range(0, len(wanted), _PAGE):
        page = wanted[start : start + _PAGE]
        marks = ", ".join("?" * len(page))
        with reading() as connection:
            lines = connection.execute(
                f"{SELECT} WHERE seq IN ({marks}) ORDER BY seq",
                page.tolist(),
            ).fetchall()
        yield from map(row_of, lines)


def _sweep(reading: Reading, after: int) -> Iterator[Stored]:
    while True:
        with reading() as connection:
            lines = connection.execute(f"{SELECT} WHERE seq > ? ORDER BY seq LIMIT {_PAGE}", (after,)).fetchall()
        if not lines:
            return
        yield from map(row_of, lines)
        after = lines[-1][0]


def newest(reading: Reading, depth: int) -> Iterator[Newest]:
    """The newest result of each key of a depth, from the index alone."""
    start = ""
    while True:
        with reading() as connection:
            lines = connection.execute(_NEWEST, (depth, start)).fetchall()
        yield from starmap(Newest, lines)
        if len(lines) < _SWEEP:
            return
        start = lines[-1][0] + "\0"  # the next key that can be


def sums(reading: Reading, prefix: str) -> Sums:
    """Money and tokens, from the index alone."""
    with reading() as connection:
        where, values = _range(connection, prefix)
        usd, tokens, count, there, moved, taken = connection.execute(f"{_BILLED} AND {where}", values).fetchone()
        doubt = connection.execute(f"{_DOUBT} AND {where}", values).fetchone()
    return Sums((usd, int(tokens), count), (there, int(moved), taken), (doubt[0], int(doubt[1]), doubt[2]))
