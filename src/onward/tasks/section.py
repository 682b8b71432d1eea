"""A mapping of settings, read field by field: what nobody asked for is unknown at the end, and said so."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from onward.functions import did_you_mean

__all__ = ["Remarks", "Section"]

_TEMPLATE = re.compile(r"\$\{([^}:]+)(?::-(.*))?\}", re.DOTALL)


@dataclass(slots=True)
class Remarks:
    """What is to be said of one task folder, each with its file and field."""

    wrong: list[str] = field(default_factory=list)
    """It cannot run, or would be something else than its author meant."""
    told: list[str] = field(default_factory=list)
    """It can run, and this is not done."""


class Section:
    """One mapping of `file`. Each method takes a field out; a value of the wrong kind is noted, and is as if absent."""

    def __init__(self, form: Any, remarks: Remarks, file: str, path: str = "") -> None:
        self.remarks, self.file, self.path = remarks, file, path
        self._left: dict[str, Any] = {}
        self._known: set[str] = set()
        if isinstance(form, Mapping):
            self._left = {str(name): value for name, value in form.items()}
        elif form is not None:
            self.wrong("", f"expected fields, not {form!r}")

    def __contains__(self, name: str) -> bool:
        return self._left.get(name) is not None

    def wrong(self, name: str, said: str) -> None:
        """Note a problem with a field."""
        self.remarks.wrong.append(f"{self._where(name)}: {said}")

    def told(self, name: str, said: str) -> None:
        """Note that a field is not honoured, or not as it is elsewhere."""
        self.remarks.told.append(f"{self._where(name)}: {said}")

    def _where(self, name: str) -> str:
        dotted = ".".join(part for part in (self.path, name) if part)
        return f"{self.file}: {dotted}" if dotted else self.file

    def take(self, name: str) -> Any:
        """The value as it is; None where there is none."""
        self._known.add(name)
        return self._left.pop(name, None)

    def inner(self, name: str) -> Section:
        """The mapping under this name; an empty one where there is none."""
        return Section(self.take(name), self.remarks, self.file, ".".join(part for part in (self.path, name) if part))

    def text(self, name: str) -> str:
        """Text; "" where there is none."""
        value = self.take(name)
        if value is None or isinstance(value, str):
            return (value or "").strip()
        self.wrong(name, f"expected text, not {value!r}")
        return ""

    def number(self, name: str, *, least: float = 0.0, above: bool = True) -> float | None:
        """A finite number above `least` (or from it, without `above`)."""
        value = self.take(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.wrong(name, f"expected a number, not {value!r}")
        elif value < least or (above and value == least):
            self.wrong(name, f"expected a number {'above' if above else 'from'} {least:g}, not {value!r}")
        else:
            return float(value)
        return None

    def truth(self, name: str) -> bool | None:
        """True or false."""
        value = self.take(name)
        if value is None or isinstance(value, bool):
            return value
        self.wrong(name, f"expected true or false, not {value!r}")
        return None

    def texts(self, name: str) -> dict[str, str]:
        """A mapping of names to texts, such as an environment. `${NAME:-else}` is its `else`: nothing of the host's
        environment gets into a sandbox, so one without is a problem."""
        value = self.take(name)
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.wrong(name, f"expected NAME = text, not {value!r}")
            return {}
        found = {}
        for key, item in value.items():
            if not isinstance(item, str) or not str(key) or "=" in str(key) or "\0" in f"{key}{item}":
                self.wrong(f"{name}.{key}", f"expected text, not {item!r}")
                continue
            asked = _TEMPLATE.fullmatch(item)
            if asked is None:
                found[str(key)] = item
            elif asked[2] is not None:
                found[str(key)] = asked[2]
            else:
                self.wrong(
                    f"{name}.{key}",
                    f"asks for the host's {asked[1]}, and nothing of the host's environment gets into a sandbox: "
                    f"write the value, or ${{{asked[1]}:-VALUE}}",
                )
        return found

    def refuse(self, why: str, *names: str, harmless: Collection[Any] = ()) -> None:
        """These fields mean something that Onward cannot do, unless they are empty or `harmless`."""
        for name in names:
            value = self.take(name)
            if value is not None and value not in ({}, [], "", False, 0) and value not in harmless:
                self.wrong(name, why)

    def tell(self, said: str, *names: str) -> None:
        """These fields change nothing here."""
        for name in names:
            if self.take(name) not in (None, {}, [], ""):
                self.told(name, said)

    def ignore(self, *names: str) -> None:
        """These fields are known, and say nothing to a runner."""
        for name in names:
            self.take(name)

    def rest(self) -> None:
        """What was not asked for is unknown."""
        for name in self._left:
            hint = did_you_mean(name, self._known)
            self.told(name, f"unknown field{'.' + hint if 'mean' in hint else ''}")
        self._left = {}
