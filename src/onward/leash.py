"""The first moments of a program that is wrapped: it is to end with whoever wrapped it, and then it is itself.

Run by path, as `python -I -S leash.py PARENT COMMAND …`, so it knows nothing of the house. (A function between fork and
exec would do the same, but our process has threads by then.) Without a parent the program's gateway is gone: left
alone it would go on failing, beside the one that is started next.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_NOT_FOUND, _NOT_RUN = 127, 126
"""What a shell ends with where there is no such program, or it cannot be started."""


def main(arguments: Sequence[str]) -> int:
    """Become the command; returns only where that fails."""
    parent, *command = arguments
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):
            return _NOT_RUN
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)  # Python ignores them, and whoever is started by it would too
    try:
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUN


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
