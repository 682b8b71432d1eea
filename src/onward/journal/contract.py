"""What a journal is: rows in, rows out, in order, durable when acknowledged. It knows nothing of runs or evals.

One process writes (the lease's holder), any number read while it does. Others leave messages in the mailbox; only the
holder turns them into rows. Every backend passes the one suite in `tests/journal/contract.py`.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from onward.entry import Row

__all__ = ["Head", "Holder", "Journal", "Newest", "Problem", "Stored", "Sums"]


class Stored(NamedTuple):
    """A row and its place. `seq` counts from 1 without gaps."""

    seq: int
    row: Row


class Head(NamedTuple):
    """The end of the journal: the last seq and the chain checksum over all rows up to it."""

    seq: int
    chain: str


class Newest(NamedTuple):
    """The head of the newest result of a key."""

    key: str
    seq: int
    outcome: str
    generation: int
    fingerprint: str | None


class Sums(NamedTuple):
    """Money and tokens over all generations and attempts; each is (usd, tokens, count)."""

    spent: tuple[float, int, int]
    """Billed results that are this run's own."""
    reused: tuple[float, int, int]
    """Results taken over from another run: what they cost there."""
    doubt: tuple[float, int, int]
    """Intents of calls (those with `tokens`) without a result of the same key, generation and attempt: upper bounds."""


class Problem(NamedTuple):
    """Something `check` found. `seq` is 0 where it is not about one row."""

    seq: int
    what: str


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lease. `inode` is the journal's own folder: a copied folder's lease names another and is void."""

    host: str
    boot: str
    namespace: str
    pid: int
    started: str
    """The process's start time in the kernel's ticks: a reused pid has another."""
    heartbeat: float
    """Seconds since the epoch."""
    inode: int = 0
    command: str = ""


class Journal(ABC):
    """One run's append-only rows, its blobs, its lease and its mailbox.

    Reading methods may be called from any thread, also by processes that do not hold the lease, and never block the
    writer. Every method may raise Damaged (the store cannot be read) or OSError (full disk, lost file system).
    """

    # reading

    @abstractmethod
    def rows(self, prefix: str = "", *, after: int = 0, kinds: Collection[str] = ()) -> Iterator[Stored]:
        """Rows whose key is `prefix` or under it, in order, from `after` (exclusive); only these kinds, if any."""

    @abstractmethod
    def newest(self, depth: int) -> Iterator[Newest]:
        """The newest result of each key of this depth, in key order: cheap enough for millions."""

    @abstractmethod
    def sums(self, prefix: str = "") -> Sums:
        """Money and tokens under a prefix."""

    @abstractmethod
    def head(self) -> Head:
        """The end of the journal."""

    @abstractmethod
    def blob(self, digest: bytes) -> bytes:
        """A blob's content. Raises Damaged where it is absent or is not what its digest says."""

    @abstractmethod
    def check(self) -> Iterator[Problem]:
        """Everything that is torn, edited or missing: rows against their checksums, the chain, blobs, the file."""

    # writing

    @abstractmethod
    def append(
        self, rows: Iterable[Row], blobs: Mapping[bytes, bytes], done: Callable[[BaseException | None], None]
    ) -> None:
        """Append rows and blobs, all or none, after all that was appended before.

        Returns at once; `done` is called from another thread when they are durable (with None) or cannot be (with the
        reason: Fenced, OSError, …; nothing of this or of later appends is written then). `rows` may be an iterator; it
        is drawn from on the writer's thread, in the one transaction. `blobs` already stored are not stored again.
        """

    def commit(self, rows: Iterable[Row], blobs: Mapping[bytes, bytes] | None = None) -> None:
        """Append and wait until durable; raises what `append` would report."""
        finished, outcome = threading.Event(), list[BaseException]()

        def done(error: BaseException | None) -> None:
            if error is not None:
                outcome.append(error)
            finished.set()

        self.append(rows, blobs or {}, done)
        finished.wait()
        if outcome:
            raise outcome[0]

    @property
    def low(self) -> bool:
        """Whether the store has so little room left that no new call should start. Cheap enough to ask each time."""
        return False

    # the lease

    @abstractmethod
    def claim(self, holder: Holder, *, gone: Callable[[Holder], bool]) -> int:
        """Take the lease and return its fencing token, which grows with each claim.

        Free, or its holder is of another folder, or `gone(holder)` says so: taken. Else raises Held naming the holder.
        Every later append checks, in its own transaction, that this claim's token is still the newest, else Fenced.
        """

    @abstractmethod
    def beat(self, now: float) -> None:
        """Write a heartbeat. Raises Fenced where the lease is no longer ours."""

    @abstractmethod
    def release(self) -> None:
        """Give the lease back, after all appends are done. Does nothing where it is not ours."""

    @abstractmethod
    def holder(self) -> Holder | None:
        """Who holds the lease, if anybody does."""

    # the mailbox

    @abstractmethod
    def post(self, message: str) -> None:
        """Leave a message (JSON text) for the run's driver. Needs no lease. Durable when it returns."""

    @abstractmethod
    def poll(self) -> list[tuple[int, str]]:
        """All messages that wait, oldest first, as (id, text). They stay until cleared: a crash loses none."""

    @abstractmethod
    def clear(self, upto: int) -> None:
        """Drop the messages up to this id, after what they asked for is durable. Only the holder calls it."""

    @abstractmethod
    def close(self) -> None:
        """Finish what was appended and let go of the store. Safe to call twice."""
