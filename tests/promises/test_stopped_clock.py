"""A driver that is stopped (SIGSTOP, a sleeping laptop), loses its run, and wakes up: it writes nothing any more."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sqlite3
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.cli.console import Shell, ended, until

from onward import lease
from onward.clock import SystemClock
from onward.errors import Held
from onward.journal import Holder, MemoryJournal
from onward.runs import open_run
from onward.testing import ProviderServer, Request
from onward.views import trials

TASKS, IN_FLIGHT = 12, 4


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Closed: the provider keeps those waiting who come after the first few."""
    found = threading.Event()
    yield found
    found.set()


@pytest.fixture
def server(gate: threading.Event, tmp_path: Path) -> Iterator[ProviderServer]:
    async def answer(request: Request) -> str:
        while request.number > IN_FLIGHT and not gate.is_set():
            await asyncio.sleep(0.005)
        return f"The answer is {int(request.digest[:4], 16)}."

    with ProviderServer(answer, log=tmp_path / "billed.jsonl") as running:
        yield running


def stop(driver: subprocess.Popen[str], folder: Path) -> None:
    """Stop it, but not amid a commit: a process that holds the file's lock and does not run lets nobody write."""

    def stopped() -> bool:
        driver.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, driver.pid, os.WSTOPPED)
        connection = sqlite3.connect(folder / "journal.db", isolation_level=None, timeout=0)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        except sqlite3.OperationalError:
            driver.send_signal(signal.SIGCONT)
            return False
        finally:
            connection.close()
        return True

    until(stopped, "stopped between two commits")


def entries(folder: Path) -> list[object]:
    run = open_run(folder)
    try:
        assert list(run.journal.check()) == []
        return list(run.journal.rows())
    finally:
        run.close()


@pytest.mark.slow
@pytest.mark.parametrize("answered", [False, True], ids=["its-calls-unanswered", "its-calls-answered-meanwhile"])
def test_a_driver_that_slept_through_the_loss_of_its_run_stops_at_its_next_commit(
    tmp_path: Path, server: ProviderServer, gate: threading.Event, answered: bool
) -> None:
    shell = Shell(tmp_path, server)
    name = shell.experiment(tasks=TASKS, limits={"concurrency": IN_FLIGHT})
    sleeper = shell.start("run", name)
    try:
        until(lambda: len(server.requests) == 2 * IN_FLIGHT and shell.answers() == IN_FLIGHT, "calls in flight")
        stop(sleeper, shell.run)
        assert shell("resume", shell.run.name).code == 4, "stopped is not dead"
        if answered:
            gate.set()
            until(lambda: len(server.calls) == 2 * IN_FLIGHT, "answers that nobody reads")
        other = shell.start("resume", shell.run.name, "--take-over")
        if not answered:
            until(lambda: len(server.requests) == 3 * IN_FLIGHT, "the other asks")
            gate.set()
        done = ended(other)
        assert done.code == 0, done
        before, asked = entries(shell.run), len(server.requests)

        sleeper.send_signal(signal.SIGCONT)
        woken = ended(sleeper)
        assert woken.code == 4, woken
        assert "Traceback" not in woken.err
        assert "lease" in woken.out + woken.err
        assert entries(shell.run) == before, "it wrote after it had lost the run"
        assert len(server.requests) == asked, "it asked after it had lost the run"
    finally:
        if sleeper.poll() is None:
            sleeper.kill()
            sleeper.communicate()

    billed = Counter(call.digest for call in server.calls)
    in_flight = {request.digest for request in server.requests[IN_FLIGHT : 2 * IN_FLIGHT]}
    assert len(billed) == TASKS
    assert {digest for digest, times in billed.items() if times > 1} <= in_flight
    assert max(billed.values()) <= 2
    run = open_run(shell.run)
    try:
        assert [trial.outcome for trial in trials(run)] == ["ok"] * TASKS
        assert run.in_doubt()[0] == 0
        assert run.journal.holder() is None
    finally:
        run.close()


class Locked(MemoryJournal):
    """What a journal comes to when a process that is stopped amid a commit has its file locked."""

    def claim(self, holder: Holder, *, gone: Callable[[Holder], bool]) -> int:
        raise OSError(errno.EBUSY, "locked")


def test_one_that_is_stopped_amid_a_commit_is_named_and_what_to_do_about_it() -> None:
    journal = Locked()
    MemoryJournal.claim(journal, lease.myself(SystemClock()), gone=lambda _: False)
    with pytest.raises(Held, match=f"kill -CONT {os.getpid()}"):
        lease.claim(journal, SystemClock(), force=True)
