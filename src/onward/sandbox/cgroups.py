"""Limits by control groups, version 1 and 2, where this process may make one. Each sandbox has a group of its own."""

from __future__ import annotations

import errno
import os
import select
from contextlib import suppress
from pathlib import Path

__all__ = ["Groups", "members", "memory_of", "out_of_memory", "remove", "where"]

_MOUNTS = Path("/proc/self/mountinfo")
_OWN = Path("/proc/self/cgroup")
_PERIOD = 100_000
_PATIENCE = 200


def _mounted() -> tuple[dict[str, Path], Path | None]:
    """Where each version 1 controller is mounted, and version 2."""
    first: dict[str, Path] = {}
    second = None
    for line in _MOUNTS.read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        point, system = Path(before.split()[4]), after.split()
        if system[0] == "cgroup":
            first |= {name: point for name in system[2].split(",") if name in {"memory", "pids", "cpu"}}
        elif system[0] == "cgroup2":
            second = point
    return first, second


def _own(told: Path = _OWN) -> tuple[dict[str, str], str]:
    """A process's group under each; by default our own."""
    first: dict[str, str] = {}
    second = "/"
    for line in told.read_text().splitlines():
        _, names, path = line.split(":", 2)
        if names:
            first |= dict.fromkeys(names.split(","), path)
        else:
            second = path
    return first, second


def where(id: str, wanted: set[str]) -> dict[str, Path]:
    """The folder a sandbox's group would have for each of `memory`, `pids` and `cpu` that can be limited here."""
    try:
        first, second = _mounted()
        own, own_second = _own()
    except OSError:
        return {}
    found = {}
    for name in wanted:
        if name in first:
            parent = first[name] / own.get(name, "/").lstrip("/")
            if os.access(parent, os.W_OK):
                found[name] = parent / id
        elif second is not None:
            above = _delegated(second, second / own_second.lstrip("/"), name)
            if above is not None:
                found[name] = above / id
    return found


def _delegated(top: Path, group: Path, name: str) -> Path | None:
    """The nearest group at or above ours that may have children with this controller.

    A group of version 2 with processes in it cannot have such children (but the root), so ours is rarely the one.
    """
    while True:
        with suppress(OSError):
            if name in (group / "cgroup.controllers").read_text().split() and os.access(group, os.W_OK):
                control = group / "cgroup.subtree_control"
                if name not in control.read_text().split():
                    control.write_text(f"+{name}")
                return group
        if group == top or top not in group.parents:
            return None
        group = group.parent


class Groups:
    """The groups of one sandbox: made, limited, entered by its first process."""

    def __init__(self, places: dict[str, Path]) -> None:
        self.folders = sorted(set(places.values()))
        self._places = places

    def make(self, memory: int | None, pids: int | None, cpus: float | None) -> None:
        """Make them and set the limits. Raises OSError."""
        for folder in self.folders:
            folder.mkdir(exist_ok=True)
        for name, most in (("memory", memory), ("pids", pids), ("cpu", cpus)):
            place = self._places.get(name)
            if place is None or most is None:
                continue
            if name == "pids":
                (place / "pids.max").write_text(str(int(most)))
            elif name == "cpu":
                self._cpu(place, most)
            else:
                self._memory(place, int(most))

    @staticmethod
    def _cpu(place: Path, cpus: float) -> None:
        quota = max(1000, int(cpus * _PERIOD))
        if (place / "cpu.max").exists():
            (place / "cpu.max").write_text(f"{quota} {_PERIOD}")
        else:
            (place / "cpu.cfs_period_us").write_text(str(_PERIOD))
            (place / "cpu.cfs_quota_us").write_text(str(quota))

    @staticmethod
    def _memory(place: Path, most: int) -> None:
        for limit in ("memory.max", "memory.limit_in_bytes"):
            if (place / limit).exists():
                (place / limit).write_text(str(most))
        # What is swapped out would not count; where swap is not accounted for there is nothing to set.
        for limit, value in (("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", most)):
            with suppress(OSError):
                if (place / limit).exists():
                    (place / limit).write_text(str(value))


def out_of_memory(folders: list[Path]) -> int:
    """How many processes of these groups were killed for want of memory."""
    count = 0
    for folder in folders:
        for name in ("memory.events", "memory.oom_control"):
            with suppress(OSError):
                for line in (folder / name).read_text().splitlines():
                    if line.startswith("oom_kill "):
                        count += int(line.split()[1])
    return count


def memory_of(pid: int) -> list[Path]:
    """The group that limits this process's memory, where it can be seen."""
    first, second = _mounted()
    own, own_second = _own(Path(f"/proc/{pid}/cgroup"))
    if "memory" in first:
        return [first["memory"] / own["memory"].lstrip("/")] if "memory" in own else []
    return [second / own_second.lstrip("/")] if second is not None else []


def members(folder: Path) -> set[int]:
    """The processes in this group."""
    with suppress(OSError):
        return {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
    return set()


def remove(folder: Path) -> str:
    """Remove a group, and those made in it; why not, where that failed."""
    for _ in range(_PATIENCE):
        try:
            for inner in sorted(folder.rglob("*"), key=lambda path: -len(path.parts)):
                if inner.is_dir():
                    inner.rmdir()
            folder.rmdir()
        except FileNotFoundError:
            return ""
        except OSError as error:
            if error.errno != errno.EBUSY:
                return f"{folder}: {error.strerror}"
            select.poll().poll(10)  # what was in it is dead; the kernel has yet to take it out
        else:
            return ""
    return f"{folder}: processes are in it"
