"""Which tasks of a source: filters, and a random draw. A frozen value; it is part of what a run is, the limit is not.

A task passes if its level is among those asked for, one of its categories is, its id fits one of the patterns, and
every `where` holds. What is asked for and not there at all (a level, a category, an id) is refused, not left out.
"""

from __future__ import annotations

import heapq
import secrets
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from hashlib import sha256
from typing import Any

from onward.errors import NotThere, UsageError
from onward.fingerprint import canonical
from onward.functions import did_you_mean
from onward.tasks.task import Task

__all__ = ["Selection"]

_FIELDS = ("level", "category", "where", "task_id", "random", "seed", "draw")


@dataclass(frozen=True, slots=True)
class Selection:
    """Filters, all of which a task must pass; then, with `random`, a draw of `draw` tasks by `seed`."""

    level: tuple[str, ...] = ()
    category: tuple[str, ...] = ()
    where: tuple[tuple[str, str], ...] = ()
    """(dotted path in the metadata, value as text); a list holds if one of its items does."""
    task_id: tuple[str, ...] = ()
    """Ids, or patterns with `*`, `?` and `[…]`."""
    random: bool = False
    seed: int = 0
    draw: int = 1
    """How many tasks are drawn, with `random`."""
    seed_stated: bool = False
    """Whether somebody named the seed. One that nobody named is drawn by `of`, and recorded."""

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Selection:
        """From a mapping (an experiment's `select`, or flags). Raises UsageError for what it does not know."""
        for name in stated:
            if name not in (*_FIELDS, "seed_stated"):
                raise UsageError(f'select: unknown field "{name}".{did_you_mean(name, _FIELDS)}')
        level = _texts("level", stated.get("level"))
        for value in level:
            if not value.isdecimal():
                raise UsageError(f"--level {value}: a level is a whole number, such as 1, 2 or 3")
        where = _pairs(stated.get("where"))
        draw = _whole("limit", stated.get("draw"), 1)
        if draw < 1:
            raise UsageError(f"--limit {draw} draws nothing: give a number from 1")
        names = _texts("category", stated.get("category")), _texts("task_id", stated.get("task_id"))
        if not stated.get("random"):
            return cls(level, names[0], where, names[1])
        seed = stated.get("seed")
        drawn = secrets.randbelow(2**31) if seed is None else _whole("seed", seed, 0)
        is_stated = seed is not None and bool(stated.get("seed_stated", True))
        return cls(level, names[0], where, names[1], True, drawn, draw, is_stated)

    def to_json(self) -> dict[str, Any]:
        """What of it is set: the form in a run's identity, and what `of` reads."""
        form: dict[str, Any] = {}
        for name in ("level", "category", "task_id"):
            if getattr(self, name):
                form[name] = list(getattr(self, name))
        if self.where:
            form["where"] = [list(pair) for pair in self.where]
        if self.random:
            form |= {"random": True, "seed": self.seed, "draw": self.draw, "seed_stated": self.seed_stated}
        return form

    def choose(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """The tasks that pass, in the source's order, one by one as they are read.

        Raises NotThere, after the last, for a level, category, path or id that no task has, and where no task passes;
        it says what there is.
        """
        seen = _Seen()
        passing = (task for task in tasks if self._passes(task, seen))
        none = True
        for task in self._drawn(passing) if self.random else passing:
            none = False
            yield task
        self._complain(seen)
        if none:
            raise NotThere(f"no task passes {self}" if self.to_json() else "there is no task")

    def _drawn(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """The `draw` tasks whose ids come first when hashed with the seed: the same on every machine, held in bounds,
        and a larger draw of a seed contains every smaller one."""
        ranked = (
            (sha256(f"{self.seed}\n{task.id}".encode()).digest(), place, task) for place, task in enumerate(tasks)
        )
        chosen = heapq.nsmallest(self.draw, ranked, key=lambda entry: entry[:2])
        yield from (task for _, _, task in sorted(chosen, key=lambda entry: entry[1]))

    def _passes(self, task: Task, seen: _Seen) -> bool:
        passes = True
        if self.level:
            level = _plain(task.metadata.get("level"))
            seen.level.add(level)
            passes &= level in self.level
        if self.category:
            categories = _items(task.metadata.get("category"))
            seen.category.update(categories)
            passes &= not categories.isdisjoint(self.category)
        if self.task_id:
            fitting = {want for want in self.task_id if task.id == want or fnmatchcase(task.id, want)}
            seen.fitted |= fitting
            if len(seen.fitted) < len(self.task_id):
                seen.ids.append(task.id)
            passes &= bool(fitting)
        for path, value in self.where:
            found = _items(_dotted(task.metadata, path))
            if found:
                seen.paths.add(path)
            passes &= value in found
        return passes

    def _complain(self, seen: _Seen) -> None:
        for name, asked, there in (("level", self.level, seen.level), ("category", self.category, seen.category)):
            known = sorted(value for value in there if value)
            for value in asked:
                if value not in there:
                    listed = f"there is {', '.join(known)}" if known else f"its tasks have no {name}"
                    raise NotThere(f"no task has the {name} {value}: {listed}")
        for want in self.task_id:
            if want not in seen.fitted:
                hint = did_you_mean(want, seen.ids)
                raise NotThere(f"no task has the id {want}.{hint if 'mean' in hint else ''}")
        for path, _ in self.where:
            if path not in seen.paths:
                raise NotThere(f"--where {path}=…: no task has that in its metadata")

    def __str__(self) -> str:
        """As the flags that ask for it."""
        flags = [f"--level {value}" for value in self.level] + [f"--category {value}" for value in self.category]
        flags += [f"--where {path}={value}" for path, value in self.where] + [
            f"--task-id {own}" for own in self.task_id
        ]
        if self.random:
            flags.append(f"--random --seed {self.seed}" + (f" --limit {self.draw}" if self.draw > 1 else ""))
        return " ".join(flags)


@dataclass(slots=True)
class _Seen:
    """What a pass over the tasks came across, for the message if nothing fits."""

    level: set[str] = field(default_factory=set)
    category: set[str] = field(default_factory=set)
    paths: set[str] = field(default_factory=set)
    fitted: set[str] = field(default_factory=set)
    ids: list[str] = field(default_factory=list)


def _plain(value: Any) -> str:
    """A metadata value as one writes it: true, 3, text; nothing for null."""
    if isinstance(value, str):
        return value
    return "" if value is None else canonical(value).decode()


def _items(value: Any) -> set[str]:
    return {_plain(item) for item in (value if isinstance(value, list | tuple) else [value])} - {""}


def _dotted(metadata: Mapping[str, Any], path: str) -> Any:
    if path in metadata:
        return metadata[path]
    value: Any = metadata
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _texts(name: str, value: Any) -> tuple[str, ...]:
    """One value or a list of them, as text, each once; what may be written in either way means the same."""
    given = () if value is None else value if isinstance(value, list | tuple) else (value,)
    for item in given:
        if isinstance(item, bool) or not isinstance(item, str | int) or item == "":
            raise UsageError(f"select: {name} is text or a list of texts, not {item!r}")
    return tuple(dict.fromkeys(map(str, given)))


def _whole(name: str, value: Any, usual: int) -> int:
    if value is None:
        return usual
    try:
        if isinstance(value, bool) or (int(value) != value and not isinstance(value, str)):
            raise ValueError
        return int(value)
    except (TypeError, ValueError):
        raise UsageError(f"--{name} {value}: expected a whole number") from None


def _pairs(where: Any) -> tuple[tuple[str, str], ...]:
    if isinstance(where, Mapping):
        where = list(where.items())
    pairs = []
    for item in [where] if isinstance(where, str) else where or ():
        if isinstance(item, list | tuple) and len(item) == 2:
            pairs.append((str(item[0]), _plain(item[1])))
            continue
        name, equals, value = str(item).partition("=")
        if not equals or not name:
            raise UsageError(f"--where {item}: give it as KEY=VALUE")
        pairs.append((name, value))
    return tuple(sorted(set(pairs)))
