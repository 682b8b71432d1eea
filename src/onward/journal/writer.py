"""The one thread that writes: it takes whatever waits and hands it over as one group.

A group is one transaction, so a busy run pays for one fsync where a naive one pays for fifty.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from onward.entry import Row

__all__ = ["Append", "Writer"]

_GROUP = 512
"""Appends in one transaction at most: a bound on how long the first of them waits."""
_KEPT = 1024
"""Rows of one append that are kept until they are durable, so that they can be written a second time."""


@dataclass(slots=True)
class Append:
    """What one call of `append` asked for."""

    rows: Iterable[Row]
    blobs: Mapping[bytes, bytes]
    done: Callable[[BaseException | None], None]
    _rest: Iterator[Row] | None = None
    _kept: list[Row] = field(default_factory=list)
    """Rows drawn from an iterator so far, as long as they are few."""
    _ended: BaseException | None = None
    """Why there is no second go: the iterator failed, or gave more than is kept."""

    @property
    def is_whole(self) -> bool:
        """Whether it is one row: then there is no part of it that could be left behind."""
        return type(self.rows) is list and len(self.rows) == 1

    def draw(self) -> Iterable[Row]:
        """The rows. Drawn again after a full disk, it gives the same rows or the same error: never a part of them."""
        return self.rows if type(self.rows) is list else self._drawn()

    def _drawn(self) -> Iterator[Row]:
        if self._ended is not None:
            raise self._ended
        if self._rest is None:
            self._rest = iter(self.rows)
        yield from list(self._kept)
        try:
            for row in self._rest:
                if len(self._kept) < _KEPT:
                    self._kept.append(row)
                else:
                    self._ended = OSError(errno.ENOSPC, "the disk is full: so long an append is not tried twice")
                yield row
        except Exception as error:
            self._ended = error
            raise

    def tell(self, error: BaseException | None) -> None:
        """Report the end to whoever appended. A fault in their callback must not end the writer."""
        try:
            self.done(error)
        except Exception:  # noqa: BLE001 (their code, on our thread)
            kind, fault, trace = sys.exc_info()
            if kind is not None:
                threading.excepthook(threading.ExceptHookArgs((kind, fault, trace, threading.current_thread())))


class Writer:
    """First in, first out. `commit` gets a group and returns one outcome for each, or raises for all of them. `after`
    is called once they are told: for what need not keep them waiting. It raises nothing."""

    def __init__(
        self, commit: Callable[[list[Append]], Sequence[BaseException | None]], name: str,
        after: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self._commit, self._name, self._after = commit, name, after
        self._queue: deque[Append] = deque()
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._idle = threading.Condition(self._lock)
        self._waits = False
        self._unreported = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def put(self, append: Append) -> None:
        """Queue it. The thread starts with the first."""
        with self._lock:
            if self._closed:
                raise ValueError("the journal is closed")
            self._queue.append(append)
            self._unreported += 1
            if self._waits:
                self._work.notify()
            elif self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def drain(self) -> None:
        """Wait until all that was queued is reported. Returns at once on the writer's own thread."""
        if threading.current_thread() is self._thread:
            return
        with self._idle:
            self._idle.wait_for(lambda: not self._unreported)

    def close(self) -> None:
        """Finish what was queued, then end. Safe to call twice."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
            self._work.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _waiting(self, most: int) -> list[Append]:
        """What is queued, in order; nothing once the journal is closed and all is written."""
        with self._lock:
            while not self._queue and not self._closed:
                self._waits = True
                self._work.wait()
            self._waits = False
            return self._queued(most)

    def _queued(self, most: int) -> list[Append]:
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def _run(self) -> None:
        while group := self._waiting(_GROUP):
            try:
                outcomes = self._commit(group)
            except Exception as error:  # noqa: BLE001 (whatever it is, somebody waits to be told)
                # What was queued behind a failed write was appended on the belief that it would succeed.
                with self._lock:
                    group += self._queued(sys.maxsize)
                outcomes = [error] * len(group)
            for append, outcome in zip(group, outcomes, strict=True):
                append.tell(outcome)
            self._after()
            with self._idle:
                self._unreported -= len(group)
                self._idle.notify_all()
