"""What all tests share."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Two cores that are shared with others say nothing about a deadline, and CI must find today what it found yesterday.
settings.register_profile("house", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")

# A test that would eat the machine gets a MemoryError instead (it has happened). Programs that it starts inherit this.
_, _hard = resource.getrlimit(resource.RLIMIT_DATA)
resource.setrlimit(resource.RLIMIT_DATA, (8 << 30 if _hard == resource.RLIM_INFINITY else min(8 << 30, _hard), _hard))

pytest.register_assert_rewrite("tests.journal.contract")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of recorded data that lies beside a checkout (`../shared/data`); skips where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no recorded data: {folder} is not there")
    return folder
