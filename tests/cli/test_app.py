"""What a command costs before it does anything: a verb imports what it needs, and no other verb's."""

from __future__ import annotations

import subprocess
import sys

DRIVING = {"aiohttp", "pydantic", "uvicorn", "onward.gateway", "onward.launch", "onward.wrapping"}


def test_help_and_looking_import_nothing_of_what_drives_a_run() -> None:
    code = "import sys, onward.cli.app; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    imported = set(done.stdout.split())
    assert "onward.cli.look" in imported and not DRIVING & imported
