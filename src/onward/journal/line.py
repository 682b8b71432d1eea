"""A row as it is sealed: plain numbers, and a checksum that covers every row before it too.

The checksum of a row is a hash over the checksum of the row before and this row's content. An edited, removed or
moved row breaks the chain at its place; a lost tail disagrees with the head, which is kept apart.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

from onward.entry import Row

__all__ = [
    "START", "chained", "depth_of", "digits_of", "is_under", "normal", "origin_usd", "taken_over", "time_of",
]  # fmt: skip

START = bytes(16)
"""The chain before the first row."""
_MOST = 2**63
_TIME = re.compile(r"([1-9]\d{3})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)\.(\d{3})Z", re.ASCII)
_DIGITS = len("20261121163131497")


def depth_of(key: str) -> int:
    """How many names a key has."""
    return key.count("/") + 1 if key else 0


def is_under(key: str, prefix: str) -> bool:
    """Whether a key is this prefix or lies below it; all lie below the empty one."""
    return not prefix or key == prefix or key.startswith(prefix + "/")


def digits_of(at: str) -> int | str:
    """A time as it lies in a store: its digits as one number, in eight bytes and in order; other text as it is."""
    found = _TIME.fullmatch(at)
    return int("".join(found.groups())) if found else at


def time_of(digits: int | str) -> str:
    """The inverse of `digits_of`."""
    text = str(digits)
    if isinstance(digits, str) or len(text) != _DIGITS:
        return text
    day, hour = f"{text[:4]}-{text[4:6]}-{text[6:8]}", f"{text[8:10]}:{text[10:12]}:{text[12:14]}"
    return f"{day}T{hour}.{text[14:]}Z"


def normal(row: Row) -> Row:
    """The row with numbers and text of exact types, so that what is read back is what was sealed."""
    _, key, attempt, generation, _, _, _, usd, tokens, _ = row
    if (
        type(key) is str and type(attempt) is type(generation) is int and attempt < _MOST and generation < _MOST
        and (usd is None or (type(usd) is float and usd > 0.0)) and (tokens is None or tokens < _MOST)
    ):  # fmt: skip
        return row
    if usd is not None:
        usd = float(usd) + 0.0  # minus zero does not survive every store
        if math.isnan(usd):
            raise ValueError(f"{row.key}: usd is not a number")
    attempt, generation = int(attempt), int(generation)
    if max(attempt, generation, tokens or 0) >= _MOST:
        raise ValueError(f"{row.key}: a number is too large for a journal")
    return Row(
        row.kind, str(key), attempt, generation, row.outcome, row.fingerprint, row.at, usd, tokens, row.body
    )  # fmt: skip


def chained(before: bytes, row: Row) -> bytes:
    """The checksum of a (normal) row that follows `before`. Raises ValueError for text that is not Unicode."""
    kind, key, attempt, generation, outcome, print_, at, usd, tokens, body = row
    text = f"{kind}\0{key}\0{attempt}\0{generation}\0{outcome}\0{print_}\0{at}\0{usd!r}\0{tokens}\0{body}"
    return sha256(before + text.encode()).digest()[:16]


def taken_over(row: Row) -> Mapping[str, Any] | None:
    """Where a row came from, if it was taken over from another run."""
    if '"origin":' not in row.body:
        return None
    try:
        origin = json.loads(row.body).get("origin")
    except (ValueError, AttributeError):
        return None
    return origin if isinstance(origin, dict) else None


def origin_usd(row: Row) -> float | None:
    """What a row taken over cost where it was made (0.0: unknown); None for this run's own."""
    origin = taken_over(row)
    if origin is None:
        return None
    usd = row.usd if row.usd is not None else origin.get("usd")
    return float(usd) if isinstance(usd, int | float) else 0.0
