"""Remaining work = plan − journal, as arithmetic: no I/O, no clock.

A run's plan is its axes (solvers, trials, the steps of one trial) and its ordered task ids. What is kept and what is
owed is a fold over the heads of results; a trial has no status of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any, Literal, NamedTuple

from onward.keys import Key

__all__ = [
    "STAGES", "Chunk", "Plan", "Result", "Shape", "Standing", "Voids", "fold", "order_digest", "seed_of", "standing",
]  # fmt: skip

STAGES = ("generate", "reduce", "parse", "score", "judge")
Stage = Literal["generate", "reduce", "parse", "score", "judge"]

Standing = Literal["settled", "owed", "unsure"]
"""`unsure`: an upstream step is newer than what stands below it; only the fingerprints can tell (see `onward.once`)."""


class Result(NamedTuple):
    """The head of a key's newest result."""

    key: str
    seq: int
    outcome: str
    generation: int
    fingerprint: str | None


class Voids:
    """Which entries are out of account. A void covers every earlier entry under its prefixes, children included."""

    __slots__ = ("_marks", "count")

    def __init__(self, entries: Iterable[tuple[int, Sequence[str]]] = ()) -> None:
        self._marks: dict[str, list[int]] = {}
        self.count = 0
        for seq, prefixes in entries:
            self.add(seq, prefixes)

    def add(self, seq: int, prefixes: Sequence[str]) -> None:
        """Take a void entry into account."""
        self.count += 1
        for prefix in prefixes:
            self._marks.setdefault(prefix, []).append(seq)

    def marks(self, key: str) -> list[int]:
        """The seqs of the voids that cover this key, in order."""
        found = set(self._marks.get("", ()))
        end = len(key)
        while end > 0:
            found.update(self._marks.get(key[:end], ()))
            end = key.rfind("/", 0, end)
        return sorted(found)

    def generation(self, key: str) -> int:
        """How many voids cover this key: the generation in which it is now."""
        return len(self.marks(key)) if self._marks else 0

    def since(self, key: str) -> int:
        """The seq after which entries of this key count: that of the last void that covers it, else 0."""
        covering = self.marks(key) if self._marks else []
        return covering[-1] if covering else 0

    def before(self, key: str, seq: int) -> int:
        """How many voids that cover this key lie before `seq`: the generation that was current there."""
        return sum(1 for mark in self.marks(key) if mark < seq) if self._marks else 0

    def first(self, key: str) -> int:
        """The seq of the first void that covers this key, which ended its first go; 0 where none does."""
        covering = self.marks(key) if self._marks else []
        return covering[0] if covering else 0


@dataclass(frozen=True, slots=True)
class Shape:
    """The planned steps of every trial: keys relative to the trial, stage by stage."""

    samples: int = 1
    reduce: bool = False
    parse: bool = False
    scores: tuple[str, ...] = ()
    judges: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    """The solvers that are agents: what they had come to when their time was up is judged too."""

    def goes_on(self, head: Result) -> bool:
        """Whether what is below a step is wanted: it has a value."""
        if head.outcome == "timeout" and self.agents:
            return Key(head.key).names[0] in self.agents
        return head.outcome == "ok"

    def steps(self, stage: str) -> tuple[str, ...]:
        """Relative keys of one stage's steps."""
        if stage == "generate":
            return tuple(f"generate/{sample}" for sample in range(self.samples))
        if stage == "score":
            return tuple(Key.of("score", name) for name in self.scores)
        if stage == "judge":
            return tuple(Key.of("judge", name) for name in self.judges)
        return (stage,) if getattr(self, stage) else ()

    def to_json(self) -> dict[str, Any]:
        """The form in a plan entry."""
        return {
            "samples": self.samples, "reduce": self.reduce, "parse": self.parse,
            "scores": list(self.scores), "judges": list(self.judges),
            **({"agents": list(self.agents)} if self.agents else {}),
        }  # fmt: skip

    def until(self, stage: str | None) -> tuple[str, ...]:
        """The stages to go through, in order, up to and including `stage` (all, if None)."""
        last = len(STAGES) - 1 if stage is None else STAGES.index(stage)
        return STAGES[: last + 1]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some hundred tasks of the plan: their ids in order, which of them have no known answer, where their text is."""

    ids: tuple[str, ...]
    tasks: str
    """The blob (hex digest) that holds the tasks, one JSON object a line."""
    unscored: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run wants."""

    solvers: tuple[str, ...]
    trials: int
    shape: Shape
    chunks: tuple[Chunk, ...] = ()

    @classmethod
    def read(cls, entries: Sequence[Mapping[str, Any]]) -> Plan:
        """The plan that plan entries hold: the first says all, later ones add chunks of tasks (or steps)."""
        first = entries[0]
        shape, chunks = first["shape"], []
        for data in entries:
            shape = data.get("shape", shape)
            chunks += [
                Chunk(tuple(chunk["ids"]), str(chunk["tasks"]), frozenset(chunk.get("unscored", ())))
                for chunk in data.get("chunks", ())
            ]
        shape = {name: tuple(value) if isinstance(value, list) else value for name, value in shape.items()}
        return cls(tuple(first["solvers"]), first["trials"], Shape(**shape), tuple(chunks))

    def __len__(self) -> int:
        return len(self.solvers) * self.trials * sum(len(chunk.ids) for chunk in self.chunks)

    def task_ids(self) -> Iterator[str]:
        """All task ids, in order."""
        for chunk in self.chunks:
            yield from chunk.ids

    def trial_keys(self, chunk: Chunk) -> Iterator[tuple[str, str, Key]]:
        """(solver, task id, key) of every trial of these tasks: task by task, so that a run has all solvers early."""
        for task in chunk.ids:
            for solver in self.solvers:
                for trial in range(1, self.trials + 1):
                    yield solver, task, Key.of(solver, task, str(trial))


def standing(heads: Mapping[str, Result], shape: Shape, stages: Sequence[str], *, scored: bool = True) -> Standing:
    """Where a trial stands, from the newest results under it (relative key → head, voided ones left out).

    `ok`, `failed` and `timeout` are done; `error` and none are owed. Below a step that failed nothing is wanted.
    """
    newest = 0
    doubtful = False
    for stage, steps in _levels(shape, tuple(stages)):
        if stage == "score" and not scored:
            continue
        top, is_ok = newest, False
        for step in steps:
            head = heads.get(step)
            if head is None or head.outcome == "error":
                return "owed"
            doubtful = doubtful or head.seq < newest
            is_ok = is_ok or head.outcome == "ok" or shape.goes_on(head)
            top = max(top, head.seq)
        if stage in _FEEDING:
            if not is_ok:
                break
            newest = top
    return "unsure" if doubtful else "settled"


_FEEDING = frozenset({"generate", "reduce", "parse"})
"""Stages whose value the next ones are made from."""


@lru_cache(maxsize=64)
def _levels(shape: Shape, stages: tuple[str, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The stages that a shape has, with their steps: made once, since every trial of a run has the same."""
    return tuple((stage, steps) for stage in stages if (steps := shape.steps(stage)))


def fold(heads: Iterable[Result], voids: Voids) -> Iterator[tuple[str, dict[str, Result]]]:
    """Heads in key order → (trial key, relative key → head) for every trial that has any, voided ones left out."""

    trial, found = "", dict[str, Result]()
    start = 0
    for head in heads:
        key = head.key
        if not start or not key.startswith(trial) or key[start - 1] != "/":
            if start:
                yield trial, found
            trial = "/".join(key.split("/", 3)[:3])
            found, start = {}, len(trial) + 1
        if not voids.count or head.seq > voids.since(key):
            found[key[start:]] = head
    if start:
        yield trial, found


def seed_of(*parts: str | int) -> int:
    """A 31-bit seed from what identifies a draw: task, trial, sample, generation; never run, attempt or position."""
    return int.from_bytes(sha256("\n".join(map(str, parts)).encode()).digest()[:4], "big") >> 1


def order_digest(pairs: Iterable[tuple[str, str]]) -> str:
    """32 hex characters over (task id, content digest) in order: what an ordered selection is."""
    state = sha256(b"onward order 1\n")
    for task, digest in pairs:
        state.update(f"{task}\n{digest}\n".encode())
    return state.hexdigest()[:32]
