"""Temporary folders: gone at the end, and gone later where their process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from onward.sandbox import scratch, sweep

HOLDS = """
import time
from onward.sandbox import scratch
with scratch() as folder:
    (folder / "file").write_text("left")
    print(folder, flush=True)
    time.sleep(600)
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_folder_is_private_and_gone_at_the_end(temporary: Path) -> None:
    with scratch() as folder:
        assert folder.parent == temporary and folder.stat().st_mode & 0o777 == 0o700
        (folder / "file").touch()
        assert sweep() == [] and folder.exists()
    assert list(temporary.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_what_lives_is_not(temporary: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(temporary)}
    both = [
        subprocess.Popen([sys.executable, "-c", HOLDS], stdout=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    try:
        killed, living = (Path(one.stdout.readline().strip()) for one in both if one.stdout)
        both[0].send_signal(signal.SIGKILL)
        both[0].wait()
        assert (killed / "file").exists()
        assert sweep() == [killed] and not killed.exists() and (living / "file").exists()
    finally:
        for one in both:
            one.kill()
            one.communicate()
    assert sweep() == [living]


def test_what_is_not_ours_is_left(temporary: Path) -> None:
    elsewhere = temporary / "elsewhere"
    elsewhere.mkdir()
    (temporary / "onward-0123456789ab").symlink_to(elsewhere)
    (temporary / "onward-ba9876543210").touch()
    (temporary / "onward-demo-x").mkdir()
    assert sweep() == []
    assert len(list(temporary.iterdir())) == 4
