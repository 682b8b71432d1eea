"""Two processes that start at the same instant on one run: one drives it, the other is refused and told by whom."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.console import Done, Shell, ended, until

from onward.testing import ProviderServer, Request

TIMES = 50 if os.environ.get("ONWARD_FULL") else 10
TASKS = 8

# All that a run imports is imported before the barrier, so that nothing but the run itself lies behind it.
RUNNER = """
import os, pathlib, sys
import aiohttp, onward.cli.running, onward.gateway.upstream, onward.launch
from onward.cli import main
pathlib.Path(f"ready-{os.getpid()}").touch()
while not pathlib.Path("go").exists():
    pass
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def gate() -> threading.Event:
    """Open: the provider answers. Closed: it lets those who ask wait."""
    return threading.Event()


@pytest.fixture
def server(gate: threading.Event) -> Iterator[ProviderServer]:
    async def answer(request: Request) -> str:
        while not gate.is_set():
            await asyncio.sleep(0.005)
        return "The answer is 42."

    with ProviderServer(answer) as running:
        yield running


def started(shell: Shell, words: list[str]) -> list[subprocess.Popen[str]]:
    """Two processes that wait for each other, then do this at once."""
    for left in shell.folder.glob("ready-*"):
        left.unlink()
    (shell.folder / "go").unlink(missing_ok=True)
    both = [
        subprocess.Popen(
            [sys.executable, "-c", RUNNER, *words], cwd=shell.folder, env=shell.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]  # fmt: skip
    until(lambda: all((shell.folder / f"ready-{one.pid}").exists() for one in both), "both at the barrier")
    (shell.folder / "go").touch()
    return both


def race(shell: Shell, words: list[str], gate: threading.Event) -> tuple[Done, Done]:
    """Let two of them loose; the winner, and the one that was refused while the winner was held up."""
    gate.clear()
    both = started(shell, words)
    try:
        until(lambda: any(one.poll() is not None for one in both), "one of the two is refused")
        gate.set()
        loser, winner = sorted(both, key=lambda one: one.poll() is None)
        refused = ended(loser)
        named = re.search(r"process (\d+) on ", refused.out + refused.err)
        assert named, refused
        assert int(named[1]) == winner.pid
        return ended(winner), refused
    finally:
        for one in both:
            if one.poll() is None:
                one.kill()
                one.communicate()


def judged(server: ProviderServer, winner: Done, refused: Done, calls: int) -> None:
    assert (winner.code, refused.code) == (0, 4), (winner, refused)
    assert "Traceback" not in winner.err + refused.err
    billed = Counter(call.digest for call in server.calls)
    assert len(billed) == calls
    assert set(billed.values()) == {1}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_who_make_the_same_run_at_once_make_one_and_one_of_them_drives_it(
    tmp_path: Path, server: ProviderServer, gate: threading.Event
) -> None:
    shell = Shell(tmp_path, server)
    name = shell.experiment(tasks=TASKS)
    for _ in range(TIMES):
        judged(server, *race(shell, ["run", name], gate), TASKS)
        (_,) = shell.store.iterdir()  # one run, and nothing half-made beside it
        shutil.rmtree(shell.store)
        server.calls.clear()


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("verb", ["resume", "run"])
def test_of_two_who_go_on_with_a_half_done_run_at_once_one_does(
    tmp_path: Path, server: ProviderServer, gate: threading.Event, verb: str
) -> None:
    shell = Shell(tmp_path, server)
    name = shell.experiment(tasks=TASKS)
    gate.set()
    assert shell("run", name, "--max-new", str(TASKS // 2)).code == 3
    shutil.copytree(shell.store, tmp_path / "half-done")
    words = ["run", name] if verb == "run" else ["resume", shell.run.name]
    for _ in range(TIMES // 2):
        judged(server, *race(shell, words, gate), TASKS)
        assert shell.answers() == TASKS
        shutil.rmtree(shell.store)
        shutil.copytree(tmp_path / "half-done", shell.store)
        del server.calls[TASKS // 2 :]
