"""Which run: identity, extension, parents. Makes run folders whole or not at all; drives nothing.

A run is what its frozen spec says, which repetition it is, and of which parents by which verb: `runs.run_id`. A changed
spec is a derived run, which takes over from its parent every recorded result that it would make itself.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from onward import lease
from onward.ask import Ask
from onward.clock import Clock, iso
from onward.context import Context, World
from onward.entry import BlobRef, Row, blob_digest
from onward.errors import Damaged, Drifted, OnwardError, StepFailed, StepTimeout
from onward.experiment import Assembled, frozen
from onward.history import History
from onward.journal import SqliteJournal, Stored
from onward.keys import ROOT, Key
from onward.limits import Bounds, Limits
from onward.once import Missing, Peek, Recorder
from onward.plan import Chunk, Plan, order_digest
from onward.runs import JOURNAL, Run, folder_name, open_run, run_id, stored_runs
from onward.stages import Work, trial
from onward.tasks import Task

__all__ = ["Takeover", "Wanted", "create", "existing", "extend", "newest_of", "survey", "wanted"]

_CHUNK = 256
"""Tasks per stored chunk: what is read to run one owed task, and held in memory while its neighbours run."""
_CODE = frozenset({"code", "agent", "image"})
"""Fingerprint parts whose change leaves a step's own children worth trying: they are matched by content."""


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
        return Plan(solvers, self.assembled.spec.trials, self.assembled.stages.shape, tuple(self.chunks))


def wanted(
    assembled: Assembled, source: Mapping[str, Any], selection: Mapping[str, Any], tasks: Iterable[Task],
    limit: int | None,
) -> Wanted:  # fmt: skip
    """Read the selected tasks once: the digest of all of them in order, and the text of the first `limit`."""
    made = Wanted(assembled, source, selection, "", 0, [], {}, {})
    pairs: list[tuple[str, str]] = []
    stream = iter(tasks)
    while batch := list(islice(stream, _CHUNK)):
        digests = [(task, task.digest) for task in batch]
        pairs += [(task.id, digest) for task, digest in digests]
        room = len(batch) if limit is None else limit - made.total
        made.total += len(batch)
        if room > 0:
            _add_chunk(made, digests[:room])
            _add_files(made, [task for task, _ in digests[:room]])
    made.order = order_digest(pairs)
    return made


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


@dataclass(slots=True)
class Takeover:
    """What a derived run takes over from one parent, and what it owes, by stage and reason."""

    parent: Run
    seqs: set[int] = field(default_factory=set)
    voids: list[tuple[str, ...]] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)
    owed: Counter[tuple[str, str]] = field(default_factory=Counter)

    def take(self, history: History, results: Iterable[Stored], keep: Sequence[str]) -> None:
        """Take over these results with the requests of those that are calls."""
        wanted = {(s.row.key, s.row.attempt): s.seq for s in results if s.row.outcome in keep}
        self.seqs.update(wanted.values())
        for stored in history.rows:
            if stored.row.kind == "intent" and (stored.row.key, stored.row.attempt) in wanted:
                self.seqs.add(stored.seq)

    def rows(self) -> Iterator[Row]:
        """The voids that set its generations, then the rows, each marked with where it comes from."""
        for prefixes in self.voids:
            body = json.dumps({"prefixes": prefixes, "why": f"as in {self.parent.name}"})
            yield Row("void", ROOT, 1, 0, None, None, self.parent.facts["run"]["created"], None, None, body)
        for seq, row in self.parent.journal.rows("", kinds=("intent", "result")):
            if seq in self.seqs:
                yield _marked(row, seq, self.parent.id)


class _Carried(Mapping[bytes, bytes]):
    """The blobs that taken-over rows name, read from their parents one at a time while they are written."""

    def __init__(self, own: Mapping[bytes, bytes], takeovers: Sequence[Takeover]) -> None:
        self._own, self._takeovers = own, takeovers

    def __getitem__(self, name: bytes) -> bytes:
        if name in self._own:
            return self._own[name]
        for takeover in self._takeovers[:-1]:
            try:
                return takeover.parent.journal.blob(name)
            except Damaged:
                continue
        return self._takeovers[-1].parent.journal.blob(name)

    def __len__(self) -> int:
        return len(self._own)

    def __iter__(self) -> Iterator[bytes]:
        yield from self._own
        seen: set[bytes] = set()
        for takeover in self._takeovers:
            fetch = takeover.parent.journal.blob
            for row in takeover.rows():
                yield from _named(json.loads(row.body), fetch, seen)


def _named(value: Any, fetch: Any, seen: set[bytes]) -> Iterator[bytes]:
    """Blobs that a packed value names, and that these name."""
    if isinstance(value, list):
        for item in value:
            yield from _named(item, fetch, seen)
    elif isinstance(value, dict):
        for mark in ("$text", "$json", "$chain", "$blob"):
            if isinstance(value.get(mark), str):
                yield from _blob(bytes.fromhex(value[mark]), value.get("n", 0), mark, fetch, seen)
                return
        for item in value.values():
            yield from _named(item, fetch, seen)


def _blob(name: bytes, links: int, mark: str, fetch: Any, seen: set[bytes]) -> Iterator[bytes]:
    while name and name not in seen:
        seen.add(name)
        content = fetch(name)
        yield name
        following, body = (content[:16], content[16:]) if mark == "$chain" and links > 1 else (b"", content)
        if mark in ("$json", "$chain"):
            yield from _named(json.loads(body), fetch, seen)
        name, links = following, links - 1


def _marked(row: Row, seq: int, run: str) -> Row:
    data = json.loads(row.body)
    data.setdefault("origin", {"run": run, "seq": seq, "usd": row.usd})
    return row._replace(body=json.dumps(data, ensure_ascii=False, separators=(",", ":")))


async def survey(
    parent: Run, assembled: Assembled, plan: Plan, tasks: Mapping[str, tuple[str, Task]] | None, ask: Ask, clock: Clock,
    *, failures: bool = False,
) -> Takeover:  # fmt: skip
    """Walk every trial of `plan` against the parent's journal without doing anything: what is kept, what is owed.

    `failures`: recorded failures count as done too (`--retry-errors`); else only what is `ok` is taken over.
    """
    found = Takeover(parent)
    peek = Peek(parent.journal, clock, Limits(Bounds(), clock))
    world = World(peek, ask, lambda _: b"", assembled.spec.seed)
    known = {trial for trial, _ in _trials_with_rows(parent)}
    solvers = {solver.name: solver for solver in assembled.solvers}
    keep = ("ok", "failed", "timeout") if failures else ("ok",)
    for chunk in plan.chunks:
        content = {task.id: (digest, task) for digest, task in _tasks_of(parent, chunk, tasks)}
        for solver, task_id, key in plan.trial_keys(chunk):
            if key not in known:
                found.owed["generate", "new"] += 1
                continue
            history = History.read(parent.journal, key, parent.voids)
            digest, task = content[task_id]
            work = Work(task, digest, solvers[solver], key.names[2], assembled.stages)
            peek.kept.clear()
            missing = await _walk(Context(key, world, history), work)
            for stored in peek.kept:
                if stored.row.outcome in keep:
                    found.kept[Key(stored.row.key).names[3]] += 1
                    found.take(history, [stored, *history.under(stored.row.key)], keep)
            for miss in missing:
                found.take(history, _below(history, miss), keep)
                found.owed[miss.key.names[3], "new" if miss.why == "not done yet" else miss.why] += 1
    found.voids = _voids_of(parent)
    return found


def _tasks_of(parent: Run, chunk: Chunk, fresh: Mapping[str, tuple[str, Task]] | None) -> Iterator[tuple[str, Task]]:
    if fresh is None:
        yield from parent.tasks(chunk)
    else:
        for task in chunk.ids:
            yield fresh[task]


def _trials_with_rows(run: Run) -> Iterator[tuple[str, int]]:
    last = ""
    for depth in range(4, 9):
        for head in run.journal.newest(depth):
            names = head.key.split("/", 3)
            trial_key = "/".join(names[:3])
            if trial_key != last:
                last = trial_key
                yield trial_key, head.seq


async def _walk(ctx: Context, work: Work) -> list[Missing]:
    try:
        await trial(ctx, work)
    except Missing as miss:
        return [miss, *miss.others]
    except (StepFailed, StepTimeout):
        pass
    return []


def _below(history: History, miss: Missing) -> Iterable[Stored]:
    """Children of a step that is owed which may still serve: those of an unfinished one, or of changed code."""
    kept = history.newest(miss.key)
    if kept is not None and kept.row.outcome == "ok" and not set(miss.changes) <= _CODE:
        return ()
    return history.under(miss.key)


def _voids_of(run: Run) -> list[tuple[str, ...]]:
    return [tuple(entry.data["prefixes"]) for entry in run.entries("", ("void",))]


# ---------------------------------------------------------------- making and extending


async def create(
    store: Path, made: Wanted, clock: Clock, *, replicate: int = 0, derivation: Any = None,
    takeovers: Sequence[Takeover] = (), notes: Mapping[str, Any] | None = None,
) -> Path:  # fmt: skip
    """Make the run's folder with its plan and all that it takes over: whole, or not at all.

    It is written beside its place and renamed into it. If another process was first, theirs stands.
    """
    spec = made.assembled.spec
    id_ = run_id(made.identity, replicate, derivation)
    facts = {
        "run": {
            "id": id_, "name": spec.name, "replicate": replicate, "derivation": derivation,
            "parents": [takeover.parent.id for takeover in takeovers], "created": iso(clock.now()),
        },
        "config": frozen(made.assembled), "identity": made.identity, "selection": dict(made.selection),
        "source": dict(made.source), "order": made.order, "total": made.total,
        "solvers": list(made.plan.solvers), "trials": made.plan.trials, "shape": made.plan.shape.to_json(),
        "chunks": _chunk_data(made.chunks), "files": {name: BlobRef(name) for name in made.files}, **(notes or {}),
    }  # fmt: skip
    store.mkdir(parents=True, exist_ok=True)
    making = store / f".making-{id_[:12]}-{os.getpid()}"
    shutil.rmtree(making, ignore_errors=True)
    journal = SqliteJournal(making, create=True)
    try:
        lease.claim(journal, clock)
        recorder = Recorder(journal, clock, Limits(Bounds(), clock))
        rows = (row for takeover in takeovers for row in takeover.rows())
        await recorder.plan(facts, _Carried(made.blobs, takeovers), rows)
        journal.release()
    except BaseException:
        journal.close()
        shutil.rmtree(making, ignore_errors=True)
        raise
    journal.close()
    return _place(store, making, spec.name, id_)


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
