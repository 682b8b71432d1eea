"""Room on the disk: a reserve that is given up so that answers already paid for can land."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

__all__ = ["FLOOR", "RESERVE", "Space"]

RESERVE = 32 * 1024 * 1024
FLOOR = 200 * 1024 * 1024
"""Below this much free space no new call should start."""
_EVERY = 16
"""The file system is asked once in so many times while there is plenty: between two looks little can be written."""


class Space:
    """The reserve of one journal's folder. It exists while the journal is being written, where it can be afforded."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._reserve = folder, folder / "reserve"
        self._short = False
        self._asked = 0
        self._plenty = False

    def free(self) -> int:
        """Bytes that a user may still write there."""
        found = os.statvfs(self._folder)
        return found.f_bavail * found.f_frsize

    @property
    def low(self) -> bool:
        """Whether room is short: below the floor, or no room was made since a write found the disk full."""
        if self._short and not self.keep():
            return True
        self._asked += 1
        if not self._plenty or self._asked % _EVERY == 0:
            free = self.free()
            self._plenty = free > 16 * FLOOR
            return free < FLOOR
        return False

    def keep(self) -> bool:
        """Have the reserve, if as much again stays free beside it. Whether it is there."""
        if self._held():
            self._short = False
            return True
        try:
            if self.free() < 2 * RESERVE:
                return False
            file = os.open(self._reserve, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, RESERVE)
            finally:
                os.close(file)
        except OSError:
            self.drop()
            return False
        self._short = False
        return True

    def give(self) -> bool:
        """Release the reserve because the disk is full. Whether there was one, so that trying again may help."""
        had = self._held()
        self._short = True
        self.drop()
        return had

    def drop(self) -> None:
        """Remove the reserve: nobody writes any more."""
        with contextlib.suppress(OSError):
            self._reserve.unlink()

    def _held(self) -> bool:
        try:
            return os.stat(self._reserve).st_size >= RESERVE
        except OSError:
            return False
