"""Tasks from a JSONL file: one object a line with `id`, `input`, `target`; all other fields are metadata."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from onward.errors import UsageError
from onward.tasks.source import FileSource, lines, storable

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


class JsonlSource(FileSource):
    """A JSONL file."""

    kind = "jsonl"

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
