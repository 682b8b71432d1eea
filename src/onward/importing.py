"""What comes in from outside: answers that were made elsewhere, and what can still be read of a damaged run.

Answers become a run's generate stage, so that they are scored at no cost:

    found = import_outputs(spec, folder, Path("answers.jsonl"), settings(), Fields(outputs={"6b": "6b.solution"}))

The run is made whole with the answers in it, or not at all. What it is depends on the answers themselves, so importing
the same file twice finds the same run and changes nothing, and other answers never get into it.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from onward import lease, lineage
from onward.clock import Clock, SystemClock, iso
from onward.config import Settings
from onward.entry import Entry, Row, pack
from onward.errors import Damaged, NotThere, OnwardError, UsageError
from onward.experiment import Assembled, SolverSpec, Spec, assemble
from onward.fingerprint import digest_of
from onward.formats.answers import Fields, Recorded, read_answers
from onward.journal import Salvaged, SqliteJournal, salvage
from onward.journal.place import sync_names
from onward.keys import Key
from onward.lineage import Wanted
from onward.plan import seed_of
from onward.runs import JOURNAL, open_run, run_id
from onward.stages import sample_fingerprint
from onward.tasks import Selection, Task, open_source

__all__ = ["Imported", "Recovered", "import_outputs", "recover"]


@dataclass(slots=True)
class Imported:
    """What came of an import. Counts are by solver."""

    folder: Path
    run: str
    tasks: int
    created: bool
    """False: the run of exactly these answers was there already, and nothing changed."""
    answers: dict[str, int] = field(default_factory=dict)
    missing: dict[str, int] = field(default_factory=dict)
    """Trials without an answer: they stay owed."""
    unknown: int = 0
    """Rows whose id is none of the selected tasks."""
    unknown_ids: list[str] = field(default_factory=list)
    """The first few of them."""
    empty: dict[str, int] = field(default_factory=dict)
    """Rows without an answer in them."""


_Answers = dict[str, dict[tuple[str, str], Any]]
"""Solver → (task id, trial) → answer."""


def import_outputs(
    spec: Spec, folder: Path, path: Path, settings: Settings, fields: Fields | None = None, *,
    model: str = "", source: Any = None, clock: Clock | None = None,
) -> Imported:  # fmt: skip
    """Make (or find) the run in which the answers in `path` are the generate stage of this experiment.

    Its own solvers are left aside: the run's are those in the file, or in `fields.outputs`. `model` is a label.
    Raises UsageError for an unreadable file, an id that comes twice, or no answer to any task; SpecError.
    """
    if spec.samples != 1:
        raise UsageError("one answer a trial is imported, and this experiment wants several samples: set samples to 1")
    found = source or open_source(spec.tasks, folder, token=settings.keys.get("HF_TOKEN"))
    selection = Selection.of(spec.select)
    tasks = list(selection.choose(found.tasks()))
    answers, outcome = _matched(read_answers(path, fields or Fields()), tasks, spec.trials, path)
    assembled = assemble(_with_recorded(spec, answers, model), folder)
    made = lineage.wanted(assembled, found.identity, selection.to_json(), tasks, None)
    outcome.tasks = len(tasks)
    for solver, own in answers.items():
        outcome.answers[solver] = len(own)
        outcome.missing[solver] = len(tasks) * spec.trials - len(own)
    standing = lineage.existing(settings.store, spec.name, run_id(made.identity, 0, None))
    if standing is None:
        outcome.created, ticking = True, clock or SystemClock()
        rows = list(_rows(made, assembled, answers, _origin(path), iso(ticking.now())))
        standing = asyncio.run(lineage.create(settings.store, made, ticking, rows=rows))
    outcome.folder, outcome.run = standing, standing.name
    return outcome


def _matched(recorded: Iterator[Recorded], tasks: list[Task], trials: int, path: Path) -> tuple[_Answers, Imported]:
    """The answers by task, and what in the file did not fit. Rows without an id are told by their question."""
    known = {task.id for task in tasks}
    by_input: dict[str, list[str]] = {}
    answers: _Answers = {}
    places: dict[tuple[str, str, str], str] = {}
    outcome = Imported(Path(), "", 0, created=False)
    unknown: dict[str, None] = {}
    for one in recorded:
        id_ = one.id
        if id_ is None:
            if not by_input:
                by_input = _questions(tasks)
            id_ = _told_by_question(one, by_input)
        if id_ not in known or not (one.trial.isdigit() and 1 <= int(one.trial) <= trials):
            unknown[f"{id_}" + (f", trial {one.trial}" if id_ in known else "")] = None
            continue
        own = answers.setdefault(one.solver, {})
        if one.output is None:
            outcome.empty[one.solver] = outcome.empty.get(one.solver, 0) + 1
            continue
        first = places.setdefault((one.solver, id_, one.trial), one.where)
        if first != one.where:
            raise UsageError(f'{one.where}: the answer of {one.solver} to "{id_}" is also in {first}. Keep one of them')
        own[id_, one.trial] = one.output
    outcome.unknown, outcome.unknown_ids = len(unknown), list(unknown)[:5]
    if not any(answers.values()):
        names = ", ".join(list(unknown)[:3])
        hint = f" (it has answers to {names}, which are none of its tasks)" if unknown else ""
        raise NotThere(f"{path} holds no answer to any of the {len(tasks)} tasks{hint}. See --id-field, --output-field")
    return answers, outcome


def _questions(tasks: list[Task]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for task in tasks:
        found.setdefault(digest_of(task.input), []).append(task.id)
    return found


def _told_by_question(one: Recorded, by_input: Mapping[str, list[str]]) -> str | None:
    if one.input is None:
        raise UsageError(
            f"{one.where}: the row has no id, and no question by which to tell it. See --id-field, --input-field"
        )
    ids = by_input.get(digest_of(one.input), [])
    if len(ids) > 1:
        raise UsageError(
            f"{one.where}: the row has no id, and its question is that of {len(ids)} tasks: {', '.join(ids[:3])}"
        )
    return ids[0] if ids else None


def _with_recorded(spec: Spec, answers: _Answers, model: str) -> Spec:
    """The experiment with the recorded answers as its solvers: a digest over (task, trial, answer) says which."""
    solvers = []
    for name, own in answers.items():
        if own:
            outputs = digest_of(sorted([*pair, digest_of(output)] for pair, output in own.items()))
            solvers.append(SolverSpec(name=name, model=model or name, recorded=outputs))
    return spec.model_copy(update={"solver": solvers})


def _origin(path: Path) -> dict[str, str]:
    return {"import": path.name, "digest": sha256(path.read_bytes()).hexdigest()[:32]}


def _rows(made: Wanted, assembled: Assembled, answers: _Answers, origin: Mapping[str, str], at: str) -> Iterator[Row]:
    """A result of the generate stage for each answer; long texts go into the blobs that are written with the plan."""
    seed = assembled.spec.seed
    digests = dict(_task_digests(made))
    for solver in assembled.solvers:
        for (task, trial), output in answers[solver.name].items():
            fingerprint = sample_fingerprint(solver, digests[task], seed_of(seed, task, trial, 0, 0))
            data = {"value": {"output": output}, "origin": dict(origin)}
            key = Key.of(solver.name, task, trial, "generate", "0")
            row, blobs = pack(Entry("result", key, at, data, "ok", fingerprint=fingerprint))
            made.blobs.update(blobs)
            yield row


def _task_digests(made: Wanted) -> Iterator[tuple[str, str]]:
    for chunk in made.chunks:
        for line in made.blobs[bytes.fromhex(chunk.tasks)].splitlines():
            form = json.loads(line)
            yield form["id"], form["digest"]


# ---------------------------------------------------------------- out of a damaged run


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a salvage came to."""

    folder: Path
    recovered: int
    lost: list[int]
    """Entries of the damaged journal that could not be read, by number."""
    unproven: list[int]
    """Recovered ones whose place in the chain cannot be proven, because the one before is lost."""
    usable: bool
    """Whether the plan is among what was recovered, so that the run can be resumed."""


def recover(damaged: Path, target: Path, clock: Clock | None = None) -> Recovered:
    """Put every readable entry of a damaged run into a new run folder; the damaged one is not touched.

    Raises UsageError where `target` is there already; Damaged where nothing at all can be read.
    """
    if target.exists():
        raise UsageError(f"{target} is there already: name a folder that is not")
    if not (damaged / JOURNAL).exists():
        raise NotThere(f"there is no journal in {damaged}")
    making = target.parent / f".{target.name}-{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    try:
        found = _salvaged(damaged, making, clock or SystemClock())
        if not found.recovered:
            raise Damaged(f"nothing in {damaged} can be read any more; nothing was written")
        making.rename(target)
        sync_names(target.parent)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Recovered(target, found.recovered, found.lost, found.unproven, _usable(target))


def _salvaged(damaged: Path, making: Path, clock: Clock) -> Salvaged:
    journal = SqliteJournal(making, create=True)
    try:
        lease.claim(journal, clock)
        found = salvage(damaged, journal)
        journal.release()
        return found
    finally:
        journal.close()


def _usable(folder: Path) -> bool:
    try:
        open_run(folder).close()
    except OnwardError:
        return False
    return True
