"""A small experiment over real runs: tasks in a file, a model that is a function, every verb through `launch`.

The tasks are `set/t1` … with `input` "what is 1", target 1, level 1 to 3; the last one of `open` has no known answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onward import launch
from onward.config import Settings, settings
from onward.drive import Ending
from onward.experiment import Spec
from onward.progress import Quiet
from onward.runs import Run, open_run

Says = Callable[[str], str]


def number(question: str) -> int:
    """Which task a question is."""
    return int(question.rpartition(" ")[2])


class Lab:
    """A folder with tasks, and a model whose answers a test can change between two verbs."""

    def __init__(self, folder: Path, tasks: int = 4, *, open_ended: int = 0) -> None:
        self.folder, self.store = folder, folder / "runs"
        self.asked: list[str] = []
        self.says: Says = lambda question: f"It is {number(question)}."
        self.watch = Quiet()
        self.write("tasks.jsonl", [self.task(n, known=n <= tasks - open_ended) for n in range(1, tasks + 1)])

    @staticmethod
    def task(n: int, *, known: bool = True) -> dict[str, Any]:
        """One task as a row."""
        row = {"id": f"set/t{n}", "input": f"what is {n}", "level": (n - 1) % 3 + 1}
        return {**row, "target": str(n)} if known else row

    def write(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """A JSONL file in the folder."""
        path = self.folder / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    def spec(self, **fields: Any) -> Spec:
        """The experiment, with other fields."""
        plain = {
            "name": "lab", "tasks": "tasks.jsonl", "solver": {"model": "python/echo"}, "parse": "last_number",
            "score": "numeric", "limits": {"attempts": 1, "concurrency": 1},
        }  # fmt: skip
        return Spec(**{**plain, **fields})

    def settings(self, **flags: Any) -> Settings:
        """Nothing from the environment."""
        return settings(store=self.store, environment={}, folder=self.folder).having(**flags)

    @property
    def models(self) -> dict[str, Any]:
        """The model under its names: `echo`, and `other`, which is always wrong."""

        def echo(messages: Sequence[Mapping[str, Any]], params: Mapping[str, Any]) -> str:
            question = messages[-1]["content"]
            self.asked.append(question)
            return self.says(question)

        return {"echo": echo, "other": lambda messages, params: "It is 0."}

    def run(self, spec: Spec | None = None, **flags: Any) -> Ending:
        """`onward run`."""
        return launch.run(spec or self.spec(), self.folder, self.settings(**flags), self.watch, models=self.models)

    def resume(self, name: str, **flags: Any) -> Ending:
        """`onward resume`."""
        return launch.resume(name, self.settings(**flags), self.watch, models=self.models)

    def rerun_failed(self, name: str) -> Ending:
        """`onward resume --rerun-failed`."""
        return launch.rerun_failed(name, self.settings(), self.watch, models=self.models)

    def redo(self, address: str, **flags: Any) -> Ending:
        """`onward redo`."""
        return launch.redo(address, self.settings(**flags), self.watch, models=self.models)

    def replay(self, name: str, stage: str, spec: Spec | None = None) -> Ending:
        """`onward replay`."""
        return launch.replay(
            name, stage, self.settings(), self.watch, spec=spec, folder=self.folder, models=self.models
        )

    def open(self, name: str) -> Run:
        """A run for reading. It is closed with its process: tests are short."""
        return open_run(self.store / name)


def saying(**answers: str) -> Says:
    """Answers by task (`t3="It is 4."`), right for all others; `down` is a network that is down."""

    def says(question: str) -> str:
        said = answers.get(f"t{number(question)}", f"It is {number(question)}.")
        if said == "down":
            raise OSError("no route to host")
        return said

    return says
