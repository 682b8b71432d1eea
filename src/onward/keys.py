"""A step's name: a path. Granularity is depth; "everything under" is a prefix.

    solver/task/trial/generate/0/llm:3f9a1c0d2b7e#1

Names are ids or content, never a position in a list, so inserting a task moves nobody else's key.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

__all__ = ["ROOT", "Key"]

_UNSAFE = re.compile(r"[%/\x00-\x1f\x7f]")


def _escape(name: str) -> str:
    if not name:
        raise ValueError("a name in a key cannot be empty")
    if not _UNSAFE.search(name):
        return name
    return _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", name)


class Key(str):
    """A path of names, as text with `/` between them; a name's own slashes are percent-encoded.

    It is a `str`, so it sorts, hashes and prints as one. `key / "name"` is a child.
    """

    __slots__ = ()

    @classmethod
    def of(cls, *names: str) -> Key:
        """The key made of these names. Raises ValueError on an empty name."""
        return cls("/".join(map(_escape, names)))

    def __truediv__(self, name: str) -> Key:
        return Key(f"{self}/{_escape(name)}" if self else _escape(name))

    @property
    def names(self) -> tuple[str, ...]:
        """The names, decoded."""
        return tuple(unquote(part) for part in self.split("/")) if self else ()

    @property
    def name(self) -> str:
        """The last name, decoded; empty for the root."""
        return unquote(self.rpartition("/")[2])

    @property
    def parent(self) -> Key:
        """The key without its last name."""
        return Key(self.rpartition("/")[0])

    @property
    def depth(self) -> int:
        """How many names it has."""
        return self.count("/") + 1 if self else 0

    def covers(self, other: str) -> bool:
        """Whether `other` is this key or lies under it. The root covers all."""
        return not self or other == self or other.startswith(f"{self}/")


ROOT = Key("")
