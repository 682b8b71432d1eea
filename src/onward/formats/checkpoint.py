"""The seed's checkpoint: one JSON document with `metadata` and `results`, jq-friendly, that can be imported again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from onward.amounts import seconds
from onward.runs import Run
from onward.tasks import Task
from onward.views.summary import score_steps
from onward.views.trials import Trial, trials

__all__ = ["document"]


def document(run: Run) -> dict[str, Any]:
    """Every settled trial as a result; errors and what is missing are counted in the metadata and are no results.

    One pass over the journal.
    """
    mark = float(run.facts["identity"].get("pass_mark", 1.0))
    scoring = score_steps(run.plan.shape)
    tasks = {task.id: task for task in _tasks(run)}
    results: list[dict[str, Any]] = []
    correct = scored = errors = missing = 0
    last = str(run.facts["run"]["created"])
    for trial in trials(run):
        last = max(last, trial.ended)
        if trial.outcome in ("error", "missing"):
            errors += trial.outcome == "error"
            missing += trial.outcome == "missing"
            continue
        task = tasks[trial.task]
        verdict = _correct(trial, task, scoring, mark)
        scored += verdict is not None
        correct += verdict is True
        results.append(_result(run, trial, task, verdict))
    planned = len(run.plan)
    metadata = {
        "dataset": _dataset(run), "timestamp": last, "total": len(results), "correct": correct,
        "accuracy": round(100 * correct / scored, 2) if scored else 0.0,
        "incremental": len(results) < planned, "planned": planned, "errors": errors, "missing": missing,
        "run": run.name, "run_id": run.id, "model": ", ".join(run.plan.solvers),
        "selection": {name: value for name, value in run.facts["selection"].items() if value},
    }  # fmt: skip
    return {"metadata": metadata, "results": results}


def _tasks(run: Run) -> Iterator[Task]:
    for chunk in run.plan.chunks:
        for _, task in run.tasks(chunk):
            yield task


def _correct(trial: Trial, task: Task, scoring: list[tuple[str, str]], mark: float) -> bool | None:
    """Whether the primary score passes; None where the answer is not known, so that nothing scores it."""
    own = [name for name, step in scoring if task.target is not None or step.startswith("judge/")]
    if not own:
        return None
    score = trial.scores.get(own[0])
    return score is not None and float(score["value"]) >= mark


def _result(run: Run, trial: Trial, task: Task, verdict: bool | None) -> dict[str, Any]:
    took = seconds(trial.started, trial.ended)
    found: dict[str, Any] = {
        "taskId": trial.task, "question": task.input, "level": task.metadata.get("level"),
        "files": [file.name for file in task.files], "answer": trial.answer, "output": trial.output,
        "expectedAnswer": task.target, "correct": verdict,
        "durationMs": round(1000 * took) if took is not None else None, "steps": trial.calls,
        "solver": trial.solver, "trial": int(trial.number), "outcome": trial.outcome,
        "scores": {name: score["value"] for name, score in trial.scores.items()},
        "usd": trial.usd, "reusedUsd": trial.reused_usd, "tokens": trial.tokens, "attempts": trial.attempts,
        "startedAt": trial.started, "endedAt": trial.ended,
    }  # fmt: skip
    if trial.outcome != "ok":
        found["error"] = trial.reason
    return {
        name: value for name, value in found.items() if value not in (None, [], {}) or name in ("answer", "correct")
    }


def _dataset(run: Run) -> str:
    source: Mapping[str, Any] = run.facts["source"]
    for name in ("split", "path", "name", "source"):
        if isinstance(source.get(name), str):
            return str(source[name])
    return "tasks"
