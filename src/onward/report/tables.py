"""A table as text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["Table", "width_of"]


class Table:
    """Columns with a heading each; one that starts with `>` is set to the right.

    Table("task", ">score").add("t1", "1.0").text()
    """

    def __init__(self, *columns: str) -> None:
        self._right = [column.startswith(">") for column in columns]
        self._columns = [column.removeprefix(">") for column in columns]
        self._rows: list[list[str]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, *cells: object) -> Table:
        """One row. None is an empty cell. Returns the table."""
        if len(cells) != len(self._columns):
            raise ValueError(f"{len(cells)} cells for {len(self._columns)} columns")
        self._rows.append(["" if cell is None else " ".join(str(cell).split()) for cell in cells])
        return self

    def text(self) -> str:
        """With columns set apart by two spaces; a column that is empty throughout is left out."""
        kept = [n for n in range(len(self._columns)) if not self._rows or any(row[n] for row in self._rows)]
        lines = [self._columns, *self._rows]
        widths = {n: max(width_of(line[n]) for line in lines) for n in kept}
        return "\n".join(self._line(line, kept, widths) for line in lines)

    def _line(self, cells: Sequence[str], kept: Iterable[int], widths: dict[int, int]) -> str:
        made = []
        for n in kept:
            space = " " * (widths[n] - width_of(cells[n]))
            made.append(space + cells[n] if self._right[n] else cells[n] + space)
        return "  ".join(made).rstrip()

    def markdown(self) -> str:
        """As a Markdown table."""
        rule = ["---:" if right else "---" for right in self._right]
        escaped = [[cell.replace("|", "\\|") for cell in row] for row in self._rows]
        return "\n".join(f"| {' | '.join(line)} |" for line in (self._columns, rule, *escaped))


def width_of(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
