"""What a derived run takes over from its parents: every recorded result that it would make itself, and no other.

The parent is walked with the verb's own eyes (`once.Peek`): each trial goes through the stages as the new run would,
what is recorded with an equal fingerprint is kept, and what is not is owed, with the reason.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from onward.amounts import count
from onward.clock import SystemClock
from onward.context import Context, World
from onward.entry import Row, link_of
from onward.errors import Damaged, StepFailed, StepTimeout
from onward.experiment import Assembled
from onward.history import History
from onward.journal import Stored
from onward.keys import ROOT, Key
from onward.limits import Bounds, Limits
from onward.once import Missing
from onward.peek import Peek
from onward.plan import STAGES, Chunk, Plan
from onward.runs import Run
from onward.stages import Work, trial
from onward.tasks import Task

__all__ = ["Carried", "Takeover", "marked", "survey", "told", "told_continued"]

_DEEPEST = 32
"""Names in the longest key under which an interrupted trial is looked for."""
_SAMPLE = 4
"""Slashes in the key of a sample."""
_SETTLED = ("ok", "failed", "timeout")
_CODE = frozenset({"code", "agent", "image"})
"""Fingerprint parts whose change leaves a step's own children worth trying: they are matched by content."""


@dataclass(slots=True)
class Takeover:
    """What a derived run takes over from one parent, and what it owes, by stage and reason."""

    parent: Run
    seqs: set[int] = field(default_factory=set)
    trials: set[str] = field(default_factory=set)
    """Trials that were looked at: the parent's voids matter for these alone."""
    kept: Counter[str] = field(default_factory=Counter)
    owed: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Steps, by stage and reason."""
    fresh: int = 0
    """Trials that the parent has nothing of."""
    unfinished: int = 0
    """Trials in which something is owed, these included."""

    def take(self, history: History, results: Iterable[Stored], keep: Sequence[str]) -> None:
        """Take over these results with the requests of those that are calls."""
        wanted = {(s.row.key, s.row.attempt): s.seq for s in results if s.row.outcome in keep}
        self.seqs.update(wanted.values())
        for stored in history.rows:
            if stored.row.kind == "intent" and (stored.row.key, stored.row.attempt) in wanted:
                self.seqs.add(stored.seq)

    def go_on(self, history: History, trial: Key, *, again: bool) -> None:
        """Take over a trial as it stands; or, if it is gone on with, its exchanges alone."""
        self.trials.add(trial)
        if again:
            self.take(history, _exchanges(history, trial), ("ok",))
            self.owed["generate", "continued"] += 1
            self.unfinished += 1
            return
        standing = list(history.under(trial))
        self.take(history, standing, _SETTLED)
        for one in standing:
            if one.row.key.count("/") <= _SAMPLE and one.row.outcome in _SETTLED:
                self.kept[Key(one.row.key).names[3]] += 1

    def rows(self) -> Iterator[Row]:
        """The voids that set its generations, then the rows, each marked with where it comes from."""
        for prefixes in _voids_of(self.parent, self.trials):
            body = json.dumps({"prefixes": prefixes, "why": f"as in {self.parent.name}"})
            yield Row("void", ROOT, 1, 0, None, None, self.parent.facts["run"]["created"], None, None, body)
        for seq, row in self.parent.journal.rows("", kinds=("intent", "result")):
            if seq in self.seqs:
                yield marked(row, seq, self.parent.id)


class Carried(Mapping[bytes, bytes]):
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
                yield from _blob(bytes.fromhex(value[mark]), mark, fetch, seen)
                return
        for item in value.values():
            yield from _named(item, fetch, seen)


def _blob(name: bytes, mark: str, fetch: Any, seen: set[bytes]) -> Iterator[bytes]:
    while name and name not in seen:
        seen.add(name)
        content = fetch(name)
        yield name
        before, body = link_of(content) if mark == "$chain" else (b"", content)
        if mark in ("$json", "$chain"):
            yield from _named(json.loads(body), fetch, seen)
        name = before


def marked(row: Row, seq: int, run: str) -> Row:
    """An entry as it is written once more: with the run and entry that paid for it."""
    data = json.loads(row.body)
    data.setdefault("origin", {"run": run, "seq": seq, "usd": row.usd})
    return row._replace(body=json.dumps(data, ensure_ascii=False, separators=(",", ":")))


class _Nobody:
    """Stands where models would be: a survey runs no body, so nothing is asked."""

    def prepare(self, *_: Any) -> NoReturn:
        raise AssertionError("a survey asks nobody")

    async def send(self, *_: Any) -> NoReturn:
        raise AssertionError("a survey asks nobody")

    async def close(self) -> None:
        """Nothing to close."""


async def survey(
    parent: Run, assembled: Assembled, plan: Plan, tasks: Mapping[str, tuple[str, Task]] | None,
    *, failures: bool = False, above: str | None = None, continued: Container[str] | None = None,
    which: Callable[[str], bool] | None = None,
) -> Takeover:  # fmt: skip
    """Walk every trial of `plan` against the parent's journal without doing anything: what is kept, what is owed.

    `tasks`: (content digest, task) by id, where they are read anew; None: the parent's own. `failures`: recorded
    failures count as done too (`--retry-errors`); else only what is `ok` is taken over. `above`: nothing of this stage
    and of those below it is (`replay`, which always executes them). `continued`: of these trials only the exchanges
    are, whatever their steps came to; all others are as they stand. `which`: only these trials.
    """
    found = Takeover(parent)
    clock = SystemClock()
    peek = Peek(parent.journal, clock, Limits(Bounds(), clock))
    world = World(peek, _Nobody(), lambda _: b"", assembled.spec.seed)
    known = {trial for trial, _ in _trials_with_rows(parent)}
    solvers = {solver.name: solver for solver in assembled.solvers}
    keep = _SETTLED if failures else ("ok",)
    again = STAGES[STAGES.index(above) :] if above else ()
    for chunk in plan.chunks:
        content = {task.id: (digest, task) for digest, task in _tasks_of(parent, chunk, tasks)}
        for solver, task_id, key in plan.trial_keys(chunk):
            if which is not None and not which(key):
                continue
            if key not in known:
                found.owed["generate", "new"] += 1
                found.fresh += 1
                found.unfinished += 1
                continue
            owed = found.owed.total()
            history = History.read(parent.journal, key, parent.voids)
            if continued is not None:
                found.go_on(history, key, again=key in continued)
                continue
            digest, task = content[task_id]
            work = Work(task, digest, solvers[solver], key.names[2], assembled.stages)
            peek.kept.clear()
            missing = await _walk(Context(key, world, history), work)
            for stored in peek.kept:
                stage = Key(stored.row.key).names[3]
                if stage in again:
                    found.owed[stage, "replayed"] += 1
                elif stored.row.outcome in keep:
                    found.kept[stage] += 1
                    found.take(history, [stored, *history.under(stored.row.key)], keep)
                else:
                    found.take(history, history.under(stored.row.key), keep)
                    found.owed[stage, f"{stored.row.outcome} there"] += 1
            for miss in missing:
                stage = miss.key.names[3]
                found.take(history, () if stage in again else _below(history, miss), keep)
                found.owed[stage, "new" if miss.why == "not done yet" else miss.why] += 1
            found.trials.add(key)
            found.unfinished += found.owed.total() > owed
    return found


def _tasks_of(parent: Run, chunk: Chunk, fresh: Mapping[str, tuple[str, Task]] | None) -> Iterator[tuple[str, Task]]:
    if fresh is None:
        yield from parent.tasks(chunk)
    else:
        for task in chunk.ids:
            yield fresh[task]


def _trials_with_rows(run: Run) -> Iterator[tuple[str, int]]:
    last = ""
    for depth in range(4, _DEEPEST):
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


def _exchanges(history: History, trial: Key) -> Iterator[Stored]:
    """What a trial's agents were told; and beside one that timed out, the samples that came to an end."""
    found = list(history.under(f"{trial}/generate"))
    timeouts = any(one.row.outcome == "timeout" for one in found)
    return (one for one in found if timeouts or one.row.key.count("/") > _SAMPLE)


def _below(history: History, miss: Missing) -> Iterable[Stored]:
    """Children of a step that is owed which may still serve: those of an unfinished one, or of changed code."""
    kept = history.newest(miss.key)
    if kept is not None and kept.row.outcome == "ok" and not set(miss.changes) <= _CODE:
        return ()
    return history.under(miss.key)


def _voids_of(run: Run, trials: set[str]) -> Iterator[list[str]]:
    """The run's voids as far as they are about these trials: another parent's must not fall under them."""
    for entry in run.entries("", ("void",)):
        prefixes: list[str] = []
        for prefix in entry.data["prefixes"]:
            if prefix.count("/") < 2:
                prefixes += sorted(trial for trial in trials if Key(prefix).covers(trial))
            elif "/".join(prefix.split("/", 3)[:3]) in trials:
                prefixes.append(prefix)
        if prefixes:
            yield prefixes


def told(takeover: Takeover, beyond: int = 0) -> str:
    """A takeover in a line; `beyond` is how many tasks are wanted that no parent has."""
    kept, owed = takeover.kept, takeover.owed
    words = [f"takes over {count(kept.get('generate', 0), 'answer')} from {takeover.parent.name}"]
    for (stage, why), steps in sorted(owed.items()):
        words.append(f"owes {count(steps, _NOUNS[stage])}: {why}")
    if beyond:
        words.append(count(beyond, "new task"))
    elif not any(stage in ("generate", "judge") for stage, _ in owed):
        words.append("0 calls")
    return " · ".join(words)


def told_continued(takeover: Takeover) -> str:
    """What a continuation takes from one run, in a line; empty where that is nothing."""
    again, kept = takeover.owed["generate", "continued"], takeover.kept["generate"]
    words = [f"continues {count(again, 'trial')}"] if again else []
    words += [f"takes over {count(kept, 'answer')}"] if kept else []
    words += [f"owes {count(takeover.fresh, 'answer')}: new"] if takeover.fresh else []
    return f"{' · '.join(words)} · from {takeover.parent.name}" if words else ""


_NOUNS = {
    "generate": "answer",
    "reduce": "reduction",
    "parse": "parse",
    "score": "score",
    "judge": "judgement",
}
