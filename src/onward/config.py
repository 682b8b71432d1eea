"""Environment, files and flags become one frozen value here; nothing else reads the environment.

settings(store=…, flags=…)                                   # keys, addresses and flags of one invocation
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onward.errors import UsageError

__all__ = ["Flags", "Settings", "for_child", "settings"]


@dataclass(frozen=True, slots=True)
class Flags:
    """What one invocation asks for. Nothing in it is part of what a run *is*."""

    limit: int | None = None
    until: str | None = None
    resume: bool = False
    resume_from: str | None = None
    max_new: int | None = None
    new: bool = False
    if_exists: str = "auto"
    parents: tuple[str, ...] = ()
    take_over: bool = False
    in_doubt: str = "resend"
    strict: bool = False
    stream: bool = False
    on_divergence: str | None = None
    """`warn`, `strict` or `fork`: what is done where an agent leaves the rails of its record."""
    restart: bool = False
    """Trials that were cut off in the middle begin again, instead of being served what they had recorded."""
    limits: Mapping[str, Any] = field(default_factory=dict)
    """Limits that this invocation sets over the experiment's own: `concurrency`, `budget_usd`, …"""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that comes from outside, read once."""

    store: Path = Path("runs")
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables that end in _KEY or _TOKEN, by name: they reach providers and nothing else."""
    base_urls: Mapping[str, str] = field(default_factory=dict)
    """Base URLs by provider, where the environment gives one (OPENAI_BASE_URL, …)."""
    prices: Mapping[str, str] = field(default_factory=dict)
    flags: Flags = Flags()
    local_log: Path | None = None
    """Where the local model's server writes a line for each request (ONWARD_LOCAL_LOG)."""
    cache: Path = Path(".onward-cache")
    """Where agents are installed for all runs (ONWARD_CACHE, else XDG_CACHE_HOME/onward, else ~/.cache/onward)."""

    def having(self, **changes: Any) -> Settings:
        """The same with other flags."""
        return replace(self, flags=replace(self.flags, **changes))


_BASE_URLS = {
    "openai": "OPENAI_BASE_URL",
    "anthropic": "ANTHROPIC_BASE_URL",
    "google": "GOOGLE_GEMINI_BASE_URL",
}


def settings(
    *, store: Path | None = None, flags: Flags | None = None, prices: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None, folder: Path | None = None,
) -> Settings:  # fmt: skip
    """Settings from flags, then the environment, then a `.env` file in the working folder.

    Raises UsageError for a `.env` that is not text.
    """
    stated = dict(os.environ if environment is None else environment)
    known = {**_dotenv((folder or Path()) / ".env"), **stated}
    keys = {name: value for name, value in known.items() if name.endswith(("_KEY", "_TOKEN")) and value}
    urls = {name: known[variable] for name, variable in _BASE_URLS.items() if known.get(variable)}
    where = store or Path(known.get("ONWARD_STORE") or "runs")
    log = known.get("ONWARD_LOCAL_LOG")
    return Settings(
        where, keys, urls, dict(prices or {}), flags or Flags(), Path(log) if log else None, _cache(known, where)
    )


def _cache(known: Mapping[str, str], store: Path) -> Path:
    if known.get("ONWARD_CACHE"):
        return Path(known["ONWARD_CACHE"]).absolute()
    try:
        shared = Path(known.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:  # a user without a home, as in some containers
        shared = store / ".cache"
    return shared.absolute() / "onward"


def for_child(variables: Mapping[str, str], secrets: Collection[str]) -> dict[str, str]:
    """The environment of a program that is started here: ours, without whatever holds one of these secrets, and with
    these variables. What it sends to this machine goes through no proxy."""
    kept = {name: value for name, value in os.environ.items() if not any(secret in value for secret in secrets)}
    for name in ("NO_PROXY", "no_proxy"):
        kept[name] = ",".join(filter(None, (kept.get(name, ""), "127.0.0.1,localhost")))
    return {**kept, **variables}


def _dotenv(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    from dotenv import dotenv_values

    try:
        return {name: value for name, value in dotenv_values(path, interpolate=False).items() if value}
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
