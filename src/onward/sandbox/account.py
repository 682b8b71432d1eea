"""Who runs the commands in a container: the user that its image names, as the image's own files know them.

The first process stays root. What it makes for the user (folders at the top, files from outside) it could not make as
anybody else; what it makes is theirs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Account", "account", "make"]


class Account(NamedTuple):
    """A user by numbers."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str

    def become(self) -> None:
        """In a child, before it becomes a command: be this user, whose its three streams are too."""
        for stream in (0, 1, 2):
            os.fchown(stream, self.uid, self.gid)  # or /dev/stdout could not be opened
        os.setgroups(self.groups)
        os.setgid(self.gid)
        os.setuid(self.uid)


def account(said: str, etc: Path = Path("/etc")) -> Account:
    """The user that an image means by `USER name[:group]`, each a name or a number. Raises ValueError for nobody.

    As container engines read it: a number needs no line in `passwd`, and is in group 0 then.
    """
    name, _, group = said.partition(":")
    known = next((line for line in _lines(etc / "passwd", 7) if name in (line[0], line[2])), None)
    if known is None and not name.isdecimal():
        raise ValueError(f"its image has no user {name!r}")
    uid, own = (int(name), 0) if known is None else (int(known[2]), int(known[3]))
    home = known[5] if known is not None and known[5] else "/"
    groups = list(_lines(etc / "group", 4))
    if group:
        gid = next((int(line[2]) for line in groups if group in (line[0], line[2])), None)
        if gid is None and not group.isdecimal():
            raise ValueError(f"its image has no group {group!r}")
        gid = int(group) if gid is None else gid
        return Account(uid, gid, (gid,), home)
    others = [int(line[2]) for line in groups if known is not None and known[0] in line[3].split(",")]
    return Account(uid, own, tuple(dict.fromkeys([own, *others])), home)


def _lines(path: Path, fields: int) -> Iterator[list[str]]:
    """The lines of such a file that can be read, as fields."""
    if path.is_file():
        for line in path.read_text(errors="replace").splitlines():
            found = line.split(":")
            if len(found) >= fields and found[2].isdecimal() and (fields < 7 or found[3].isdecimal()):
                yield found


def make(folder: str, whose: Account | None) -> None:
    """Make a folder and those above it. What was not there is theirs."""
    missing = []
    path = Path(folder)
    while not path.exists():
        missing.append(path)
        path = path.parent
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        if whose is not None:
            os.chown(path, whose.uid, whose.gid)
