"""The command line: a window on the same views and the same door as Python and Studio."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Nothing heavy is imported just to say the version."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        from importlib.metadata import version

        print(f"onward {version('onward')}")
        return 0
    try:
        from onward.cli.app import program
    except KeyboardInterrupt:
        print("error: interrupted before anything was started", file=sys.stderr)
        return 3
    return program(arguments)
