"""What an invocation came to: the same exit code and the same words, however the run got there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onward.cli.words import count, money, percent, trouble
from onward.drive import Ending
from onward.runs import open_run
from onward.views import Summary, summary

__all__ = ["Outcome", "failed", "of"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it ended. `ending` and `summary` are None where it did not come to that."""

    code: int
    ending: Ending | None = None
    summary: Summary | None = None
    below: str = ""
    """Which mean is below the threshold."""
    error: str = ""

    @property
    def said(self) -> str:
        """In one line."""
        if self.error or self.ending is None:
            return f"error: {self.error}"
        words = f"{self.ending.done} of {self.ending.total} done"
        if self.ending.stopped:
            words += f", stopped: {self.ending.stopped}"
        return f"{words}; {self.below}" if self.below else words

    def to_json(self) -> dict[str, Any]:
        """For `--json` and `run.completed`."""
        form: dict[str, Any] = {"exit_code": self.code}
        if self.error:
            form["error"] = self.error
        if self.below:
            form["below_threshold"] = self.below
        if self.ending is not None:
            end = self.ending
            form |= {
                "run": end.run, "folder": str(end.folder), "done": end.done, "total": end.total,
                "owed": end.total - end.done, "settled_now": end.settled, "calls": end.calls, "usd": end.usd,
                "stopped": end.stopped, "reasons": dict(end.reasons),
            }  # fmt: skip
        if self.summary is not None:
            form |= {
                "spent_usd": self.summary.usd,
                "reused_usd": self.summary.reused_usd,
                "tokens": self.summary.tokens,
            }
            form["solvers"] = {name: _solver(part) for name, part in self.summary.solvers.items()}
        return form


def _solver(part: Any) -> dict[str, Any]:
    named = ("planned", "ok", "failed", "timeout", "errors", "missing", "unscored", "rerun")
    form: dict[str, Any] = {name: getattr(part, name) for name in named}
    for field in ("scores", "first_go"):
        means = getattr(part, field)
        form[field] = {name: {"mean": mean.value, "error": mean.error, "n": mean.n} for name, mean in means.items()}
    return form


def of(ending: Ending, until: str | None, threshold: float | None) -> Outcome:
    """The outcome of an invocation that ended. `threshold` None: the one that the experiment states, if any."""
    run = open_run(ending.folder)
    try:
        found = summary(run, until)
        shape, stated = run.plan.shape, run.config["spec"].get("threshold")
    finally:
        run.close()
    mark = threshold if threshold is not None else stated
    names = (*shape.scores, *shape.judges)
    last = "score" if shape.scores else "judge"
    if ending.code != 0 or mark is None or not names or last not in shape.until(until):
        return Outcome(ending.code, ending, found)
    below = _below(found, names[0], float(mark))
    return Outcome(1 if below else 0, ending, found, below)


def _below(found: Summary, primary: str, mark: float) -> str:
    for name, part in found.solvers.items():
        mean = part.scores.get(primary)
        if mean is None:
            return f"{name} has no {primary} to hold against the threshold of {percent(mark)}"
        if mean.value < mark:
            return f"{name}: {percent(mean.value)} {primary} is below the threshold of {percent(mark)}"
    return ""


def failed(error: BaseException) -> Outcome:
    """The outcome of an invocation that raised."""
    message, code = trouble(error)
    return Outcome(code, error=message)


def owed(ending: Ending, resume: str) -> list[str]:
    """Why work is owed and what to do about it."""
    left = ending.total - ending.done
    if ending.code == 0 or left <= 0:
        return []
    why = [f"{ending.stopped}"] if ending.stopped else []
    why += [f"{number} × {reason}" for reason, number in sorted(ending.reasons.items(), key=lambda item: -item[1])[:5]]
    head = f"owed: {count(left, 'trial')} of {ending.total:,}"
    lines = [f"{head}: {why[0]}" if why else head, *(f"      {line}" for line in why[1:])]
    return [*lines, f"resume: {resume}"]


def unpriced(ending: Ending) -> str:
    """That the bill is not the whole one, and what makes the next so."""
    calls = count(ending.unpriced, "call")
    return f"not in it: {calls} at a price that nobody knows. --price MODEL=IN/OUT says it, for calls to come"


def table(found: Summary) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the result table: a solver a row, its scores with standard errors, what they leave out."""
    names = list(dict.fromkeys(name for part in found.solvers.values() for name in part.scores))
    parts = found.solvers.values()
    extra = [
        field
        for field in ("failed", "timeout", "errors", "missing", "unscored")
        if any(getattr(part, field) for part in parts)
    ]
    rows = []
    for solver, part in found.solvers.items():
        scores = [_mean(part.scores, part.first_go, name, part.rerun) for name in names]
        rows.append([solver, *scores, f"{part.planned:,}", *(f"{getattr(part, field):,}" for field in extra)])
    return ["solver", *names, "trials", *extra], rows


def _mean(now: Mapping[str, Any], first: Mapping[str, Any], name: str, again: int) -> str:
    mean = now.get(name)
    if mean is None:
        return "–"
    spread = f" ± {100 * mean.error:.1f}" if 0 <= mean.value <= 1 else f" ± {mean.error:.2g}"
    text = percent(mean.value).replace(" %", f"{spread} %") if 0 <= mean.value <= 1 else percent(mean.value) + spread
    if again and name in first:
        return f"{percent(first[name].value)} first go · {percent(mean.value)} after {count(again, 'rerun')}"
    return text


def bill(found: Summary) -> str:
    """What it cost, with what was reused and what is in doubt apart."""
    words = [f"spent {money(found.usd)} ({count(found.calls, 'call')}, {found.tokens:,} tokens)"]
    if found.reused:
        words.append(f"reused {money(found.reused_usd)}")
    if found.doubt:
        words.append(f"in doubt at most {money(found.doubt_usd)} ({count(found.doubt, 'call')} cut off)")
    return " · ".join(words)


def resume_command(folder: Path, store: Path | None) -> str:
    """What finishes this run."""
    return f"onward resume {folder.name}" + (f" --store {store}" if store is not None else "")
