"""The shape of a journal's database, as numbered steps. What is pending = all − applied.

A step, once released, is never edited: a new one is added. A database with a step that this code does not know was
made by a newer Onward and is refused.
"""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from onward.errors import Damaged

__all__ = ["APPLICATION", "MIGRATIONS", "Migration", "applied", "migrate", "pending"]

APPLICATION = 0x4F6E7764
"""SQLite's application id for our files ("Onwd")."""


class Migration(NamedTuple):
    """One step of the schema. `why` is one line for whoever looks into the file."""

    number: int
    why: str
    statements: tuple[str, ...]


MIGRATIONS = (
    Migration(
        1,
        "entries, blobs, lease and mailbox",
        (
            """CREATE TABLE entries (
                seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, depth INTEGER NOT NULL,
                attempt INTEGER NOT NULL, generation INTEGER NOT NULL, outcome TEXT, fingerprint, at NOT NULL,
                usd REAL, tokens INTEGER, reused REAL, checksum BLOB NOT NULL, body NOT NULL)""",
            # One index answers all three questions (what is under, which is newest, what did it cost) by itself.
            """CREATE INDEX by_key ON entries
                (depth, key, generation, attempt, kind, outcome, fingerprint, usd, tokens, reused)""",
            "CREATE TABLE blobs (digest BLOB PRIMARY KEY NOT NULL, content BLOB NOT NULL)",
            "CREATE TABLE head (one INTEGER PRIMARY KEY CHECK (one = 1), seq INTEGER NOT NULL, chain BLOB NOT NULL)",
            "INSERT INTO head VALUES (1, 0, zeroblob(16))",
            """CREATE TABLE lease (
                one INTEGER PRIMARY KEY CHECK (one = 1), token INTEGER NOT NULL, held INTEGER NOT NULL, host TEXT,
                boot TEXT, namespace TEXT, pid INTEGER, started TEXT, heartbeat REAL, inode INTEGER, command TEXT,
                since REAL)""",
            "INSERT INTO lease (one, token, held) VALUES (1, 0, 0)",
            "CREATE TABLE mailbox (id INTEGER PRIMARY KEY AUTOINCREMENT, message TEXT NOT NULL)",
        ),
    ),
)


def applied(connection: sqlite3.Connection) -> set[int]:
    """Numbers of the steps that this database has been through."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migrations'").fetchone():
        return set()
    return {number for (number,) in connection.execute("SELECT number FROM migrations")}


def pending(connection: sqlite3.Connection) -> list[Migration]:
    """The steps it still needs, in order. Raises Damaged where it has been through one that is not known here."""
    done = applied(connection)
    newer = done - {step.number for step in MIGRATIONS}
    if newer:
        raise Damaged(
            f"the journal was written by a newer Onward (schema {max(newer)}, this one knows {MIGRATIONS[-1].number}): "
            "use that version, nothing was changed"
        )
    return [step for step in MIGRATIONS if step.number not in done]


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the database up to date, all or none."""
    if not pending(connection):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS migrations (number INTEGER PRIMARY KEY, why TEXT NOT NULL)")
        for step in pending(connection):  # looked at again: another process may have been faster
            for statement in step.statements:
                connection.execute(statement)
            connection.execute("INSERT INTO migrations VALUES (?, ?)", (step.number, step.why))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
