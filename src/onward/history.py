"""What the journal holds under one prefix, ready to be asked: the newest result of a key, and its attempts so far."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from onward.entry import Row
from onward.journal.contract import Journal, Stored
from onward.plan import Voids

__all__ = ["History"]


class History:
    """The rows under one trial. Rows that a void covers are left out; what is appended is added as it lands."""

    __slots__ = ("_attempts", "_results", "rows", "voids")

    def __init__(self, voids: Voids, rows: Iterable[Stored] = ()) -> None:
        self.voids = voids
        self.rows: list[Stored] = []
        self._results: dict[str, Stored] = {}
        self._attempts: dict[str, int] = {}
        for stored in rows:
            if stored.seq > voids.since(stored.row.key):
                self.rows.append(stored)
                self._take(stored)

    @classmethod
    def read(cls, journal: Journal, prefix: str, voids: Voids) -> History:
        """The history under a prefix, from the journal."""
        return cls(voids, journal.rows(prefix, kinds=("intent", "result")))

    def _take(self, stored: Stored) -> None:
        row = stored.row
        if row.kind == "result":
            standing = self._results.get(row.key)
            if standing is None or row.attempt > standing.row.attempt:  # one result per attempt: the first write wins
                self._results[row.key] = stored
        if row.attempt > self._attempts.get(row.key, 0):
            self._attempts[row.key] = row.attempt

    def add(self, row: Row) -> None:
        """Take in a row that this process appended; its seq is not needed, since no void follows it here."""
        self._take(Stored(0, row))

    def newest(self, key: str) -> Stored | None:
        """The newest result of this key that counts."""
        return self._results.get(key)

    def attempts(self, key: str) -> int:
        """The number of the last attempt at this key in its generation; 0 if there was none."""
        return self._attempts.get(key, 0)

    def generation(self, key: str) -> int:
        """The generation that this key is in."""
        return self.voids.generation(key)

    def under(self, key: str) -> Iterator[Stored]:
        """Newest results below a key (not its own)."""
        start = f"{key}/"
        return (stored for name, stored in self._results.items() if name.startswith(start))

    def is_elsewhere(self, key: str) -> bool:
        """Whether the newest result of this key was taken over from another run."""
        kept = self._results.get(key)
        return kept is not None and _taken_over(kept.row)

    def settled_tokens(self, *, own: bool = False) -> int:
        """Tokens of the calls below samples that are settled: their bodies do not run again to count them. `own`:
        those of this run."""
        found = 0
        for _, row in self.rows:
            names = row.key.split("/", 5)
            if own and _taken_over(row):
                continue
            if row.outcome == "ok" and row.tokens and len(names) == 6 and names[3] == "generate":
                sample = self._results.get("/".join(names[:5]))
                found += row.tokens if sample is not None and sample.row.outcome != "error" else 0
        return found

    def active(self, *, own: bool = False) -> float:
        """Seconds of active time that the trial's attempts have used, as last noted on its entries. `own`: those of
        this run; what it took over from another is left out."""
        found = 0.0
        for stored in self.rows:
            if '"active":' in stored.row.body and not (own and _taken_over(stored.row)):
                found = max(found, float(json.loads(stored.row.body).get("active", 0.0)))
        return found


def _taken_over(row: Row) -> bool:
    return '"origin":' in row.body
