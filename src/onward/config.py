"""Environment, files and flags become one frozen value here; nothing else reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

__all__ = ["Flags", "Settings", "settings"]


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
    """Settings from flags, then the environment, then a `.env` file in the working folder."""
    from dotenv import dotenv_values

    stated = dict(os.environ if environment is None else environment)
    written = {name: value for name, value in dotenv_values((folder or Path()) / ".env").items() if value}
    known = {**written, **stated}
    keys = {name: value for name, value in known.items() if name.endswith(("_KEY", "_TOKEN")) and value}
    urls = {name: known[variable] for name, variable in _BASE_URLS.items() if known.get(variable)}
    where = store or Path(known.get("ONWARD_STORE") or "runs")
    return Settings(where, keys, urls, dict(prices or {}), flags or Flags())
