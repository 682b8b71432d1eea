"""`show --trajectory`, as a process."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.console import LIMIT, Done, Shell
from tests.gateway.street import run as go
from tests.views.played import Agent, attempt, bare_run, working

from onward.testing import ProviderServer


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A store with one run; its second task was killed after two exchanges, and resumed with another tool result."""
    folder = tmp_path_factory.mktemp("trajectory")
    run = bare_run(folder)

    async def play() -> None:
        async with ProviderServer(working(3)) as server:
            await attempt(run, server, lambda at, token: Agent("responses", True).live(at, token, 2), killed=True)
            await attempt(run, server, lambda at, token: Agent("responses", True, differs=0).live(at, token))

    go(play())
    return Shell(folder)


def show(shell: Shell, *words: str) -> Done:
    return shell("show", *words)


def test_an_episode_is_read_from_top_to_bottom(played: Shell) -> None:
    done = show(played, "lab/set/t2", "--trajectory")
    assert done.code == 0, done.err
    assert done.lines[0].startswith("coder/set/t2/1/generate/0: ok, not scored yet · 2 attempts")
    assert "3 exchanges: 2 served (1 exact, 1 prefix), 1 live" in done.out
    assert "lane 1 · main · 3 turns · Fix the failing test." in done.lines
    assert "       → bash pytest -q test_0.py" in done.lines
    assert "       ← exit 1, 2 lines: result of bash 0 exit code: 1" in done.lines
    assert '].output: recorded "result of bash 0\\nexit code: 1"' in done.out
    assert "\x1b" not in done.out and max(map(len, done.lines)) <= 100


def test_it_can_be_narrowed_and_shown_whole(played: Shell) -> None:
    done = show(played, "lab/set/t2/generate", "--trajectory", "--lane", "1", "--turn", "2", "--full")
    assert "Let me look at part 1." in done.out and "Let me look at part 0." not in done.out
    assert "         result of bash 1\n         exit code: 1\n" in done.out
    (found,) = json.loads(show(played, "lab/set/t2", "--trajectory", "--turn", "3", "--json").out)
    assert [turn["mark"] for lane in found["lanes"] for turn in lane["turns"]] == ["live"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("lab", "--trajectory"), 2, "a trajectory is of a trial: onward show lab-"),
        (("lab/set/t2/score", "--trajectory"), 2, "a trajectory is of a trial"),
        (("lab/set/t2", "--full"), 2, "go with --trajectory"),
        (("lab/set/t2", "--trajectory", "--why"), 2, "one thing at a time"),
        (("lab/set/t9", "--trajectory"), 1, "Did you mean"),
        (("other/set/t2", "--trajectory"), 1, "there is no run 'other'"),
        (("lab/set/t2", "--trajectory", "--lane", "2"), 1, "there is no lane 2: there is one"),
        (("lab/set/t2", "--trajectory", "--turn", "-1"), 1, "there is no turn -1: there are 1 to 3"),
    ],
)
def test_what_cannot_be_shown_is_said(played: Shell, words: tuple[str, ...], code: int, said: str) -> None:
    done = show(played, *words)
    assert (done.code, done.out) == (code, "") and said in done.err


def on_a_terminal(shell: Shell, **environment: str) -> str:
    """What a person sees."""
    ours, theirs = pty.openpty()
    plain = {name: value for name, value in shell.environment.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [sys.executable, "-m", "onward", "show", "lab/set/t2", "--trajectory"], cwd=shell.folder, stdin=theirs,
        stdout=theirs, stderr=theirs, env={**plain, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(theirs)
    seen = b"".join(_chunks(ours))
    assert process.wait(LIMIT) == 0
    return seen.decode()


def _chunks(descriptor: int) -> Iterator[bytes]:
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        while True:
            try:
                chunk = stream.read(4096)
            except OSError:  # how a terminal ends on Linux
                return
            if not chunk:
                return
            yield chunk


def test_colours_are_for_terminals_and_for_those_who_want_them(played: Shell) -> None:
    assert "\x1b[33m\x1b[1mserved prefix\x1b[0m" in on_a_terminal(played)
    assert "\x1b[3" not in on_a_terminal(played, NO_COLOR="1")
    narrow = on_a_terminal(played, COLUMNS="60", NO_COLOR="1").splitlines()
    assert max(map(len, narrow)) <= 60 and any("…" in line for line in narrow)


def test_it_is_read_where_the_folder_is(played: Shell, tmp_path: Path) -> None:
    (run,) = (played.folder / "runs").iterdir()
    there = Shell(tmp_path)
    assert "3 exchanges" in show(there, f"{run}/set/t2", "--trajectory").out
