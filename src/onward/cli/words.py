"""How numbers, times and errors read."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from onward.amounts import count, money
from onward.errors import OnwardError

__all__ = ["count", "joined", "moment", "money", "percent", "span", "trouble"]


def percent(value: float, *, digits: int = 1) -> str:
    """A mean score: `41.2 %` where it lies between 0 and 1, else as it is."""
    return f"{100 * value:.{digits}f} %" if -1e-9 <= value <= 1 + 1e-9 else f"{value:.3g}"


def span(seconds: float) -> str:
    """`0:07`, `12:31`, `2:05:00`."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def moment(iso: str, now: float) -> str:
    """A UTC time as a person here says it: `02:14`, `yesterday 02:14`, `3 May 02:14`."""
    then = datetime.fromisoformat(iso).astimezone()
    today = datetime.fromtimestamp(now, UTC).astimezone().date()
    clock = f"{then:%H:%M}"
    if then.date() == today:
        return clock
    if then.date() == today - timedelta(days=1):
        return f"yesterday {clock}"
    year = f" {then.year}" if then.year != today.year else ""
    return f"{then.day} {then:%B}{year} {clock}"


def trouble(error: BaseException) -> tuple[str, int]:
    """An error in one line, and the exit code that it means (SEMANTICS §8)."""
    if isinstance(error, OnwardError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        name = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENOSPC:
            return f"{name}the disk is full. What was recorded is safe: make room, then `onward resume`", 3
        return f"{name}{error.strerror or error}", 1
    if isinstance(error, KeyboardInterrupt):
        return "interrupted: what was recorded until then stands", 3
    return f"{type(error).__name__}: {error}", 1


def joined(words: Iterable[str]) -> str:
    """With dots between."""
    return " · ".join(word for word in words if word)
