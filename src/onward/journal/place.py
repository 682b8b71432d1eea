"""The folder a journal lies in: private to its user, on a disk of this machine, and known by its inode."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

from onward.errors import UsageError

__all__ = [
    "file_system", "inode_of", "make_folder", "make_private", "refuse_network", "refuse_read_only", "sync_names",
]  # fmt: skip

_NETWORK = frozenset({
    "nfs", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "gpfs", "beegfs",
    "fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.davfs", "davfs", "ncpfs",
})  # fmt: skip
_OCTAL = re.compile(r"\\([0-7]{3})")


def file_system(folder: Path, mounts: str) -> str:
    """The type of the file system a folder is on, by the text of `mountinfo`; empty where that does not say."""
    path, best, found = str(folder), -1, ""
    for line in mounts.splitlines():
        left, dash, right = line.partition(" - ")
        words = left.split(" ")
        if not dash or len(words) < 5:
            continue
        point = _OCTAL.sub(lambda code: chr(int(code[1], 8)), words[4])
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:  # of two mounts at one place the later hides the earlier
            best, found = len(point), right.split(" ")[0]
    return found


def refuse_network(folder: Path) -> None:
    """Raise UsageError for a network file system: its locks and its mapped memory do not hold what SQLite needs."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        return
    kind = file_system(folder.resolve(), mounts)
    if kind in _NETWORK:
        raise UsageError(
            f"{folder} is on a network file system ({kind}), where a run could be lost or driven twice: put the run on "
            "a local disk and copy it when it is done, or allow it at your own risk"
        )


def inode_of(folder: Path) -> int:
    """What tells a folder from its copy."""
    return os.stat(folder).st_ino


def refuse_read_only(path: Path) -> None:
    """Raise OSError where nothing can be written to this file and beside it."""
    if os.statvfs(path.parent).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, "the run cannot be written: it is on a read-only file system", str(path))
    if not os.access(path, os.W_OK) or not os.access(path.parent, os.W_OK):
        raise OSError(
            errno.EACCES, "the run cannot be written: its folder or file is read-only for this user", str(path)
        )


def sync_names(folder: Path) -> None:
    """Make the names in this folder durable. A file that is synced can still lose its name when the power fails."""
    try:
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except PermissionError:  # one that we may pass through and not read (somebody else's) cannot be synced by us
        return
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def make_folder(folder: Path, mode: int = 0o777) -> None:
    """Make the folder and those above it, where they are missing; their names are durable."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    for made in reversed(missing):
        sync_names(made.parent)


def make_private(folder: Path) -> None:
    """Make the folder, for its user alone."""
    make_folder(folder, 0o700)
    if folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
