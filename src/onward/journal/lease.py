"""Words about a lease: who holds it, said so that a person can act on it."""

from __future__ import annotations

from datetime import UTC, datetime

from onward.errors import Held
from onward.journal.contract import Holder

__all__ = ["held_by"]


def held_by(holder: Holder, since: float) -> Held:
    """The refusal that names the holder, and what may be done about it."""
    when = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    command = f" ({holder.command})" if holder.command else ""
    return Held(
        f"the run is driven by pid {holder.pid} on {holder.host}{command} since {when}; "
        "wait for it, stop it, or take over with --take-over if it is gone"
    )
