"""Files into a sandbox and out of it, and what a workspace holds. The half that runs inside; `unpacking` is the other.

A path is resolved here, among the sandbox's own files: a link to the host's leads to nothing.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, BinaryIO

from onward.sandbox.account import Account, make
from onward.sandbox.frames import CHUNK

__all__ = ["clear", "pack", "snapshot", "unpack"]


_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _Sink(io.RawIOBase):
    def __init__(self, give: Callable[[bytes], None]) -> None:
        self._give, self._held = give, bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._held += data
        if len(self._held) >= CHUNK:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._held:
            self._give(bytes(self._held))
            self._held.clear()


class _Source(io.RawIOBase):
    """The chunks of a parcel as a file; the last one is empty."""

    def __init__(self, take: Callable[[], tuple[dict[str, Any], bytes]]) -> None:
        self._take, self._held, self.ended = take, bytearray(), False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        while not self.ended and (size < 0 or len(self._held) < size):
            header, chunk = self._take()
            self._held += chunk
            self.ended = bool(header.get("last"))
        size = len(self._held) if size < 0 else size
        given = bytes(self._held[:size])
        del self._held[:size]
        return given

    def skip(self) -> None:
        """Read to the end, so that the next frame is a new request, whatever went wrong with this one."""
        while not self.ended:
            self._held.clear()
            self.read(CHUNK)


def unpack(target: str, take: Callable[[], tuple[dict[str, Any], bytes]], whose: Account | None = None) -> None:
    """Write a parcel's files into the folder `target`. They are ours, unless it is said whose."""
    source = _Source(take)
    uid, gid = (os.getuid(), os.getgid()) if whose is None else whose[:2]
    try:
        make(target, whose)
        with tarfile.open(fileobj=source, mode="r|") as archive:
            # It comes from the owner, who may write what they like into their own sandbox.
            archive.extraction_filter = _as_it_is
            for member in archive:
                member.uid, member.gid = uid, gid
                member.uname = member.gname = ""
                archive.extract(member, target)
    except tarfile.TarError as error:
        raise ValueError(str(error)) from None
    finally:
        source.skip()


def _as_it_is(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
    return member


def clear(target: str, whose: Account | None = None) -> None:
    """Make `target` an empty folder. What is in the way of it, link or file, is removed; no link is followed.

    It, and what had to be made above it, is theirs of whom it is said.
    """
    at = os.open("/", _FOLDER)
    try:
        for part in [part for part in target.split("/") if part not in {"", "."}]:
            below = _entered(part, at, whose)
            os.close(at)
            at = below
        with suppress(OSError):
            os.fchmod(at, 0o755)
        if whose is not None:
            os.fchown(at, whose.uid, whose.gid)
        _empty(at)
    finally:
        os.close(at)


def _entered(name: str, at: int, whose: Account | None = None) -> int:
    """The folder of this name, made where there is none or something else has its name."""
    for _ in range(2):
        try:
            return os.open(name, _FOLDER, dir_fd=at)
        except PermissionError:
            os.chmod(name, 0o755, dir_fd=at)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=at)
            os.mkdir(name, 0o755, dir_fd=at)
            if whose is not None:
                os.chown(name, whose.uid, whose.gid, dir_fd=at, follow_symlinks=False)
    return os.open(name, _FOLDER, dir_fd=at)


def _empty(at: int) -> None:
    """Remove all that is in a folder. What a folder in it holds is moved up first: it may be deeper than any path."""
    while names := os.listdir(at):
        for name in names:
            if not _is_folder(name, at):
                os.unlink(name, dir_fd=at)
                continue
            inner = _entered(name, at)
            try:
                with suppress(OSError):
                    os.fchmod(inner, 0o700)
                for one in os.listdir(inner):
                    if _is_folder(one, inner):
                        os.chmod(one, 0o700, dir_fd=inner)  # a folder that is moved is written to
                        os.rename(one, os.urandom(16).hex(), src_dir_fd=inner, dst_dir_fd=at)
                    else:
                        os.unlink(one, dir_fd=inner)
            finally:
                os.close(inner)
            os.rmdir(name, dir_fd=at)


def _is_folder(name: str, at: int) -> bool:
    return stat.S_ISDIR(os.lstat(name, dir_fd=at).st_mode)


def pack(source: str, give: Callable[[bytes], None], most: int) -> None:
    """Give a file, named `.`, or all that is in a folder, in chunks. Links are given as links, never followed.

    Raises ValueError where that is more than `most` bytes: a file may be longer than the disk.
    """
    top = os.path.realpath(source)
    os.lstat(top)
    sink = _Sink(give)
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        for path in _walk(top):
            try:
                archive.inodes.clear()  # type: ignore[attr-defined]  # a second hard link is given whole
                member = archive.gettarinfo(path, os.path.relpath(path, top))
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                if member.isdir() or member.issym():
                    archive.addfile(member)
                elif member.isreg():
                    most -= member.size
                    if most < 0:
                        raise ValueError(f"{source} holds more than may be taken out at once")
                    with _opened(path) as content:
                        archive.addfile(member, _Exactly(content, member.size))
            except OSError:  # gone or unreadable since it was listed
                continue
    sink.flush()


def _opened(path: str) -> BinaryIO:
    """A file that may have become a link or a pipe since it was looked at: neither is followed nor waited for."""
    return open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")


class _Exactly(io.RawIOBase):
    """A file that is as long as was said, also when somebody writes to it or cuts it meanwhile."""

    def __init__(self, file: Any, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int = -1) -> bytes:
        size = self._left if size < 0 else min(size, self._left)
        data: bytes = self._file.read(size)
        data += bytes(size - len(data))
        self._left -= len(data)
        return data


def _walk(top: str) -> Iterator[str]:
    """A path and all under it, each folder before what it holds, by name. No recursion: folders may be deep."""
    ahead = [top]
    while ahead:
        path = ahead.pop()
        yield path
        with suppress(OSError):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                ahead += [os.path.join(path, name) for name in sorted(os.listdir(path), reverse=True)]


def snapshot(source: str, without: list[str], most: int) -> Iterator[bytes]:
    """What is in a folder, as lines of JSON `[path, mode, digest]`, by path. Times are left out.

    A file of more than `most` bytes has its size for a digest.
    """
    top = os.path.realpath(source)
    lines: list[str] = []
    for path in _walk(top):
        name = os.path.relpath(path, top)
        if name == "." or any(name == one or name.startswith(f"{one}/") for one in without):
            continue
        lines.append(json.dumps([os.fsencode(name).decode(errors="replace"), *_entry(path, most)]))
        if len(lines) >= 1000:
            yield "\n".join(lines).encode()
            lines = []
    if lines:
        yield "\n".join(lines).encode()


def _entry(path: str, most: int) -> tuple[str, str]:
    try:
        seen = os.lstat(path)
        kind, bits = stat.S_IFMT(seen.st_mode), f"{stat.S_IMODE(seen.st_mode):04o}"
        if kind == stat.S_IFLNK:
            return "link", hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()
        if kind == stat.S_IFDIR:
            return bits, "folder"
        if kind != stat.S_IFREG:
            return bits, "special"
        if seen.st_size > most:
            return bits, f"{seen.st_size} bytes"
        digest = hashlib.sha256()
        with _opened(path) as content:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
        return bits, digest.hexdigest()
    except OSError as error:
        return "?", f"unreadable: {error.strerror}"
