"""Which run: identity, extension, parents. Makes run folders whole or not at all; drives nothing.

A run is what its frozen spec says, which repetition it is, and of which parents by which verb: `runs.run_id`. A changed
spec is a derived run, which takes over from its parent every recorded result that it would make itself.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

from onward import lease
from onward.clock import Clock, iso
from onward.entry import BlobRef, Row, blob_digest
from onward.errors import Drifted, OnwardError
from onward.experiment import Assembled, frozen
from onward.journal import SqliteJournal
from onward.journal.place import make_folder, sync_names
from onward.limits import Bounds, Limits
from onward.once import Recorder
from onward.plan import Chunk, Plan, order_digest
from onward.runs import JOURNAL, Run, folder_name, open_run, run_id, stored_runs
from onward.takeover import Carried, Takeover
from onward.tasks import Task

__all__ = ["Wanted", "create", "existing", "extend", "newest_of", "wanted"]

_DAY = 86400.0
_CHUNK = 256
"""Tasks per stored chunk: what is read to run one owed task, and held in memory while its neighbours run."""


@dataclass(slots=True)
class Wanted:
    """An experiment with its tasks: what a run of it would be."""

    assembled: Assembled
    source: Mapping[str, Any]
    selection: Mapping[str, Any]
    order: str
    total: int
    chunks: list[Chunk]
    blobs: dict[bytes, bytes]
    files: dict[str, str]
    told: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """{task: what it asks for and nobody does}, where its source knows."""

    @property
    def identity(self) -> dict[str, Any]:
        """What makes it this run and no other; the limit is no part of it."""
        tasks = {"source": dict(self.source), "selection": dict(self.selection), "order": self.order}
        return {**self.assembled.identity, "tasks": tasks}

    @property
    def count(self) -> int:
        """How many tasks it wants (up to its limit)."""
        return sum(len(chunk.ids) for chunk in self.chunks)

    @property
    def plan(self) -> Plan:
        """The plan of a fresh run of it."""
        solvers = tuple(solver.name for solver in self.assembled.solvers)
        return Plan(solvers, self.assembled.spec.trials, self.assembled.shape, tuple(self.chunks))


def wanted(
    assembled: Assembled, source: Mapping[str, Any], selection: Mapping[str, Any], tasks: Iterable[Task],
    limit: int | None,
) -> Wanted:  # fmt: skip
    """Read the selected tasks once: the digest of all of them in order, and the text of the first `limit`."""
    made = Wanted(assembled, source, selection, "", 0, [], {}, {})
    made.order = order_digest(_read(made, iter(tasks), limit))
    return made


def _read(made: Wanted, tasks: Iterator[Task], limit: int | None) -> Iterator[tuple[str, str]]:
    """Each task's id and digest, keeping the text of those within the limit on the way."""
    while batch := list(islice(tasks, _CHUNK)):
        digests = [(task, task.digest) for task in batch]
        room = len(batch) if limit is None else limit - made.total
        made.total += len(batch)
        if room > 0:
            _add_chunk(made, digests[:room])
            _add_files(made, [task for task, _ in digests[:room]])
        yield from ((task.id, digest) for task, digest in digests)


def _add_chunk(made: Wanted, tasks: Sequence[tuple[Task, str]]) -> None:
    lines = [json.dumps({**task.to_json(), "digest": digest}, ensure_ascii=False) for task, digest in tasks]
    content = "\n".join(lines).encode()
    name = blob_digest(content)
    made.blobs[name] = content
    unscored = frozenset(task.id for task, _ in tasks if task.target is None)
    made.chunks.append(Chunk(tuple(task.id for task, _ in tasks), name.hex(), unscored))


def _add_files(made: Wanted, tasks: Iterable[Task]) -> None:
    for task in tasks:
        for file in task.files:
            if file.digest not in made.files and (content := file.read()) is not None:
                made.files[file.digest] = file.digest
                made.blobs[bytes.fromhex(file.digest)] = content


def _chunk_data(chunks: Iterable[Chunk]) -> list[dict[str, Any]]:
    return [
        {"ids": list(chunk.ids), "tasks": BlobRef(chunk.tasks)}
        | ({"unscored": sorted(chunk.unscored)} if chunk.unscored else {})
        for chunk in chunks
    ]


# ---------------------------------------------------------------- finding


def existing(store: Path, name: str, id_: str) -> Path | None:
    """The folder of the run with this id, if the store has it."""
    for folder in store.glob(f"{name}-*"):
        prefix = folder.name.removeprefix(f"{name}-")
        if prefix and id_.startswith(prefix) and (folder / JOURNAL).exists():
            run = open_run(folder)
            same = run.id == id_
            run.close()
            if same:
                return folder
    return None


def newest_of(store: Path, name: str, *, but: str = "") -> Path | None:
    """The newest run of this name, other than the one with the id `but`."""
    for folder in stored_runs(store):
        if folder.name.startswith(f"{name}-"):
            try:
                run = open_run(folder)
            except OnwardError:
                continue
            found = run.facts["run"]["name"] == name and run.id != but
            run.close()
            if found:
                return folder
    return None


# ---------------------------------------------------------------- taking over


# ---------------------------------------------------------------- making and extending


async def create(
    store: Path, made: Wanted, clock: Clock, *, replicate: int = 0, derivation: Any = None,
    takeovers: Sequence[Takeover] = (), notes: Mapping[str, Any] | None = None, rows: Iterable[Row] = (),
) -> Path:  # fmt: skip
    """Make the run's folder with its plan and all that it takes over: whole, or not at all. `rows` come on top.

    It is written beside its place and renamed into it. If another process was first, theirs stands.
    """
    spec = made.assembled.spec
    id_ = run_id(made.identity, replicate, derivation)
    for takeover in takeovers:
        notes = {**_recording(takeover.parent, made.blobs), **(notes or {})}
    facts = {
        "run": {
            "id": id_, "name": spec.name, "replicate": replicate, "derivation": derivation,
            "parents": [takeover.parent.id for takeover in takeovers], "created": iso(clock.now()),
            **({"changed": changed} if (changed := _changed(made, takeovers)) else {}),
        },
        "config": frozen(made.assembled), "identity": made.identity, "selection": dict(made.selection),
        "source": dict(made.source), "order": made.order, "total": made.total,
        "solvers": list(made.plan.solvers), "trials": made.plan.trials, "shape": made.plan.shape.to_json(),
        "chunks": _chunk_data(made.chunks), "files": {name: BlobRef(name) for name in made.files}, **(notes or {}),
    }  # fmt: skip
    making = _place_to_make(store, id_, clock.now())
    journal = SqliteJournal(making, create=True)
    try:
        lease.claim(journal, clock)
        recorder = Recorder(journal, clock, Limits(Bounds(), clock))
        taken = chain((row for takeover in takeovers for row in takeover.rows()), rows)
        await recorder.plan(facts, Carried(made.blobs, takeovers), taken)
        journal.release()
    except BaseException:
        journal.close()
        shutil.rmtree(making, ignore_errors=True)
        raise
    journal.close()
    return _place(store, making, spec.name, id_)


def _recording(parent: Run, blobs: dict[bytes, bytes]) -> dict[str, Any]:
    """The recording that a parent was made of, with all its files: it can be given back from any run derived of it."""
    facts = parent.facts.get("recording")
    if facts is None:
        return {}
    for held in facts["files"].values():
        name = bytes.fromhex(held["content"])
        blobs[name] = parent.journal.blob(name)
    return {"recording": facts}


def _changed(made: Wanted, takeovers: Sequence[Takeover]) -> list[str]:
    """The solvers that are not what they were in a parent, or have other tasks: what they were told there answers
    equal requests alone."""
    found = set[str]()
    for takeover in takeovers:
        before = takeover.parent.facts
        same = before["order"] == made.order
        known = before["identity"]["solvers"]
        found |= {name for name, parts in made.identity["solvers"].items() if not same or known.get(name) != parts}
    return sorted(found)


def _place_to_make(store: Path, id_: str, now: float) -> Path:
    """A folder beside the run's place, empty. What killed processes left half made a day ago is removed."""
    make_folder(store)
    making = store / f".making-{id_[:12]}-{os.getpid()}"
    for left in store.glob(".making-*"):
        if left == making or now - left.stat().st_mtime > _DAY:
            shutil.rmtree(left, ignore_errors=True)
    return making


def _place(store: Path, making: Path, name: str, id_: str) -> Path:
    for length in (6, 8, 12, 32):
        place = store / f"{name}-{id_[:length]}"
        try:
            making.rename(place)
        except OSError:
            if not (place / JOURNAL).exists():
                raise
            standing = existing(store, name, id_)
            if standing is not None:
                shutil.rmtree(making, ignore_errors=True)
                return standing
        else:
            sync_names(store)  # else a power cut could take the run's name, and with it what was paid for since
            return place
    raise OnwardError(f"no free name for {folder_name(name, id_)} in {store}")


async def extend(run: Run, recorder: Recorder, made: Wanted) -> int:
    """Add the tasks that `made` wants beyond what is recorded; returns how many. Raises Drifted where order changed."""
    recorded = list(run.plan.task_ids())
    if made.order != run.facts["order"]:
        raise Drifted(
            f"the source of {run.name} has changed since it was made, so its order cannot be extended. "
            f"Run it as a derived run: --parent {run.name}"
        )
    if made.count <= len(recorded):
        return 0
    fresh = [pair for chunk in made.chunks for pair in _chunk_tasks(made, chunk)][len(recorded) :]
    more = Wanted(made.assembled, made.source, made.selection, made.order, made.total, [], {}, {})
    for start in range(0, len(fresh), _CHUNK):
        _add_chunk(more, fresh[start : start + _CHUNK])
    blobs = {**{bytes.fromhex(name): made.blobs[bytes.fromhex(name)] for name in made.files}, **more.blobs}
    files = {name: BlobRef(name) for name in made.files}
    await recorder.plan({"chunks": _chunk_data(more.chunks), "files": files}, blobs)
    return len(fresh)


def _chunk_tasks(made: Wanted, chunk: Chunk) -> Iterator[tuple[Task, str]]:
    for line in made.blobs[bytes.fromhex(chunk.tasks)].splitlines():
        form = json.loads(line)
        digest = form.pop("digest")
        yield Task.from_json(form), digest
