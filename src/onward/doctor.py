"""Whether this machine has what runs need: findings, not words on a screen. `examine` changes nothing."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from onward.agents import AGENTS, agent
from onward.agents.contract import Said
from onward.agents.rehearsing import rehearse
from onward.config import Settings
from onward.errors import UsageError
from onward.gateway import PROVIDERS
from onward.gateway.local import LocalModel
from onward.journal.place import file_system, refuse_network
from onward.journal.space import FLOOR
from onward.sandbox import available
from onward.staging import place_of, swept

__all__ = ["Finding", "agents", "clean", "examine", "rehearsed", "split"]

_PACKAGES = ("aiohttp", "pydantic", "pyyaml", "rich", "typer", "genai-prices")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `state`: `ok`, `note` (something is not there that need not be), or `bad`."""

    what: str
    state: str
    said: str


def examine(settings: Settings) -> list[Finding]:
    """Everything, in the order in which it matters."""
    return [
        *_software(), *_store(settings.store), *_keys(settings), _local(), *_sandboxes(), *agents(settings),
    ]  # fmt: skip


def _software() -> Iterator[Finding]:
    own = ".".join(map(str, sys.version_info[:3]))
    yield Finding("Python", "ok" if sys.version_info >= (3, 11) else "bad", f"{own} at {sys.executable}")
    yield Finding("Onward", "ok", version("onward"))
    found, missing = [], []
    for package in _PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    lacking = f"; missing: {', '.join(missing)}" if missing else ""
    yield Finding("packages", "bad" if missing else "ok", ", ".join(found) + lacking)


def _store(store: Path) -> Iterator[Finding]:
    place = store.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    there = "" if store.exists() else f" (will be made in {place})"
    if place.is_dir() and os.access(place, os.W_OK | os.X_OK):
        yield Finding("store", "ok", f"{store} can be written{there}")
    else:
        yield Finding("store", "bad", f"{store} cannot be written: choose another with --store or ONWARD_STORE")
    try:
        mounts = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    except OSError:
        mounts = ""
    try:
        refuse_network(place)
        yield Finding("file system", "ok", file_system(place.resolve(), mounts) or "unknown")
    except UsageError as error:
        yield Finding("file system", "bad", str(error))
    free = shutil.disk_usage(place).free
    said, short = f"{free / 1e9:,.1f} GB free", free < FLOOR
    yield Finding("disk", "bad" if short else "ok", said + (": no call starts below 200 MB" if short else ""))


def _keys(settings: Settings) -> Iterator[Finding]:
    """Which keys are set, by name; never what they are."""
    for name in sorted({provider.key_name for provider in PROVIDERS.values() if provider.key_name}):
        there = bool(settings.keys.get(name))
        models = "/".join(sorted(one.name for one in PROVIDERS.values() if one.key_name == name))
        yield Finding(name, "ok" if there else "note", "set" if there else f"not set: needed for {models} models")
    for name, url in sorted(settings.base_urls.items()):
        yield Finding(f"{name} address", "ok", url.rpartition("@")[2])


def _local() -> Finding:
    try:
        file = LocalModel().check("smollm2")
    except UsageError as error:
        return Finding("local model", "note", str(error))
    return Finding("local model", "ok", f"local/smollm2 ({file.stat().st_size / 1e6:.0f} MB)")


def _sandboxes() -> Iterator[Finding]:
    """Which kinds work here: each is tried."""
    return (Finding(one.what, one.state, one.said) for one in available())


def agents(settings: Settings) -> Iterator[Finding]:
    """Which agents are installed, in the version that is meant where none is named, and how to get the others."""
    for name in AGENTS:
        adapter = agent(name)
        if not adapter.version:
            yield Finding(f"agent {name}", "ok", adapter.summary)
        elif adapter.find(settings.cache, {}):
            yield Finding(f"agent {name}", "ok", f"{adapter.version}: {adapter.summary}")
        else:
            lacks = adapter.lacking()
            how = f"onward agents install {name}"
            yield Finding(f"agent {name}", "note", f"not installed: {f'{lacks}; then {how}' if lacks else how}")


def split(named: str) -> tuple[str, dict[str, str]]:
    """`claude-code@2.1.197` as an agent's name and its options."""
    name, _, version = named.partition("@")
    return name, {"version": version} if version else {}


def rehearsed(settings: Settings, named: str, say: Said) -> list[Finding]:
    """An agent plays a small episode twice against a scripted provider: does it work here, and does a resume of it?

    It is installed if it is not. Raises UsageError, and StepError where the agent comes to no end.
    """
    name, options = split(named)
    adapter = agent(name)
    if not adapter.version:
        raise UsageError(f"{name} has no episode of its own to play: it is whatever it is given")
    place = place_of(settings.store)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = asyncio.run(rehearse(adapter, options, settings.cache, place, say))
    first, second = found.calls
    calls = f"{first} calls through the gateway" if first == second else f"{first} calls, then {second}"
    same = found.same_work and first == second
    work = "the same files both times" if found.same_work else "other files the second time"
    left = "nothing differs" if not found.uncovered else f"{len(found.uncovered)} paths differ"
    return [
        Finding(f"agent {named}", "ok" if same else "bad", f"plays an episode: {calls}, {work}"),
        Finding("rules", "bad" if found.uncovered else "ok", f"{found.rules}: {left} that no rule covers"),
        *(Finding(one.path, "bad", f"{one.count} times, first at {one.example}") for one in found.uncovered),
    ]


def clean(settings: Settings) -> list[str]:
    """Remove what killed runs left of their sandboxes; a line for each."""
    return swept(settings.store, containers=True)
