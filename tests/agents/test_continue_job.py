"""A job of run folders that real episodes left is continued by one command, which can be killed and typed again."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from tests.agents.rig import CACHE, ready
from tests.cli.console import ended, until
from tests.cli.continued import KEY, Episodes, Meanwhile

from onward.formats.benchflow import read
from onward.runs import stored_runs
from onward.testing import EQUAL_EPISODE

pytestmark = [pytest.mark.agents, pytest.mark.slow]

SOLVER = {"agent": "claude-code", "model": "anthropic/claude-sonnet-4-5"}


def test_a_job_is_continued_by_one_command_that_can_be_killed_and_typed_again(tmp_path: Path) -> None:
    ready("claude-code")
    with Meanwhile(EQUAL_EPISODE, dear=True) as provider:
        made = Episodes(tmp_path, provider, ["notes", "memo"], solver=SOLVER)
        shell = made.shell
        shell.environment |= {
            "ONWARD_CACHE": str(CACHE), "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": provider.server.url,
        }  # fmt: skip
        assert made.run().code == 0 and provider.paid == 4
        assert shell("export", "latest", "--format", "benchflow", "-o", "jobs/j1").code == 0
        planned = shell("continue", "jobs", "--plan")
        assert planned.code == 0 and planned.out.startswith("2 timeouts: served again ≈ "), planned
        assert "live ≤ 3 min" in planned.out and len(stored_runs(shell.store)) == 1

        provider.dear = False
        words = ["continue", "jobs", "--tasks-dir", "tasks"]
        provider.hold_after(4)  # three for the first, and one of the second
        process = shell.start(*words)
        until(lambda: provider.held, "a call that is held")
        process.send_signal(signal.SIGKILL)
        ended(process)
        provider.release()
        assert len(list((tmp_path / "jobs" / "j1" / "continued").glob("*/*__continued"))) == 1

        done = json.loads(shell(*words, "--json").out)
        assert done["scores"] == ["at the limit 0.0 %, continued 100.0 %"]
        [second] = done["continued"]
        assert second["exit_code"] == 0 and second["calls"] == 2, second
        assert len(provider.asked) == 4 + 6 + 1, "nothing is asked twice but what the kill left in doubt"
        reasons = sorted(done["left_out"].values())
        assert [reason.startswith("already continued in ") for reason in reasons] == [True, False], reasons
        assert reasons[1].startswith("it is what ")

        written = sorted((tmp_path / "jobs" / "j1" / "continued").glob("*/*__continued"))
        assert [len(read(folder).rows) for folder in written] == [5, 5]
        paid = len(provider.asked)
        again = shell(*words)
        assert again.code == 0 and len(provider.asked) == paid, again
        assert "2 of 2 timeouts continued to an end" in again.out and "at the limit 0.0 %, continued 100" in again.out
