"""Tasks from Python: a function that gives dicts or Tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from onward.errors import UsageError
from onward.tasks.source import Columns, UniqueIds, row_to_task
from onward.tasks.task import Task

__all__ = ["FunctionSource"]


class FunctionSource:
    """A function of no argument; each call gives all tasks again, in the same order."""

    def __init__(self, function: Callable[[], Iterable[Any]], name: str = "") -> None:
        self._function = function
        self._name = name or getattr(function, "__name__", "function")

    @property
    def name(self) -> str:
        """The function's name."""
        return self._name

    @property
    def identity(self) -> Mapping[str, Any]:
        """Its name: the content is in the selection's digest."""
        return {"function": self._name}

    def tasks(self) -> Iterator[Task]:
        """See `Source.tasks`."""
        unique, empty = UniqueIds(unit="task"), True
        for number, row in enumerate(self._function(), 1):
            where = f"{self._name}, task {number}"
            task = row if isinstance(row, Task) else row_to_task(row, Columns(), where)
            unique.admit(task.id, number, where)
            yield task
            empty = False
        if empty:
            raise UsageError(f"{self._name} gives no task")
