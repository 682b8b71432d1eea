"""One SQLite file: how it is made, opened and read, and what its errors mean in our words."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from onward.errors import Damaged, NotThere
from onward.journal.pages import image
from onward.journal.place import sync_names
from onward.journal.schema import APPLICATION, migrate

__all__ = [
    "NAME", "PAGE", "Readers", "belongs", "connect", "is_full", "make", "recognise", "refuse_leftovers", "translated",
]  # fmt: skip

NAME = "journal.db"
PAGE = 1024
"""Bytes of a page. Small ones keep the write-ahead log small: each commit writes whole pages, mostly for little."""
_PATIENCE = 60.0
"""Seconds to wait for a lock: only a commit in another connection holds one, and never for long."""


def connect(path: Path, *, mode: str = "ro") -> sqlite3.Connection:
    """A connection in autocommit. `mode` is `ro`, `rw` or `immutable`."""
    how = "mode=ro&immutable=1" if mode == "immutable" else f"mode={mode}"
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{how}", uri=True, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
    )
    if mode == "rw":
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def make(path: Path) -> None:
    """Make an empty journal, at once and whole: a kill on the way leaves nothing by that name."""
    draft = path.with_name(f"{path.name}.{os.urandom(6).hex()}.new")
    try:
        os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        connection = connect(draft, mode="rw")
        try:
            connection.execute(f"PRAGMA page_size = {PAGE}")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            migrate(connection)
            connection.execute("PRAGMA journal_mode = WAL")
        finally:
            connection.close()
        with suppress(FileExistsError):  # another process was faster: then it is theirs that counts
            os.link(draft, path)
        sync_names(path.parent)
    except sqlite3.Error as error:
        raise translated(error, path) from error
    finally:
        draft.unlink(missing_ok=True)


def recognise(path: Path) -> None:
    """Raise NotThere where there is no journal, Damaged where the file is certainly not one."""
    try:
        size = os.stat(path).st_size
    except FileNotFoundError:
        raise NotThere(f"there is no journal in {path.parent}") from None
    except NotADirectoryError:
        raise NotThere(f"{path.parent} is not a folder") from None
    if not path.is_file():
        raise Damaged(f"{path} is not a file")
    if size == 0:
        raise Damaged(f"{path} is empty: the journal is lost; look for a copy, nothing was changed")


def refuse_leftovers(path: Path) -> None:
    """Raise Damaged where a log lies beside no database: SQLite would play it into whatever is made there."""
    with suppress(OSError):
        if os.stat(f"{path}-wal").st_size:
            raise Damaged(f"{path} is missing, but its log is there: the journal was lost; look for a copy")


def belongs(connection: sqlite3.Connection, path: Path) -> None:
    """Raise Damaged for a database that is not a journal."""
    found = connection.execute("PRAGMA application_id").fetchone()[0]
    if found != APPLICATION:
        raise Damaged(f"{path} is a database, but not a journal of Onward (application id {found:#x})")


def is_full(error: sqlite3.Error) -> bool:
    """Whether a write failed for want of room."""
    return (error.sqlite_errorcode & 0xFF if hasattr(error, "sqlite_errorcode") else 0) == sqlite3.SQLITE_FULL


_SYSTEM = {
    sqlite3.SQLITE_FULL: (errno.ENOSPC, "the disk is full"),
    sqlite3.SQLITE_IOERR: (errno.EIO, "the disk or its file system failed"),
    sqlite3.SQLITE_READONLY: (errno.EROFS, "the run cannot be written: its folder or file is read-only"),
    sqlite3.SQLITE_PERM: (errno.EACCES, "the run cannot be written: permission denied"),
    sqlite3.SQLITE_AUTH: (errno.EACCES, "the run cannot be written: permission denied"),
    sqlite3.SQLITE_BUSY: (errno.EBUSY, "another process has kept the journal locked for too long"),
    sqlite3.SQLITE_LOCKED: (errno.EBUSY, "the journal is locked"),
    sqlite3.SQLITE_NOMEM: (errno.ENOMEM, "there is not enough memory"),
    sqlite3.SQLITE_CANTOPEN: (errno.EACCES, "the journal cannot be opened: look at its permissions and its folder's"),
}


def translated(error: sqlite3.Error, path: Path) -> Exception:
    """SQLite's error as one of ours: Damaged for what is wrong with the content, OSError for the world around it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _SYSTEM:
        number, words = _SYSTEM[code]
        return OSError(number, f"{words} ({error})", str(path))
    if code == sqlite3.SQLITE_NOTADB:
        return Damaged(f"{path} is not a journal, or its first page is destroyed: `onward verify --salvage` may help")
    return Damaged(f"{path} cannot be read: {error}; `onward verify --salvage` recovers what is intact")


class Readers:
    """Read-only connections, one for each thread that reads at a time; handed back after every page of rows.

    Nobody keeps one between pages, so no reader holds an old snapshot and the write-ahead log can always be emptied.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._closed = False

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection for a short while; SQLite's errors leave as ours."""
        with self._lock:
            if self._closed:
                raise ValueError("the journal is closed")
            connection = self._idle.pop() if self._idle else None
        try:
            if connection is None:
                connection = self._open()
            yield connection
        except sqlite3.Error as error:
            if connection is not None:
                connection.close()
            raise translated(error, self._path) from error
        except BaseException:
            if connection is not None:
                connection.close()
            raise
        self._hand_back(connection)

    def _hand_back(self, connection: sqlite3.Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(connection)
                return
        connection.close()

    def _open(self) -> sqlite3.Connection:
        connection = connect(self._path)
        try:
            belongs(connection, self._path)
            connection.execute("SELECT 1 FROM head").fetchone()
            return connection
        except sqlite3.OperationalError as error:
            connection.close()
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                raise
        except BaseException:
            connection.close()
            raise
        return self._frozen()

    def _frozen(self) -> sqlite3.Connection:
        """Where nothing can be written nobody else writes either: no locks are needed, and a log is laid over."""
        log = Path(f"{self._path}-wal")
        if log.exists() and log.stat().st_size:
            connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            connection.deserialize(image(self._path, PAGE))
        else:
            connection = connect(self._path, mode="immutable")
        try:
            belongs(connection, self._path)
            connection.execute("SELECT 1 FROM head").fetchone()
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        """Close what is idle; what is in use closes when it comes back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
