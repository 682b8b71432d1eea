"""Which tasks of a source: filters, and a random draw. A frozen value; it is part of what a run is, the limit is not."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from onward.errors import NotThere, UsageError
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
    task_id: tuple[str, ...] = ()
    random: bool = False
    seed: int = 0
    draw: int = 1
    seed_stated: bool = False

    @classmethod
    def of(cls, stated: Mapping[str, Any]) -> Selection:
        """From a mapping (an experiment's `select`, or flags). Raises UsageError for what it does not know."""
        for name in stated:
            if name not in (*_FIELDS, "seed_stated"):
                raise UsageError(f'select: unknown field "{name}".{did_you_mean(name, _FIELDS)}')
        level = _texts(stated.get("level"))
        for value in level:
            if not value.isdigit():
                raise UsageError(f"--level {value}: a level is a whole number, such as 1, 2 or 3")
        where = stated.get("where") or ()
        pairs = [(k, str(v)) for k, v in where.items()] if isinstance(where, Mapping) else [_pair(item) for item in where]
        draw = int(stated.get("draw") or 1)
        if draw < 1:
            raise UsageError("--limit 0 draws nothing: give a number from 1")
        drawn = bool(stated.get("random"))
        seed = stated.get("seed")
        return cls(
            level, _texts(stated.get("category")), tuple(sorted(pairs)), _texts(stated.get("task_id")), drawn,
            int(seed or 0) if drawn else 0, draw if drawn else 1, drawn and bool(stated.get("seed_stated")),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """What of it is set: the form in a run's identity."""
        form: dict[str, Any] = {}
        for name in ("level", "category", "task_id"):
            if getattr(self, name):
                form[name] = list(getattr(self, name))
        if self.where:
            form["where"] = dict(self.where)
        if self.random:
            form |= {"random": True, "seed": self.seed, "draw": self.draw}
        return form

    def choose(self, tasks: Iterable[Task]) -> Iterator[Task]:
        """The tasks that pass, in the source's order. Raises NotThere where none does, saying what there is."""
        seen: dict[str, set[str]] = {"level": set(), "category": set()}
        passing = self._passing(tasks, seen)
        if self.random:
            everything = list(passing)
            chosen = random.Random(self.seed).sample(range(len(everything)), min(self.draw, len(everything)))
            passing = iter([everything[index] for index in sorted(chosen)])
        none = True
        for task in passing:
            none = False
            yield task
        if none:
            raise NotThere(self._nothing(seen))

    def _passing(self, tasks: Iterable[Task], seen: dict[str, set[str]]) -> Iterator[Task]:
        for task in tasks:
            if self.level or self.category:
                seen["level"].add(str(task.metadata.get("level", "")))
                seen["category"].update(_texts(task.metadata.get("category")))
            if self._passes(task):
                yield task

    def _passes(self, task: Task) -> bool:
        if self.level and str(task.metadata.get("level")) not in self.level:
            return False
        if self.category and not set(self.category) & set(_texts(task.metadata.get("category"))):
            return False
        if self.task_id and not any(task.id == want or fnmatchcase(task.id, want) for want in self.task_id):
            return False
        return all(str(_dotted(task.metadata, path)) == value for path, value in self.where)

    def _nothing(self, seen: Mapping[str, set[str]]) -> str:
        words = "no task passes " + ", ".join(f"{name} {value}" for name, value in self.to_json().items())
        for name in ("level", "category"):
            known = sorted(value for value in seen[name] if value)
            if getattr(self, name) and known:
                words += f". There is {name} {', '.join(known)}"
        return words


def _texts(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(item) for item in value) if isinstance(value, list | tuple) else (str(value),)


def _pair(item: Any) -> tuple[str, str]:
    if isinstance(item, list | tuple) and len(item) == 2:
        return str(item[0]), str(item[1])
    name, equals, value = str(item).partition("=")
    if not equals or not name:
        raise UsageError(f"--where {item}: give it as KEY=VALUE")
    return name, value


def _dotted(metadata: Mapping[str, Any], path: str) -> Any:
    value: Any = metadata
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
