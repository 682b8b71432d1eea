"""Fakes for tests of your own: a scripted provider over real HTTP on loopback, time moved by hand, a dying journal.

    async with ProviderServer(answer=lambda request: "42") as server:          # in this event loop
        gateway = Gateway(server.providers())
    with ProviderServer(Script()) as server:                                   # a real agent works through an episode
        ...
    with ProviderServer(faults=[Fault("429", times=2)]) as server:             # in a thread of its own
        ...
    python -m onward.testing serve --port 0 --log calls.jsonl --fault 429x2    # as a process; prints its URL

The provider speaks the four wire formats, streaming and not. What it answers in full is billed: one line of JSON in
the log.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from onward.faking import Crash, CrashingJournal, FakeClock, InlineJournal, crash_at
from onward.gateway.script import EPISODE, EQUAL_EPISODE, Script
from onward.gateway.scripted import Billed, Fault, ProviderServer, Request, default_answer

__all__ = [
    "EPISODE", "EQUAL_EPISODE", "Billed", "Crash", "CrashingJournal", "FakeClock", "Fault", "InlineJournal",
    "ProviderServer", "Request", "Script", "crash_at", "main",
]  # fmt: skip


def _fault(text: str) -> Fault:
    """`KIND`, `KINDxTIMES`, `KINDxTIMES:RETRY_AFTER`."""
    kind, _, wait = text.partition(":")
    name, times = (kind.rpartition("x")[::2]) if kind.rpartition("x")[2].isdigit() and "x" in kind else (kind, "")
    return Fault(name, int(times) if times else None, wait or None)


async def _serve(server: ProviderServer) -> None:
    async with server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main(argv: Sequence[str] | None = None) -> int:
    """`python -m onward.testing serve …`."""
    parser = argparse.ArgumentParser(prog="python -m onward.testing", description=__doc__)
    serve = parser.add_subparsers(dest="command", required=True).add_parser("serve", help="run a scripted provider")
    serve.add_argument("--port", type=int, default=0)
    serve.add_argument("--log", help="file to which each billed request is appended")
    serve.add_argument("--latency", type=float, default=0.0, help="seconds before the first byte")
    serve.add_argument("--pace", type=float, default=0.0, help="seconds between the frames of a stream")
    serve.add_argument("--answer", help="say this to everything (default: a text derived from the request)")
    serve.add_argument("--episode", action="store_true", help="lead agents through a small episode of five turns")
    serve.add_argument("--fault", action="append", default=[], type=_fault, help="KIND[xTIMES][:RETRY_AFTER]")
    given = parser.parse_args(argv)
    fixed = given.answer
    server = ProviderServer(
        Script() if given.episode else default_answer if fixed is None else lambda _: fixed,
        faults=given.fault, latency=given.latency, pace=given.pace, log=given.log, port=given.port,
    )  # fmt: skip
    try:
        asyncio.run(_serve(server))
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
