"""A consistent copy of a journal, while others write into it."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

from onward.errors import UsageError
from onward.journal.contract import Head
from onward.journal.database import NAME, belongs, connect, recognise, translated
from onward.journal.place import make_private, sync_names

__all__ = ["copy_to"]

_FORGET = (
    "UPDATE lease SET held = 0, host = NULL, boot = NULL, namespace = NULL, pid = NULL, started = NULL, "
    "heartbeat = NULL, inode = NULL, command = NULL, since = NULL"
)


def copy_to(source: Path, target: Path) -> Head:
    """Copy the journal in the folder `source` into a new folder: as of one moment, private, without its lease.

    It is written beside its place and renamed into it, so it is whole or not there. Returns the end of what was copied.
    Raises UsageError where `target` is there already; NotThere, Damaged; OSError.
    """
    path = source / NAME
    recognise(path)
    if target.exists():
        raise UsageError(f"{target} is there already: name a folder that is not")
    making = target.parent / f".{target.name}-{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    try:
        make_private(making)
        head = _copied(path, making / NAME)
        making.rename(target)
        sync_names(target.parent)
    except sqlite3.Error as error:
        raise translated(error, path) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return head


def _copied(path: Path, draft: Path) -> Head:
    os.close(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    reading, writing = connect(path), connect(draft, mode="rw")
    try:
        belongs(reading, path)
        reading.backup(writing)
        writing.execute("PRAGMA journal_mode = WAL")
        writing.execute("BEGIN IMMEDIATE")
        writing.execute(_FORGET)
        writing.execute("DELETE FROM mailbox")
        writing.execute("COMMIT")
        writing.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        seq, chain = writing.execute("SELECT seq, chain FROM head").fetchone()
    finally:
        writing.close()
        reading.close()
    return Head(seq, chain.hex())
