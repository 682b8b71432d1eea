"""Time that is moved by hand, and a journal that dies on purpose. Public as `onward.testing`."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import count

from onward.entry import Row
from onward.journal.contract import Head, Holder, Journal, Newest, Problem, Stored, Sums

__all__ = ["Crash", "CrashingJournal", "FakeClock", "InlineJournal", "crash_at"]


class FakeClock:
    """A clock that jumps: whenever the event loop has nothing to do, it moves to the next moment somebody waits for.

    It knows of nothing outside the loop. Where threads or sockets take part, `idle` is how many real seconds the loop
    must have been still before it jumps; a journal that commits on the loop itself (`InlineJournal`) needs none.
    """

    def __init__(self, now: float = 1_750_000_000.0, *, idle: float = 0.0) -> None:
        self._now, self._ticks, self._idle = now, 0.0, idle
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._order = count()
        self._loop: asyncio.AbstractEventLoop | None = None

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
        if self._loop is not loop:
            self._loop, self._sleepers = loop, []
            loop.call_soon(self._look, loop)
        future: asyncio.Future[None] = loop.create_future()
        heapq.heappush(self._sleepers, (self._ticks + max(0.0, seconds), next(self._order), future))
        await future

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Jump if the loop is idle; else look again after its next round."""
        if getattr(loop, "_ready", ()):
            loop.call_soon(self._look, loop)
        elif self._idle:
            loop.call_later(self._idle, self._jump, loop)
        else:
            self._jump(loop)

    def _jump(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)
        if not self._sleepers:
            self._loop = None
            return
        self.advance(max(0.0, self._sleepers[0][0] - self._ticks))
        loop.call_soon(self._look, loop)


class Crash(BaseException):
    """The process is taken to be dead from here on."""


class InlineJournal(Journal):
    """A journal that commits where it is called: no thread takes part, so what happens has one order."""

    def __init__(self, inner: Journal) -> None:
        self.inner = inner

    def append(
        self, rows: Iterable[Row], blobs: Mapping[bytes, bytes], done: Callable[[BaseException | None], None]
    ) -> None:
        """Append, and wait until it is durable."""
        try:
            self.inner.commit(rows, blobs)
        except BaseException as error:  # noqa: BLE001 (reported, as the contract says)
            done(error)
        else:
            done(None)

    @property
    def low(self) -> bool:
        """As the journal inside."""
        return self.inner.low

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
        """As the journal inside."""
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


class CrashingJournal(InlineJournal):
    """A journal that dies at its n-th append: it and all later ones are lost, or (`late`) it is kept but not told.

    Either way nothing is acknowledged any more, as if the process had been killed before, or right after, the commit.
    """

    def __init__(self, inner: Journal, at: int, *, late: bool = False) -> None:
        super().__init__(inner)
        self.at, self.late, self.appends, self.dead = at, late, 0, False

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


def crash_at(n: int, inner: Journal, *, late: bool = False) -> CrashingJournal:
    """`inner`, which dies at its n-th append: before it is durable, or with `late` right after, unacknowledged."""
    return CrashingJournal(inner, n, late=late)
