"""How loud, and in which form, the command line speaks: the options that every verb takes, before or after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from onward.errors import UsageError

__all__ = ["LEVELS", "Voice", "heard", "one_of"]

LEVELS = ("debug", "info", "warning", "error")
_FORMATS = ("pretty", "json")


@dataclass(frozen=True, slots=True)
class Voice:
    """What `-q -v --log-level --log-format` came to."""

    level: str = "info"
    json: bool = False
    words: tuple[str, ...] = ()
    """The command line as it was given."""

    @property
    def verbose(self) -> bool:
        """Whether to say what happens to every task, and to show tracebacks."""
        return self.level == "debug"

    @property
    def quiet(self) -> bool:
        """Whether to say nothing but results and errors."""
        return LEVELS.index(self.level) > LEVELS.index("info")

    def hears(self, level: str) -> bool:
        """Whether something of this level is said."""
        return LEVELS.index(level) >= LEVELS.index(self.level)


def one_of(flag: str, value: str, known: Sequence[str]) -> str:
    """The value, if it is one of the known. Raises UsageError that names them all and the nearest."""
    if value in known:
        return value
    near = get_close_matches(value, known, n=1)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    raise UsageError(f"{flag} is one of {', '.join(known)}, not {value!r}.{hint}")


def heard(arguments: Sequence[str]) -> tuple[list[str], Voice]:
    """The arguments without these options, and what they said. What stands after `--` is left alone."""
    voice, left = Voice(words=tuple(arguments)), list[str]()
    waiting = iter(arguments)
    for word in waiting:
        if word == "--":
            return [*left, word, *waiting], voice
        name, equals, value = word.partition("=")
        if word in ("-q", "--quiet"):
            voice = replace(voice, level="warning")
        elif word in ("-v", "--verbose"):
            voice = replace(voice, level="debug")
        elif name in ("--log-level", "--log-format"):
            said = value if equals else next(waiting, "")
            if name == "--log-level":
                voice = replace(voice, level=one_of(name, said.lower(), LEVELS))
            else:
                voice = replace(voice, json=one_of(name, said, _FORMATS) == "json")
        else:
            left.append(word)
    return left, voice
