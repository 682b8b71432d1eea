"""`runs`, `show` and `compare`, as processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

SOLVERS = '''
import os

def right(ctx, task):
    return f"It is {task.target}."

def wrong(ctx, task):
    if task.id == "set/t2":
        return "no idea"
    return "It is 0."

def waiting(ctx, task):
    """Goes on once somebody writes into the pipe."""
    if task.id == "set/t2":
        with open(os.environ["GATE"]) as gate:
            gate.read()
    return f"It is {task.target}."
'''
SPEC = """
name: lab
tasks: tasks.jsonl
solver: [{name: right, python: solvers.py:right}, {name: wrong, python: solvers.py:wrong}]
parse: last_number
score: numeric
"""


class Shell:
    """A folder in which `python -m onward` is run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("ONWARD_")}
        rows = [{"id": f"set/t{n}", "input": f"what is {n}", "target": str(n), "level": n} for n in (1, 2, 3)]
        (folder / "tasks.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (folder / "solvers.py").write_text(SOLVERS, encoding="utf-8")
        (folder / "lab.yaml").write_text(SPEC, encoding="utf-8")

    def start(self, *words: str, **environment: str) -> subprocess.Popen[str]:
        """A process that runs on."""
        return subprocess.Popen(
            [sys.executable, "-m", "onward", *words], cwd=self.folder, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**self.environment, **environment},
        )  # fmt: skip

    def onward(self, *words: str, code: int = 0) -> str:
        """Standard output of one command that ends so."""
        process = self.start(*words)
        said, complained = process.communicate(timeout=60)
        assert process.returncode == code, said + complained
        return said if code == 0 else said + complained

    def json(self, *words: str) -> Any:
        """What it says as JSON."""
        return json.loads(self.onward(*words, "--json"))


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A folder with one complete run, which is only looked at."""
    made = Shell(tmp_path_factory.mktemp("look"))
    made.onward("run", "lab.yaml")
    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def test_runs_lists_every_run_and_those_that_are_damaged(fresh: Shell) -> None:
    assert "no runs" in fresh.onward("runs")
    fresh.onward("run", "lab.yaml", "--limit", "2")
    fresh.onward("run", "lab.yaml", "--max-new", "1", "--new", code=3)
    (fresh.folder / "runs" / "lab-broken").mkdir()
    (fresh.folder / "runs" / "lab-broken" / "journal.db").write_bytes(b"")
    text = fresh.onward("runs")
    assert "complete" in text and "damaged: " in text and "interrupted — 2 of 6 done, 4 owed" in text
    rows: list[Mapping[str, Any]] = fresh.json("runs")
    assert sorted(row["state"] for row in rows) == ["complete", "damaged", "interrupted"]


def test_show_begins_with_the_run_in_words(shell: Shell) -> None:
    text = shell.onward("show", "latest")
    assert text.splitlines()[0].endswith(": complete, 6 of 6 done, $0.00 spent")
    assert "numeric 100.0 ± 0.0 %" in text and "parse: last_number → score: numeric" in text
    found = shell.json("show", "lab")
    assert (found["state"], found["planned"], found["solvers"]["wrong"]["failed"]) == ("complete", 6, 1)


def test_show_goes_down_to_the_task_the_stage_and_why(shell: Shell) -> None:
    assert "what is 2" in shell.onward("show", "lab/set/t2")
    assert "the answer holds no number" in shell.onward("show", "lab/set%2Ft2")
    assert "It is 3." in shell.onward("show", "lab/right/set/t3/generate")
    assert "depends on" in shell.onward("show", "lab/set/t3/score", "--why")
    task = shell.json("show", "lab/set/t1")
    assert task["task"]["target"] == "1" and {trial["outcome"] for trial in task["trials"]} == {"ok"}
    assert "put out of account" not in shell.onward("show", "lab", "--why")


def test_show_has_the_book_the_troubles_and_what_is_in_flight(shell: Shell) -> None:
    assert "3 wrong (level 1: 1, level 2: 1, level 3: 1)" in shell.onward("show", "lab", "--wrong")
    assert [row["task"] for row in shell.json("show", "lab", "--wrong")] == ["set/t1", "set/t2", "set/t3"]
    assert "failed, scored 0" in shell.onward("show", "lab", "--errors")
    assert "nothing is in flight" in shell.onward("show", "lab", "--in-flight")


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["show", "nothing"], 1, "there is no run 'nothing'"), (["show", "lab/set/t9"], 1, "has no task"),
        (["show", "lab", "--wrong", "--errors"], 2, "one thing at a time"),
        (["show", "lab/set/t1", "--wrong"], 2, "about a whole run"),
        (["compare", "lab/right"], 2, "has one solver"), (["compare", "lab", "--score", "f1"], 1, "'f1'"),
        (["compare", "lab/nobody", "lab/right"], 1, "no solver 'nobody'"),
    ],
)  # fmt: skip
def test_what_is_not_there_is_said_with_an_exit_code(shell: Shell, words: list[str], code: int, said: str) -> None:
    assert said in shell.onward(*words, code=code)


def test_compare_sets_solvers_side_by_side(shell: Shell) -> None:
    text = shell.onward("compare", "lab", "--flips")
    assert "-100.0" in text and "0.250" in text and "set/t2" in text
    [found] = shell.json("compare", "lab/right", "lab/wrong")
    assert (found["n"], found["worse"], found["p"], found["flips"]) == (3, 3, 0.25, 3)


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    path = tmp_path / "gate"
    os.mkfifo(path)
    return path


def test_follow_shows_results_as_they_land_until_the_driver_is_gone(fresh: Shell, gate: Path) -> None:
    fresh.onward("run", "lab.yaml", "--max-new", "1", code=3)
    spec = fresh.folder / "waiting.yaml"
    spec.write_text(SPEC.replace("[{name: right, python: solvers.py:right}, {name: wrong, python: solvers.py:wrong}]",
                                 "{name: waiting, python: solvers.py:waiting}\nlimits: {concurrency: 1}"))  # fmt: skip
    driver = fresh.start("run", "waiting.yaml", "--name", "live", GATE=str(gate))
    with driver, gate.open("w") as opened:  # the driver is in the middle of its second task from here on
        with fresh.start("show", "live", "--follow") as follower:
            assert follower.stdout is not None
            line = next(line for line in follower.stdout if "score" in line)
            assert "set/t1" in line and driver.poll() is None
            assert f"running in process {driver.pid}" in fresh.onward("show", "live")
            opened.write("go on")
            opened.close()
            rest = follower.stdout.read()
        driver.communicate(timeout=60)
    assert (driver.returncode, follower.returncode) == (0, 0)
    assert "set/t2" in rest and rest.splitlines()[-1].endswith("complete, 3 of 3 done, $0.00 spent")
