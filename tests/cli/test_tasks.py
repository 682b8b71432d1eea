"""`onward tasks`: folders that are made, checked and run, as a person does it."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from tests.cli.console import Shell, interrupt, until
from tests.tasks.laid import HARBOR, TOML, laid

from onward.sandbox.bubblewrap import reaches
from onward.tasks.folders import EXAMPLES, folders

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def boxed(shell: Shell) -> Shell:
    """A shell on a machine where sandboxes work."""
    if why := reaches("--unshare-user", "--unshare-all", "--as-pid-1"):
        pytest.skip(f"sandbox bubblewrap: {why}")
    shell.environment["ONWARD_CACHE"] = str(shell.folder / "cache")
    return shell


def test_a_new_task_folder_is_as_it_should_be_and_runs(boxed: Shell) -> None:
    done = boxed("tasks", "init", "tasks/greet")
    assert (done.code, done.lines) == (0, [
        "made tasks/greet", "check it: onward tasks check tasks/greet --run",
        "run it: onward run tasks/greet --agent oracle",
    ])  # fmt: skip
    done = boxed("tasks", "check", "tasks", "--run")
    assert done.code == 0 and "✓ tasks/greet  solution 1 in" in done.out and "untouched 0 (bubblewrap)" in done.out
    assert done.lines[-1] == "1 of 1 are as they should be"
    assert not boxed.store.exists()
    done = boxed("run", "tasks/greet", "--agent", "oracle")
    assert done.code == 0 and "reward 100.0 %" in done.out + done.err


def test_our_own_can_be_had_to_change_them(shell: Shell) -> None:
    done = shell("tasks", "init", "--examples", "mine")
    assert done.code == 0
    made = folders(shell.folder / "mine")
    assert [path.name for path in made] == [path.name for path in folders(EXAMPLES)]
    done = shell("tasks", "check", "mine", "--json")
    report = json.loads(done.out)
    assert done.code == 0 and report["ok"] and len(report["tasks"]) == 5
    assert report["tasks"][0] == {
        "path": "mine/answer-from-files", "ok": True, "wrong": [], "told": [], "container": "",
    }  # fmt: skip
    done = shell("tasks", "init", "--examples", "mine")
    assert done.code == 2 and "mine/answer-from-files is there already: choose another folder" in done.err


def test_what_is_wrong_is_said_by_folder_file_and_field(shell: Shell) -> None:
    laid(shell.folder / "tasks" / "good", HARBOR)
    laid(shell.folder / "tasks" / "odd", {**HARBOR, "task.toml": TOML.replace("cpus", "cpu")})
    laid(shell.folder / "tasks" / "bad", {**HARBOR, "task.toml": TOML.replace("cpus", "gpus"), "instruction.md": None})
    laid(shell.folder / "tasks" / "built", {**HARBOR, "environment/Dockerfile": "FROM x\nRUN make\n"})
    done = shell("tasks", "check", "tasks")
    assert done.code == 1 and done.lines == [
        "✗ tasks/bad",
        "  wrong task.toml: environment.gpus: there are no accelerators in a sandbox",
        "  wrong instruction.md: there is none",
        "  wrong instruction.md: there is no instruction",
        "✓ tasks/built",
        "  note  needs a container: environment/Dockerfile, line 2: RUN make",
        "✓ tasks/good",
        "✓ tasks/odd",
        '  note  task.toml: environment.cpu: unknown field. Did you mean "cpus"?',
        "3 of 4 can be run",
    ]
    quiet = shell("tasks", "check", "tasks", "-q")
    assert quiet.code == 1 and quiet.lines == done.lines[:4]
    done = shell("run", "tasks", "--agent", "oracle")
    assert done.code == 2 and "bad cannot be run" in done.err and "onward tasks check tasks" in done.err
    assert not shell.store.exists()


def test_a_solution_that_does_not_solve_it_and_a_verifier_that_lets_all_pass(boxed: Shell) -> None:
    laid(boxed.folder / "a", {**HARBOR, "solution/solve.sh": "#!/bin/sh\nexit 1\n"})
    laid(boxed.folder / "b", {**HARBOR, "tests/test.sh": "#!/bin/sh\necho 1 > /logs/verifier/reward.txt\n"})
    done = boxed("tasks", "check", "a", "b", "--run", "--json")
    found = json.loads(done.out)
    assert done.code == 1 and not found["ok"]
    assert [task["wrong"][0].partition(":")[0].partition(", not")[0] for task in found["tasks"]] == [
        "its solution gets the reward 0", "an empty attempt gets the reward 1",
    ]  # fmt: skip
    assert found["tasks"][0]["tried"]["solution"] == 0 and found["tasks"][0]["tried"]["sandbox"] == "bubblewrap"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("check", "nothing"), 1, "there is no folder nothing"),
        (("check", "."), 1, "holds no task folder: one has a task.toml or a task.md. `onward tasks init` makes one"),
        (("check",), 2, "Missing argument"),
        (("init", "not/a name"), 2, "'a name' is not a name"),
        (("init", "."), 2, "is there already: choose another name"),
        (("inti", "x"), 2, "No such command 'inti'"),
    ],
)
def test_words_that_are_off(shell: Shell, words: tuple[str, ...], code: int, said: str) -> None:
    done = shell("tasks", *words)
    assert done.code == code and said in " ".join(done.err.split()) and "Traceback" not in done.err


def test_a_check_that_is_interrupted_leaves_nothing_that_runs(boxed: Shell) -> None:
    laid(boxed.folder / "t", {**HARBOR, "solution/solve.sh": "#!/bin/sh\ntouch /tmp/started; sleep 1000\n"})
    process = boxed.start("tasks", "check", "t", "--run")
    checks = boxed.folder / "cache" / "checks"
    until(lambda: list(checks.glob("*/tmp/started")), "the solution is at work")
    interrupt(process)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 3 and err.startswith("error: interrupted")
    assert not list(checks.glob("*/tmp/started"))


def test_the_wheel_has_our_own_in_it(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT, check=True, capture_output=True,
    )  # fmt: skip
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for path in EXAMPLES.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert f"onward/tasks/examples/{path.relative_to(EXAMPLES).as_posix()}" in names


def test_a_plan_tells_what_its_tasks_ask_for_and_nobody_does(shell: Shell) -> None:
    for name in ("a", "b"):
        stated = TOML.replace("[agent]\n", '[agent]\nuser = "root"\n' + ("colour = 1\n" if name == "b" else ""))
        laid(shell.folder / "tasks" / name, {**HARBOR, "task.toml": stated})
    done = shell("run", "tasks", "--agent", "oracle", "--plan")
    assert done.code == 0
    assert "  2 of 2 tasks: task.toml: agent.user: everything in a sandbox is done by one user" in done.lines
    assert "  1 of 2 tasks: task.toml: agent.colour: unknown field" in done.lines
