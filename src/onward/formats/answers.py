"""Answers that were made elsewhere, out of a file: JSONL of any fields, the checkpoint's JSON, our own results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onward.errors import OnwardError, UsageError
from onward.fingerprint import canonical
from onward.tasks.source import lines

__all__ = ["Fields", "Recorded", "read_answers"]

_IDS = ("id", "task_id", "taskId", "task")
_OUTPUTS = ("output", "model_answer", "answer", "completion", "response", "generation")
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Fields:
    """Which fields hold what. None: the usual names. A dotted name goes into objects (`6b.solution`)."""

    id: str | None = None
    input: str | None = None
    """The question, by which rows without an id are told."""
    outputs: Mapping[str, str | None] | None = None
    """Solver → the field with its answer (None: the usual names); None: the solver that the file itself names."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """One answer: where it stands, whose it is and to what. `output` None: there is none in the row."""

    where: str
    solver: str
    id: str | None
    input: Any
    output: Any
    trial: str = "1"


def read_answers(path: Path, fields: Fields) -> Iterator[Recorded]:
    """Every answer in a file. Raises UsageError that names file and line."""
    whole = _whole(path)
    if whole is not None:
        yield from _of_checkpoint(path, whole, fields)
        return
    empty = True
    for number, text in lines(path):
        if not text.strip():
            continue
        where = f"{path}:{number}"
        row = _object(text, where)
        empty = False
        yield from _of_row(row, fields, where)
    if empty:
        raise UsageError(f"{path} holds no answer: it is empty")


def _whole(path: Path) -> Mapping[str, Any] | None:
    """The file as a checkpoint, if it is one: an object with `results`, over several lines or on one."""
    first = next((text for _, text in lines(path) if text.strip()), "")
    if not first.lstrip().startswith("{"):
        return None
    try:
        row = json.loads(first)
        if not isinstance(row, dict) or not isinstance(row.get("results"), list):
            return None
    except ValueError:
        pass
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return found if isinstance(found, dict) and isinstance(found.get("results"), list) else None


def _of_checkpoint(path: Path, document: Mapping[str, Any], fields: Fields) -> Iterator[Recorded]:
    label = str((document.get("metadata") or {}).get("model") or "recorded")
    for place, row in enumerate(document["results"], 1):
        where = f"{path}: result {place}"
        if not isinstance(row, Mapping):
            raise UsageError(f"{where} is no object")
        if row.get("error") and not row.get("answer") and "output" not in row:
            continue
        yield from _of_row({"solver": label, **row}, fields, where)


def _of_row(row: Mapping[str, Any], fields: Fields, where: str) -> Iterator[Recorded]:
    id_ = _first(row, (fields.id,) if fields.id else _IDS, required=bool(fields.id), where=where)
    if id_ is not None and (isinstance(id_, bool) or not isinstance(id_, str | int)):
        raise UsageError(f"{where}: an id is text or an integer, not {id_!r}")
    asked = _first(
        row, (fields.input,) if fields.input else ("input", "question"), required=bool(fields.input), where=where
    )
    trial = str(row.get("trial", 1)) if "solver" in row else "1"
    named = fields.outputs or {str(row.get("solver") or "recorded"): None}
    for solver, field in named.items():
        output = _first(row, (field,) if field else _OUTPUTS, required=False, where=where)
        try:
            canonical(output)
        except OnwardError as error:
            raise UsageError(f"{where}: the answer cannot be recorded: {error}") from None
        yield Recorded(where, solver, None if id_ is None else str(id_), asked, output, trial)


def _first(row: Mapping[str, Any], names: tuple[str, ...], *, required: bool, where: str) -> Any:
    for name in names:
        found = _within(row, name)
        if found is not _ABSENT:
            return found
    if required:
        raise UsageError(f'{where}: the row has no "{names[0]}" (it has: {", ".join(map(str, row))})')
    return None


def _within(row: Any, name: str) -> Any:
    """A field, by its own name or by a path of names."""
    if isinstance(row, Mapping) and name in row:
        return row[name]
    start, _, rest = name.partition(".")
    if rest and isinstance(row, Mapping) and start in row:
        return _within(row[start], rest)
    return _ABSENT


def _object(text: str, where: str) -> Mapping[str, Any]:
    try:
        row = json.loads(text, strict=False)
    except ValueError as error:
        raise UsageError(f"{where}: not JSON: {error}") from None
    if not isinstance(row, dict):
        raise UsageError(f"{where}: expected an object, found {type(row).__name__}")
    return row
