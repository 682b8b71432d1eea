"""Tasks from a Parquet file, some hundred rows at a time. Needs the extra `parquet`."""

from __future__ import annotations

import datetime
import decimal
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onward.errors import UsageError
from onward.tasks.source import Columns, FileSource, UniqueIds, row_to_task, storable
from onward.tasks.task import Task

__all__ = ["ParquetSource", "json_value", "parquet_rows", "rows_to_tasks"]

_BATCH = 500


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Each row as Python values. Raises UsageError: pyarrow is missing, no such file, or it is not Parquet."""
    try:
        import pyarrow  # type: ignore[import-untyped, unused-ignore]
        import pyarrow.parquet  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        raise UsageError("reading Parquet needs pyarrow: pip install 'onward[parquet]'") from None
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                yield from batch.to_pylist()
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except (OSError, pyarrow.ArrowException) as error:
        raise UsageError(f"{path} is not a readable Parquet file: {str(error).splitlines()[0]}") from None


def json_value(value: Any, where: str) -> Any:
    """A column's value as JSON: times as ISO 8601, decimals and NaN as text, sets of columns as objects.

    Raises UsageError for bytes (an image, a sound): they belong into files.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(name): json_value(item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item, where) for item in value]
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, decimal.Decimal):
        return str(value)
    raise UsageError(
        f"{where} holds {type(value).__name__}, which has no JSON form. Leave it out: `metadata: [FIELD, …]` names "
        "the fields to keep"
    )


class ParquetSource(FileSource):
    """A Parquet file. Only the columns that are used are converted, so one with images can be left out."""

    kind = "parquet"

    def rows(self) -> Iterator[tuple[int, Any]]:
        """(row number, its values)."""
        return enumerate(parquet_rows(self.path), 1)

    def tasks(self) -> Iterator[Task]:
        """See `Source.tasks`."""
        yield from rows_to_tasks(parquet_rows(self.path), self.columns, str(self.path), self.path.parent)


def rows_to_tasks(
    rows: Iterator[Mapping[str, Any]], columns: Columns, whence: str, folder: Path | None
) -> Iterator[Task]:
    """Rows of a table as tasks: for Parquet and for the hub. Raises UsageError naming the row."""
    unique, number = UniqueIds(columns.duplicates, unit="row"), 0
    kept = None
    if columns.metadata is not None:
        named = [columns.id or "id", columns.input or "input", columns.target or "target", columns.files or "files"]
        kept = {*named, *columns.metadata}
    for number, row in enumerate(rows, 1):
        where = f"{whence}, row {number}"
        plain = {
            name: json_value(value, f'{where}: "{name}"') for name, value in row.items() if kept is None or name in kept
        }
        storable(plain, where)
        task = row_to_task(plain, columns, where, folder)
        own = unique.admit(task.id, number, where)
        yield task if own == task.id else replace(task, id=own)
    if not number:
        raise UsageError(f"{whence} holds no task: it has no rows")
