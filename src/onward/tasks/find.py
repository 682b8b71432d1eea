"""The source that an experiment's `tasks` means."""

from __future__ import annotations

import inspect
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

_BUILT_IN = ("arithmetic", "examples", "gaia")
_FILES = (".jsonl", ".csv", ".tsv", ".parquet")


def open_source(stated: Any, folder: Path = Path(), *, token: str | None = None) -> Source:
    """The source that is meant by any of:

    `data.jsonl` (.csv, .tsv, .parquet) · `{path: data.jsonl, input: question, target: answer}` (see `Columns`) ·
    `arithmetic` · `{arithmetic: {size: 500, seed: 1}}` · `gaia` · `{gaia: {split: test, path: FOLDER}}` · a folder in
    GAIA's layout · `hub:owner/name` · `{hub: owner/name, config:, split:, revision:, input:, …}` · `file.py:function` ·
    a callable · a Source · a task folder, or a folder of them · `examples`: our own of these.

    Paths start at `folder`; `token` opens gated sets. Raises SpecError for what it does not know, or cannot find.
    """
    if isinstance(stated, Source):
        return stated
    options: dict[str, Any] = {}
    if isinstance(stated, Mapping):
        stated, options = _unpacked(stated)
    if stated is None or stated == "":
        raise SpecError(f"say where the tasks come from: a file ({', '.join(_FILES)}), or arithmetic", field="tasks")
    if callable(stated):
        return FunctionSource(stated, columns=Columns.of(options), folder=folder)
    if not isinstance(stated, str | Path):
        raise SpecError(f"expected a file or a name, not {type(stated).__name__}", field="tasks")
    return _by_text(str(stated), options, folder, token)


def _unpacked(stated: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """What is named, and its options: `{gaia: {…}}`, `{hub: …, …}` or `{path: …, …}`."""
    options = dict(stated)
    for name in _BUILT_IN:
        if name in options:
            inner = options.pop(name)
            if options or not (inner is None or isinstance(inner, Mapping)):
                raise SpecError(f"its options go inside: tasks: {{{name}: {{…}}}}", field=f"tasks.{name}")
            return name, dict(inner or {})
    if "hub" in options:
        return f"hub:{options.pop('hub')}", options
    if "path" not in options:
        raise SpecError("a mapping needs `path` (or hub, gaia, arithmetic)", field="tasks")
    return options.pop("path"), options


def _by_text(stated: str, options: dict[str, Any], folder: Path, token: str | None) -> Source:
    if stated == "arithmetic":
        return ArithmeticSource(**_known(options, ArithmeticSource))
    if stated.startswith("hub:"):
        from onward.tasks.hub import HubSource

        own = {name: options.pop(name) for name in ("config", "split", "revision") if name in options}
        return HubSource(stated.removeprefix("hub:"), columns=Columns.of(options), token=token, **own)
    path = folder / stated
    if path.is_dir() or stated == "examples":
        from onward.tasks.folders import EXAMPLES, FolderSource, folders

        place = path if path.is_dir() and folders(path) else EXAMPLES if stated == "examples" else None
        if place is not None:
            _known(options, FolderSource, hidden=("path", "asked"))
            return FolderSource(place, asked=stated)
    if stated == "gaia" or path.is_dir():
        return _gaia(None if stated == "gaia" else path, options, folder, token)
    if ".py:" in stated or path.suffix == ".py":
        function = resolve(stated, folder, field="tasks", positional=0)
        return FunctionSource(function.call, function.name, Columns.of(options), folder)
    return _from_file(path, stated, Columns.of(options))


def _from_file(path: Path, stated: str, columns: Columns) -> Source:
    suffix = path.suffix.lower()
    if not path.is_file():
        hint = did_you_mean(stated, _BUILT_IN) if "/" not in stated and not suffix else ""
        raise SpecError(f"there is no file {path}.{hint}", field="tasks")
    if suffix in (".csv", ".tsv"):
        from onward.tasks.csv import CsvSource

        return CsvSource(path, columns, asked=stated)
    if suffix == ".parquet":
        from onward.tasks.parquet import ParquetSource

        return ParquetSource(path, columns, asked=stated)
    if suffix not in (".jsonl", ".ndjson"):
        raise SpecError(
            f"{path}: tasks are read from {', '.join(_FILES)} and from Python (file.py:function)", field="tasks"
        )
    return JsonlSource(path, columns, asked=stated)


def _gaia(path: Path | None, options: dict[str, Any], folder: Path, token: str | None) -> Source:
    from onward.tasks.gaia import GaiaSource

    given = _known(options, GaiaSource, more=("path",), hidden=("folder", "token", "fetch"))
    inner = given.pop("path", None)
    if inner is not None:
        path = folder / str(inner)
    if path is not None and not path.is_dir():
        raise SpecError(f"there is no folder {path}", field="tasks.gaia.path")
    return GaiaSource(path, token=token, **given)


def _known(
    options: dict[str, Any], source: type, more: tuple[str, ...] = (), hidden: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The options, if the source takes each. Raises SpecError."""
    known = [name for name in inspect.signature(source).parameters if name not in hidden] + list(more)
    for name in options:
        if name not in known:
            raise SpecError(f'unknown field "{name}".{did_you_mean(name, known)}', field="tasks")
    return options
