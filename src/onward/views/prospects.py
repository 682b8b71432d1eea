"""What continuing would come to, by arithmetic on what is recorded: nothing is started, no agent or key is needed.

served again    commands run again for real while the model answers at once: the recorded time in which no call was
                under way, and a little for each exchange
live            the time limit, which is not charged with what is served
cost            what the recording cost for each second of its own, over all of the live time: at the most, if the
                agent goes on as it did
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from onward.episode import AGENT_SECONDS
from onward.keys import Key
from onward.runs import Run
from onward.views.begun import replay_seconds, samples
from onward.views.means import came_to_limit, standings
from onward.views.summary import planned_trials
from onward.views.trials import Trial, trials

__all__ = ["Finding", "Gravity", "Prospect", "Sum", "cost", "of_run", "summed"]

Gravity = Literal["note", "loss", "damage"]
"""`note`: mended, or of no consequence. `loss`: something is not there. `damage`: a replay may go another way."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a recording has, and what is done about it. `lines`: of the trajectory, from 1."""

    kind: str
    gravity: Gravity
    what: str
    then: str
    lines: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Prospect:
    """What continuing one trial would come to, or why it is left out."""

    name: str
    left_out: str = ""
    """The reason; empty where it is continued."""
    exchanges: int = 0
    """How many are served again."""
    replay: float = 0.0
    """Seconds until the record ends."""
    live: float | None = None
    """Seconds of its own at the most; None: no limit is known."""
    usd: float | None = None
    """What the live part costs at the most; None where the recording does not say what it cost."""
    recorded_usd: float | None = None
    findings: tuple[Finding, ...] = field(default=(), repr=False)
    earlier: str = ""
    """The run in which it has been continued on these terms: to an end where it is left out, else as far as it came."""

    def to_json(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Sum:
    """All of them together."""

    continued: int
    replay: float
    live: float | None
    """None where one of them has no known limit."""
    usd: float
    unpriced: int
    """How many have no known cost."""
    left_out: int


def summed(prospects: Iterable[Prospect]) -> Sum:
    """The sum of those that are continued."""
    every = list(prospects)
    chosen = [one for one in every if not one.left_out]
    lives = [one.live for one in chosen]
    return Sum(
        len(chosen), sum(one.replay for one in chosen),
        None if None in lives else sum(live for live in lives if live is not None),
        sum(one.usd or 0.0 for one in chosen), sum(one.usd is None for one in chosen), len(every) - len(chosen),
    )  # fmt: skip


def cost(usd: float | None, active: float | None, live: float | None) -> float | None:
    """What so many live seconds cost, if each costs what an active one did."""
    if usd is None or not active or live is None:
        return None
    return usd / active * live


def of_run(run: Run, *, timeout: float | None = None, within: Key | None = None) -> Iterator[Prospect]:
    """Of every trial of a run, or of those below a key. Only timeouts of agents are continued."""
    agents = set(run.plan.shape.agents)
    limited = {trial for trial, heads in standings(run).items() if came_to_limit(heads)}
    wanted = {key for _, _, key, _ in planned_trials(run) if within is None or within.covers(key)}
    limits = _limits(run)
    for trial in trials(run):
        if trial.key not in wanted:
            continue
        reason = _reason(trial, agents, limited)
        if reason:
            yield Prospect(trial.key, reason)
        else:
            yield _of_trial(run, trial, timeout or limits.get(trial.task))


def _reason(trial: Trial, agents: set[str], limited: set[str]) -> str:
    if trial.solver not in agents:
        return "its solver is no agent"
    if trial.key in limited and trial.outcome in ("ok", "failed", "timeout"):
        return ""
    return {
        "ok": "it did not time out: it is done",
        "failed": f"it did not time out: it failed ({trial.reason or 'for no recorded reason'})",
        "error": "it did not time out: it ended in an error, and is owed (onward resume)",
    }.get(trial.outcome, "it did not time out: it is not finished (onward resume)")


def _limits(run: Run) -> dict[str, float]:
    """The live budget of each task: the experiment's limit, else the task's own, else half an hour."""
    stated = (run.config["spec"].get("limits") or {}).get("time")
    found: dict[str, float] = {}
    for chunk in run.plan.chunks:
        for _, task in run.tasks(chunk):
            own = (task.metadata.get("folder") or {}).get("agent_seconds")
            found[task.id] = float(stated or own or AGENT_SECONDS)
    return found


def _of_trial(run: Run, trial: Trial, live: float | None) -> Prospect:
    found = samples(run, str(trial.key))
    spans = [span for one in found for span in one.spans]
    costs = [one.usd for one in found if one.usd is not None]
    usd, active = sum(costs) if costs else None, sum(one.active for one in found)
    return Prospect(trial.key, "", len(spans), replay_seconds(spans), live, cost(usd, active, live), usd)
