"""A program that is started here, shares our terminal, and is looked after until it ends.

Standard input, output and error are ours, untouched. So is the process group: Ctrl-C and Ctrl-Z reach it as if we were
not there. It ends with us, whatever ends us (`leash`).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onward import leash
from onward.clock import Clock

__all__ = ["Passing", "Program"]

_LOOK = 1.0
"""Seconds between two looks at whether it is to end."""
_GRACE = 5.0
"""Seconds that it has to end when it is told to, before it is killed."""


@dataclass(slots=True)
class Program:
    """The program."""

    command: Sequence[str]
    folder: Path
    told: str = ""
    """The signal that it was sent, by its terminal or through us."""
    process: asyncio.subprocess.Process | None = field(default=None, repr=False)
    """While it runs."""

    async def run(self, env: Mapping[str, str], clock: Clock, ending: Callable[[], Any]) -> int:
        """Run it to its end; what it ended with, the signal negative. Once `ending` is true it is told to end."""
        starting = [sys.executable, "-I", "-S", str(leash.__file__), str(os.getpid()), *self.command]
        process = await asyncio.create_subprocess_exec(*starting, cwd=self.folder, env=env)
        self.process = process
        over = asyncio.ensure_future(process.wait())
        asked = False
        try:
            while not over.done():
                look = asyncio.ensure_future(clock.sleep(_LOOK))
                await asyncio.wait({over, look}, return_when=asyncio.FIRST_COMPLETED)
                look.cancel()
                if ending() and not asked and not over.done():
                    asked = True
                    process.terminate()
            return over.result()
        finally:
            self.process = None
            if process.returncode is None:
                await _ended(process, over)
            over.cancel()


async def _ended(process: asyncio.subprocess.Process, over: asyncio.Future[int]) -> None:
    with suppress(ProcessLookupError):
        process.terminate()
    await asyncio.wait({over}, timeout=_GRACE)
    with suppress(ProcessLookupError):
        process.kill()
    await over


class Passing:
    """While it runs, Ctrl-C and SIGTERM are the program's: what it makes of them is its own business. Before and after,
    they stop us."""

    def __init__(self, program: Program, stop: Callable[[str], None]) -> None:
        self._program, self._stop = program, stop

    def __enter__(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, self._on, number)

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().remove_signal_handler(number)

    def _on(self, number: signal.Signals) -> None:
        name = "Ctrl-C" if number == signal.SIGINT else number.name
        process = self._program.process
        if process is None:
            self._stop(name)
            return
        self._program.told = name
        if number != signal.SIGINT or not _at_a_keyboard():
            with suppress(ProcessLookupError):
                process.send_signal(number)


def _at_a_keyboard() -> bool:
    """Whether a terminal sends its Ctrl-C to all of our group by itself."""
    try:
        with Path("/dev/tty").open("rb", 0) as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False
