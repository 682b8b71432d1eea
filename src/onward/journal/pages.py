"""SQLite's file format, as far as it takes to read our rows without it: page by page, whatever else is destroyed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from onward.journal.log import read_log

__all__ = ["Cell", "Pages", "image"]

_LEAF = 13
_SIZES = frozenset(1 << power for power in range(9, 17))
_WIDTHS = (0, 1, 2, 3, 4, 6, 8)


class Cell(NamedTuple):
    """Where a row of a table lies."""

    page: int
    at: int


class Pages:
    """The pages of a database file with its log laid over it. `usual` is the page size if the file does not say."""

    def __init__(self, path: Path, usual: int) -> None:
        self._file = path.read_bytes() if path.exists() else b""
        log_path = Path(f"{path}-wal")
        log = read_log(log_path.read_bytes() if log_path.exists() else b"")
        self._over = log.pages
        stated = struct.unpack(">H", self._file[16:18])[0] if len(self._file) >= 100 else 0
        stated = 65536 if stated == 1 else stated
        self.size = log.page_size or (stated if stated in _SIZES else usual)
        self.count = max(len(self._file) // self.size, log.size)

    def page(self, number: int) -> bytes:
        """A page; shorter, or empty, where the file ends before."""
        if number < 1:
            return b""
        start = (number - 1) * self.size
        return self._over.get(number) or self._file[start : start + self.size]

    def cells(self) -> Iterator[tuple[Cell, int]]:
        """Every row of every table, as its place and its rowid. Pages that make no sense are passed over."""
        for number in range(1, self.count + 1):
            page, base = self.page(number), 100 if number == 1 else 0
            if len(page) < self.size or page[base] != _LEAF:
                continue
            (count,) = struct.unpack(">H", page[base + 3 : base + 5])
            for place in range(min(count, (self.size - base - 8) // 2)):
                (at,) = struct.unpack_from(">H", page, base + 8 + 2 * place)
                try:
                    _, after = _varint(page, at)
                    rowid, _ = _varint(page, after)
                except IndexError:
                    continue
                yield Cell(number, at), rowid

    def record(self, cell: Cell, most: int | None = None) -> list[Any]:
        """A row's columns; with `most` only as far as these first bytes reach, to see cheaply what it is.

        Raises ValueError where it cannot be one.
        """
        try:
            return _columns(self._payload(cell, most), partly=most is not None)
        except (IndexError, struct.error, UnicodeDecodeError) as error:
            raise ValueError(f"page {cell.page} holds no row at {cell.at}: {error}") from error

    def _payload(self, cell: Cell, most: int | None) -> bytes:
        page = self.page(cell.page)
        length, at = _varint(page, cell.at)
        _, at = _varint(page, at)
        local, least = self.size - 35, (self.size - 12) * 32 // 255 - 23
        if length <= local:
            return page[at : at + length]
        if length > self.count * self.size:
            raise ValueError("longer than the file")
        here = least + (length - least) % (self.size - 4)
        here = here if here <= local else least
        content = bytearray(page[at : at + here])
        if most is not None and here >= most:
            return bytes(content)
        (following,) = struct.unpack_from(">I", page, at + here)
        while len(content) < length:
            page = self.page(following)
            if len(page) < self.size:
                raise ValueError("it goes on in a page that is not there")
            (following,) = struct.unpack_from(">I", page)
            content += page[4 : 4 + length - len(content)]
        return bytes(content)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(at, at + 8):
        value = value << 7 | data[place] & 0x7F
        if data[place] < 0x80:
            return value, place + 1
    return value << 8 | data[at + 8], at + 9


def _columns(payload: bytes, *, partly: bool) -> list[Any]:
    end, at = _varint(payload, 0)
    types: list[int] = []
    while at < end:
        kind, at = _varint(payload, at)
        types.append(kind)
    found: list[Any] = []
    at = end
    for kind in types:
        width = _WIDTHS[kind] if kind < 7 else 8 if kind == 7 else 0 if kind < 12 else (kind - 12) // 2
        raw = payload[at : at + width]
        if len(raw) < width:
            if partly:
                found.append(None)
                continue
            raise ValueError("it is cut")
        at += width
        found.append(_value(kind, raw))
    return found


def _value(kind: int, raw: bytes) -> Any:
    if kind == 0:
        return None
    if kind < 7:
        return int.from_bytes(raw, "big", signed=True)
    if kind == 7:
        return struct.unpack(">d", raw)[0]
    if kind < 10:
        return kind - 8
    if kind < 12:
        raise ValueError("a column of no known type")
    return raw if kind % 2 == 0 else raw.decode()


def image(path: Path, usual: int) -> bytes:
    """The database as one piece that needs no log beside it."""
    pages = Pages(path, usual)
    whole = bytearray(b"".join(pages.page(number) for number in range(1, pages.count + 1)))
    whole[18:20] = b"\x01\x01"  # "not in write-ahead mode"
    return bytes(whole)
