"""What a step depends on, as a hash that can explain itself.

A fingerprint keeps its named parts (`prompt`, `model`, `seed`, …), so that "why does this run again?" has an answer.
The recipe below is versioned: old recipes stay computable, and golden digests are tests, so an upgrade stales nothing.

Recipe 1: each part is SHA-256 over its RFC 8785 (canonical JSON) form; the whole is SHA-256 over the sorted
`name=digest` lines under a header line. Digests are the first 128 bits, in hex.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

import orjson
import rfc8785

from onward.errors import Refused

__all__ = ["RECIPE", "Fingerprint", "canonical", "digest_of", "plain"]

RECIPE = 1
_EXACT = 2**53
"""Integers beyond this have no exact form in JSON as RFC 8785 reads it."""


def _is_plain(value: Any) -> bool:
    """Whether a fast encoder's text is the canonical one: no float, no key outside ASCII, no huge integer."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return bool(-_EXACT < value < _EXACT)
    if kind is dict:
        for name, item in value.items():
            if type(name) is not str or not name.isascii() or (type(item) is not str and not _is_plain(item)):
                return False
        return True
    if kind is list or kind is tuple:
        return all(map(_is_plain, value))
    return False


def canonical(value: Any) -> bytes:
    """The RFC 8785 bytes of a JSON value. 1 and 1.0 are the same number. Raises Refused for what is not JSON."""
    try:
        if _is_plain(value):
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        return rfc8785.dumps(_stringed(value))
    except (ValueError, TypeError, rfc8785.CanonicalizationError) as error:
        raise Refused(f"the value is not JSON: {error}") from None


def _stringed(value: Any) -> Any:
    """Integers beyond 2^53 as tagged text: canonical JSON has no exact form for them."""
    if isinstance(value, bool) or value is None or isinstance(value, str | float):
        return value
    if isinstance(value, int):
        if not -(2**63) <= value < 2**64:
            raise TypeError("an integer beyond 64 bits; write it as text")
        return value if -_EXACT < value < _EXACT else f"int:{value}"
    if isinstance(value, Mapping):
        return {name: _stringed(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_stringed(item) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def _is_exact(value: Any) -> bool:
    """Whether JSON gives back this very value: nothing but dicts, lists, text, finite numbers, true, false and null."""
    kind = type(value)
    if kind is str or value is None or kind is bool or kind is int:
        return True
    if kind is float:
        return math.isfinite(value)
    if kind is dict:
        for name, item in value.items():
            if type(name) is not str or (type(item) is not str and not _is_exact(item)):
                return False
        return True
    return kind is list and all(map(_is_exact, value))


def _copied(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | float):
        return int(value) if isinstance(value, int) else float(value)
    if isinstance(value, Mapping):
        return {str.__str__(name): _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value]


def plain(value: Any) -> Any:
    """The value as a journal gives it back (a tuple is a list there), so that a resumed body sees what the first saw.

    Raises Refused for what is not JSON.
    """
    if not _is_exact(value):
        canonical(value)
        return _copied(value)
    try:
        orjson.dumps(value)
    except TypeError as error:
        raise Refused(f"the value is not JSON: {error}") from None
    return value


def digest_of(value: Any) -> str:
    """32 hex characters for a JSON value: the first 128 bits of SHA-256 over its canonical form."""
    return sha256(canonical(value)).hexdigest()[:32]


class Fingerprint(NamedTuple):
    """A hash of named parts, with the parts' own digests kept. Made with `Fingerprint.of(prompt=…, model=…)`."""

    parts: Mapping[str, str]
    """Part name → the first 12 hex characters of its digest: enough to tell that it changed."""
    digest: str
    recipe: int = RECIPE

    @classmethod
    def of(cls, **parts: Any) -> Fingerprint:
        """The fingerprint of these JSON values, by name. A part that is itself a Digest is taken as it is."""
        return cls.join({name: digest_of(value) for name, value in parts.items()})

    @classmethod
    def join(cls, digests: Mapping[str, str]) -> Fingerprint:
        """The fingerprint of parts whose digests are known already (a hot path computes constant parts once)."""
        names, form = _form(tuple(digests))
        parts = {name: digests[name][:12] for name in names}
        text = form % tuple(map(digests.__getitem__, names))
        return cls(parts, sha256(text.encode()).hexdigest()[:32])

    def changes(self, older: Mapping[str, str]) -> list[str]:
        """Names of the parts that differ from another fingerprint's parts, sorted: the answer to "why again?"."""
        return sorted(name for name in {*self.parts, *older} if self.parts.get(name) != older.get(name))


@lru_cache(maxsize=256)
def _form(names: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The sorted names, and the hashed text with a place for each digest: steps of one kind have the same names."""
    ordered = tuple(sorted(names))
    lines = [f"onward fingerprint {RECIPE}", *(name.replace("%", "%%") + "=%s" for name in ordered)]
    return ordered, "\n".join(lines)
