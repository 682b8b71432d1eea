"""A journal in memory: for tests, and for steps that need none of it to last."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from onward.entry import Row, blob_digest
from onward.errors import Damaged, Fenced
from onward.journal.contract import Head, Holder, Journal, Newest, Problem, Stored, Sums
from onward.journal.lease import held_by
from onward.journal.line import START, chained, depth_of, is_under, normal, origin_usd
from onward.journal.walk import Walk
from onward.journal.writer import Append, Writer

__all__ = ["MemoryJournal"]


class MemoryJournal(Journal):
    """Behaves as the others do, lease, fencing and order included; nothing survives the process."""

    def __init__(self) -> None:
        self._rows: list[Stored] = []
        self._chain: list[bytes] = []
        self._blobs: dict[bytes, bytes] = {}
        self._posts: list[tuple[int, str]] = []
        self._posted = 0
        self._lock = threading.Lock()
        self._holder: Holder | None = None
        self._since = 0.0
        self._token = 0
        self._ours = 0
        self._writer = Writer(self._commit, "onward-journal")

    # reading

    def rows(self, prefix: str = "", *, after: int = 0, kinds: Collection[str] = ()) -> Iterator[Stored]:
        at = bisect_right(self._rows, after, key=lambda stored: stored.seq)
        while at < len(self._rows):
            stored = self._rows[at]
            at += 1
            if (not kinds or stored.row.kind in kinds) and is_under(stored.row.key, prefix):
                yield stored

    def newest(self, depth: int) -> Iterator[Newest]:
        found = {
            row.key: Newest(row.key, seq, row.outcome or "", row.generation, row.fingerprint)
            for seq, row in self.rows(kinds=("result",))
            if depth_of(row.key) == depth
        }
        for key in sorted(found, key=str.encode):
            yield found[key]

    def sums(self, prefix: str = "") -> Sums:
        spent, reused, doubt = (0.0, 0, 0), (0.0, 0, 0), (0.0, 0, 0)
        ended = {(row.key, row.generation, row.attempt) for _, row in self.rows(prefix, kinds=("result",))}
        for _, row in self.rows(prefix, kinds=("result", "intent")):
            there, tokens = origin_usd(row), row.tokens or 0
            if row.kind == "intent":
                if row.tokens is not None and (row.key, row.generation, row.attempt) not in ended:
                    doubt = _added(doubt, row.usd or 0.0, tokens)
            elif there is not None:
                reused = _added(reused, there, tokens)
            elif row.usd is not None or row.tokens is not None:
                spent = _added(spent, row.usd or 0.0, tokens)
        return Sums(spent, reused, doubt)

    def head(self) -> Head:
        with self._lock:
            return Head(len(self._rows), (self._chain[-1] if self._chain else START).hex())

    def blob(self, digest: bytes) -> bytes:
        content = self._blobs.get(digest)
        if content is None:
            raise Damaged(f"blob {digest.hex()} is not in the journal")
        if blob_digest(content) != digest:
            raise Damaged(f"blob {digest.hex()} is not what was stored")
        return content

    def check(self) -> Iterator[Problem]:
        chain, walk = START, Walk(self.blob)
        for stored, kept in zip(self.rows(), list(self._chain), strict=False):
            chain = chained(chain, stored.row)
            if chain != kept:
                yield Problem(stored.seq, "the row is not what was appended")
                chain = kept
            fault = walk.fault(stored.row)
            if fault is not None:
                yield Problem(stored.seq, fault)

    # writing

    def append(
        self, rows: Iterable[Row], blobs: Mapping[bytes, bytes], done: Callable[[BaseException | None], None]
    ) -> None:
        self._writer.put(Append(rows, blobs, done))

    def _commit(self, group: list[Append]) -> list[BaseException | None]:
        outcomes: list[BaseException | None] = []
        for append in group:
            try:
                drawn = [normal(row) for row in append.draw()]
                self._land(drawn, append.blobs)
            except Fenced:
                raise
            except Exception as error:  # noqa: BLE001 (the rows are the caller's iterator: anything may come out of it)
                outcomes.append(error)
            else:
                outcomes.append(None)
        return outcomes

    def _land(self, rows: list[Row], blobs: Mapping[bytes, bytes]) -> None:
        with self._lock:
            self._own()
            chain, links = self._chain[-1] if self._chain else START, list[bytes]()
            for row in rows:
                chain = chained(chain, row)
                links.append(chain)
            for digest, content in blobs.items():
                self._blobs.setdefault(bytes(digest), bytes(content))
            self._chain += links
            first = len(self._rows) + 1
            self._rows += [Stored(seq, row) for seq, row in enumerate(rows, first)]

    # the lease

    def _own(self) -> None:
        if not self._ours or self._ours != self._token or self._holder is None:
            raise Fenced("this process does not hold the journal's lease: nothing was written")

    def claim(self, holder: Holder, *, gone: Callable[[Holder], bool]) -> int:
        with self._lock:
            if self._holder is not None and not gone(self._holder):
                raise held_by(self._holder, self._since)
            self._token += 1
            self._ours, self._holder, self._since = self._token, holder, holder.heartbeat
            return self._token

    def beat(self, now: float) -> None:
        with self._lock:
            self._own()
            if self._holder is not None:
                self._holder = replace(self._holder, heartbeat=now)

    def release(self) -> None:
        self._writer.drain()
        with self._lock:
            if self._ours and self._ours == self._token:
                self._holder = None
            self._ours = 0

    def holder(self) -> Holder | None:
        return self._holder

    # the mailbox

    def post(self, message: str) -> None:
        with self._lock:
            self._posted += 1
            self._posts.append((self._posted, message))

    def poll(self) -> list[tuple[int, str]]:
        with self._lock:
            return list(self._posts)

    def clear(self, upto: int) -> None:
        with self._lock:
            self._own()
            self._posts = [post for post in self._posts if post[0] > upto]

    def close(self) -> None:
        self._writer.close()


def _added(sums: tuple[float, int, int], usd: float, tokens: int) -> tuple[float, int, int]:
    return sums[0] + usd, sums[1] + tokens, sums[2] + 1
