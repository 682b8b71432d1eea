"""How a file or a copy of a run is written: whole or not at all, and never over another without being told."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path

from onward.errors import UsageError
from onward.journal.copying import copy_to

__all__ = ["SHORTEST", "redacted", "write_folder", "write_text", "write_tree"]

SHORTEST = 8
"""Characters from which a key's value is looked for: shorter ones are words."""


def redacted(pieces: Iterable[str], keys: Mapping[str, str]) -> Iterable[str]:
    """The same text without the values of these keys, should a model or a task have repeated one."""
    secrets = {value: name for name, value in keys.items() if len(value) >= SHORTEST}
    for piece in pieces:
        for value, name in secrets.items():
            if value in piece:
                piece = piece.replace(value, f"[{name}]")
        yield piece


def write_text(path: Path, pieces: Iterable[str], *, force: bool = False) -> None:
    """Write beside and rename. Raises UsageError where the file is there already, unless `force`."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder")
    if path.exists() and not force:
        raise UsageError(f"{path} is there already: --force writes over it")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {path.parent}")
    handle, beside = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as stream:
            stream.writelines(pieces)
            stream.flush()
            os.fsync(stream.fileno())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise


def write_tree(target: Path, content: Mapping[str, bytes], *, force: bool = False) -> None:
    """Write files into a folder of their own, by their paths in it: beside, and renamed. Raises UsageError where the
    folder is there already and not empty, unless `force`: then it is replaced whole."""
    there = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if there and (not force or not target.is_dir()):
        raise UsageError(f"{target} is there already: --force writes over it")
    target.absolute().parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=target.absolute().parent, prefix=f".{target.name}."))
    try:
        for path, data in content.items():
            place = beside / path
            place.parent.mkdir(parents=True, exist_ok=True)
            with place.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        old = beside.with_name(f"{beside.name}.old")
        if target.exists():
            target.rename(old)
        beside.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise


def write_folder(source: Path, target: Path, *, force: bool = False) -> int:
    """A copy of a run's folder as of one moment, also while it runs; returns how many entries it has.

    Raises UsageError where the folder is there already, unless `force`: then the old one is replaced once the new one
    is whole.
    """
    if not force or not target.exists():
        return copy_to(source, target).seq
    if target.resolve() == source.resolve():
        raise UsageError(f"{target} is the run itself")
    beside = target.with_name(f".{target.name}.new")
    shutil.rmtree(beside, ignore_errors=True)
    seq = copy_to(source, beside).seq
    old = target.with_name(f".{target.name}.old")
    target.rename(old)
    beside.rename(target)
    shutil.rmtree(old)
    return seq
