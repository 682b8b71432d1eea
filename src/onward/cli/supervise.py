"""`--auto-resume [N]`: the same command in a process of its own, started again when it crashes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from threading import Event
from types import FrameType

__all__ = ["counted", "supervise"]

TIMES = 3
_ENDINGS = range(7)
"""Exit codes that mean something (SEMANTICS §8): whoever ended so has not crashed."""
_ONCE = ("--new", "--rerun-failed")


def counted(arguments: Sequence[str]) -> list[str]:
    """The arguments with `--auto-resume` given its number where it stands without one."""
    found: list[str] = []
    for index, word in enumerate(arguments):
        if word == "--":
            return [*found, *arguments[index:]]
        found.append(word)
        following = arguments[index + 1] if index + 1 < len(arguments) else ""
        if word == "--auto-resume" and not following.isdigit():
            found.append(str(TIMES))
    return found


def _again(arguments: Sequence[str], verb: str) -> list[str]:
    """The command for another go: what begins anew, or voids, is asked for once."""
    words, skip = list[str](), False
    for word in arguments:
        if skip:
            skip = False
        elif word in ("--if-exists", "--parent"):
            skip = True
        elif word not in _ONCE and not word.startswith(("--if-exists=", "--parent=")):
            words.append(word)
    return words if verb == "resume" or "--resume" in words else [*words, "--resume"]


def _without(arguments: Sequence[str]) -> list[str]:
    words, skip = list[str](), False
    for word in counted(arguments):
        if skip:
            skip = False
        elif word == "--auto-resume":
            skip = True
        elif not word.startswith("--auto-resume="):
            words.append(word)
    return words


def supervise(arguments: Sequence[str], verb: str, times: int) -> int:
    """Run the command, and start it again up to `times` when it crashed. Its exit code, or 3 if it kept crashing."""
    words, crashes = _without(arguments), 0
    while True:
        code = _once(words)
        if code in _ENDINGS:
            return code
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if crashes >= times:
            print(f"error: it died again ({how}): {times} restarts used up. Resume: onward resume", file=sys.stderr)
            return 3
        crashes += 1
        pause = 2.0 ** (crashes - 1)
        print(f"it died ({how}): going on in {pause:g} s, restart {crashes} of {times}", file=sys.stderr, flush=True)
        if _paused(pause):
            return 3
        words = _again(words, verb)


def _once(words: Sequence[str]) -> int:
    """One go in a session of its own, so that a Ctrl-C reaches it through us alone, and once."""
    child = subprocess.Popen([sys.executable, "-m", "onward", *words], start_new_session=True)

    def pass_on(number: int, _: FrameType | None) -> None:
        if child.poll() is None:
            child.send_signal(number)

    standing = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return child.wait()
    finally:
        for number, handler in standing.items():
            signal.signal(number, handler)


def _paused(seconds: float) -> bool:
    """Wait; whether Ctrl-C came in between."""
    try:
        Event().wait(seconds)
    except KeyboardInterrupt:
        return True
    return False
