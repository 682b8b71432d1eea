"""One driver per run: who we are, and whether the one who holds a run is still there."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from onward.clock import Clock
from onward.errors import Held
from onward.journal.contract import Holder, Journal

__all__ = ["SILENCE", "claim", "described", "driver", "gone", "myself"]

SILENCE = 60.0
"""Seconds without a heartbeat after which a holder whose pid says nothing to us counts as gone."""


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """The kernel's start time of a live process, in ticks since boot; empty where there is none, or only a corpse."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return "" if not fields or fields[0] in "ZX" else fields[19]


def _namespace() -> str:
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def myself(clock: Clock) -> Holder:
    """This process, as a lease names it."""
    boot, pid = _read("/proc/sys/kernel/random/boot_id"), os.getpid()
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])[:200]
    return Holder(socket.gethostname(), boot, _namespace(), pid, _start_time(pid), clock.now(), command=command)


def gone(me: Holder, *, force: bool = False) -> Callable[[Holder], bool]:
    """Whether a holder is no more. Its pid is believed only where host, boot and pid namespace are ours."""

    def is_gone(other: Holder) -> bool:
        if force:
            return True
        if (other.host, other.boot, other.namespace) == (me.host, me.boot, me.namespace) and me.boot:
            return not other.started or _start_time(other.pid) != other.started
        return me.heartbeat - other.heartbeat > SILENCE

    return is_gone


def described(holder: Holder, now: float) -> str:
    """A holder in words, for whoever is refused."""
    words = f"process {holder.pid} on {holder.host}"
    if holder.command:
        words += f" ({holder.command})"
    return f"{words}, last heartbeat {max(0.0, now - holder.heartbeat):.0f} s ago"


def claim(journal: Journal, clock: Clock, *, force: bool = False) -> Holder | None:
    """Take the run's lease; returns the dead holder that was replaced, if any. Raises Held naming a live one.

    A holder that was stopped (SIGSTOP) amid a commit keeps the file locked: not even `force` can take the run then.
    """
    me = myself(clock)
    before = journal.holder()
    try:
        journal.claim(me, gone=gone(me, force=force))
    except Held:
        other = journal.holder()
        who = described(other, me.heartbeat) if other else "another process"
        raise Held(
            f"this run is being driven by {who}. Watch it with `onward show --follow`, stop it with `onward stop`; "
            "if you are sure that it is gone, add --take-over"
        ) from None
    except OSError as error:
        if error.errno != errno.EBUSY or before is None:
            raise
        raise Held(
            f"{described(before, me.heartbeat)}, has the journal locked and does not let go: it may be stopped amid a "
            f"commit. Let it go on (kill -CONT {before.pid}) or end it (kill -9 {before.pid})"
        ) from None
    return before


def driver(journal: Journal, clock: Clock) -> Holder | None:
    """Who drives the run now: its holder, unless that one is gone."""
    holder = journal.holder()
    return None if holder is None or gone(myself(clock))(holder) else holder
