"""`onward demo`: a run that dies half-way, goes on, and pays for nothing twice. Real processes, the server's own bill.

python -m onward.cli.demo LOG        # the provider behind it: answers over HTTP, writes down what it bills
"""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

from rich.console import Console
from rich.markup import escape

from onward.cli.voice import Voice
from onward.cli.words import count
from onward.clock import SystemClock
from onward.errors import OnwardError

__all__ = ["Bill", "bill", "demo"]

_GRACE = 0.25
"""Seconds in which an answer that the server has sent may not be on our disk yet."""
_SPEC = """\
name: demo
tasks: {{path: arithmetic, size: {size}}}
select: {select}
solver:
  model: {model}
  prompt: "Question: {{input}}\\nAnswer with one number.\\nAnswer:"
  temperature: 0
  max_tokens: {tokens}
parse: last_number
score: numeric
limits: {{concurrency: {width}}}
{more}"""
_SCRIPTED = """\
providers: {{scripted: {{base_url: "{url}/v1"}}}}
prices: {{scripted/teacher: 2.50/10.00}}     # USD per million tokens
"""


@dataclass(frozen=True, slots=True)
class Bill:
    """What the server's log says about a run that was killed at a moment and went on."""

    answered: int
    """Answers that the server gave in full, all together."""
    before: int
    """Those it had given when the run died."""
    twice: int
    """Requests that it answered twice."""
    lost: int
    """… of which the first answer was complete, and old enough to be on disk, when the run died: must be 0."""


def bill(lines: list[Mapping[str, Any]], killed: float) -> Bill:
    """Read the log: each line has `digest`, `received`, `answered`."""
    first: dict[str, float] = {}
    twice = lost = 0
    for line in sorted(lines, key=lambda line: float(line["received"])):
        earlier = first.setdefault(line["digest"], float(line["answered"]))
        if earlier != float(line["answered"]):
            twice += 1
            lost += earlier <= killed - _GRACE and float(line["received"]) > killed
    return Bill(len(lines), sum(1 for line in lines if float(line["answered"]) <= killed), twice, lost)


def demo(voice: Voice, given: Mapping[str, Any]) -> int:
    """`onward demo [--real]`."""
    console = Console(highlight=False, soft_wrap=True)
    folder = Path(tempfile.mkdtemp(prefix="onward-demo-"))
    log = folder / "server.jsonl"
    if given["real"]:
        from onward.gateway.local import LocalModel

        LocalModel().check("smollm2")
        (folder / ".env").write_text(f"ONWARD_LOCAL_LOG={log}\n")
        (folder / "demo.yaml").write_text(
            _SPEC.format(size=72, select="{level: [1]}", model="local/smollm2", tokens=24, width=4, more="")
        )
        console.print(
            "[b]A real model on this machine[/b], SmolLM2-135M. Its server writes down every request it answers.\n"
        )
        return _Story(console, folder, log, half=11).told()
    with _provider(log) as url:
        more = _SCRIPTED.format(url=url)
        spec = _SPEC.format(size=60, select="{}", model="scripted/teacher", tokens=24, width=6, more=more)
        (folder / "demo.yaml").write_text(spec)
        console.print(f"[b]A provider at {url}[/b]. It writes down every answer that it bills.\n")
        return _Story(console, folder, log, half=28).told()


class _Story:
    """The run, its death, its resume, and the bill."""

    def __init__(self, console: Console, folder: Path, log: Path, *, half: int) -> None:
        self.console, self.folder, self.log, self.half, self.clock = console, folder, log, half, SystemClock()

    def told(self) -> int:
        """Tell it. 0 if nothing was paid for twice."""
        killed = self._killed()
        self.console.print("  [red b]kill -9[/red b]  half-way. Nothing was saved on purpose.\n")
        code = self._to_the_end()
        if code != 0:
            raise OnwardError(f"the resume ended with exit code {code}; its files are in {self.folder}")
        found = bill(_read(self.log), killed)
        self._billed(found)
        return 0 if not found.lost else 1

    def _killed(self) -> float:
        """Start the run, and kill it when half the answers are on the server's log."""
        self.console.print("[cyan]$ onward run demo.yaml[/cyan]")
        child = self._start("run", "demo.yaml")
        pause = Event()
        while len(_read(self.log)) < self.half and child.poll() is None:
            pause.wait(0.01)
        killed = self.clock.now()
        child.send_signal(signal.SIGKILL)
        self._told(child, lambda line: "[" in line or "to do" in line)
        return killed

    def _to_the_end(self) -> int:
        self.console.print("[cyan]$ onward resume[/cyan]")
        return self._told(self._start("resume"), lambda line: not line.startswith("resuming"))

    def _start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "onward", *words, "--store", "runs"]
        return subprocess.Popen(command, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def _told(self, child: subprocess.Popen[str], shown: Callable[[str], bool]) -> int:
        """Pass on what a command says, line by line, until it ends."""
        assert child.stdout is not None
        with child.stdout as lines:
            for line in lines:
                if line.strip() and shown(line):
                    self.console.print(f"  {escape(line.rstrip())}")
        return child.wait()

    def _billed(self, found: Bill) -> None:
        tell = self.console.print
        tell("\n[b]The bill[/b], from the server's own log")
        tell(f"  {count(found.before, 'answer')} before the kill, {found.answered - found.before} after it")
        if found.twice:
            tell(f"  {found.twice} asked again: in flight at the kill, so counted, named and asked again knowingly")
        if found.lost:
            tell(f"  [red b]{found.lost} answered calls were paid for twice[/red b]")
        else:
            tell("  [green b]0 answered calls were sent again[/green b]")
        tell(f"\n[dim]Look around: onward show latest --store {self.folder / 'runs'}[/dim]")


def _read(log: Path) -> list[Mapping[str, Any]]:
    """The server's lines so far; its last one may be half written."""
    try:
        text = log.read_text()
    except FileNotFoundError:
        return []
    return [line for line in map(json.loads, text.splitlines()[: text.count("\n")]) if line.get("digest")]


@contextmanager
def _provider(log: Path) -> Iterator[str]:
    """The scripted provider as a process of its own; gives its address."""
    child = subprocess.Popen(
        [sys.executable, "-m", "onward.cli.demo", str(log)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None and child.stdin is not None
        url = child.stdout.readline().strip()
        if not url:
            raise OnwardError("the scripted provider did not start")
        yield url
        child.stdin.close()
    finally:
        child.terminate()
        child.wait()
        if child.stdout is not None:
            child.stdout.close()


async def _serve(log: str) -> None:
    """Answer arithmetic: mostly right, wrong where the request's digest says so. Ends when its input does."""
    from onward.tasks.arithmetic import ArithmeticSource
    from onward.testing import ProviderServer, Request

    known = [
        ([str(task.input), *(file.read().decode() for file in task.files)], task.target)
        for task in ArithmeticSource(size=200).tasks()
    ]

    def answer(request: Request) -> str:
        text = request.text
        target = next((value for parts, value in known if all(part in text for part in parts)), 0)
        return f"The answer is {target if int(request.digest[:2], 16) < 200 else target + 1}."

    async with ProviderServer(answer, log=log, latency=0.25) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
