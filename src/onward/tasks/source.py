"""What every source of tasks is, and what the sources share: rows, ids, files, lines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from onward.errors import OnwardError, SpecError, UsageError
from onward.fingerprint import canonical, digest_of
from onward.functions import did_you_mean
from onward.tasks.task import Attachment, Task

__all__ = [
    "Columns",
    "FileSource",
    "Source",
    "UniqueIds",
    "attachment",
    "generated",
    "lines",
    "row_to_task",
    "storable",
]


@runtime_checkable
class Source(Protocol):
    """Where tasks come from: each call of `tasks` streams all of them again, in the same order."""

    @property
    def name(self) -> str:
        """What to call it where people look: a file's stem, a benchmark's name."""
        ...

    @property
    def identity(self) -> Mapping[str, Any]:
        """JSON: which source this is, by what was asked for and not by content (the selection's digest has that)."""
        ...

    def tasks(self) -> Iterator[Task]:
        """All tasks. Raises UsageError that names file and line for what cannot be read, and for no task at all."""
        ...


@dataclass(frozen=True, slots=True)
class Columns:
    """Which fields of a row are what. None: the usual name (`id`, `input`, `target`, `files`), if the row has it."""

    id: str | None = None
    input: str | None = None
    target: str | None = None
    files: str | None = None
    """A file name, or a list of them, relative to the folder of the data file and inside it."""
    metadata: tuple[str, ...] | None = None
    """The fields to keep as metadata; None keeps all that are left."""
    duplicates: str = "refuse"
    """`refuse` an id that comes twice, or `number` it (`id-2`, `id-3`)."""

    @classmethod
    def of(cls, options: Mapping[str, Any], field: str = "tasks") -> Columns:
        """From an experiment's mapping. Raises SpecError for what is not a column, or not a name."""
        known = [item.name for item in fields(cls)]
        for name, value in options.items():
            if name not in known:
                raise SpecError(f'unknown field "{name}".{did_you_mean(name, known)}', field=field)
            if name == "metadata":
                if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                    raise SpecError("metadata is a list of field names", field=f"{field}.metadata")
            elif value is not None and not isinstance(value, str):
                raise SpecError(f"expected the name of a field, not {value!r}", field=f"{field}.{name}")
        if options.get("duplicates", "refuse") not in ("refuse", "number"):
            problem = f'duplicates is "refuse" or "number", not "{options["duplicates"]}"'
            raise SpecError(problem, field=f"{field}.duplicates")
        kept = options.get("metadata")
        return cls(**{**options, "metadata": None if kept is None else tuple(kept)})

    def to_json(self) -> dict[str, Any]:
        """What differs from the defaults."""
        found = [(item.name, getattr(self, item.name), item.default) for item in fields(self)]
        changed = {name: value for name, value, default in found if value != default}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in changed.items()}


class UniqueIds:
    """Lets each id through once. Places are line or row numbers, for the message."""

    def __init__(self, duplicates: str = "refuse", unit: str = "line") -> None:
        self._seen: dict[str, int] = {}
        self._last: dict[str, int] = {}
        self._number, self._unit = duplicates == "number", unit

    def admit(self, task: str, place: int, where: str) -> str:
        """The id to use. Raises UsageError that names both places for one that was there before."""
        first = self._seen.setdefault(task, place)
        if first == place:
            return task
        if not self._number:
            raise UsageError(
                f'{where}: the id "{task}" is also in {self._unit} {first}. Ids must be unique; equal rows without ids '
                f"are taken with `duplicates: number`"
            )
        count = self._last.get(task, 1) + 1
        while f"{task}-{count}" in self._seen:
            count += 1
        self._last[task] = count
        self._seen[f"{task}-{count}"] = place
        return f"{task}-{count}"


class FileSource(ABC):
    """A file with a task in each row. `asked` is the path as the experiment has it: that, not where it lies, is its
    identity."""

    kind: str
    empty = "it is empty"
    """What is said of a file without any row."""

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
        return {"source": self.kind, "path": self._asked, "columns": self.columns.to_json()}

    @abstractmethod
    def rows(self) -> Iterator[tuple[int, Any]]:
        """(line number, value) of each row. Raises UsageError with file:line."""

    def tasks(self) -> Iterator[Task]:
        """See `Source.tasks`."""
        unique, empty = UniqueIds(self.columns.duplicates), True
        for number, row in self.rows():
            where = f"{self.path}:{number}"
            task = row_to_task(row, self.columns, where, self.path.parent)
            own = unique.admit(task.id, number, where)
            yield task if own == task.id else replace(task, id=own)
            empty = False
        if empty:
            raise UsageError(f"{self.path} holds no task: {self.empty}")


def row_to_task(row: Any, columns: Columns, where: str, folder: Path | None = None) -> Task:
    """One row as a task; its id is derived from its content where it has none (12 hex characters).

    Raises UsageError, starting with `where`, for a row that is no object, lacks a field that was named or the input,
    has an id that is neither text nor an integer, or names a file that is not there.
    """
    if not isinstance(row, Mapping):
        raise UsageError(f"{where}: expected an object, found {type(row).__name__}")
    left = dict(row)
    own = _take(left, columns.id, "id", where)
    given = _take(left, columns.input, "input", where)
    if given is None:
        raise UsageError(
            f'{where}: the row has no "{columns.input or "input"}" (it has: {", ".join(map(str, row))}). '
            "Say which field it is: tasks: {path: …, input: FIELD, target: FIELD}"
        )
    target = _take(left, columns.target, "target", where)
    is_named = folder is not None or columns.files is not None
    files = _files(_take(left, columns.files, "files", where), folder, where) if is_named else ()
    metadata = _metadata(left, columns, where)
    if own is None:
        content = {"input": given, "target": target, "metadata": metadata, "files": [file.digest for file in files]}
        own = digest_of(content)[:12]
    if isinstance(own, bool) or not isinstance(own, str | int) or own == "":
        raise UsageError(f"{where}: an id is text or an integer, not {own!r}")
    return Task(str(own), given, target, metadata, files)


def _take(row: dict[str, Any], named: str | None, usual: str, where: str) -> Any:
    if named is not None and named not in row:
        hint = did_you_mean(named, map(str, row))
        raise UsageError(f'{where}: the row has no "{named}", which is to be its {usual}.{hint}')
    return row.pop(named or usual, None)


def _metadata(left: dict[str, Any], columns: Columns, where: str) -> dict[str, Any]:
    inner = left.get("metadata")
    if columns.metadata is not None:
        for name in columns.metadata:
            if name not in left:
                raise UsageError(f'{where}: the row has no "{name}", which is to be metadata')
        return {name: left[name] for name in columns.metadata}
    if isinstance(inner, Mapping):
        del left["metadata"]
        return {**inner, **left}
    return left


def _files(named: Any, folder: Path | None, where: str) -> tuple[Attachment, ...]:
    if named is None or named == "" or named == []:
        return ()
    names = [named] if isinstance(named, str) else named
    if folder is None or not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{where}: files is a file name or a list of them, not {named!r}")
    found = []
    for name in names:
        path = folder / name
        if not path.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{where}: the file {name} lies outside {folder}: only files inside it are attached")
        if not path.is_file():
            raise UsageError(f"{where}: there is no file {path}")
        found.append(attachment(path, name))
    return tuple(found)


def attachment(path: Path, name: str | None = None) -> Attachment:
    """A file as an attachment; its digest is read in pieces. Raises OSError."""
    state, size = sha256(), 0
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            state.update(piece)
            size += len(piece)
    own = name or path.name
    return Attachment(own, state.hexdigest()[:32], size, _media_type(own), path)


def generated(name: str, content: bytes) -> Attachment:
    """An attachment that no file holds."""
    return Attachment(name, sha256(content).hexdigest()[:32], len(content), _media_type(name), data=content)


_TYPES = {
    "csv": "text/csv", "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "gif": "image/gif", "htm": "text/html", "html": "text/html", "jpeg": "image/jpeg", "jpg": "image/jpeg",
    "json": "application/json", "jsonl": "application/jsonl", "jsonld": "application/ld+json", "m4a": "audio/mp4",
    "md": "text/markdown", "mov": "video/quicktime", "mp3": "audio/mpeg", "mp4": "video/mp4", "pdb": "chemical/x-pdb",
    "pdf": "application/pdf", "png": "image/png", "pptx":
    "application/vnd.openxmlformats-officedocument.presentationml.presentation", "py": "text/x-python",
    "svg": "image/svg+xml", "tsv": "text/tab-separated-values", "txt": "text/plain", "wav": "audio/wav",
    "webp": "image/webp", "xls": "application/vnd.ms-excel",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xml": "application/xml",
    "yaml": "application/yaml", "yml": "application/yaml", "zip": "application/zip",
}  # fmt: skip
"""A table of our own: the standard library's grows with its versions, and a type is part of a task's digest."""


def _media_type(name: str) -> str:
    return _TYPES.get(name.rpartition(".")[2].lower(), "application/octet-stream")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text with its end) of each line. Raises UsageError: no such file, or not UTF-8 (file:line)."""
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        raise UsageError(f"there is no file {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    with stream:
        for number, line in enumerate(stream, 1):
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UsageError(
                    f"{path}:{number}: not UTF-8 (byte {error.start + 1} of the line is 0x{line[error.start]:02x}). "
                    "Save the file as UTF-8"
                ) from None


def storable(row: Any, where: str) -> None:
    """Raises UsageError for a row that no journal could hold: a lone surrogate, a number that is not finite."""
    try:
        canonical(row)
    except OnwardError as error:
        raise UsageError(f"{where}: {error}") from None
