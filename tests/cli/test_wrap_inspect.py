"""Inspect AI, unmodified, under `onward wrap`: killed half-way and run again, it asks for nothing that was answered.

It needs a Python with `inspect-ai` and `openai`: `bench/.venvs/inspect`, or the one whose `bin` folder the variable
ONWARD_INSPECT names.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from tests.cli.console import Shell, ended, until
from tests.cli.test_wrap import Wrap, kill

from onward.testing import Fault, ProviderServer

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("ONWARD_INSPECT") or ROOT / "bench" / ".venvs" / "inspect" / "bin")
SAMPLES = 12
CALLS = 2 * SAMPLES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BIN / "inspect").exists(), reason=f"no Inspect AI: {BIN / 'inspect'} is not there"),
]


class Inspect:
    """`inspect eval` on the example, wrapped."""

    def __init__(self, folder: Path, server: ProviderServer) -> None:
        shutil.copy(ROOT / "examples" / "wrap-inspect" / "task.py", folder)
        self.wrap = Wrap(Shell(folder, server))
        self.wrap.shell.environment |= {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(folder)}
        self.words = (
            "--", "inspect", "eval", "task.py", "-T", f"size={SAMPLES}", "--model", "openai/gpt-4o-mini",
            "--max-connections", "4", "--display", "plain",
        )  # fmt: skip

    def logs(self, folder: Path) -> list[str]:
        """The status of each log, oldest first."""
        found = []
        for path in sorted((folder / "logs").glob("*.eval")):
            command = [BIN / "inspect", "log", "dump", "--header-only", path]
            found.append(json.loads(subprocess.check_output(command))["status"])
        return found


def repeated(server: ProviderServer) -> int:
    """How many answers were paid for more than once."""
    return sum(times - 1 for times in Counter(call.digest for call in server.calls).values())


def test_killed_half_way_it_is_served_what_was_answered_and_pays_for_the_rest(tmp_path: Path) -> None:
    with ProviderServer(latency=0.05) as server:
        inspect = Inspect(tmp_path, server)
        process = inspect.wrap.start(*inspect.words)
        until(lambda: inspect.wrap.shell.answers() >= CALLS // 2, "half of the answers")
        kill(process)
        recorded, in_flight = inspect.wrap.shell.answers(), 4
        done = inspect.wrap(*inspect.words)
        assert done.code == 0, done.err
        assert f"served {recorded}, paid {CALLS - recorded} (" in done.err.splitlines()[-1]
        assert recorded >= CALLS // 2 and repeated(server) <= in_flight
        assert inspect.logs(tmp_path)[-1] == "success"


def test_its_own_retries_and_ours_cost_nothing_twice(tmp_path: Path) -> None:
    faults = [Fault("429", times=3, after=4), Fault("500", times=3, after=10)]
    with ProviderServer(faults=faults, latency=0.05) as server:
        inspect = Inspect(tmp_path, server)
        process = inspect.wrap.start(*inspect.words)
        until(lambda: inspect.wrap.shell.answers() >= CALLS // 2, "half of the answers")
        kill(process)
        recorded = inspect.wrap.shell.answers()
        done = inspect.wrap(*inspect.words)
        assert done.code == 0 and f"served {recorded}, paid {CALLS - recorded} (" in done.err.splitlines()[-1]
        assert repeated(server) <= 4 and len({call.digest for call in server.calls}) == CALLS
        assert len(server.requests) >= len(server.calls) + 6


def test_ctrl_c_lets_it_close_its_log_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with ProviderServer(latency=0.05) as server:
        inspect = Inspect(tmp_path, server)
        process = inspect.wrap.start(*inspect.words)
        until(lambda: inspect.wrap.shell.answers() >= CALLS // 2, "half of the answers")
        process.send_signal(signal.SIGINT)
        stopped = ended(process)
        assert inspect.logs(tmp_path) == ["cancelled"] and "The same command goes on" in stopped.err, stopped
        recorded = inspect.wrap.shell.answers()
        assert f"served {recorded}, paid {CALLS - recorded} (" in inspect.wrap(*inspect.words).err
        assert repeated(server) == 0
