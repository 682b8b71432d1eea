"""Amounts in words: money, shares, times, counts."""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import Any

__all__ = ["age", "clip", "count", "interval", "mean", "moment", "money", "percent", "seconds"]


def money(usd: float) -> str:
    """`$0.41`; what is less than a cent keeps two figures, so that it is not shown as nothing."""
    if usd == 0 or abs(usd) >= 0.01:
        return f"${usd:,.2f}"
    places = 1 - math.floor(math.log10(abs(usd)))
    return f"${usd:.{min(places, 9)}f}"


def count(number: int, noun: str, plural: str = "") -> str:
    """`1 error`, `4 errors`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def percent(value: float) -> str:
    """`41.2 %`."""
    return f"{100 * value:.1f} %"


def mean(value: float, error: float) -> str:
    """`41.2 ± 1.9 %`."""
    return f"{100 * value:.1f} ± {100 * error:.1f} %"


def interval(low: float, high: float) -> str:
    """`-1.2 to +4.0`, in percentage points."""
    return f"{100 * low:+.1f} to {100 * high:+.1f}"


def moment(at: str) -> str:
    """An ISO time as `2026-11-21 02:14` (UTC)."""
    return at[:16].replace("T", " ")


def age(at: str, now: float) -> str:
    """How long ago an ISO time is at `now` (seconds since the epoch): `40 s ago`, `3 h ago`, `2 days ago`."""
    try:
        passed = max(0.0, now - datetime.fromisoformat(at).timestamp())
    except ValueError:
        return at
    for size, name in ((86400, "day"), (3600, "h"), (60, "min")):
        if passed >= size:
            whole = int(passed // size)
            return f"{whole} {name}{'s' if name == 'day' and whole > 1 else ''} ago"
    return f"{int(passed)} s ago"


def seconds(started: str, ended: str) -> float | None:
    """From one ISO time to another; None where one is missing."""
    try:
        return (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    except ValueError:
        return None


def clip(value: Any, width: int = 60) -> str:
    """A value on one line, cut at `width` characters."""
    text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
