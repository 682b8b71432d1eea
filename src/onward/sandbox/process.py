"""A trusted sandbox: the host as it is, but for a process tree, /tmp, HOME and a working folder of its own.

For agents that are trusted with the machine, and for machines without user namespaces. What of it the machine cannot
give is said in `notes`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

from onward.errors import UsageError
from onward.sandbox import runtime
from onward.sandbox.bubblewrap import bwrap, given, grouped, reaches
from onward.sandbox.marks import MARKER
from onward.sandbox.supervised import LIB, PATH, Supervised

__all__ = ["Process", "ways"]

_START = "import sys; sys.path.insert(0, {lib!r}); from onward.sandbox.inside import main; main()"
_UNSHARE = ("--pid", "--fork", "--kill-child", "--mount-proc")


@cache
def ways() -> tuple[str, str]:
    """How a process tree of its own can be had here: `bwrap`, `unshare` or `` (not at all); and why not the better."""
    whole = ["--unshare-pid", "--as-pid-1", *_mapped()]
    why = reaches(*whole)
    if not why:
        return "bwrap", ""
    unshare = shutil.which("unshare", path=PATH)
    if unshare is not None and os.geteuid() == 0 and _works(unshare):
        return "unshare", why
    return "", why


def _works(unshare: str) -> bool:
    asked = subprocess.run([unshare, *_UNSHARE, "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return asked.returncode == 0


def _mapped() -> list[str]:
    """Without privileges bubblewrap needs a user namespace; in it we stay who we are."""
    return [] if os.geteuid() == 0 else ["--unshare-user", "--uid", str(os.geteuid()), "--gid", str(os.getegid())]


class Process(Supervised):
    """The host's files, network and user; its own processes and paths."""

    def _environment(self) -> dict[str, str] | None:
        return {**(super()._environment() or {}), "LANG": "C.UTF-8"}

    def _said_to_begin(self) -> dict[str, Any]:
        said = super()._said_to_begin()
        own: dict[str, str] = {} if self._way == "bwrap" else {"TMPDIR": str(self.folder.path / "tmp")}
        if not self._way:
            own[MARKER] = self.id
        if self.spec.socket is not None and self._way != "bwrap":
            said["socket"] = str(self.spec.socket.absolute())
        return {**said, "env": {**said["env"], **own}}

    async def _command(self) -> list[str]:
        self._way, why = await asyncio.to_thread(ways)
        for name in self.own().values():
            (self.folder.path / name).mkdir()
        if not self.spec.network:
            self.note("the network is the host's")
        if self.spec.disk is not None:
            self.note("the disk is not limited")
        if self._way == "bwrap":
            command = [bwrap()[0], *_mapped(), "--unshare-pid", "--as-pid-1", "--die-with-parent", "--new-session",
                       *self._host(), *await given(self), "--chdir", self.workdir, "--"]  # fmt: skip
            return grouped(self, command + runtime.start(f"{LIB}/python", LIB))
        if self.spec.folders:
            wanted = ", ".join(self.spec.folders)
            raise UsageError(f"{wanted} cannot be a sandbox's own on this machine but in a container: {why}")
        self.home, self.workdir = str(self.folder.path / "home"), str(self.folder.path / "work")
        self.note(f"HOME, the working folder and /tmp have another path each time: {why}")
        inside = [sys.executable, "-I", "-S", "-c", _START.format(lib=str(self.folder.path / "lib"))]
        if self._way == "unshare":
            return grouped(self, [shutil.which("unshare", path=PATH) or "unshare", *_UNSHARE, *inside])
        self.note("no process tree of its own: what it leaves behind is found by its environment")
        return grouped(self, inside)

    def _host(self) -> Iterator[str]:
        """The host's files, but for our own places: what is in the way of one is bound around it."""
        places = self.own()
        holes = {PurePosixPath(path) for path in (*places, LIB, "/proc")}
        yield from self._around(Path("/"), holes)
        yield from ("--proc", "/proc")
        for path, name in places.items():
            yield from ("--bind", str(self.folder.path / name), path)

    def _around(self, folder: Path, holes: set[PurePosixPath]) -> Iterator[str]:
        for path in sorted(folder.iterdir()):
            pure = PurePosixPath(path)
            if pure in holes:
                continue
            if path.is_symlink():
                yield from ("--symlink", os.readlink(path), str(path))
            elif any(pure in hole.parents for hole in holes):
                yield from self._around(path, holes)
            else:
                yield from ("--dev-bind-try", str(path), str(path))
