"""Which run, where the words leave room: draws of any size, other filters, strictness."""

from __future__ import annotations

from pathlib import Path

import pytest

from onward import Drifted, Experiment
from onward.face import Results

TASKS = [{"id": f"t{number}", "input": f"What is {number}?", "target": 42, "level": number % 2} for number in range(8)]


def experiment(folder: Path, **fields: object) -> Experiment:
    given: dict[str, object] = {
        "name": "e",
        "tasks": TASKS,
        "solver": "python/m",
        "parse": "last_number",
        "score": "numeric",
    }
    return Experiment(store=folder, models={"m": lambda messages, params: "42"}, **{**given, **fields})  # type: ignore[arg-type]


def said(results: Results) -> str:
    return "\n".join(results.lines)


def test_a_resumed_draw_needs_no_size_to_be_found(tmp_path: Path) -> None:
    drawn = experiment(tmp_path, select={"random": True, "draw": 3}).run(max_new=1)
    again = experiment(tmp_path, select={"random": True}).run(resume=True)
    assert (again.folder, again.ending.total, again.ending.done) == (drawn.folder, 3, 3)


def test_a_limit_over_other_filters_wants_so_many_of_those(tmp_path: Path) -> None:
    experiment(tmp_path).run()
    fewer = experiment(tmp_path, select={"level": 1}).run(limit=2)
    assert (fewer.ending.total, fewer.ending.done, fewer.ending.calls) == (2, 2, 0)


def test_a_limit_over_a_changed_spec_narrows_what_is_done_now_and_not_the_plan(tmp_path: Path) -> None:
    experiment(tmp_path).run()
    changed = experiment(tmp_path, score=["numeric", "exact"]).run(limit=2)
    assert (changed.ending.total, changed.ending.settled, changed.ending.code) == (8, 2, 3)


def test_strict_refuses_to_make_a_derived_run_by_itself(tmp_path: Path) -> None:
    experiment(tmp_path).run()
    with pytest.raises(Drifted, match="stages changed since e-"):
        experiment(tmp_path, score="exact").run(strict=True)
    assert len(list(tmp_path.iterdir())) == 1


def test_new_tasks_are_named_beside_what_is_taken_over(tmp_path: Path) -> None:
    first = experiment(tmp_path, tasks=TASKS[:1]).run()
    more = experiment(tmp_path).run()
    assert f"takes over 1 answer from {first.folder.name}" in said(more)
    assert "7 new tasks" in said(more)
    assert "0 calls" not in said(more)
