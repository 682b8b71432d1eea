"""Ctrl-C, SIGKILL, crashes: what is lost (nothing), what is asked again (what was in flight), what is said."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.console import Shell, ended, interrupt, unread, until, waits_to_write

from onward.testing import Fault, ProviderServer, Request

SCHEMA = {"ts", "level", "type", "msg", "run_id"}


class Gate:
    """A provider that answers the first requests, and the others when it is told to."""

    def __init__(self, free: int) -> None:
        self.free, self._open = free, threading.Event()
        self.server = ProviderServer(self._answer)

    async def _answer(self, request: Request) -> str:
        import asyncio

        if request.number > self.free:
            await asyncio.to_thread(self._open.wait, 60)
        return "42"

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate(free=3)
    with made.server:
        yield made
        made.open()


@pytest.fixture
def gated(tmp_path: Path, gate: Gate) -> Shell:
    shell = Shell(tmp_path, gate.server)
    shell.experiment(tasks=8)
    return shell


def _repeats(server: ProviderServer) -> int:
    return sum(number - 1 for number in Counter(call.digest for call in server.calls).values())


def test_one_ctrl_c_lets_what_is_in_flight_finish(gated: Shell, gate: Gate) -> None:
    process = gated.start("run", "nightly.yaml")
    until(lambda: len(gate.server.requests) == 5 and gated.answers() == 3, "three answers, two in flight")
    interrupt(process)
    said = process.stdout.readline() if process.stdout else ""
    while "stopping" not in said:
        said = process.stdout.readline() if process.stdout else "stopping"
    gate.open()
    done = ended(process)
    assert done.code == 3 and "resume: onward resume nightly-" in done.out
    assert len(gate.server.requests) == 5 and gated.answers() == 5
    assert gated("resume").code == 0
    assert len(gate.server.calls) == 8 and _repeats(gate.server) == 0


def test_two_ctrl_c_stop_at_once_and_count_what_is_in_doubt(gated: Shell, gate: Gate) -> None:
    process = gated.start("run", "nightly.yaml")
    until(lambda: len(gate.server.requests) == 5 and gated.answers() == 3, "two in flight")
    interrupt(process)
    assert process.stdout is not None
    while "stopping" not in process.stdout.readline():
        pass
    interrupt(process)
    done = ended(process)
    assert done.code == 3 and "in doubt at most $" in done.out and "resume: onward resume nightly-" in done.out
    gate.open()
    again = gated("resume")
    assert again.code == 0 and " of 8 done ($" in again.out and "2 in doubt will be asked again (at most $" in again.out
    once_more = gated("resume", gated.run.name)
    assert "asked again" not in once_more.out and "already complete" in once_more.out


def test_after_a_sigkill_nothing_that_was_answered_is_asked_again(gated: Shell, gate: Gate) -> None:
    process = gated.start("run", "nightly.yaml")
    until(lambda: gated.answers() == 3 and len(gate.server.requests) == 5, "three durable answers, two in flight")
    durable = [call.digest for call in gate.server.calls]
    process.kill()
    assert ended(process).code == -9
    gate.open()
    done = gated("resume")
    assert done.code == 0 and " of 8 done ($" in done.out and "Died " in done.out
    asked = Counter(request.digest for request in gate.server.requests)
    assert [asked[digest] for digest in durable] == [1, 1, 1]
    assert sum(number - 1 for number in asked.values()) == 2


def test_doubt_can_stop_a_resume(gated: Shell, gate: Gate) -> None:
    process = gated.start("run", "nightly.yaml")
    until(lambda: gated.answers() == 3 and len(gate.server.requests) == 5, "two in flight")
    process.kill()
    ended(process)
    gate.open()
    stopped = gated("resume", "--in-doubt", "stop")
    assert stopped.code == 3 and "2 calls are in doubt" in stopped.out and len(gate.server.requests) == 5
    assert gated("resume", "--in-doubt", "resend").code == 0
    assert gated("resume", gated.run.name, "--in-doubt", "stop").code == 0


def test_stop_from_elsewhere_is_a_ctrl_c(gated: Shell, gate: Gate) -> None:
    assert gated("stop", "nightly").code == 1
    process = gated.start("run", "nightly.yaml")
    until(lambda: len(gate.server.requests) == 5, "requests in flight")
    assert gated("stop", "nightly").code == 0
    gate.open()
    assert ended(process).code in (0, 3)
    assert gated("resume", gated.run.name).code == 0 and _repeats(gate.server) == 0


# ---------------------------------------------------------------- crashes

CRASHING = """\
import os, pathlib, signal

def solve(ctx, task):
    mark = pathlib.Path("crashes.txt")
    crashes = len(mark.read_text()) if mark.exists() else 0
    if task.id == "t4" and crashes < {times}:
        mark.write_text("x" * (crashes + 1))
        os.kill(os.getpid(), signal.SIGKILL)
    return "42"
"""


def test_auto_resume_goes_on_after_a_crash(shell: Shell) -> None:
    shell.write("solver.py", CRASHING.format(times=2))
    shell.experiment(solver="solver.py:solve")
    done = shell("run", "nightly.yaml", "--auto-resume")
    assert done.code == 0 and done.err.count("it died (signal SIGKILL)") == 2
    assert len(list(shell.store.iterdir())) == 1


def test_auto_resume_gives_up_after_n_times(shell: Shell) -> None:
    shell.write("solver.py", CRASHING.format(times=99))
    shell.experiment(solver="solver.py:solve")
    done = shell("run", "nightly.yaml", "--auto-resume", "1")
    assert done.code == 3 and "1 restarts used up" in done.err and (shell.folder / "crashes.txt").read_text() == "xx"


def test_auto_resume_does_not_repeat_an_ending(shell: Shell) -> None:
    shell.experiment()
    assert shell("run", "nightly.yaml", "--auto-resume", "--threshold", "0.9").code == 1
    assert shell("run", "no-such.yaml", "--auto-resume").code == 2


def test_a_ctrl_c_reaches_a_supervised_run_once(gated: Shell, gate: Gate) -> None:
    process = gated.start("run", "nightly.yaml", "--auto-resume")
    until(lambda: len(gate.server.requests) == 5, "two in flight")
    interrupt(process)
    assert process.stdout is not None
    while "stopping" not in process.stdout.readline():
        pass
    gate.open()
    assert ended(process).code == 3
    assert len(gate.server.requests) == 5


# ---------------------------------------------------------------- events


def test_every_event_has_the_schema_and_completed_is_last(shell: Shell) -> None:
    shell.experiment()
    events = shell("run", "nightly.yaml", "--log-format", "json").events
    assert all(set(event) >= SCHEMA for event in events)
    assert events[0]["type"] == "run.started" and events[0]["args"] == ["run", "nightly.yaml", "--log-format", "json"]
    assert events[-1]["type"] == "run.completed" and events[-1]["exit_code"] == 0
    assert len({event["run_id"] for event in events}) == 1
    calls = [event for event in events if event["type"] == "step.completed" and event.get("tokens")]
    assert len(calls) == 6


def test_events_tell_what_is_reused_retried_and_failed(tmp_path: Path) -> None:
    with ProviderServer(lambda _: "no number here", faults=[Fault("500", times=1)]) as server:
        shell = Shell(tmp_path, server)
        shell.experiment(limits={"attempts": 2, "concurrency": 1})
        shell("run", "nightly.yaml", "--until-stage", "generate", "--max-new", "1")
        events = shell("resume", "--log-format", "json").events
        kinds = Counter(event["type"] for event in events)
        assert kinds["step.reused"] >= 1 and kinds["step.failed"] == 6 and kinds["trial.settled"] == 6
        first = shell("run", "nightly.yaml", "--new", "--log-format", "json", "--log-level", "warning").events
        assert {event["type"] for event in first} == {"run.started", "step.failed", "run.completed"}


@pytest.mark.parametrize(
    ("words", "code"), [(("run", "no-such.yaml"), 2), (("resume",), 1), (("run", "arithmetic"), 2)]
)  # fmt: skip
def test_completed_is_last_also_when_nothing_began(shell: Shell, words: tuple[str, ...], code: int) -> None:
    done = shell(*words, "--log-format", "json")
    assert done.code == code
    last = done.events[-1]
    assert last["type"] == "run.completed" and last["exit_code"] == code and last["error"]


def test_a_ctrl_c_in_the_last_lines_changes_neither_them_nor_the_exit_code(gated: Shell, gate: Gate) -> None:
    process = gated.start("run", "nightly.yaml", "--quiet")
    until(lambda: len(gate.server.requests) == 5, "two in flight")
    assert process.stdout is not None
    interrupt(process)
    assert "resume: onward resume" in process.stdout.readline()
    pipe = unread(process)
    gate.open()
    until(lambda: waits_to_write(process), "it waits for who reads standard output")
    interrupt(process)
    os.close(pipe)
    done = ended(process)
    assert done.code == 3 and "KeyboardInterrupt" not in done.err
    assert "spent $" in done.out and "owed: 3 trials of 8: Ctrl-C" in done.out


def test_a_ctrl_c_while_it_is_loaded_is_said_and_exits_3(shell: Shell) -> None:
    shell.write("typer.py", "import threading\nprint('loading', flush=True)\nthreading.Event().wait()\n")
    shell.environment["PYTHONPATH"] = str(shell.folder)
    process = shell.start("runs")
    assert process.stdout is not None
    assert process.stdout.readline() == "loading\n"
    interrupt(process)
    done = ended(process)
    assert (done.code, done.err) == (3, "error: interrupted before anything was started\n")


def test_completed_is_last_after_two_ctrl_c(gated: Shell, gate: Gate) -> None:
    process = gated.start("run", "nightly.yaml", "--log-format", "json")
    until(lambda: len(gate.server.requests) == 5, "two in flight")
    assert process.stdout is not None
    interrupt(process)
    lines = [process.stdout.readline()]
    while "stopping" not in lines[-1]:
        lines.append(process.stdout.readline())
    interrupt(process)
    done = ended(process)
    assert done.code == 3 and json.loads(done.lines[-1])["type"] == "run.completed"


# ---------------------------------------------------------------- the checkpoint file


def test_the_checkpoint_file_is_whole_at_every_moment(gated: Shell, gate: Gate) -> None:
    path = gated.folder / "gaia-latest.json"
    process = gated.start("run", "nightly.yaml", "--checkpoint-file", str(path))
    until(lambda: path.exists() and len(json.loads(path.read_text())["results"]) == 3, "three results in the file")
    assert json.loads(path.read_text())["metadata"]["incremental"] is True
    process.kill()
    ended(process)
    json.loads(path.read_text())
    gate.open()
    assert gated("resume", "--checkpoint-file", str(path)).code == 0
    document = json.loads(path.read_text())
    assert document["metadata"]["total"] == 8 and document["metadata"]["incremental"] is False
    assert {"taskId", "question", "answer", "expectedAnswer", "correct", "durationMs"} <= set(document["results"][0])
    assert [name.name for name in gated.folder.iterdir() if name.name.startswith(".gaia")] == []


def test_a_checkpoint_file_without_a_folder_is_a_usage_error(shell: Shell, server: ProviderServer) -> None:
    shell.experiment()
    done = shell("run", "nightly.yaml", "--checkpoint-file", "nowhere/c.json")
    assert done.code == 2 and not server.requests
