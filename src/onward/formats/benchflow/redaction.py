"""What BenchFlow's redaction did to a recording: it replaces what looks like a secret before it stores anything.

It finds too much (`token = next(tokens)` became `token = ***REDACTED***`), and what it took is nowhere else. So a
request holds text that no agent will send again, and an answer may hold code that was never written. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

__all__ = ["MARK", "Damage", "damages"]

MARK = "***REDACTED***"
_AROUND = 40
"""Characters shown on either side of a mark."""


class Damage(NamedTuple):
    """One text in which something was replaced."""

    path: str
    """Where in the body: `messages[2].content[0].text`."""
    text: str
    """The whole text, as it was stored."""

    @property
    def excerpt(self) -> str:
        """What lies around the first mark."""
        at = self.text.index(MARK)
        start, stop = max(at - _AROUND, 0), at + len(MARK) + _AROUND
        return ("…" if start else "") + self.text[start:stop] + ("…" if stop < len(self.text) else "")


def damages(value: Any, path: str = "") -> Iterator[Damage]:
    """Every text in a JSON value with a mark in it. A text that is itself JSON (a call's arguments) is looked into."""
    if isinstance(value, str):
        if MARK in value:
            yield from _in_text(value, path)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from damages(item, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from damages(item, f"{path}[{index}]")


def _in_text(text: str, path: str) -> Iterator[Damage]:
    inner: Any = None
    if text[:1] in "{[":
        try:
            inner = json.loads(text)
        except (ValueError, RecursionError):
            inner = None
    if isinstance(inner, dict | list):
        yield from damages(inner, path)
    else:
        yield Damage(path, text)
