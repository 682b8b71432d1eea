"""What a wrapped program left aside when it began anew: to be had back, as long as nothing has taken its place.

A void is never taken back, and no entry is changed. So the answers are written again, each with the entry that paid for
it: what was spent stays what it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from onward.entry import Row
from onward.journal.contract import Stored
from onward.keys import Key
from onward.runs import Run
from onward.takeover import marked

__all__ = ["left_aside", "written_again"]


def left_aside(run: Run, step: Key) -> list[Stored]:
    """The answers of the last go that had any, with their requests; none, if that go is the present one."""
    rows = [one for one in run.journal.rows(step, kinds=("intent", "result")) if one.row.key != step]
    marks = [0, *run.voids.marks(step)]
    if any(one.row.outcome == "ok" and one.seq > marks[-1] for one in rows):
        return []
    for began, ended in reversed(list(pairwise(marks))):
        go = [one for one in rows if began < one.seq < ended and not _given_up(run, one, ended)]
        answered = {(one.row.key, one.row.attempt) for one in go if one.row.outcome == "ok"}
        if answered:
            return [one for one in go if (one.row.key, one.row.attempt) in answered]
    return []


def _given_up(run: Run, one: Stored, ended: int) -> bool:
    """Whether it was out of account before its go was."""
    return any(one.seq < mark < ended for mark in run.voids.marks(one.row.key))


def written_again(run: Run, rows: Sequence[Stored]) -> Iterator[Row]:
    """These entries as entries of the present go."""
    for seq, row in rows:
        yield marked(row, seq, run.id)._replace(generation=run.voids.generation(row.key))
