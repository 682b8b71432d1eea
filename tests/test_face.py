"""The Python door: an experiment as an object."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.house import TASKS, Oracle, quick_folder

import onward
from onward import Experiment, Results, open_results
from onward.errors import NotThere, SpecError, UsageError


@pytest.fixture
def folder() -> Iterator[Path]:
    with quick_folder() as made:
        yield made


def experiment(folder: Path, model: Any, **fields: Any) -> Experiment:
    return Experiment(**{
        "store": folder / "runs", "folder": folder, "tasks": TASKS, "solver": "python/m", "models": {"m": model},
        "parse": "last_number", "score": "numeric", **fields,
    })  # fmt: skip


def test_an_experiment_runs_and_its_results_are_trials(folder: Path) -> None:
    model = Oracle()
    results = experiment(folder, model).run()
    assert results.complete and [trial.outcome for trial in results] == ["ok"] * 3
    assert results.summary.solvers["m"].scores["numeric"].value == 1.0
    assert experiment(folder, model).run().ending.calls == 0  # type: ignore[union-attr]
    assert isinstance(open_results("latest", store=folder / "runs"), Results)
    assert open_results("latest", store=folder / "runs").complete


def test_until_a_stage_and_replay_from_one(folder: Path) -> None:
    model = Oracle()
    made = experiment(folder, model)
    assert made.run(until_stage="generate").summary.completed_through == "generate"
    assert made.run().complete and model.calls == 3
    assert made.replay(stage="score").ending.calls == 0  # type: ignore[union-attr]
    child = made.changed(score=["numeric", "exact"]).replay(stage="score")
    assert child.complete and model.calls == 3


def test_an_existing_run_follows_the_policy(folder: Path) -> None:
    model = Oracle()
    experiment(folder, model).run()
    with pytest.raises(UsageError, match="exists"):
        experiment(folder, model, existing_run_policy="error").run()
    experiment(folder, model, existing_run_policy="rerun").run()
    assert model.calls == 6
    with pytest.raises(SpecError, match="existing_run_policy"):
        experiment(folder, model, existing_run_policy="never")


def test_inside_an_event_loop_there_is_an_async_form(folder: Path) -> None:
    model = Oracle()
    assert asyncio.run(experiment(folder, model).run_async()).complete


def test_a_field_that_does_not_exist_is_named() -> None:
    with pytest.raises(SpecError, match="scorer"):
        Experiment(tasks=TASKS, solver="python/m", scorer="numeric")


def test_what_is_not_there_is_said_to_be_so(folder: Path) -> None:
    with pytest.raises(NotThere):
        open_results("latest", store=folder)


def test_the_public_face_is_small_and_every_name_of_it_is_there() -> None:
    assert set(onward.__all__) == {
        "Answer", "BlockingContext", "Context", "Damaged", "Drifted", "Experiment", "Held", "NotThere", "OnwardError",
        "Results", "Score", "StepFailed", "StepOwed", "StepTimeout", "Task", "Usage", "UsageError", "__version__",
        "open_results", "parser", "reducer", "scorer",
    }  # fmt: skip
    assert all(getattr(onward, name) for name in onward.__all__)
    assert dir(onward) == sorted(onward.__all__)
    with pytest.raises(AttributeError):
        _ = onward.nothing
