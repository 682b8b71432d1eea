"""Tasks from a CSV or TSV file with a header line. All values are text; an empty target is no known answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onward.errors import UsageError
from onward.tasks.source import FileSource, lines

__all__ = ["CsvSource"]


class CsvSource(FileSource):
    """A CSV file (RFC 4180; quoted fields may span lines), or with `.tsv` one that is split at tabs."""

    kind = "csv"
    empty = "there is no row below its header"

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """(line on which it ends, fields by name) of each row. Raises UsageError with file:line."""
        target = self.columns.target or "target"
        for number, cells in self._rows():
            if cells.get(target) == "":
                cells[target] = None
            yield number, cells

    def _rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
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


def _header(row: list[str], where: str) -> list[str]:
    names = [name.strip() for name in row]
    for name in names:
        if not name or names.count(name) > 1:
            raise UsageError(f"{where}: the header names " + (f'"{name}" twice' if name else "a column with no name"))
    return names
