"""Tasks from a CSV or TSV file with a header line. All values are text; an empty target is no known answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onward.errors import UsageError
from onward.tasks.source import Columns, UniqueIds, lines, row_to_task
from onward.tasks.task import Task

__all__ = ["CsvSource"]


class CsvSource:
    """A CSV file (RFC 4180; quoted fields may span lines), or with `.tsv` one that is split at tabs."""

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
        return {"source": "csv", "path": self._asked, "columns": self.columns.to_json()}

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """(line on which it ends, fields by name) of each row. Raises UsageError with file:line."""
        import csv

        csv.field_size_limit(2**31 - 1)
        delimiter = "\t" if self.path.suffix.lower() == ".tsv" else ","
        reader = csv.reader((line for _, line in lines(self.path)), delimiter=delimiter, strict=True)
        header: list[str] | None = None
        try:
            for row in reader:
                where = f"{self.path}:{reader.line_num}"
                if not row:
                    continue
                if header is None:
                    header = _header(row, where)
                elif len(row) != len(header):
                    raise UsageError(f"{where}: {len(row)} fields, but the header has {len(header)}")
                else:
                    yield reader.line_num, dict(zip(header, row, strict=True))
        except csv.Error as error:
            raise UsageError(f"{self.path}:{reader.line_num}: not CSV: {error}") from None

    def tasks(self) -> Iterator[Task]:
        """See `Source.tasks`."""
        unique, none = UniqueIds(self.columns.duplicates), True
        target = self.columns.target or "target"
        for number, row in self.rows():
            where = f"{self.path}:{number}"
            cells: dict[str, Any] = dict(row)
            if cells.get(target) == "":
                cells[target] = None
            task = row_to_task(cells, self.columns, where, self.path.parent)
            own = unique.admit(task.id, number, where)
            yield task if own == task.id else replace(task, id=own)
            none = False
        if none:
            raise UsageError(f"{self.path} holds no task: there is no row below its header")


def _header(row: list[str], where: str) -> list[str]:
    names = [name.strip() for name in row]
    for name in names:
        if not name or names.count(name) > 1:
            raise UsageError(f"{where}: the header names " + (f'"{name}" twice' if name else "a column with no name"))
    return names
