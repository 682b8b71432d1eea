"""The marks by which a sandbox is found after its owner was killed: an id, a folder of that name, a lock on it.

The lock is the kernel's: it goes with its owner, however that ends, and tells what is in use from what is left.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

__all__ = ["MARKER", "Folder", "carrying", "digest", "folders", "in_use", "new_id", "remove"]

MARKER = "ONWARD_SANDBOX"
_LONG = 2000
_ID = re.compile(r"onward-[a-z0-9-]+-[0-9a-f]{12}")


def new_id(run: str) -> str:
    """An id that no sandbox has had: `onward-<run>-<random>`."""
    named = re.sub(r"[^a-z0-9]+", "-", run.lower()).strip("-")[:40] or "run"
    return f"onward-{named}-{secrets.token_hex(6)}"


def digest(root: Path) -> str:
    """A name for a place that does not tell where it is."""
    return hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]


class Folder:
    """A sandbox's own folder on the host: what is bound into it, and notes on what else is to be removed."""

    def __init__(self, root: Path, id: str) -> None:
        self.path = root / id
        self._lock: int | None = None

    def make(self) -> None:
        """Make it, and hold it as long as this process lives."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path.mkdir(mode=0o700)
        self._lock = os.open(self.path / "owner", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def note(self, name: str, lines: list[str]) -> None:
        """Write down what a later `reap` must look for, before it is made."""
        (self.path / name).write_text("\n".join(lines))

    def noted(self, name: str) -> list[str]:
        """What was written down."""
        with suppress(OSError):
            return (self.path / name).read_text().splitlines()
        return []

    def let_go(self) -> None:
        """Release the lock."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def folders(root: Path) -> Iterator[str]:
    """The ids that have a folder here."""
    with suppress(OSError):
        yield from sorted(name for name in os.listdir(root) if _ID.fullmatch(name))


def in_use(root: Path, id: str) -> bool:
    """Whether the process that made it still lives."""
    try:
        lock = os.open(root / id / "owner", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        os.close(lock)


def carrying(id: str) -> set[int]:
    """The processes whose environment carries this sandbox's mark."""
    mark = f"{MARKER}={id}".encode()
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                found.add(int(pid))
    return found - {os.getpid()}


def remove(path: Path) -> str:
    """Remove a folder and all in it, also what its owner may not enter or write; why not, where that failed.

    Links are removed, never followed: what is in it was written by others. No recursion: it may be deep.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return f"{path}: {error.strerror}"
    os.close(descriptor)
    ahead, moved = [path], 0
    while ahead:
        folder = ahead.pop()
        try:
            os.chmod(folder, 0o700)
            if len(os.fspath(folder)) > _LONG:  # deeper than a path can say: bring it up
                moved += 1
                folder = folder.rename(path / f"deep-{moved}")
            inner = [Path(one.path) for one in os.scandir(folder) if _empty(one)]
            if inner:
                ahead += [folder, *inner]
            else:
                os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            return f"{folder}: {error.strerror}"
    return ""


def _empty(one: os.DirEntry[str]) -> bool:
    """Remove what is no folder; True for what is one."""
    if stat.S_ISDIR(one.stat(follow_symlinks=False).st_mode):
        return True
    os.unlink(one.path)
    return False
