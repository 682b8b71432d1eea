"""Whole runs in a folder: written as people write them, driven through the one door, with models that are functions."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onward import launch
from onward.ask import Answer, Message, Usage
from onward.config import Flags, Settings, settings
from onward.drive import Ending, Invocation, drive, gateway_of
from onward.errors import CallTransient
from onward.experiment import Spec, assemble
from onward.fingerprint import digest_of
from onward.gateway import PythonModel
from onward.journal import Journal, SqliteJournal
from onward.progress import Quiet
from onward.runs import Run, find, open_run
from onward.tasks import FunctionSource
from onward.testing import FakeClock, InlineJournal
from onward.views import summary, trials

TASKS = [{"id": f"t{n}", "input": f"What is {n} + {n}?", "target": str(2 * n)} for n in range(1, 4)]


@contextmanager
def quick_folder() -> Iterator[Path]:
    """A folder in memory, where there is one: hundreds of runs need no disk."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="onward-test-", dir=memory if memory.is_dir() else None))
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


class Oracle:
    """A model: an answer by content and seed alone. It counts what it was asked, and what it answered."""

    def __init__(self, answer: Callable[[str, Mapping[str, Any]], Any] | None = None, *, faults: int = 0) -> None:
        self.answer, self.faults = answer or right, faults
        self.asked: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.texts: list[str] = []

    @property
    def calls(self) -> int:
        return self.answered.total()

    async def __call__(self, messages: Sequence[Message], params: Mapping[str, Any]) -> Answer:
        body = {"messages": list(messages), "params": dict(params)}
        digest = digest_of(body)
        self.asked[digest] += 1
        await asyncio.sleep(0)
        if self.asked[digest] == 1 and int(digest[0], 16) < self.faults:
            raise CallTransient("HTTP 500", provider="python", status=500)
        text = str(messages[-1]["content"])
        self.texts.append(text)
        said = self.answer(text, params)
        if isinstance(said, Awaitable):
            said = await said
        if isinstance(said, BaseException):
            raise said
        self.answered[digest] += 1
        return said if isinstance(said, Answer) else Answer(str(said), usage=Usage(3, 2), usd=0.01)


def right(text: str, params: Mapping[str, Any]) -> str:
    """What is asked for in `What is N + N?`; a verdict where one is asked for."""
    if "answer to grade" in text:
        return '{"score": 0.5, "reason": "half"}'
    digits = [int(word.strip("?")) for word in text.split() if word.strip("?").isdigit()]
    return f"The answer is {sum(digits)}"


@dataclass
class House:
    """A folder with a store of runs in it, one experiment, and its model."""

    folder: Path
    model: Any = field(default_factory=Oracle)
    spec: dict[str, Any] = field(default_factory=dict)
    tasks: list[dict[str, Any]] = field(default_factory=lambda: [dict(task) for task in TASKS])
    lines: list[str] = field(default_factory=list)
    identity: str = "list"
    models: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.spec = {"name": "exp", "solver": "python/m", "parse": "last_number", "score": "numeric", **self.spec}

    @property
    def store(self) -> Path:
        return self.folder / "runs"

    def settings(self, **flags: Any) -> Settings:
        return settings(store=self.store, flags=Flags(**flags), environment={}, folder=self.folder)

    @property
    def known(self) -> dict[str, Any]:
        return {"m": PythonModel(self.model), **self.models}

    def changed(self, **fields: Any) -> Spec:
        return Spec.model_validate({**self.spec, "tasks": "a list", **fields})

    def source(self) -> FunctionSource:
        return FunctionSource(lambda: [dict(task) for task in self.tasks], name=self.identity)

    def _heard(self, go: Callable[[Quiet], Ending]) -> Ending:
        watch = Quiet()
        try:
            return go(watch)
        finally:
            self.lines = watch.lines

    def run(self, spec: Spec | None = None, **flags: Any) -> Ending:
        """`onward run SPEC`."""
        return self._heard(lambda watch: launch.run(
            spec or self.changed(), self.folder, self.settings(**flags), watch, models=self.known, source=self.source()
        ))  # fmt: skip

    def resume(self, name: str | None = None, **flags: Any) -> Ending:
        """`onward resume`."""
        return self._heard(lambda watch: launch.resume(name, self.settings(**flags), watch, models=self.known))

    def redo(self, address: str, **flags: Any) -> Ending:
        return self._heard(lambda watch: launch.redo(address, self.settings(**flags), watch, models=self.known))

    def replay(self, stage: str, spec: Spec | None = None, name: str = "latest", **flags: Any) -> Ending:
        return self._heard(lambda watch: launch.replay(
            name, stage, self.settings(**flags), watch, spec=spec, folder=self.folder, models=self.known
        ))  # fmt: skip

    def rerun_failed(self, name: str = "latest", **flags: Any) -> Ending:
        return self._heard(lambda watch: launch.rerun_failed(name, self.settings(**flags), watch, models=self.known))

    def retry_errors(self, name: str = "latest", **flags: Any) -> Ending:
        return self._heard(lambda watch: launch.retry_errors(name, self.settings(**flags), watch, models=self.known))

    @contextmanager
    def opened(self, name: str | Path = "latest") -> Iterator[Run]:
        run = open_run(name if isinstance(name, Path) else find(self.store, name))
        try:
            yield run
        finally:
            run.close()

    def drive(
        self, folder: Path, clock: FakeClock | None = None, journal: Callable[[Journal], Journal] = InlineJournal,
        **flags: Any,
    ) -> Ending:  # fmt: skip
        """Drive a run's folder as a process of its own would, on a clock that jumps."""
        assembled = assemble(self.changed(), self.folder)
        chosen = self.settings(**flags)

        async def go() -> Ending:
            ask = gateway_of(assembled, chosen, self.known)
            return await drive(Invocation(
                folder, assembled, chosen, Quiet(), ask, clock=clock or FakeClock(),
                open=lambda place: journal(SqliteJournal(place)),
            ))  # fmt: skip

        return asyncio.run(asyncio.wait_for(go(), 110))


def seen(run: Run) -> dict[str, Any]:
    """What a run comes to, without what tells how it got there: times, attempts, money."""
    found = summary(run)
    return {
        "done": found.done, "owed": found.owed, "through": found.completed_through,
        "solvers": {name: {"scores": part.scores, "first": part.first_go, "ok": part.ok, "failed": part.failed,
                           "timeout": part.timeout, "errors": part.errors, "missing": part.missing}
                    for name, part in found.solvers.items()},
        "trials": [(trial.key, trial.outcome, trial.output, trial.answer, trial.scores) for trial in trials(run)],
    }  # fmt: skip


def rows(run: Run) -> list[Any]:
    return list(run.journal.rows())
