"""Tasks from Python: a function that gives dicts or Tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onward.errors import OnwardError, UsageError
from onward.tasks.source import Columns, UniqueIds, row_to_task, storable
from onward.tasks.task import Task

__all__ = ["FunctionSource"]


class FunctionSource:
    """A function of no argument; each call gives all tasks again, in the same order.

    It yields Tasks, or dicts with the fields of a JSONL row; files that those name are inside `folder` (default: the
    working folder). A Task may hold an `attachment` from anywhere.
    """

    def __init__(
        self,
        function: Callable[[], Iterable[Any]],
        name: str = "",
        columns: Columns | None = None,
        folder: Path | None = None,
    ) -> None:
        self._function = function
        self._name = name or getattr(function, "__name__", "function")
        self._columns, self._folder = columns or Columns(), folder or Path()

    @property
    def name(self) -> str:
        """The function's name."""
        return self._name

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its name and columns: the content is in the selection's digest."""
        columns = self._columns.to_json()
        return {"function": self._name} | ({"columns": columns} if columns else {})

    def tasks(self) -> Iterator[Task]:
        """See `Source.tasks`. What the function itself raises comes out as a UsageError with its cause."""
        unique, number = UniqueIds(self._columns.duplicates, unit="task"), 0
        for number, row in enumerate(self._rows(), 1):
            where = f"{self._name}, task {number}"
            task = row if isinstance(row, Task) else row_to_task(row, self._columns, where, self._folder)
            storable(task.to_json(), where)
            own = unique.admit(task.id, number, where)
            yield task if own == task.id else replace(task, id=own)
        if not number:
            raise UsageError(f"{self._name} gives no task")

    def _rows(self) -> Iterator[Any]:
        try:
            yield from self._function()
        except OnwardError:
            raise
        except Exception as error:
            raise UsageError(f"{self._name} raised {type(error).__name__}: {error}") from error
