"""Sandboxes: `open_sandbox(spec, place)` gives one, `reap` removes what a killed run left, `available` says what works.

A trust boundary: a sandbox receives a URL and an environment, and knows nothing of gateways, journals or runs.
"""

from __future__ import annotations

from onward.errors import UsageError
from onward.sandbox import cgroups
from onward.sandbox.bubblewrap import Bubblewrap, bwrap, reaches
from onward.sandbox.container import Container
from onward.sandbox.contract import (
    KINDS,
    Bind,
    Finding,
    Left,
    Place,
    Ran,
    Sandbox,
    SandboxFailed,
    Snapshot,
    Spec,
    Taken,
)
from onward.sandbox.images import Engine, docker_at, engines
from onward.sandbox.process import Process, ways
from onward.sandbox.reap import reap
from onward.sandbox.scratch import scratch, sweep

__all__ = [
    "KINDS", "Bind", "Engine", "Finding", "Left", "Place", "Ran", "Sandbox", "SandboxFailed", "Snapshot", "Spec",
    "Taken", "available", "docker_at", "open_sandbox", "reap", "scratch", "sweep",
]  # fmt: skip


def open_sandbox(spec: Spec, place: Place, engine: Engine | None = None) -> Sandbox:
    """A sandbox of the kind that is asked for, not started yet. `engine`: a container's, by default what is found."""
    if spec.kind == "process":
        return Process(spec, place)
    if spec.kind == "bubblewrap":
        return Bubblewrap(spec, place)
    if spec.kind == "container":
        return Container(spec, place, engine=engine)
    raise UsageError(f"there is no sandbox called {spec.kind!r}: {', '.join(KINDS)}")


def available() -> list[Finding]:
    """What works on this machine, and how to get the rest. It is tried, not guessed."""
    way, why = ways()
    whole = {"bwrap": "with a process tree, /tmp, HOME and working folder of its own"}
    said = whole.get(way) or f"with {'a' if way else 'no'} process tree of its own; bwrap would do better: {why}"
    found = [Finding("sandbox process", "ok" if way == "bwrap" else "note", said)]
    missing = reaches("--unshare-user", "--unshare-all", "--as-pid-1", "--uid", "1000", "--gid", "1000")
    found.append(Finding("sandbox bubblewrap", "note" if missing else "ok", missing or f"{bwrap()[0]} works"))
    limited = cgroups.where("onward-doctor", {"memory", "pids", "cpu"})
    lacking = sorted({"memory", "pids", "cpu"} - set(limited))
    short = f"{', '.join(lacking)} cannot be limited for a sandbox as a whole, only in containers"
    found.append(Finding("sandbox limits", "note" if lacking else "ok", short if lacking else "by control groups"))
    for name, engine in engines().items():
        works = isinstance(engine, Engine)
        found.append(
            Finding(f"sandbox container, {name}", "ok" if works else "note", "works" if works else str(engine))
        )
    return found
