"""Removing what a killed run left: processes, containers, control groups, folders. Every start of a run does it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

from onward.sandbox import cgroups, marks
from onward.sandbox.contract import Left

__all__ = ["LABEL", "PLACE_LABEL", "kill", "reap", "reap_one"]

LABEL, PLACE_LABEL = "onward.sandbox", "onward.place"
_WAIT = 2000  # milliseconds for a killed process to be gone
_ROUNDS = 50
_ENGINE_WAIT = 60.0


def reap(root: Path, ids: Iterable[str] | None = None, engines: Sequence[Sequence[str]] = ()) -> list[Left]:
    """Remove these sandboxes, whoever has them; or, without ids, all of this place that no living process has.

    `engines` are container engines' commands, asked for containers of this place whose folder is gone. What was found
    is returned, a sandbox each.
    """
    root = root.absolute()
    if ids is not None:
        wanted = dict.fromkeys(ids)
    else:
        wanted = dict.fromkeys(id for id in marks.folders(root) if not marks.in_use(root, id))
    done = [reap_one(root, id, engines) for id in wanted]
    if ids is None:
        for engine in engines:
            named = _labelled(engine, f"{PLACE_LABEL}={marks.digest(root)}")
            lost = [id for id in named if id not in wanted and not marks.in_use(root, id)]
            done += [reap_one(root, id, engines) for id in lost]
    return [left for left in done if left]


def reap_one(root: Path, id: str, engines: Sequence[Sequence[str]] = ()) -> Left:
    """Remove one."""
    folder = marks.Folder(root, id)
    noted = [line.split("\t") for line in folder.noted("engine")]
    groups = [Path(line) for line in folder.noted("groups") if Path(line).name == id]
    failed: list[str] = []
    containers = 0
    for engine in dict.fromkeys(tuple(one) for one in [*noted, *engines]):
        containers += _remove_containers(engine, id, failed)
    names = _end(id, groups, failed)
    removed = 0
    for group in groups:
        if group.is_dir():
            removed += 1
            failed += filter(None, [cgroups.remove(group)])
    there = folder.path.is_dir()
    if not failed:  # the folder knows what else there is: it goes last
        failed += filter(None, [marks.remove(folder.path)])
    return Left(id, tuple(names), containers, removed, int(there), tuple(failed))


def _end(id: str, groups: list[Path], failed: list[str]) -> list[str]:
    """Kill all that carry the mark or are in the groups, and wait until they are gone; their names."""
    names: dict[int, str] = {}
    for _ in range(_ROUNDS):
        pids = marks.carrying(id).union(*map(cgroups.members, groups)) - {os.getpid()}
        if not pids:
            return list(names.values())
        names |= kill(pids)
    failed.append(f"{id}: processes that do not end: {', '.join(names.values())}")
    return list(names.values())


def kill(pids: Iterable[int]) -> dict[int, str]:
    """Kill these processes and wait until they are gone; their names. All are stopped first: none starts another."""
    names: dict[int, str] = {}
    doomed = []
    for pid in pids:
        with suppress(OSError):
            doomed.append(os.pidfd_open(pid))
            names[pid] = Path(f"/proc/{pid}/comm").read_text().strip()
            signal.pidfd_send_signal(doomed[-1], signal.SIGSTOP)
    for descriptor in doomed:
        with suppress(OSError):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
    for descriptor in doomed:
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        waiting.poll(_WAIT)
        os.close(descriptor)
    return names


def _asked(engine: Sequence[str], *arguments: str) -> list[str]:
    """What an engine says, a line each. Raises OSError or SubprocessError."""
    done = subprocess.run(
        [*engine, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_ENGINE_WAIT,
        check=True,
        text=True,
    )
    return done.stdout.split()


def _labelled(engine: Sequence[str], label: str) -> list[str]:
    with suppress(OSError, subprocess.SubprocessError):
        return _asked(engine, "ps", "--all", "--filter", f"label={label}", "--format", "{{.Names}}")
    return []


def _remove_containers(engine: Sequence[str], id: str, failed: list[str]) -> int:
    """Remove those with this id's label; how many there were."""
    seen: set[str] = set()
    for _ in range(_ROUNDS):
        try:
            found = _asked(engine, "ps", "--all", "--quiet", "--filter", f"label={LABEL}={id}")
        except (OSError, subprocess.SubprocessError) as error:
            failed.append(f"{engine[0]}: {error}")
            return len(seen)
        if not found:
            return len(seen)
        for one in found:
            for how in (["kill"], ["rm", "--force", "--volumes"]):  # `rm` alone may ask first, and wait for ten seconds
                with suppress(OSError, subprocess.SubprocessError):
                    _asked(engine, *how, one)
        if seen.issuperset(found):
            select.poll().poll(100)  # it removes itself, as it was told to when it was made, and is not through with it
        seen.update(found)
    failed.append(f"{engine[0]}: containers of {id} that cannot be removed: {', '.join(seen)}")
    return len(seen)
