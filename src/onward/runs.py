"""A run is a folder. Opening, naming, reading what it wants and what it has; nothing here writes.

runs/nightly-3f9a1c/journal.db
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from onward.entry import Entry, unpack
from onward.errors import Damaged, NotThere, OnwardError, UsageError
from onward.fingerprint import Fingerprint, digest_of
from onward.journal import Journal, SqliteJournal
from onward.keys import Key
from onward.plan import Chunk, Plan, Result, Standing, Voids, fold, standing
from onward.tasks import Task

__all__ = ["JOURNAL", "Run", "cut_off", "find", "folder_name", "matching", "open_run", "run_id", "stored_runs"]

JOURNAL = "journal.db"


def run_id(identity: Mapping[str, Any], replicate: int, derivation: Any) -> str:
    """A run's id, 32 hex characters: what it is, which repetition, and of which parents by which verb."""
    return digest_of({"identity": identity, "replicate": replicate, "derivation": derivation})


def folder_name(name: str, id_: str) -> str:
    """`nightly-3f9a1c`."""
    return f"{name}-{id_[:6]}"


@dataclass(slots=True)
class Run:
    """An opened run: what its plan entries and voids say, and its journal to read the rest."""

    folder: Path
    journal: Journal
    facts: Mapping[str, Any]
    """The first plan entry's data: `run`, `config`, `identity`, `selection`, `order`, …"""
    plan: Plan
    voids: Voids
    extensions: Sequence[Mapping[str, Any]] = field(default_factory=list)

    @property
    def id(self) -> str:
        """32 hex characters."""
        return str(self.facts["run"]["id"])

    @property
    def name(self) -> str:
        """The name people use: its folder's."""
        return self.folder.name

    @property
    def config(self) -> Mapping[str, Any]:
        """The frozen experiment (see `onward.experiment.frozen`)."""
        found: Mapping[str, Any] = self.facts["config"]
        return found

    @property
    def prices(self) -> dict[str, str]:
        """What calls cost, as the run has been told: by its experiment, then by whoever drove it since."""
        later = (data["prices"] for data in self.extensions if "prices" in data)
        return {
            model: price for told in (self.config["spec"].get("prices") or {}, *later) for model, price in told.items()
        }

    @property
    def command(self) -> tuple[str, ...]:
        """The command that made a wrapped program's record, the last one told; empty for every other run."""
        return self._words("command")

    @property
    def terms(self) -> tuple[str, ...]:
        """The options of `onward wrap` by which that command's calls found their way, the last ones told."""
        return self._words("terms")

    def _words(self, name: str) -> tuple[str, ...]:
        told = [data[name] for data in (self.facts, *self.extensions) if name in data]
        return tuple(told[-1]) if told else ()

    def heads(self) -> Iterator[Result]:
        """Newest results of all stage steps, in key order (those a void covers included: see `fold`)."""
        for newest in heapq.merge(self.journal.newest(4), self.journal.newest(5), key=lambda head: head.key):
            yield Result(*newest)

    def standings(self, until: str | None = None) -> dict[str, Standing]:
        """Where each trial stands that has any result; trials that are not in it are owed whole."""
        stages = self.plan.shape.until(until)
        unscored = {Key.of(task) for chunk in self.plan.chunks for task in chunk.unscored}
        found: dict[str, Standing] = {}
        for trial, heads in fold(self.heads(), self.voids):
            scored = not unscored or trial.split("/", 2)[1] not in unscored
            found[trial] = standing(heads, self.plan.shape, stages, scored=scored)
            if found[trial] == "unsure" and self._agrees(trial):
                found[trial] = "settled"
        return found

    def _agrees(self, trial: str) -> bool:
        """Whether what is older than a step above it was made from the very value that this step has now."""
        entries: dict[str, Entry] = {}
        for seq, row in self.journal.rows(trial, kinds=("result",)):
            if row.key.count("/") <= 4 and seq > self.voids.since(row.key):
                entries[row.key[len(trial) + 1 :]] = unpack(row, self.journal.blob, seq=seq)
        shape = self.plan.shape
        samples = [entries[step] for step in shape.steps("generate")]
        outputs: list[list[Any]] = [
            [number, None if entry.value is None else entry.value["output"], entry.value is None]
            for number, entry in enumerate(samples)
        ]
        output = next((output for _, output, failed in outputs if not failed), None)
        made: list[tuple[str, str, Any]] = [("reduce", "samples", outputs)]
        if "reduce" in entries and entries["reduce"].outcome == "ok":
            output = entries["reduce"].value["output"]
        made += [("parse", "output", output), *((step, "output", output) for step in shape.steps("judge"))]
        answer = entries["parse"].value if "parse" in entries else output
        made += [(step, "answer", answer) for step in shape.steps("score")]
        return all(_made_from(entries.get(step), part, value) for step, part, value in made)

    def tasks(self, chunk: Chunk) -> Iterator[tuple[str, Task]]:
        """The tasks of a chunk with their content digests, from the run's own copy."""
        for line in self.journal.blob(bytes.fromhex(chunk.tasks)).splitlines():
            form = orjson.loads(line)
            yield form.pop("digest"), Task.from_json(form)

    def entries(self, prefix: str = "", kinds: Sequence[str] = ()) -> Iterator[Entry]:
        """Entries under a prefix, whole, in order."""
        for seq, row in self.journal.rows(prefix, kinds=kinds):
            yield unpack(row, self.journal.blob, seq=seq)

    def in_doubt(self) -> tuple[int, float]:
        """Calls that left and whose answer is not here, and what they cost at most: a resume sends them again.

        (`Journal.sums` has all that were ever in doubt, those since answered by a later attempt too: they may have
        been billed.)
        """
        if not self.journal.sums().doubt[2]:
            return 0, 0.0
        found: dict[str, float] = {}
        for seq, row in self.journal.rows("", kinds=("intent", "result")):
            if row.kind == "result":
                found.pop(row.key, None)
                if found and row.outcome != "error":  # a call that its trial's own limit cut short is not sent again
                    found = {key: usd for key, usd in found.items() if not Key(row.key).covers(key)}
            elif row.tokens is not None and seq > self.voids.since(row.key):
                found[row.key] = row.usd or 0.0
        return len(found), sum(found.values())

    def close(self) -> None:
        """Let go of the journal."""
        self.journal.close()


def _made_from(entry: Entry | None, part: str, value: Any) -> bool:
    if entry is None or entry.fingerprint is None:
        return True
    return entry.fingerprint.parts.get(part) == Fingerprint.of(of=value).parts["of"]


def cut_off(run: Run) -> list[str]:
    """The samples that were begun and have not come to an end: their calls are recorded, their result is not."""
    begun = set[str]()
    for seq, row in run.journal.rows("", kinds=("intent", "result")):
        names = row.key.split("/", 5)
        if len(names) < 5 or names[3] != "generate" or seq <= run.voids.since(row.key):
            continue
        sample = "/".join(names[:5])
        if row.kind == "result" and len(names) == 5:
            begun.discard(sample)
        else:
            begun.add(sample)
    return sorted(begun)


def open_run(folder: Path) -> Run:
    """Open a run's folder for reading. Raises NotThere, Damaged."""
    journal = SqliteJournal(folder, create=False)
    try:
        return read_run(folder, journal)
    except BaseException:
        journal.close()
        raise


def read_run(folder: Path, journal: Journal) -> Run:
    """The run that a journal holds. Raises Damaged where it has no plan."""
    plans: list[Mapping[str, Any]] = []
    voids = Voids()
    for seq, row in journal.rows("", kinds=("plan", "void")):
        data = unpack(row, journal.blob, seq=seq).data
        if row.kind == "plan":
            plans.append(data)
        else:
            voids.add(seq, data["prefixes"])
    if not plans:
        raise Damaged(f"{folder} holds a journal without a plan: it was never made whole. Delete it and run again")
    try:
        return Run(folder, journal, plans[0], Plan.read(plans), voids, plans[1:])
    except (KeyError, TypeError) as error:
        raise Damaged(f"the plan in {folder} cannot be read: {error!r}") from error


def stored_runs(store: Path) -> list[Path]:
    """All run folders of a store, newest journal first."""
    if not store.is_dir():
        return []
    found = [path.parent for path in store.glob(f"[!.]*/{JOURNAL}")]  # `.making-…`: one that was never made whole
    return sorted(found, key=_touched, reverse=True)


def _touched(folder: Path) -> float:
    times = [path.stat().st_mtime for path in (folder / JOURNAL, folder / f"{JOURNAL}-wal") if path.exists()]
    return max(times, default=0.0)


def find(store: Path, name: str) -> Path:
    """The folder of the run that `name` means: a folder, `latest`, a full name, or a unique prefix of name or id.

    Raises NotThere (with what there is), UsageError where several match.
    """
    path = Path(name)
    if (path / JOURNAL).exists():
        return path
    if path.is_dir() and not (store / name).is_dir():
        raise NotThere(f"{name} is a folder, but no run: it has no {JOURNAL}")
    known = stored_runs(store)
    if name == "latest":
        if not known:
            raise NotThere(f"there is no run in {store}. Start one: onward run arithmetic --model local/smollm2")
        return known[0]
    found = matching(known, name)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(folder.name for folder in found[:5])
        raise UsageError(f"{name!r} could be any of {len(found)} runs: {names}. Say more of its name")
    there = ", ".join(folder.name for folder in known[:5]) or "none"
    raise NotThere(f"there is no run {name!r} in {store}. There: {there}")


def matching(folders: Sequence[Path], name: str) -> list[Path]:
    """Those of these run folders that a name could mean: the one of just this name, else all whose name or id begins
    with it."""
    exact = [folder for folder in folders if folder.name == name]
    return exact or [folder for folder in folders if folder.name.startswith(name) or _id_starts(folder, name)]


def _id_starts(folder: Path, prefix: str) -> bool:
    """Whether a run's id (the end of its folder's name, or all of it inside) starts so."""
    if folder.name.rpartition("-")[2].startswith(prefix):
        return True
    if len(prefix) <= 6 or not all(letter in "0123456789abcdef" for letter in prefix):
        return False
    try:
        run = open_run(folder)
    except OnwardError:
        return False
    try:
        return run.id.startswith(prefix)
    finally:
        run.close()
