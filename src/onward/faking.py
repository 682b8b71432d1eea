"""Time that is moved by hand, and a journal that dies on purpose. Public as `onward.testing`."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import count

from onward.entry import Row
from onward.journal.contract import Head, Holder, Journal, Newest, Problem, Stored, Sums

__all__ = ["Crash", "CrashingJournal", "FakeClock", "crash_at"]


class FakeClock:
    """A clock that jumps: whenever everything waits, it moves to the next moment that somebody waits for."""

    def __init__(self, now: float = 1_750_000_000.0) -> None:
        self._now, self._ticks = now, 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()
        self._jumping = False

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._now + self._ticks

    def ticks(self) -> float:
        """Seconds since it was made."""
        return self._ticks

    def advance(self, seconds: float) -> None:
        """Move time on, waking whoever waited for less."""
        self._ticks += seconds
        while self._sleepers and self._sleepers[0][0] <= self._ticks:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)

    async def sleep(self, seconds: float) -> None:
        """Wait for so much of this clock's time."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._sleepers, (self._ticks + max(0.0, seconds), next(self._order), future))
        if not self._jumping:
            self._jumping = True
            loop.call_later(0.002, self._jump)
        await future

    def _jump(self) -> None:
        self._jumping = False
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        if self._sleepers:
            self.advance(max(0.0, self._sleepers[0][0] - self._ticks))
        if self._sleepers:
            self._jumping = True
            asyncio.get_running_loop().call_later(0.002, self._jump)


class Crash(BaseException):
    """The process is taken to be dead from here on."""


class CrashingJournal(Journal):
    """A journal that dies at its n-th append: it and all later ones are lost, or (`late`) it is kept but not told.

    Either way nothing is acknowledged any more, as if the process had been killed before, or right after, the commit.
    """

    def __init__(self, inner: Journal, at: int, *, late: bool = False) -> None:
        self.inner, self.at, self.late, self.appends, self.dead = inner, at, late, 0, False

    def append(
        self, rows: Iterable[Row], blobs: Mapping[bytes, bytes], done: Callable[[BaseException | None], None]
    ) -> None:
        """Append, or die."""
        self.appends += 1
        if self.dead:
            done(Crash("dead"))
        elif self.appends == self.at:
            self.dead = True
            if self.late:
                self.inner.append(rows, blobs, lambda _: done(Crash("died after the commit")))
            else:
                done(Crash("died before the commit"))
        else:
            self.inner.append(rows, blobs, done)

    def rows(self, prefix: str = "", *, after: int = 0, kinds: Collection[str] = ()) -> Iterator[Stored]:
        """As the journal inside."""
        return self.inner.rows(prefix, after=after, kinds=kinds)

    def newest(self, depth: int) -> Iterator[Newest]:
        """As the journal inside."""
        return self.inner.newest(depth)

    def sums(self, prefix: str = "") -> Sums:
        """As the journal inside."""
        return self.inner.sums(prefix)

    def head(self) -> Head:
        """As the journal inside."""
        return self.inner.head()

    def blob(self, digest: bytes) -> bytes:
        """As the journal inside."""
        return self.inner.blob(digest)

    def check(self) -> Iterator[Problem]:
        """As the journal inside."""
        return self.inner.check()

    def claim(self, holder: Holder, *, gone: Callable[[Holder], bool]) -> int:
        """As the journal inside."""
        return self.inner.claim(holder, gone=gone)

    def beat(self, now: float) -> None:
        """As the journal inside."""
        self.inner.beat(now)

    def release(self) -> None:
        """As the journal inside: so that a test can take the run again."""
        self.inner.release()

    def holder(self) -> Holder | None:
        """As the journal inside."""
        return self.inner.holder()

    def post(self, message: str) -> None:
        """As the journal inside."""
        self.inner.post(message)

    def poll(self) -> list[tuple[int, str]]:
        """As the journal inside."""
        return self.inner.poll()

    def clear(self, upto: int) -> None:
        """As the journal inside."""
        self.inner.clear(upto)

    def close(self) -> None:
        """As the journal inside."""
        self.inner.close()


def crash_at(n: int, inner: Journal, *, late: bool = False) -> CrashingJournal:
    """`inner`, which dies at its n-th append: before it is durable, or with `late` right after, unacknowledged."""
    return CrashingJournal(inner, n, late=late)
