"""Tasks from a JSONL file: one object a line with `id`, `input`, `target`; all other fields are metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onward.errors import UsageError
from onward.tasks.source import Columns, UniqueIds, lines, row_to_task, storable
from onward.tasks.task import Task

__all__ = ["JsonlSource"]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(number: str) -> float:
    value = float(number)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{number} is too large for a number")
    return value


_decode = json.JSONDecoder(strict=False, parse_constant=_no_constant, parse_float=_finite).decode
"""Lenient about raw control characters, NUL among them: data sets in the wild have them inside strings."""


class JsonlSource:
    """A JSONL file. `asked` is the path as the experiment has it: that, not where it lies, is its identity."""

    def __init__(self, path: Path, columns: Columns | None = None, *, asked: str | None = None) -> None:
        self.path, self.columns = path, columns or Columns()
        self._asked = asked or str(path)

    @property
    def name(self) -> str:
        """The file's stem."""
        return self.path.stem

    @property
    def identity(self) -> Mapping[str, Any]:
        """Path as asked for, and columns."""
        return {"source": "jsonl", "path": self._asked, "columns": self.columns.to_json()}

    def rows(self) -> Iterator[tuple[int, Any]]:
        """(line number, value) of each line that is not blank. Raises UsageError with file:line."""
        for number, line in lines(self.path):
            if not line.strip():
                continue
            where = f"{self.path}:{number}"
            try:
                row = _decode(line.strip())
            except (ValueError, RecursionError) as error:
                raise UsageError(f"{where}: not JSON: {error}") from None
            storable(row, where)
            yield number, row

    def tasks(self) -> Iterator[Task]:
        """See `Source.tasks`."""
        unique, empty = UniqueIds(self.columns.duplicates), True
        for number, row in self.rows():
            where = f"{self.path}:{number}"
            task = row_to_task(row, self.columns, where, self.path.parent)
            own = unique.admit(task.id, number, where)
            yield task if own == task.id else replace(task, id=own)
            empty = False
        if empty:
            raise UsageError(f"{self.path} holds no task: it is empty")
