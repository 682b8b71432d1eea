"""The images that a Dockerfile starts from, or copies out of: what is built of it depends on them too."""

from __future__ import annotations

import re
from itertools import takewhile

__all__ = ["bases"]

_COMMENT = re.compile(r"^[ \t]*#.*\n?", re.MULTILINE)
_CONTINUED = re.compile(r"\\[ \t]*\n")
_VARIABLE = re.compile(r"\$(?:\{(\w+)(?::-([^{}]*))?[^{}]*\}|(\w+))")
_FROM = re.compile(r"\bfrom=([^\s,]+)")


def bases(dockerfile: str) -> tuple[str, ...]:
    """Their names, without its own stages, and without one that only who builds it knows."""
    stages, found, arguments = {"scratch"}, dict[str, None](), dict[str, str]()
    for line in _CONTINUED.sub(" ", _COMMENT.sub("", dockerfile)).splitlines():
        word, *rest = line.split() or [""]
        options = list(takewhile(lambda one: one.startswith("--"), rest))
        named, alias = _FROM.findall(" ".join(options)), ""
        if word.upper() == "ARG" and not found:
            pairs = (one.partition("=") for one in rest)
            arguments |= {name: value.strip("\"'") for name, _, value in pairs}
        elif word.upper() == "FROM":
            named, (alias, *_) = rest[len(options) :][:1], [*rest[len(options) + 2 :], ""]
        for name in (_filled(one, arguments) for one in named):
            if name and name.lower() not in stages and not name.isdecimal():
                found[name] = None
        stages.add(alias.lower())
    return tuple(found)


def _filled(name: str, arguments: dict[str, str]) -> str:
    return _VARIABLE.sub(lambda one: arguments.get(one[1] or one[3]) or one[2] or "", name)
