"""Files from a sandbox onto the host, and the other way. What comes out of a sandbox was written by others.

No name may lead out of the target, nor may a link: neither by what it says nor by way of another one. All files are
written before the first link is made, so nothing is ever written through one.
"""

from __future__ import annotations

import errno
import io
import os
import posixpath
import stat
import tarfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO

from onward.sandbox.contract import SandboxFailed, Taken

__all__ = ["packed", "unpack"]

_NAME = 255
_ITS_NAME = {errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR}  # not this machine's fault


def packed(source: Path | bytes, name: str, into: IO[bytes]) -> bool:
    """Write bytes or a file under this name, or a folder's content, as a parcel; whether it was a folder."""
    with tarfile.open(fileobj=into, mode="w", format=tarfile.PAX_FORMAT) as archive:
        if isinstance(source, bytes):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(source), 0o644
            archive.addfile(member, io.BytesIO(source))
        elif source.is_dir():
            for inner in sorted(source.iterdir()):
                archive.add(inner, inner.name, filter=_nobodys)
        else:
            archive.add(source.resolve(strict=True), name, filter=_nobodys)
    return not isinstance(source, bytes) and source.is_dir()


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member if member.isreg() or member.isdir() or member.issym() or member.islnk() else None


def unpack(parcel: IO[bytes], target: Path, most: int) -> Taken:
    """Write what came out to `target`, which must not be there yet."""
    if os.path.lexists(target):
        raise SandboxFailed(f"{target} is there already: take files out to a new path")
    folders: list[tuple[Path, int]] = []
    links: list[tuple[str, str]] = []
    left_out: dict[str, str] = {}
    files = 0
    try:
        with tarfile.open(fileobj=parcel, mode="r|") as archive:
            for member in archive:
                most -= member.size
                if most < 0:
                    raise SandboxFailed("more came out of the sandbox than may be taken at once")
                name = posixpath.normpath(member.name)
                if problem := _problem(member, name) or _placed(archive, member, target / name):
                    left_out[member.name[:1000]] = problem
                elif member.issym():
                    links.append((name, member.linkname))
                elif member.isdir():
                    folders.append((target / name, member.mode))
                else:
                    files += 1
    except (tarfile.TarError, UnicodeError, ValueError) as error:
        raise SandboxFailed(f"what came out of the sandbox is no parcel: {error}") from None
    for name, text in links:
        if problem := _leads_out(target, name, text) or _told(partial((target / name).symlink_to, text)):
            left_out[name] = problem
        else:
            files += 1
    for folder, mode in reversed(folders):  # last: one that must not be written to can then be filled
        folder.chmod(mode & 0o777)
    return Taken(files, left_out)


def _told(write: Callable[[], None]) -> str:
    """Why this could not be written, where that is due to its name. Raises OSError where this machine is at fault."""
    try:
        write()
    except OSError as error:
        if error.errno not in _ITS_NAME:
            raise
        return error.strerror or str(error)
    return ""


def _placed(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> str:
    if member.isdir():
        return _told(lambda: path.mkdir(mode=0o700, parents=True, exist_ok=True))
    return _told(lambda: _write(archive, member, path)) if member.isreg() else ""


def _problem(member: tarfile.TarInfo, name: str) -> str:
    """Why this may not be written."""
    given = member.name
    if not (member.isreg() or member.isdir() or member.issym()):
        return "neither file, folder nor link"
    if given.startswith("/") or name.startswith(("/", "../")) or name == ".." or "\0" in given:
        return "its name leads out"
    if any(len(os.fsencode(part)) > _NAME for part in name.split("/")):
        return "its name is too long"
    return ""


def _write(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = archive.extractfile(member)
    assert content is not None
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        while chunk := content.read(1 << 20):
            file.write(chunk)
        os.fchmod(file.fileno(), member.mode & 0o777)


def _leads_out(target: Path, name: str, text: str) -> str:
    """Why this link may not be made, if so.

    It may go up no further than the top, and only before it goes down: what it goes down through may itself be a link,
    but one that was held to the same rule. That holds only where the link's own folder is no link.
    """
    folder = target
    above = name.split("/")[:-1]
    for part in above:
        folder /= part
        try:
            if not stat.S_ISDIR(folder.lstat().st_mode):
                return "its folder is a link"
        except OSError:
            return "its folder is not there"
    if name == "." or os.path.lexists(target / name):
        return "something else has its name"
    parts = [part for part in text.split("/") if part not in {"", "."}]
    up = next((n for n, part in enumerate(parts) if part != ".."), len(parts))
    if text.startswith("/") or up > len(above) or ".." in parts[up:]:
        return f"a link that leads out: {text[:200]}"
    return ""
