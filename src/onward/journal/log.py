"""SQLite's write-ahead log, read by ourselves: where SQLite cannot read it, and to see whether it is whole.

SQLite takes a log up to the first frame that does not add up for all there is. That is right for what a crash leaves,
since nothing of it was acknowledged; it silently forgets commits where the log was damaged later. So we look first.
"""

from __future__ import annotations

import fcntl
import os
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from onward.errors import Damaged

__all__ = ["Log", "Opened", "read_log", "torn"]

_HEADER, _FRAME = 32, 24
_MAGIC = 0x377F0682
_LIVE_BYTE = 128
"""The byte of the shared memory that every connection keeps locked while it is open."""


@dataclass(slots=True)
class Log:
    """What a log holds: pages as of the last whole commit, and signs of damage."""

    pages: dict[int, bytes] = field(default_factory=dict)
    size: int = 0
    """Pages of the database as of the last whole commit (0: nothing was committed here)."""
    page_size: int = 0
    good: int = 0
    """Frames from the start that add up."""
    orphans: int = 0
    """Commits that are intact and stand behind a frame that does not add up."""


def _sum(data: bytes, order: str, first: int, second: int) -> tuple[int, int]:
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for at in range(0, len(words), 2):
        first = (first + words[at] + second) & 0xFFFFFFFF
        second = (second + words[at + 1] + first) & 0xFFFFFFFF
    return first, second


def read_log(data: bytes) -> Log:
    """The log with these bytes. A frame counts if it adds up after the frame before it, by what that one says."""
    log = Log()
    if len(data) < _HEADER:
        return log
    magic, _, log.page_size = struct.unpack(">3I", data[:12])
    order = ">" if magic & 1 else "<"
    if magic & ~1 != _MAGIC or _sum(data[:24], order, 0, 0) != struct.unpack(">2I", data[24:32]):
        log.page_size = 0
        return log
    before: tuple[int, int] = struct.unpack(">2I", data[24:32])
    waiting: dict[int, bytes] = {}
    whole = True
    step = _FRAME + log.page_size
    for number, at in enumerate(range(_HEADER, len(data) - step + 1, step), 1):
        head, page = data[at : at + _FRAME], data[at + _FRAME : at + step]
        place, size = struct.unpack(">2I", head[:8])
        stated: tuple[int, int] = struct.unpack(">2I", head[16:24])
        fits = head[8:16] == data[16:24] and _sum(head[:8] + page, order, *before) == stated
        before = stated
        if not fits:
            whole = False
        elif whole:
            log.good = number
            waiting[place] = page
            if size:
                log.pages.update(waiting)
                log.size = size
                waiting.clear()
        elif size:
            log.orphans += 1
    return log


def _promised(path: Path, salt: bytes) -> int:
    """Frames that the shared memory says were committed to the log of this salt; -1 while a process has it open."""
    try:
        memory = os.open(f"{path}-shm", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return 0
    try:
        ask = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, _LIVE_BYTE, 1, 0)
        answer = fcntl.fcntl(memory, fcntl.F_GETLK, ask)
        if struct.unpack("hhqqi4x", answer)[0] != fcntl.F_UNLCK:
            return -1
        head = os.pread(memory, 96, 0)
    finally:
        os.close(memory)
    if len(head) < 96 or head[:48] != head[48:] or head[32:40] != salt:
        return 0
    return int(struct.unpack("=I", head[16:20])[0])


def torn(path: Path) -> str | None:
    """Whether the log lacks what was committed to it. Only for a process that has nothing open of this journal."""
    try:
        data = Path(f"{path}-wal").read_bytes()
    except OSError:
        return None
    if len(data) < _HEADER:
        return None
    promised = _promised(path, data[16:24])
    if promised < 0:
        return None
    log = read_log(data)
    if log.good < promised:
        return f"the write-ahead log is torn: {promised} pages were committed to it and {log.good} are intact"
    if log.orphans > 1:  # a single one may be a commit that a power cut interrupted: nobody was told of it
        return f"the write-ahead log is torn: {log.orphans} commits stand behind a damaged page"
    return None


class Opened:
    """Journals that this process has open. Whoever closes a file by itself lets go of SQLite's locks on it."""

    _lock = threading.Lock()
    _count: dict[tuple[int, int], int] = {}  # noqa: RUF012 (one for the process is the point)

    def __init__(self, path: Path) -> None:
        self._path = path
        found = os.stat(path)
        self._name = (found.st_dev, found.st_ino)
        self._open = True
        with self._lock:
            before = self._count.get(self._name, 0)
            fault = torn(path) if not before else None
            if fault is None:
                self._count[self._name] = before + 1
        if fault is not None:
            raise Damaged(f"{path}: {fault}; `onward verify --salvage` recovers what is intact")

    def close(self) -> None:
        """It is no longer open here. Safe to call twice."""
        with self._lock:
            if self._open:
                self._open = False
                left = self._count[self._name] - 1
                if left:
                    self._count[self._name] = left
                else:
                    with suppress(KeyError):
                        del self._count[self._name]
