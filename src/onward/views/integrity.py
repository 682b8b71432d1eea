"""Is a run whole, and is it what was written?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from onward.errors import Damaged
from onward.journal import Problem, SqliteJournal
from onward.runs import read_run

__all__ = ["Integrity", "integrity"]

_MOST = 200
"""Problems that are kept: after so many the rest says nothing new."""


@dataclass(slots=True)
class Integrity:
    """What was found."""

    folder: Path
    entries: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def integrity(folder: Path) -> Integrity:
    """Read all of a run: every row against its checksum, every blob it names, the plan. Raises NotThere."""
    found = Integrity(folder)
    try:
        journal = SqliteJournal(folder)
    except Damaged as error:
        found.problems.append(Problem(0, str(error)))
        return found
    try:
        for problem in journal.check():
            found.problems.append(problem)
            if len(found.problems) >= _MOST:
                break
        found.entries = journal.head().seq
        if found.whole:
            read_run(folder, journal)
            found.kinds.update(row.kind for _, row in journal.rows())
    except Damaged as error:
        found.problems.append(Problem(0, str(error)))
    finally:
        journal.close()
    return found
