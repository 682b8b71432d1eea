"""A job of run folders that real episodes left is continued by one command, which can be killed and typed again."""

from __future__ import annotations

import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agents.rig import CACHE, ready
from tests.cli.console import ended, interrupt, until
from tests.cli.continued import KEY, Episodes, Meanwhile

from onward.formats.benchflow import read
from onward.runs import stored_runs
from onward.testing import EQUAL_EPISODE

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(180)]

SOLVER = {"agent": "claude-code", "model": "anthropic/claude-sonnet-4-5"}


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Episodes]:
    """Two trials that timed out after two calls each, as a job of run folders; the provider is cheap from now on."""
    ready("claude-code")
    with Meanwhile(EQUAL_EPISODE, dear=True) as provider:
        made = Episodes(tmp_path, provider, ["notes", "memo"], solver=SOLVER)
        made.shell.environment |= {
            "ONWARD_CACHE": str(CACHE), "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": provider.server.url,
        }  # fmt: skip
        assert made.run().code == 0 and provider.paid == 4
        assert made.shell("export", "latest", "--format", "benchflow", "-o", "jobs/j1").code == 0
        provider.dear = False
        yield made


def test_a_job_is_continued_by_one_command_that_can_be_killed_and_typed_again(job: Episodes) -> None:
    shell, provider, root = job.shell, job.provider, job.shell.folder / "jobs" / "j1"
    planned = shell("continue", "jobs", "--plan")
    assert planned.code == 0 and planned.out.startswith("2 timeouts: served again ≈ "), planned
    assert "live ≤ 3 min" in planned.out and len(stored_runs(shell.store)) == 1

    words = ["continue", "jobs", "--tasks-dir", "tasks"]
    provider.hold_after(4)  # three for the first, and one of the second
    process = shell.start(*words)
    until(lambda: provider.held, "a call that is held")
    process.send_signal(signal.SIGKILL)
    ended(process)
    provider.release()
    assert len(list((root / "continued").glob("*/*__continued"))) == 1

    done = json.loads(shell(*words, "--json").out)
    assert done["scores"] == ["at the limit 0.0 %, continued 100.0 %"]
    [second] = done["continued"]
    assert second["exit_code"] == 0 and second["calls"] == 2, second
    assert len(provider.asked) == 4 + 6 + 1, "nothing is asked twice but what the kill left in doubt"
    reasons = sorted(done["left_out"].values())
    assert [reason.startswith("already continued in ") for reason in reasons] == [True, False], reasons
    assert reasons[1].startswith("it is what ")

    written = sorted((root / "continued").glob("*/*__continued"))
    assert [len(read(folder).rows) for folder in written] == [5, 5]
    shutil.rmtree(written[0])  # as a kill before it was written leaves it
    paid = len(provider.asked)
    for _ in range(2):
        again = shell(*words)
        assert again.code == 0 and len(provider.asked) == paid, again
        assert "2 of 2 timeouts continued to an end" in again.out
        assert "at the limit 0.0 %, continued 100.0 %" in again.out
    assert written[0].is_dir()


def test_what_stops_one_stops_the_rest_and_a_budget_is_that_of_all(job: Episodes) -> None:
    shell, provider = job.shell, job.provider
    words = ["continue", "jobs", "--tasks-dir", "tasks"]
    provider.hold_after(1)
    process = shell.start(*words)
    until(lambda: provider.held, "a call that is held")
    interrupt(process)
    assert process.stdout is not None
    while "stopping" not in process.stdout.readline():
        pass  # it is heard before the call comes to its end
    provider.release()
    stopped = ended(process)
    assert stopped.code == 3 and ": not begun: Ctrl-C" in stopped.out, stopped
    assert "0 of 2 timeouts continued to an end" in stopped.out and len(stored_runs(shell.store)) == 3

    paid = len(provider.asked)
    poor = shell(*words, "--budget-usd", "0.000001")
    assert poor.code == 3 and ": not begun: budget: the next call may cost $" in poor.out, poor
    assert "0 of 2 timeouts" in poor.out and len(provider.asked) == paid
    done = shell(*words, "--budget-usd", "10")
    assert done.code == 0 and "2 of 2 timeouts continued to an end" in done.out, done
