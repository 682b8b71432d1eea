"""A journal in one SQLite file, `journal.db` in the run's folder: the default."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from onward.entry import Row, blob_digest
from onward.errors import Damaged, Fenced
from onward.journal.blobs import whole
from onward.journal.contract import Head, Holder, Journal, Newest, Problem, Stored, Sums
from onward.journal.database import (
    NAME,
    Readers,
    belongs,
    connect,
    is_full,
    make,
    recognise,
    refuse_leftovers,
    translated,
)
from onward.journal.lease import held_by
from onward.journal.log import Opened
from onward.journal.place import inode_of, make_private, refuse_network, refuse_read_only
from onward.journal.reading import newest, rows, sums
from onward.journal.schema import migrate, pending
from onward.journal.sealing import Sealing
from onward.journal.space import Space
from onward.journal.verify import check
from onward.journal.writer import Append, Writer

__all__ = ["SqliteJournal"]

_LOG_LEAST, _LOG_MOST = 48 * 1024, 16 * 1024 * 1024
"""The write-ahead log is emptied at a fifth of the database's size, within these bounds."""
_LEASE = "SELECT token, held, since, host, boot, namespace, pid, started, heartbeat, inode, command FROM lease"
_TAKE = """UPDATE lease SET held = 1, (token, since, host, boot, namespace, pid, started, heartbeat, inode, command)
    = (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_KNOWN = 65_536
"""Blobs remembered as stored, so that a conversation's history is not looked up again with every turn."""


class SqliteJournal(Journal):
    """One run's journal. Many may read it at once, in any process; only the lease's holder writes.

    `create` makes the folder and the file where they are missing. `network` allows a network file system.
    """

    def __init__(self, folder: str | os.PathLike[str], *, create: bool = False, network: bool = False) -> None:
        self.folder = Path(folder)
        self._path = self.folder / NAME
        if not network:
            refuse_network(self.folder)
        if not self._path.exists():
            refuse_leftovers(self._path)
            if create:
                make_private(self.folder)
                make(self._path)
        recognise(self._path)
        self._opened = Opened(self._path)
        self._space = Space(self.folder)
        self._readers = Readers(self._path)
        self._writer = Writer(self._commit, f"onward-journal {self.folder.name}", after=self._tidy)
        self._lock = threading.RLock()
        """Held while the one connection that writes is in use."""
        self._connection: sqlite3.Connection | None = None
        self._token = 0
        self._closed = False
        self._known: set[bytes] = set()
        self._log_limit = 0
        self._commits = 0
        try:
            with self._readers.reading() as connection:
                pending(connection)
        except BaseException:
            self._readers.close()
            self._opened.close()
            raise

    # reading

    def rows(self, prefix: str = "", *, after: int = 0, kinds: Collection[str] = ()) -> Iterator[Stored]:
        return rows(self._readers.reading, prefix, after, kinds)

    def newest(self, depth: int) -> Iterator[Newest]:
        return newest(self._readers.reading, depth)

    def sums(self, prefix: str = "") -> Sums:
        return sums(self._readers.reading, prefix)

    def head(self) -> Head:
        with self._readers.reading() as connection:
            seq, chain = _only(connection.execute("SELECT seq, chain FROM head"))
        return Head(seq, chain.hex())

    def blob(self, digest: bytes) -> bytes:
        with self._readers.reading() as connection:
            found = connection.execute("SELECT content FROM blobs WHERE digest = ?", (digest,)).fetchone()
        if found is None:
            raise Damaged(f"blob {digest.hex()} is not in the journal")
        content = whole(found[0])
        if blob_digest(content) != digest:
            raise Damaged(f"blob {digest.hex()} is not what was stored")
        return content

    def check(self) -> Iterator[Problem]:
        return check(self, self._readers.reading)

    @property
    def low(self) -> bool:
        """Whether room on the disk is short, so that no new call should start."""
        return self._space.low

    # writing

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A short transaction: committed at the end, or not at all."""
        with self._lock:
            try:
                connection = self._open()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
                self._empty_log(connection)
            except sqlite3.Error as error:
                raise translated(error, self._path) from error

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise ValueError("the journal is closed")
        if self._connection is None:
            refuse_read_only(self._path)
            connection = connect(self._path, mode="rw")
            try:
                belongs(connection, self._path)
                migrate(connection)
            except BaseException:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _empty_log(self, connection: sqlite3.Connection) -> None:
        """Move the log into the database once it is large. A reader in the way only postpones it."""
        try:
            size = os.stat(f"{self._path}-wal").st_size
            if size < max(self._log_limit, _LOG_LEAST):
                return
            limit = min(max(os.stat(self._path).st_size // 5, _LOG_LEAST), _LOG_MOST)
            if size < max(limit, self._log_limit):
                return
            connection.execute("PRAGMA busy_timeout = 0")
            busy = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            self._log_limit = size + limit if busy else 0
        except (OSError, sqlite3.Error):
            self._log_limit = 0  # what was committed is safe in the log; the next commit tries again
        finally:
            with suppress(sqlite3.Error):
                connection.execute("PRAGMA busy_timeout = 60000")

    def append(
        self, rows: Iterable[Row], blobs: Mapping[bytes, bytes], done: Callable[[BaseException | None], None]
    ) -> None:
        self._writer.put(Append(rows, blobs, done))

    def _commit(self, group: list[Append]) -> list[BaseException | None]:
        with self._lock:
            try:
                outcomes = self._transact(group)
            except sqlite3.Error as error:
                full = is_full(error) or self._space.free() < _LOG_LEAST
                if not full or not self._space.give():
                    raise translated(error, self._path) from error
                outcomes = self._second_go(group)
            self._commits += 1
            if self._commits % 64 == 0:
                self._space.keep()
            return outcomes

    def _second_go(self, group: list[Append]) -> list[BaseException | None]:
        """What is paid for lands in the room that the reserve gave."""
        try:
            return self._transact(group)
        except sqlite3.Error as error:
            raise translated(error, self._path) from error

    def _transact(self, group: list[Append]) -> list[BaseException | None]:
        stored: set[bytes] = set()
        connection = self._open()
        connection.execute("BEGIN IMMEDIATE")
        try:
            sealing = Sealing(connection, *self._fence(connection))
            outcomes = [self._take(connection, append, sealing, stored) for append in group]
            sealing.insert()
            connection.execute("UPDATE head SET seq = ?, chain = ?", (sealing.seq, sealing.chain))
            connection.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise
        self._known |= stored
        if len(self._known) > _KNOWN:
            self._known = stored
        return outcomes

    def _tidy(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._empty_log(self._connection)

    def _fence(self, connection: sqlite3.Connection) -> tuple[int, bytes]:
        token, held, seq, chain = _only(connection.execute("SELECT token, held, seq, chain FROM lease, head"))
        if not self._token or token != self._token or not held:
            raise Fenced(f"this process does not hold the lease of {self.folder}: nothing was written")
        return seq, chain

    def _take(
        self, connection: sqlite3.Connection, append: Append, sealing: Sealing, stored: set[bytes]
    ) -> BaseException | None:
        """One append into the transaction. A single row is written or not; of several, none stays if one cannot be."""
        drawn = not append.is_whole
        before = sealing.seq, sealing.chain
        if drawn:
            sealing.insert()
            connection.execute("SAVEPOINT one")
        fault: BaseException | None = None
        try:
            names = self._fresh(append.blobs, stored)
            for name in names:
                sealing.store(name, append.blobs[name])
            for row in append.draw():
                sealing.add(row)
            if drawn:
                sealing.insert()
        except sqlite3.Error:
            raise
        except Exception as error:  # noqa: BLE001 (the rows are the caller's iterator: anything may come out of it)
            fault = error
            if drawn:
                sealing.back(*before)
                connection.execute("ROLLBACK TO one")
        else:
            stored.update(names)
        if drawn:
            connection.execute("RELEASE one")
        return fault

    def _fresh(self, blobs: Mapping[bytes, bytes], stored: set[bytes]) -> list[bytes]:
        """Those that are not known to be stored."""
        return [name for name in blobs if name not in self._known and name not in stored]

    # the lease

    def claim(self, holder: Holder, *, gone: Callable[[Holder], bool]) -> int:
        here = inode_of(self.folder)
        with self._writing() as connection:
            token, held, since, *rest = _only(connection.execute(_LEASE))
            if held:
                other = Holder(*rest)
                if other.inode == here and not gone(other):
                    raise held_by(other, since)
            connection.execute(
                _TAKE,
                (token + 1, holder.heartbeat, holder.host, holder.boot, holder.namespace, holder.pid, holder.started,
                 holder.heartbeat, here, holder.command),
            )  # fmt: skip
        self._token = int(token) + 1
        self._space.keep()
        return self._token

    def beat(self, now: float) -> None:
        try:
            self._beat(now)
        except OSError as error:  # a heartbeat missed for want of room would cost the run
            if error.errno != errno.ENOSPC or not self._space.give():
                raise
            self._beat(now)

    def _beat(self, now: float) -> None:
        with self._writing() as connection:
            self._fence(connection)
            connection.execute("UPDATE lease SET heartbeat = ?", (now,))

    def release(self) -> None:
        self._writer.drain()
        if not self._token:
            return
        with self._writing() as connection:
            changed = connection.execute("UPDATE lease SET held = 0 WHERE held AND token = ?", (self._token,)).rowcount
        self._token = 0
        if changed:
            self._space.drop()

    def holder(self) -> Holder | None:
        with self._readers.reading() as connection:
            _, held, _, *rest = _only(connection.execute(_LEASE))
        found = Holder(*rest) if held else None
        return found if found is not None and found.inode == inode_of(self.folder) else None

    # the mailbox

    def post(self, message: str) -> None:
        with self._writing() as connection:
            connection.execute("INSERT INTO mailbox (message) VALUES (?)", (message,))

    def poll(self) -> list[tuple[int, str]]:
        with self._readers.reading() as connection:
            return connection.execute("SELECT id, message FROM mailbox ORDER BY id").fetchall()

    def clear(self, upto: int) -> None:
        with self._writing() as connection:
            self._fence(connection)
            connection.execute("DELETE FROM mailbox WHERE id <= ?", (upto,))

    def close(self) -> None:
        self._writer.close()
        self._readers.close()
        with self._lock:
            self._closed = True
            connection, self._connection = self._connection, None
            if connection is not None:
                with suppress(sqlite3.Error):
                    connection.close()
        self._opened.close()


def _only(cursor: sqlite3.Cursor) -> tuple[Any, ...]:
    found: tuple[Any, ...] | None = cursor.fetchone()
    if found is None:
        raise Damaged("the journal has lost its head or its lease: `onward verify --salvage` recovers what is intact")
    return found
