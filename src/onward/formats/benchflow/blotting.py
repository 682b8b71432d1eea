"""Keys out of what is exported: their very values, nowhere else, in texts as JSON has them and never in JSON as text.

What looks like a secret is left alone. A pattern that finds names such as `token` breaks the code that agents write,
and what was broken cannot be mended.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from onward.formats.files import SHORTEST

__all__ = ["Blotter"]


class Blotter:
    """Replaces the values of these keys by their names, and counts in how many texts it did."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._forms = [(form, name) for name, value in keys.items() if len(value) >= SHORTEST
                       for form in _forms(value)]  # fmt: skip
        self._bytes = [form.encode("utf-8", "surrogateescape") for form, _ in self._forms]
        self.found: Counter[str] = Counter()
        """By the key's name."""

    def value(self, value: Any) -> Any:
        """A JSON value without them. The very value where there is none."""
        if not self._forms:
            return value
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Mapping):
            return {self.text(name): self.value(item) for name, item in value.items()}
        return [self.value(item) for item in value] if isinstance(value, list) else value

    def text(self, text: str) -> str:
        """A text without them."""
        for form, name in self._forms:
            if form in text:
                self.found[name] += 1
                text = text.replace(form, f"[{name}]")
        return text

    def line(self, raw: bytes) -> bytes:
        """A line of JSON without them: byte for byte as it is where it has none."""
        if not any(form in raw for form in self._bytes):
            return raw
        text = raw.decode("utf-8", "surrogateescape")
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            return self.text(text).encode("utf-8", "surrogateescape")
        return json.dumps(self.value(found)).encode()


def _forms(value: str) -> Iterator[str]:
    """A value as it stands in a text, and in JSON inside one: requests are kept as text in a request."""
    form = value
    for _ in range(3):
        yield form
        escaped = json.dumps(form)[1:-1]
        if escaped == form:
            return
        form = escaped
