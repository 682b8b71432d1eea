"""What of a run has been continued already, and where: nothing is continued twice, nothing is paid for twice.

A continuation is derived of its parent, its trials and its terms. The same words again mean the same one: it is gone
on with where it was cut off, and has nothing to do where it was not. With another time, or for other trials, a new one
begins where the earlier ones ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from onward.errors import OnwardError
from onward.runs import Run, matching, open_run, stored_runs
from onward.views.means import came_to_limit, standings

__all__ = [
    "Earlier", "Known", "Reached", "as_continuation", "continuations", "generation_of", "original_of",
]  # fmt: skip

Reached = Literal["done", "limit", "open"]
"""How far a trial has come: to its end, to its limit again, or neither."""


class Earlier:
    """A run derived by `continue`."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.derivation: Mapping[str, Any] = run.facts["run"]["derivation"]
        self.trials: Mapping[str, int] = self.derivation.get("trials") or {}
        """Its trials, each with the generation that it continues."""

    @property
    def arguments(self) -> dict[str, Any]:
        """Its terms."""
        return {name: value for name, value in self.derivation.items() if name not in _IDENTITY}

    @cached_property
    def _limited(self) -> dict[str, bool]:
        """Whether a limit ended it, of each trial that is settled."""
        settled, heads = self.run.standings(), standings(self.run)
        return {trial: came_to_limit(own) for trial, own in heads.items() if settled.get(trial) == "settled"}

    def reached(self, trial: str) -> Reached:
        """How far it has come with one of its trials."""
        limited = self._limited.get(trial)
        return "open" if limited is None else "limit" if limited else "done"

    @property
    def unfinished(self) -> list[str]:
        """Its own trials that are owed."""
        return [trial for trial in self.trials if self.reached(trial) == "open"]

    def holds(self, wanted: Mapping[str, int]) -> bool:
        """Whether it continues all of these."""
        return wanted.items() <= self.trials.items()


_IDENTITY = ("verb", "parent", "trials", "mismatches")


def as_continuation(run: Run) -> Earlier | None:
    """The run as a continuation, if it is one."""
    derivation = run.facts["run"].get("derivation")
    is_one = isinstance(derivation, Mapping) and derivation.get("verb") == "continue"
    return Earlier(run) if is_one else None


class Known:
    """Continuations on these terms, that of time left out; the newest first."""

    def __init__(self, every: Iterable[Earlier], arguments: Mapping[str, Any]) -> None:
        terms = {**arguments, "timeout": None}
        found = [one for one in every if {**one.arguments, "timeout": None} == terms]
        self._all = sorted(found, key=lambda one: str(one.run.facts["run"]["created"]), reverse=True)

    def of(self, run: Run) -> list[Earlier]:
        """Those that continue this run itself."""
        return [one for one in self._all if one.derivation["parent"] == run.id]

    def furthest(self, run: Run, trial: str) -> Earlier | None:
        """Where a trial of this run has come furthest: it may have come to its limit several times."""
        found: Earlier | None = None
        while True:
            wanted = {trial: generation_of(run, trial)}
            beyond = [one for one in self.of(run) if one.holds(wanted)]
            if not beyond:
                return found
            found = min(beyond, key=lambda one: one.reached(trial) != "done")
            if found.reached(trial) != "limit":
                return found
            run = found.run


def generation_of(run: Run, trial: str) -> int:
    """The generation that a trial is in."""
    return run.voids.generation(f"{trial}/generate/0")


def original_of(store: Path, name: str) -> Path | None:
    """The run that a name means which it shares with runs that continue it, and with no other: the words that made
    these mean the same as before. None for any other name."""
    parents: dict[str, str] = {}
    folders: dict[str, Path] = {}
    for folder in matching(stored_runs(store), name):
        try:
            run = open_run(folder)
        except OnwardError:
            return None
        found = as_continuation(run)
        run.close()
        folders[run.id] = folder
        if found is not None:
            parents[run.id] = str(found.derivation["parent"])
    originals = [folder for id_, folder in folders.items() if parents.get(id_) not in folders]
    return originals[0] if len(originals) == 1 else None


def continuations(store: Path, stack: ExitStack) -> list[Earlier]:
    """All of a store. The stack closes them."""
    every = []
    for folder in stored_runs(store):
        try:
            run = open_run(folder)
        except OnwardError:
            continue
        found = as_continuation(run)
        if found is None:
            run.close()
        else:
            stack.callback(run.close)
            every.append(found)
    return every
