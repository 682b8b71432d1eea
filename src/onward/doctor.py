"""Whether this machine has what runs need: findings, not words on a screen. It changes nothing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from onward.config import Settings
from onward.errors import UsageError
from onward.gateway import PROVIDERS
from onward.gateway.local import LocalModel
from onward.journal.place import file_system, refuse_network
from onward.journal.space import FLOOR

__all__ = ["Finding", "examine"]

_PACKAGES = ("aiohttp", "pydantic", "pyyaml", "rich", "typer", "genai-prices")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `state`: `ok`, `note` (something is not there that need not be), or `bad`."""

    what: str
    state: str
    said: str


def examine(settings: Settings) -> list[Finding]:
    """Everything, in the order in which it matters."""
    return [*_software(), *_store(settings.store), *_keys(settings), _local()]


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
