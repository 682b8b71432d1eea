"""The processes under this one, read from /proc. Used inside sandboxes, hence by itself."""

from __future__ import annotations

import os
from contextlib import suppress

__all__ = ["Kin", "kin"]


class Kin(dict[tuple[int, str], str]):
    """Processes as {(pid, when it started): name}. A pid alone may be somebody else's by now."""

    def less(self, others: Kin) -> Kin:
        """Those that are not among the others, nor children of theirs: a service's workers belong to it."""
        theirs = {pid for pid, _ in self.keeping(others)}
        return Kin({one: name for one, name in self.items() if not theirs.intersection(_above(one[0], theirs))})

    def keeping(self, others: Kin) -> Kin:
        """Those that are among the others."""
        return Kin({one: name for one, name in self.items() if one in others})

    def kill(self, number: int) -> None:
        """Send all of them this signal."""
        for pid, _ in self:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    def names(self) -> list[str]:
        """What they are called, in the order they were started, at most 50: a fork bomb is long."""
        return [name for _, name in sorted(self.items(), key=lambda item: (int(item[0][1]), item[0][0]))][:50]


def _fields(pid: int) -> tuple[str, list[str]] | None:
    """The name, and the fields after it: state, parent, …; the name may hold blanks and parentheses."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            text = stat.read()
    except OSError:
        return None
    return text[text.find("(") + 1 : text.rfind(")")], text[text.rfind(")") + 2 :].split()


def _above(pid: int, until: set[int]) -> list[int]:
    """This process, its parent, that one's, … up to one of `until`, or to the first."""
    chain = [pid]
    while until and chain[-1] not in until and (found := _fields(chain[-1])) is not None and int(found[1][1]) > 0:
        chain.append(int(found[1][1]))
    return chain


def kin(of: int = 0) -> Kin:
    """All that descend from this process, or from the one named; zombies left out."""
    root = of or os.getpid()
    parents: dict[int, int] = {}
    seen: dict[int, tuple[str, str]] = {}
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        found = _fields(pid)
        if found is not None:
            parents[pid] = int(found[1][1])
            if found[1][0] not in "ZX":
                seen[pid] = found[1][19], found[0]
    ours = Kin()
    for pid, (started, name) in seen.items():
        above = parents.get(pid, 0)
        for _ in range(len(parents)):
            if above in (root, 0):
                break
            above = parents.get(above, 0)
        if above == root:
            ours[pid, started] = name
    return ours
