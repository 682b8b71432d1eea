"""What continuing a run folder of BenchFlow's would come to, and what is the matter with it."""

from __future__ import annotations

from onward.formats.benchflow.findings import findings
from onward.formats.benchflow.recording import Recording
from onward.views.begun import replay_seconds
from onward.views.prospects import Prospect, cost

__all__ = ["prospect"]


def prospect(recording: Recording, *, timeout: float | None = None, require_timeout: bool = False) -> Prospect:
    """What it would come to. `timeout`: the live budget, else what the run had."""
    spans = [(row.asked, row.answered) for row in (one.row for one in recording.served)
             if row.asked is not None and row.answered is not None]  # fmt: skip
    active = recording.took or (max(end for _, end in spans) - min(spans)[0] if spans else None)
    live = timeout or recording.limit
    return Prospect(
        recording.folder.name, _left_out(recording, require_timeout), len(recording.served), replay_seconds(spans),
        live, cost(recording.usd, active, live), recording.usd, tuple(findings(recording)),
    )  # fmt: skip


def _left_out(recording: Recording, require_timeout: bool) -> str:
    if not recording.served:
        return "no answer was recorded: there is nothing to go on from"
    if recording.timed_out or not require_timeout:
        return ""
    if not recording.finished:
        return "it has no result, so nothing says that it timed out"
    ended = recording.category or recording.error
    return f"it did not time out: {f'it ended with {ended}' if ended else 'it ended by itself'}"
