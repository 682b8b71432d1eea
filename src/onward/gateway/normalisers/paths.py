"""Places in JSON: `messages[*].content[0].text`. Rewriting at many of them in one walk, and where two values differ.

A path is names with dots between them and `[N]` or `[*]` for items of a list; `[*]` is every value of an object too. A
name that is no plain word is written `["like this"]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from onward.errors import UsageError

__all__ = [
    "ABSENT", "GONE", "Difference", "Known", "Place", "differences", "excerpts", "places", "rewritten", "steps_of",
]  # fmt: skip

EACH: Final = -1
"""The step `[*]`."""
GONE: Final = object()
"""What an act returns for a value that is to be left out."""
ABSENT: Final = "(absent)"
"""Stands for a value that one side does not have."""

Memory = dict[str, dict[str, str]]
"""What acts remember within one request: aliases given so far, by rule."""
Act = Callable[[Any, Memory], Any]
Step = str | int

_STEP = re.compile(r'\.?([^.\[\]"]+)|\[(\*|\d+)\]|\[("(?:[^"\\]|\\.)*")\]')
_WORD = re.compile(r"[^.\[\]\"\s]+")
_SHOWN = 240
"""Characters of a text that a difference shows."""


def steps_of(path: str) -> tuple[Step, ...]:
    """The steps of a path; `[*]` is EACH. Raises UsageError for what is no path."""
    steps: list[Step] = []
    at = 0
    while at < len(path):
        found = _STEP.match(path, at)
        if not found or found[0].startswith(".") != bool(found[1] and at):
            raise UsageError(f"{path!r} is no JSON path: write names with dots, [N] and [*], as in messages[*].content")
        name, index, quoted = found.groups()
        steps.append(name or (json.loads(quoted) if quoted else EACH if index == "*" else int(index)))
        at = found.end()
    if not steps:
        raise UsageError("a JSON path cannot be empty")
    return tuple(steps)


class Place:
    """A node of the tree that many paths make: what is done here, and where it goes on."""

    __slots__ = ("acts", "inner")

    def __init__(self) -> None:
        self.acts: list[Act] = []
        self.inner: dict[Step, Place] = {}


def places(pairs: Iterable[tuple[str, Act]]) -> Place:
    """The tree of these (path, act) pairs. Acts at one place are done in the order given."""
    root = Place()
    for path, act in pairs:
        here = root
        for step in steps_of(path):
            here = here.inner.setdefault(step, Place())
        here.acts.append(act)
    return root


class Known(Protocol):
    """An item of a list at its place, and what it was rewritten to before; None where that is not known."""

    value: Any
    form: Any


_NONE: Mapping[str, Sequence[Known]] = MappingProxyType({})


def rewritten(value: Any, place: Place, memory: Memory, known: Mapping[str, Sequence[Known]] = _NONE) -> Any:
    """The value with all acts done, or GONE. What nothing changes is the very same object; nothing is mutated.

    One walk in the order of the document, so that what an act remembers of a conversation's beginning does not depend
    on how the conversation goes on. Within an object the order is that of the paths: agents shuffle keys. `known`: the
    items of the lists in these fields of the value, of which some need not be walked again.
    """
    for act in place.acts:
        value = act(value, memory)
        if value is GONE:
            return GONE
    if not place.inner:
        return value
    if isinstance(value, dict):
        return _in_object(value, place, memory, known)
    return _in_list(value, place, memory) if isinstance(value, list) else value


def _in_object(value: Mapping[str, Any], place: Place, memory: Memory, known: Mapping[str, Sequence[Known]]) -> Any:
    made: dict[str, Any] | None = None
    for step, inner in place.inner.items():
        for name in (step,) if isinstance(step, str) else sorted(value) if step == EACH else ():
            now = value if made is None else made
            if name not in now:
                continue
            if name in known and not inner.acts and now[name] is value[name]:
                new = _in_known(known[name], inner, memory)
            else:
                new = rewritten(now[name], inner, memory)
            if new is not now[name]:
                made = dict(value) if made is None else made
                if new is GONE:
                    del made[name]
                else:
                    made[name] = new
    return value if made is None else made


def _in_known(items: Sequence[Known], place: Place, memory: Memory) -> list[Any]:
    every = place.inner.get(EACH)
    made: list[Any] = []
    for index, one in enumerate(items):
        new = one.form
        if new is None:
            inner = [found for found in (every, place.inner.get(index)) if found is not None]
            alone: Memory = {}
            new = _item(one.value, inner, alone)
            if alone:  # it depends on what stands before it
                new = _item(one.value, inner, memory)
            else:
                one.form = new
        if new is not GONE:
            made.append(new)
    return made


def _item(value: Any, places: Sequence[Place], memory: Memory) -> Any:
    for place in places:
        if value is not GONE:
            value = rewritten(value, place, memory)
    return value


def _in_list(value: list[Any], place: Place, memory: Memory) -> Any:
    every = place.inner.get(EACH)
    if every is None and not any(isinstance(step, int) and step < len(value) for step in place.inner):
        return value
    made: list[Any] = []
    changed = False
    for index, item in enumerate(value):
        new = _item(item, [found for found in (every, place.inner.get(index)) if found is not None], memory)
        changed = changed or new is not item
        if new is not GONE:
            made.append(new)
    return made if changed else value


class Difference(NamedTuple):
    """One place where two values differ. ABSENT stands for what one side lacks; long texts are cut around it."""

    path: str
    recorded: Any
    live: Any

    def __str__(self) -> str:
        return f"{self.path}: recorded {_shown(self.recorded)}, now {_shown(self.live)}"


def _shown(value: Any) -> str:
    if value is ABSENT:
        return ABSENT
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN + 8 else f"{text[:_SHOWN]}…"


def excerpts(recorded: Any, live: Any) -> tuple[Any, Any]:
    """Both values; of two texts, where one is long, what lies around the first difference."""
    if not (isinstance(recorded, str) and isinstance(live, str)) or max(len(recorded), len(live)) <= _SHOWN:
        return recorded, live
    ends = min(len(recorded), len(live))
    at = next((index for index in range(ends) if recorded[index] != live[index]), ends)
    start = max(at - _SHOWN // 4, 0)

    def cut(text: str) -> str:
        stop = start + _SHOWN
        return ("…" if start else "") + text[start:stop] + ("…" if stop < len(text) else "")

    return cut(recorded), cut(live)


def _inside(path: str, name: str) -> str:
    if not _WORD.fullmatch(name):
        return f"{path}[{json.dumps(name, ensure_ascii=False)}]"
    return f"{path}.{name}" if path else name


def differences(recorded: Any, live: Any, path: str = "") -> Iterator[Difference]:
    """Every place where two JSON values differ, in the order of names and items. Items are compared by position."""
    if isinstance(recorded, Mapping) and isinstance(live, Mapping):
        for name in sorted({*recorded, *live}):
            here = _inside(path, name)
            if name not in live or name not in recorded:
                yield Difference(here, recorded.get(name, ABSENT), live.get(name, ABSENT))
            elif recorded[name] is not live[name]:
                yield from differences(recorded[name], live[name], here)
    elif _is_list(recorded) and _is_list(live):
        for index in range(max(len(recorded), len(live))):
            here = f"{path}[{index}]"
            if index >= len(recorded) or index >= len(live):
                yield Difference(
                    here,
                    recorded[index] if index < len(recorded) else ABSENT,
                    live[index] if index < len(live) else ABSENT,
                )
            elif recorded[index] is not live[index]:
                yield from differences(recorded[index], live[index], here)
    elif recorded != live or isinstance(recorded, bool) != isinstance(live, bool):
        yield Difference(path, *excerpts(recorded, live))


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
