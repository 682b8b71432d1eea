"""What differs between two recordings of one episode and no rule covers: where an agent needs a rule of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onward.fingerprint import digest_of
from onward.gateway.normalisers.paths import Difference, differences
from onward.gateway.normalisers.rules import Rules, normalised
from onward.protocols.turns import FORMS

__all__ = ["Uncovered", "uncovered"]

_INDEX = re.compile(r"\[\d+\]")
Body = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Uncovered:
    """A path on which two recordings differ, with `[*]` for positions, how often, and the first such place."""

    path: str
    count: int
    example: Difference


def uncovered(first: Sequence[tuple[str, Body]], second: Sequence[tuple[str, Body]], rules: Rules) -> list[Uncovered]:
    """The paths that differ between two episodes, each a list of (protocol, request body), after the rules.

    Requests are paired by what they are (format, tools, length), and among those alike by how much they share, so that
    lanes that went in another order do not show as differences. What has no partner shows as the path `(request)`.
    """
    found: dict[str, list[Difference]] = {}
    for difference in _all(first, second, rules):
        found.setdefault(_INDEX.sub("[*]", difference.path), []).append(difference)
    return [Uncovered(path, len(here), here[0]) for path, here in sorted(found.items())]


def _all(first: Sequence[tuple[str, Body]], second: Sequence[tuple[str, Body]], rules: Rules) -> Iterator[Difference]:
    ours = [(protocol, normalised(protocol, body, rules)) for protocol, body in first]
    theirs = [(protocol, normalised(protocol, body, rules)) for protocol, body in second]
    sorts = [_sort_of(*one) for one in theirs]
    left = list(range(len(theirs)))
    for protocol, body in ours:
        alike = [at for at in left if sorts[at] == _sort_of(protocol, body)]
        if not alike:
            yield Difference("(request)", f"{protocol}, {len(FORMS[protocol].messages(body))} messages", "none like it")
            continue
        pieces = _pieces(protocol, body)
        best = max(alike, key=lambda at: len(pieces & _pieces(*theirs[at])))
        left.remove(best)
        yield from differences(body, theirs[best][1])
    for at in left:
        protocol, body = theirs[at]
        yield Difference("(request)", "none like it", f"{protocol}, {len(FORMS[protocol].messages(body))} messages")


def _sort_of(protocol: str, body: Body) -> tuple[str, int, tuple[str, ...]]:
    """What a request is. Tools count by name: their descriptions may hold what differs."""
    form = FORMS[protocol]
    tools = form.tools(body)
    names = {str(tool.get("name") or tool.get("function", {}).get("name")) for tool in tools if isinstance(tool, dict)}
    return protocol, len(form.messages(body)), tuple(sorted(names))


def _pieces(protocol: str, body: Body) -> set[str]:
    return {digest_of(message) for message in FORMS[protocol].messages(body)}
