"""`onward run` over task folders on a machine that has no container engine, and then has one."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from tests.agents.rig import bubblewrap
from tests.cli.console import Done, Shell
from tests.sandbox.rig import IMAGE

from onward.runs import open_run
from onward.sandbox.bubblewrap import bwrap
from onward.sandbox.supervised import PATH

RUN = ("run", "tasks", "--agent", "oracle", "--name", "n", "--max-errors", "1")


def without_engines(shell: Shell, *words: str) -> Done:
    """A command on a machine where neither Docker nor Podman is installed."""
    program, _ = bwrap()
    found = {shutil.which(name, path=place) for name in ("docker", "podman") for place in PATH.split(":")} - {None}
    hidden = [word for one in sorted(map(str, found)) for word in ("--ro-bind", "/dev/null", one)]
    done = subprocess.run(
        [program, "--dev-bind", "/", "/", *hidden, sys.executable, "-m", "onward", *words],
        cwd=shell.folder, env=shell.environment, text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def task(shell: Shell, name: str, *, contained: bool) -> None:
    """A task that writes a file; where it is to be contained, in an image that a command had a part in."""
    made = "RUN mkdir /made\n" if contained else ""
    for file, text in {
        "task.toml": 'version = "1.0"\n',
        "instruction.md": "Write x into the file f.\n",
        "environment/Dockerfile": f"FROM {IMAGE}\n{made}WORKDIR /app\n",
        "solution/solve.sh": "#!/bin/sh\necho x > f\n",
        "tests/test.sh": "#!/bin/sh\nread said < f\n[ $said = x ] && echo 1 > /logs/verifier/reward.txt\n",
    }.items():
        shell.write(f"tasks/{name}/{file}", text).chmod(0o755)


def entries(shell: Shell) -> int:
    run = open_run(shell.run)
    try:
        return run.journal.head().seq
    finally:
        run.close()


@pytest.fixture
def mixed(shell: Shell) -> Shell:
    """One task for any machine, between more that need a container than errors in a row are allowed."""
    bubblewrap()
    for name, contained in {"a": True, "plain": False, "z": True}.items():
        task(shell, name, contained=contained)
    return shell


def test_what_needs_a_container_where_there_is_none_is_owed_and_the_rest_is_done(mixed: Shell) -> None:
    done = without_engines(mixed, *RUN)
    assert done.code == 3, done.err
    assert "owed: 2 trials of 3: 2 × a container is needed" in done.out and "errors in a row" not in done.out
    assert "apt-get install docker.io" in done.out and "apt-get install podman runc" in done.out
    assert f"resume: onward resume {mixed.run.name}" in done.out
    planned = without_engines(mixed, "resume", "--plan")
    assert planned.code == 0 and "2 of 3 tasks: a container is needed" in planned.out, planned.out + planned.err
    assert "(for environment/Dockerfile, line 2: RUN mkdir /made)" in planned.out


def test_a_resume_where_all_that_is_left_needs_a_container_is_refused_and_writes_nothing(mixed: Shell) -> None:
    assert without_engines(mixed, *RUN).code == 3
    before = entries(mixed)
    done = without_engines(mixed, "resume")
    assert done.code == 2 and "nothing of what is wanted can be done here: a container is needed" in done.err
    assert "for environment/Dockerfile, line 2: RUN mkdir /made" in done.err and entries(mixed) == before


def test_tasks_that_all_need_a_container_are_refused_before_a_run_is_made(shell: Shell) -> None:
    bubblewrap()
    task(shell, "a", contained=True)
    for words in (RUN, (*RUN, "--sandbox", "container")):
        done = without_engines(shell, *words)
        assert done.code == 2 and "apt-get install" in done.err and not shell.store.exists()
    other = without_engines(shell, *RUN, "--sandbox", "bubblewrap")
    assert other.code == 2 and "this task needs --sandbox container" in other.err and not shell.store.exists()


def test_a_resume_where_there_is_an_engine_does_exactly_what_needed_one(mixed: Shell, engined: Shell) -> None:
    assert without_engines(mixed, *RUN).code == 3
    done = engined("resume")
    assert done.code == 0, done.out + done.err
    assert "1 of 3 done" in done.out and "2 to do" in done.out and "100.0" in done.out
    # What the agents did is recorded: nothing that is left to do needs a container.
    again = without_engines(mixed, "replay", mixed.run.name, "--stage", "score")
    assert again.code == 0, again.err


@pytest.fixture
def imaged(shell: Shell) -> Shell:
    """One task for any machine, and two solvers: the one works in an image by name, the other wherever it can."""
    bubblewrap()
    task(shell, "a", contained=False)
    solvers = [{"name": "boxed", "agent": "oracle", "sandbox": {"image": IMAGE}}, {"name": "free", "agent": "oracle"}]
    shell.write("n.yaml", json.dumps({"tasks": "tasks", "solver": solvers, "score": "reward"}))
    return shell


def test_a_solver_with_an_image_is_owed_where_there_is_no_engine_and_the_others_are_done(imaged: Shell) -> None:
    planned = without_engines(imaged, "run", "n.yaml", "--plan")
    assert planned.code == 0 and "1 of 1 tasks: a container is needed" in planned.out, planned.out + planned.err
    done = without_engines(imaged, "run", "n.yaml")
    assert done.code == 3, done.out + done.err
    assert "owed: 1 trial of 2: 1 × a container is needed" in done.out and "apt-get install podman runc" in done.out
    before = imaged.run
    again = without_engines(imaged, "resume")
    assert again.code == 2 and "nothing of what is wanted can be done here: a container is needed" in again.err
    assert imaged.run == before, "an image that is no better known has not changed"


def test_an_image_is_looked_up_where_there_is_an_engine_and_stands_where_there_is_none_again(
    imaged: Shell, engined: Shell
) -> None:
    assert without_engines(imaged, "run", "n.yaml").code == 3
    done = engined("resume")
    assert done.code == 0, done.out + done.err
    assert "solver boxed changed since" in done.out and "1 of 2 done" in done.out
    again = without_engines(imaged, "replay", imaged.run.name, "--stage", "score")
    assert again.code == 0 and "changed since" not in again.out, again.out + again.err


def test_an_image_for_all_is_refused_before_a_run_is_made(shell: Shell) -> None:
    bubblewrap()
    task(shell, "a", contained=False)
    for words in ((), ("--plan",)):
        done = without_engines(shell, *RUN, "--image", IMAGE, *words)
        assert done.code == 2 and "apt-get install" in done.err and not shell.store.exists()
        assert "nothing of what is wanted can be done here: a container is needed" in done.err
