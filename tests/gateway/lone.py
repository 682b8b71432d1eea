"""A gateway in a process of its own, to be killed: `python -m tests.gateway.lone FOLDER PORT TRIALS`.

Its journal is in the folder. Once it listens, `door.json` there tells its address and the trials' tokens.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.gateway.street import street

from onward.journal import SqliteJournal
from onward.keys import Key
from onward.testing import ProviderServer

ROOT = Path(__file__).resolve().parents[2]


def step_of(trial: int) -> Key:
    """The generate step of a trial."""
    return Key.of("agent", f"task{trial}", "1", "generate", "0")


async def main(folder: Path, port: int, trials: int) -> None:
    """Serve until killed."""
    journal = SqliteJournal(folder / "journal", create=not (folder / "journal").exists())
    server = ProviderServer(port=port)  # only its address: it runs in the test's process
    async with street(server, journal, unix=None) as at:
        tokens = [at.admit(step_of(trial)) for trial in range(trials)]
        part = folder / "door.part"
        part.write_text(json.dumps({"url": at.door.url, "tokens": tokens, "pid": os.getpid()}))
        part.rename(folder / "door.json")
        await asyncio.Event().wait()


@dataclass
class Lone:
    """That process, seen from outside."""

    folder: Path
    port: int
    trials: int = 1
    process: subprocess.Popen[bytes] | None = None
    told: dict[str, Any] = field(default_factory=dict)

    async def start(self) -> None:
        """Start it, and wait until it listens."""
        (self.folder / "door.json").unlink(missing_ok=True)
        command = [sys.executable, "-m", "tests.gateway.lone", str(self.folder), str(self.port), str(self.trials)]
        self.process = subprocess.Popen(command, cwd=ROOT)
        async with asyncio.timeout(60):
            while not (self.folder / "door.json").exists():
                assert self.process.poll() is None
                await asyncio.sleep(0.02)
        self.told = json.loads((self.folder / "door.json").read_text())

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    @contextmanager
    def journal(self) -> Iterator[SqliteJournal]:
        """What it left."""
        journal = SqliteJournal(self.folder / "journal")
        try:
            yield journal
        finally:
            journal.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
