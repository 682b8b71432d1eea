"""The source that an experiment's `tasks` means."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onward.errors import SpecError
from onward.functions import did_you_mean, resolve
from onward.tasks.arithmetic import ArithmeticSource
from onward.tasks.function import FunctionSource
from onward.tasks.jsonl import JsonlSource
from onward.tasks.source import Columns, Source

__all__ = ["open_source"]


def open_source(stated: Any, folder: Path, *, token: str | None = None) -> Source:
    """`data.jsonl` (or .csv, .parquet), `{path:, input:, target:}`, `hub:owner/name`, `gaia`, `arithmetic`, `file.py:fn`.

    Paths start at `folder`; `token` opens gated sets. Raises SpecError for what it does not know, or cannot find.
    """
    if isinstance(stated, Source):
        return stated
    options: dict[str, Any] = {}
    if isinstance(stated, Mapping):
        options = dict(stated)
        stated = options.pop("path", None) or options.pop("name", None)
    if stated is None:
        raise SpecError("say where the tasks come from: a .jsonl file, or a benchmark's name", field="tasks")
    if callable(stated):
        return FunctionSource(stated)
    return _by_text(str(stated), options, folder, token)


def _by_text(stated: str, options: dict[str, Any], folder: Path, token: str | None) -> Source:
    if stated == "arithmetic":
        return ArithmeticSource(**options)
    if ".py:" in stated:
        function = resolve(stated, folder, field="tasks", positional=0)
        return FunctionSource(function.call, function.name)
    path = folder / stated
    if stated == "gaia" or stated.startswith("hub:") or path.is_dir():
        return _far(stated, path, options, token)
    if not path.is_file():
        known = ["arithmetic", "gaia"]
        hint = did_you_mean(stated, known) if "/" not in stated and "." not in stated else ""
        raise SpecError(f"there is no file {path}.{hint}", field="tasks")
    columns = Columns.of(options)
    if path.suffix == ".csv":
        from onward.tasks.csv import CsvSource  # noqa: PLC0415

        return CsvSource(path, columns, asked=stated)
    if path.suffix == ".parquet":
        from onward.tasks.parquet import ParquetSource  # noqa: PLC0415

        return ParquetSource(path, columns, asked=stated)
    return JsonlSource(path, columns, asked=stated)


def _far(stated: str, path: Path, options: dict[str, Any], token: str | None) -> Source:
    if stated.startswith("hub:"):
        from onward.tasks.hub import HubSource  # noqa: PLC0415

        return HubSource(stated.removeprefix("hub:"), token=token, **options)
    from onward.tasks.gaia import GaiaSource  # noqa: PLC0415

    return GaiaSource(path if path.is_dir() else None, token=token, **options)
