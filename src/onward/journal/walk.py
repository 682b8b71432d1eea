"""Which blobs a row needs, followed to the end: every one is read once, however many rows name it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from onward.entry import Row, link_of
from onward.errors import Damaged

__all__ = ["Walk"]

_Mark = tuple[bytes, bool]


class Walk:
    """Follows what rows name. `fetch` gives a blob, or raises Damaged where it is absent or edited."""

    def __init__(self, fetch: Callable[[bytes], bytes]) -> None:
        self._fetch = fetch
        self._ends: dict[_Mark, str | None] = {}
        """How following a value (False) or a link of a chain (True) ended, so that a long history is walked once."""

    def fault(self, row: Row) -> str | None:
        """The first thing wrong with the blobs that this row names, if any is."""
        return self._text(row.body)

    def _text(self, text: str) -> str | None:
        if '"$' not in text:
            return None
        try:
            return self._value(json.loads(text))
        except (ValueError, RecursionError) as error:
            return f"it is not JSON: {error}"

    def _value(self, value: Any) -> str | None:
        if isinstance(value, list):
            return _first(self._value(item) for item in value)
        if not isinstance(value, dict):
            return None
        if "$text" in value:
            return self._named(value["$text"], is_value=False)
        if "$blob" in value:
            return self._named(value["$blob"], is_value=False)
        if "$json" in value:
            return self._named(value["$json"], is_value=True)
        if "$chain" in value:
            return self._chain(_digest(value["$chain"]))
        inner = value.get("$plain", value)
        return _first(self._value(item) for item in inner.values()) if isinstance(inner, dict) else None

    def _named(self, name: Any, *, is_value: bool) -> str | None:
        digest = _digest(name)
        mark = (digest, False)
        if mark not in self._ends:
            try:
                content = self._fetch(digest)
                self._ends[mark] = self._text(content.decode()) if is_value else None
            except (Damaged, UnicodeDecodeError) as error:
                self._ends[mark] = str(error)
        return self._ends[mark]

    def _chain(self, link: bytes) -> str | None:
        passed, fault = list[_Mark](), None
        while (mark := (link, True)) not in self._ends:
            passed.append(mark)
            try:
                link, body = link_of(self._fetch(link))
                fault = self._text(body.decode())
            except (Damaged, UnicodeDecodeError) as error:
                fault = str(error)
            if fault is not None or not link:
                break
        else:
            fault = self._ends[mark]
        for mark in passed:
            self._ends[mark] = fault
        return fault


def _first(faults: Any) -> str | None:
    return next((fault for fault in faults if fault is not None), None)


def _digest(name: Any) -> bytes:
    try:
        return bytes.fromhex(name)
    except (ValueError, TypeError):
        return b""
