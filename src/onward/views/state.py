"""A run's state in words: the one line that everything else starts with."""

from __future__ import annotations

from onward.amounts import count, money
from onward.journal import Holder
from onward.views.summary import Summary

__all__ = ["headline", "state"]


def state(found: Summary, driver: Holder | None) -> str:
    """`complete`, `complete through generate`, `interrupted` or `running in process 71 on ada`."""
    if driver is not None:
        return f"running in process {driver.pid} on {driver.host}"
    if found.owed == 0:
        return "complete"
    if found.completed_through is not None and not found.errors and not _later(found):
        return f"complete through {found.completed_through}"
    return "interrupted"


def _later(found: Summary) -> bool:
    """Whether some trial has been further than all of them."""
    reached = max((len(part.stages) for part in found.solvers.values()), default=0)
    all_through = sum(
        1 for stage in {stage for part in found.solvers.values() for stage in part.stages}
        if sum(part.stages.get(stage, 0) for part in found.solvers.values()) == found.planned
    )  # fmt: skip
    return reached > all_through


def headline(found: Summary, driver: Holder | None) -> str:
    """`nightly-3f9a1c: interrupted, 61 of 165 done, 104 owed (4 errors), $0.41 spent, 4 in doubt (at most $0.03)`."""
    words = [state(found, driver)]
    if found.owed == 0:
        words.append(f"{found.done} of {found.planned} done")
    else:
        errors = f" ({count(found.errors, 'error')})" if found.errors else ""
        words += [f"{found.done} of {found.planned} done", f"{found.owed} owed{errors}"]
    words.append(f"{money(found.usd)} spent")
    if found.reused:
        words.append(f"{money(found.reused_usd)} reused" if found.reused_usd else f"{found.reused:,} reused")
    if found.doubt:
        label = "in flight" if driver is not None else "in doubt"
        words.append(f"{found.doubt} {label} (at most {money(found.doubt_usd)})")
    return f"{found.run}: {', '.join(words)}"
