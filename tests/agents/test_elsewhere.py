"""Real agents whose run goes on later, or under another Linux: what is made anew each time is no other request."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.agents.journey import Journey, retold
from tests.agents.rig import PUBLISHED, QUICK

from onward.testing import EQUAL_EPISODE, Script

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(300)]

ALL = "ONWARD_TEST_AGENTS" in os.environ
WITH_TOOLS = tuple(name for name in PUBLISHED if name != "aider")
NAMED_2_6 = 0x0020000
"""The personality of a process for which, and for its children, Linux calls itself 2.6 (`setarch --uname-2.6`)."""


@contextmanager
def another_kernel() -> Iterator[None]:
    """What is started meanwhile takes this for another Linux."""
    personality = ctypes.CDLL(None).personality
    before = personality(0xFFFFFFFF)
    if before < 0 or personality(before | NAMED_2_6) < 0:
        pytest.skip("this system does not let a process have another personality")
    try:
        assert subprocess.check_output(["uname", "-r"], text=True).startswith("2.6")
        yield
    finally:
        personality(before)


@pytest.mark.parametrize("name", WITH_TOOLS if ALL else QUICK[:1])
def test_under_another_kernel_it_is_served_its_record_all_the_same(tmp_path: Path, name: str) -> None:
    with Journey(tmp_path, name) as journey:
        journey.killed(3)
        with another_kernel():
            done = journey("resume")
        assert done.code == 0, done
        assert journey.billed == 5
        assert journey.value["exchanges"]["served"] == {"exact": 3}


@pytest.mark.parametrize("name", WITH_TOOLS if ALL else QUICK[1:2])
def test_when_the_files_were_made_that_it_lists_makes_no_difference(tmp_path: Path, name: str) -> None:
    listing = "mkdir src; ls -la --time-style=full-iso . src notes.txt"  # to the nanosecond: never the same twice
    with Journey(tmp_path, name, Script([EQUAL_EPISODE[0], listing, *EQUAL_EPISODE[2:]], ids="call")) as journey:
        journey.killed(4)
        done = journey("resume")
        assert done.code == 0, done
        assert journey.billed == 5
        assert journey.value["exchanges"]["served"] == {"exact": 4}


def test_what_no_rule_knows_of_around_the_task_is_noticed_and_the_record_still_answers(tmp_path: Path) -> None:
    """Claude Code tells its model of the shell that it finds."""
    shell = retold(tmp_path, "claude-code", "SHELL")
    with Journey(tmp_path, "claude-code") as journey:
        journey.shell.environment["ONWARD_CACHE"] = str(tmp_path / "cache")
        shell.write_text("/bin/sh")
        journey.killed(3)
        shell.write_text("/bin/bash")
        done = journey("resume")
        assert done.code == 0, done
        assert journey.billed == 5
        report = journey.value["exchanges"]
        assert report["served"] == {"opening": 1, "anchored": 2}
        assert report["divergences"] == 3 and "differs at system[" in report["first_divergence"]
