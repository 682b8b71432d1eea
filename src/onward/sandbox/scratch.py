"""Temporary folders that are gone in the end: removed by their process, or by a later one where that was killed.

A folder is locked as long as its process lives, and takes its name only when it is: whoever finds one that is not
locked may remove it.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["scratch", "sweep"]

_NAME = re.compile(r"onward-[0-9a-f]{12}")


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder for this user alone, below the system's temporary one: short enough for the path of a socket."""
    making = Path(tempfile.mkdtemp(prefix=".onward-"))
    folder = making.with_name(f"onward-{secrets.token_hex(6)}")
    lock = os.open(making, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        making.rename(folder)
        yield folder
    finally:
        shutil.rmtree(making, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def sweep() -> list[Path]:
    """Remove what killed processes of this user left, and say what it was."""
    root = Path(tempfile.gettempdir())
    with suppress(OSError):
        found = [root / name for name in sorted(os.listdir(root)) if _NAME.fullmatch(name)]
        return [folder for folder in found if _removed(folder)]
    return []


def _removed(folder: Path) -> bool:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if os.fstat(lock).st_uid != os.getuid():
            return False
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
        return not folder.exists()
    except OSError:
        return False
    finally:
        os.close(lock)
