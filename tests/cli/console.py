"""The command line as its users have it: real processes, and a provider over real HTTP that they talk to."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onward.runs import open_run, stored_runs
from onward.testing import ProviderServer

LIMIT = 110.0
"""Seconds after which something that is waited for will not come: just below a test's own limit, since on a machine
that has much else to do a minute is not long."""


def until(true: Callable[[], Any], what: str) -> Any:
    """Wait until a condition holds."""
    pause = threading.Event()
    for _ in range(int(LIMIT / 0.02)):
        found = true()
        if found:
            return found
        pause.wait(0.02)
    raise AssertionError(f"never came: {what}")


@dataclass
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


class Shell:
    """A folder with experiments in it, and `onward` at hand."""

    def __init__(self, folder: Path, server: ProviderServer | None = None) -> None:
        self.folder, self.server = folder, server
        own = {name: value for name, value in os.environ.items() if not name.endswith(("_KEY", "_TOKEN", "_URL"))}
        self.environment = {**own, "COLUMNS": "160", "TZ": "UTC", "PYTHONPATH": ""}
        if server is not None:
            self.environment |= {"OPENAI_API_KEY": "sk-onward-testing", "OPENAI_BASE_URL": f"{server.url}/v1"}

    def start(self, *words: str, apart: bool = False) -> subprocess.Popen[str]:
        """A command under way; `apart`: in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "onward", *words], cwd=self.folder, env=self.environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=apart,
        )  # fmt: skip

    def __call__(self, *words: str) -> Done:
        """A command to its end."""
        return ended(self.start(*words))

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def experiment(self, name: str = "nightly", tasks: int = 6, **more: Any) -> str:
        """An experiment over questions of our own; fields given go over the usual ones. Returns its file's name."""
        rows = [{"id": f"t{n}", "input": f"Question {n}?", "target": 42 if n % 2 else 41} for n in range(1, tasks + 1)]
        self.write(f"{name}.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        fields = {
            "tasks": f"{name}.jsonl",
            "solver": {"model": "openai/gpt-4o-mini", "prompt": "{input}", "max_tokens": 16},
            "parse": "last_number", "score": "numeric", "limits": {"attempts": 1, "concurrency": 2}, **more,
        }  # fmt: skip
        self.write(f"{name}.yaml", json.dumps(fields))  # JSON is YAML
        return f"{name}.yaml"

    @property
    def store(self) -> Path:
        return self.folder / "runs"

    @property
    def run(self) -> Path:
        """The newest run's folder."""
        return stored_runs(self.store)[0]

    def answers(self) -> int:
        """Calls of the newest run whose answers are durable."""
        if not stored_runs(self.store):
            return 0
        run = open_run(self.run)
        try:
            return sum(
                1 for _, row in run.journal.rows("", kinds=("result",)) if "llm:" in row.key and row.outcome == "ok"
            )
        finally:
            run.close()


def ended(process: subprocess.Popen[str]) -> Done:
    """Wait for its end."""
    out, err = process.communicate(timeout=LIMIT)
    return Done(process.returncode, out, err)


def unread(process: subprocess.Popen[str]) -> int:
    """Fill the pipe behind its standard output, so that it waits for a reader with its next word; the pipe."""
    pipe = os.open(f"/proc/{process.pid}/fd/1", os.O_WRONLY)
    os.write(pipe, b"." * fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096))
    return pipe


def waits_to_write(process: subprocess.Popen[str]) -> bool:
    """Whether it waits for who reads its standard output."""
    return Path(f"/proc/{process.pid}/syscall").read_text().split()[1:2] == ["0x1"]


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C."""
    process.send_signal(signal.SIGINT)
