"""Why a run is as it is: what it depends on, what it took over and from where, what was put out of account."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onward.keys import Key
from onward.plan import STAGES
from onward.runs import Run

__all__ = ["Lineage", "Parent", "StepWhy", "VoidNote", "changes", "lineage", "step_why"]


@dataclass(slots=True)
class Parent:
    """A run that something was taken over from."""

    id: str
    name: str = ""
    """Empty where the store no longer has it: nothing here refers to it, so nothing is missing."""
    took: Counter[str] = field(default_factory=Counter)
    """Stage → how many of its results."""
    usd: float = 0.0
    """What all of that cost there."""
    changes: list[str] | None = None
    """What differs between it and this run; None where it is not there to compare."""


@dataclass(frozen=True, slots=True)
class VoidNote:
    """What was put out of account, when and why."""

    at: str
    why: str
    prefixes: int
    trials: int
    example: str
    copied: bool


@dataclass(slots=True)
class Lineage:
    """Where a run comes from."""

    id: str
    created: str
    replicate: int
    derivation: Any
    identity: Mapping[str, Any]
    order: str
    parents: list[Parent] = field(default_factory=list)
    imports: dict[str, int] = field(default_factory=dict)
    """File → how many answers were imported from it."""
    voids: list[VoidNote] = field(default_factory=list)


def lineage(run: Run, parents: Mapping[str, Run]) -> Lineage:
    """The run's lineage; `parents` are those of its parents that are at hand, by id."""
    facts = run.facts["run"]
    found = Lineage(
        run.id,
        facts["created"],
        facts["replicate"],
        facts["derivation"],
        run.facts["identity"],
        str(run.facts["order"]),
    )
    by_id = {str(id_): Parent(str(id_)) for id_ in facts.get("parents", ())}
    for _, row in run.journal.rows("", kinds=("result",)):
        if '"origin":' not in row.body or (origin := json.loads(row.body).get("origin")) is None:
            continue
        if "import" in origin:
            found.imports[origin["import"]] = found.imports.get(origin["import"], 0) + 1
            continue
        parent = by_id.setdefault(origin["run"], Parent(origin["run"]))
        depth = row.key.count("/")
        stage = row.key.split("/", 4)[3]
        if depth <= 4:
            parent.took[stage] += 1
        parent.usd += origin.get("usd") or 0.0
    for id_, parent in by_id.items():
        other = parents.get(id_)
        if other is not None:
            parent.name, parent.changes = other.name, changes(other.facts["identity"], run.facts["identity"])
    found.parents = list(by_id.values())
    for entry in run.entries("", ("void",)):
        prefixes = list(entry.data["prefixes"])
        trials = {"/".join(prefix.split("/")[:3]) for prefix in prefixes}
        why = str(entry.data.get("why", ""))
        found.voids.append(
            VoidNote(
                entry.at, why, len(prefixes), len(trials), prefixes[0] if prefixes else "", why.startswith("as in ")
            )
        )
    return found


def changes(older: Mapping[str, Any], newer: Mapping[str, Any]) -> list[str]:
    """What differs between two experiments, by name: `solver mini: prompt`, `score/numeric`, `tasks: order`."""
    found: list[str] = []
    before, after = older["solvers"], newer["solvers"]
    for name in sorted({*before, *after}):
        if name not in before:
            found.append(f"solver {name} is new")
        elif name not in after:
            found.append(f"solver {name} is gone")
        else:
            parts = _differing(before[name], after[name])
            if parts:
                found.append(f"solver {name}: {', '.join(parts)} changed")
    for name in _differing(older["stages"], newer["stages"]):
        state = "is new" if name not in older["stages"] else "is gone" if name not in newer["stages"] else "changed"
        found.append(f"{name} {state}")
    found += [f"{name} changed" for name in ("trials", "seed", "pass_mark") if older.get(name) != newer.get(name)]
    parts = _differing(older.get("tasks", {}), newer.get("tasks", {}))
    return [*found, f"tasks: {', '.join(parts)} changed"] if parts else found


def _differing(older: Mapping[str, Any], newer: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in {*older, *newer} if older.get(name) != newer.get(name))


@dataclass(frozen=True, slots=True)
class StepWhy:
    """One recorded result of a step, and what had changed since the one before it."""

    key: Key
    at: str
    outcome: str
    attempt: int
    generation: int
    parts: Mapping[str, str]
    digest: str
    changed: Sequence[str]
    origin: Mapping[str, Any] | None
    counts: bool
    """Whether it is in account: not voided."""


def step_why(run: Run, prefix: Key) -> list[StepWhy]:
    """Every recorded result of the steps of the stages under a prefix, oldest first by step."""
    found: list[StepWhy] = []
    last: dict[str, StepWhy] = {}
    for entry in run.entries(prefix, ("result",)):
        names = entry.key.split("/")
        if len(names) not in (4, 5) or names[3] not in STAGES or entry.fingerprint is None:
            continue
        before = last.get(entry.key)
        changed = entry.fingerprint.changes(before.parts) if before is not None else []
        one = StepWhy(
            entry.key, entry.at, str(entry.outcome), entry.attempt, entry.generation, entry.fingerprint.parts,
            entry.fingerprint.digest, changed, entry.data.get("origin"), entry.seq > run.voids.since(entry.key),
        )  # fmt: skip
        last[entry.key] = one
        found.append(one)
    return sorted(found, key=lambda one: STAGES.index(one.key.split("/")[3]))
