"""Real agents whose run goes on under another Linux: after an upgrade, or where its folder was copied to."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.agents.journey import Journey
from tests.agents.rig import PUBLISHED

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(300)]

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


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "aider"])
def test_under_another_kernel_it_is_served_its_record_all_the_same(tmp_path: Path, name: str) -> None:
    with Journey(tmp_path, name) as journey:
        journey.killed(3)
        with another_kernel():
            done = journey("resume")
        assert done.code == 0, done
        assert journey.billed == 5
        assert journey.value["exchanges"]["served"] == {"exact": 3}
