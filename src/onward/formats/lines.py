"""A run as lines: every entry, every trial, or what a leaderboard takes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from onward.amounts import seconds
from onward.errors import UsageError
from onward.runs import Run
from onward.views.trials import Trial, trials

__all__ = ["csv_rows", "events", "results", "submission"]

_TYPES = {"plan": "plan", "intent": "step.intended", "served": "step.served", "void": "void"}
_OUTCOMES = {"ok": "step.completed", "failed": "step.failed", "timeout": "step.timeout", "error": "step.error"}


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n"


def events(run: Run) -> Iterator[str]:
    """Every entry of the journal as a line of JSON, in order, whole."""
    for entry in run.entries():
        type_ = _TYPES.get(entry.kind) or ("step.reused" if entry.reused else _OUTCOMES[str(entry.outcome)])
        line: dict[str, Any] = {
            "type": type_, "ts": entry.at, "run_id": run.id, "seq": entry.seq, "key": entry.key,
            "outcome": entry.outcome, "attempt": entry.attempt, "generation": entry.generation,
            "usd": entry.usd, "tokens": entry.tokens,
        }  # fmt: skip
        if entry.fingerprint is not None:
            line["fingerprint"] = {"digest": entry.fingerprint.digest, "parts": dict(entry.fingerprint.parts)}
        yield _text({name: value for name, value in line.items() if value is not None} | {"data": dict(entry.data)})


def _result(run: Run, trial: Trial) -> dict[str, Any]:
    return {
        "run_id": run.id, "solver": trial.solver, "task": trial.task, "trial": int(trial.number),
        "outcome": trial.outcome, "output": trial.output, "answer": trial.answer,
        "scores": trial.scores, "reason": trial.reason, "usd": trial.usd, "tokens": trial.tokens, "calls": trial.calls,
        "reused": trial.reused, "reused_usd": trial.reused_usd, "attempts": trial.attempts,
        "generation": trial.generation, "started": trial.started, "ended": trial.ended,
        "seconds": seconds(trial.started, trial.ended),
    }  # fmt: skip


def results(run: Run) -> Iterator[str]:
    """Every planned trial as a line of JSON, in the plan's order."""
    for trial in trials(run):
        yield _text(_result(run, trial))


def csv_rows(run: Run) -> Iterator[str]:
    """Every planned trial as a row, with a column for each score."""
    names = [*run.plan.shape.scores, *run.plan.shape.judges]
    stated = ("solver", "task", "trial", "outcome", "answer", "reason", "usd", "tokens", "calls", "reused", "attempts")
    yield _row([*stated, "generation", "started", "ended", *names])
    for trial in trials(run):
        form = _result(run, trial)
        cells = [form[name] for name in (*stated, "generation", "started", "ended")]
        yield _row([*cells, *(trial.scores[name]["value"] if name in trial.scores else None for name in names)])


def _row(cells: list[Any]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerow([_cell(cell) for cell in cells])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.replace("\0", "\ufffd")


def submission(run: Run, solver: str | None = None) -> Iterator[str]:
    """What the GAIA leaderboard takes: `{"task_id", "model_answer"}` a line, an empty answer where there is none."""
    if solver is None and len(run.plan.solvers) > 1:
        raise UsageError(f"a submission is of one solver; {run.name} has {', '.join(run.plan.solvers)}: say --solver")
    for trial in trials(run):
        if trial.number == "1" and solver in (None, trial.solver):
            answer = trial.answer if trial.outcome == "ok" else None
            said = (
                "" if answer is None else answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
            )
            yield _text({"task_id": trial.task, "model_answer": said})
