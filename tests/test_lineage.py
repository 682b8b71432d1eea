"""Which run: identity, extension, parents, drift, and the verbs that do again (SEMANTICS §2, §3, §4)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.house import House, Oracle, quick_folder, right, rows, seen

from onward.errors import Drifted, NotThere, UsageError
from onward.runs import find, stored_runs
from onward.views import completed_through, summary


@pytest.fixture
def house() -> Iterator[House]:
    with quick_folder() as folder:
        yield House(folder)


def folders(house: House) -> list[str]:
    return sorted(folder.name for folder in stored_runs(house.store))


# ---------------------------------------------------------------- the same run


def test_run_spec_finds_the_run_of_exactly_this_spec_and_goes_on_with_it(house: House) -> None:
    first = house.run(max_new=1)
    assert (first.code, first.done, house.model.calls) == (3, 1, 1)
    second = house.run()
    assert second.folder == first.folder and (second.code, second.done, house.model.calls) == (0, 3, 3)
    assert second.run.startswith("exp-") and len(second.run) == len("exp-") + 6


def test_a_complete_run_is_left_alone(house: House) -> None:
    house.run()
    with house.opened() as run:
        before = rows(run)
    ending = house.run()
    assert (ending.code, ending.calls, house.model.calls) == (0, 0, 3)
    with house.opened() as run:
        assert rows(run) == before


OUT: list[dict[str, Any]] = [
    {"limits": {"concurrency": 1, "time": 600, "budget_usd": 50, "max_errors": 3, "attempts": 2}},
    {"providers": {"python": {"base_url": "http://localhost:4000/v1", "concurrency": 2, "requests_per_minute": 9000}}},
    {"prices": {"python/m": "0/0"}},
    {"threshold": 0.9},
]


@pytest.mark.parametrize("change", OUT, ids=["limits", "address", "prices", "threshold"])
def test_what_cannot_change_a_result_stales_nothing(house: House, change: dict[str, Any]) -> None:
    house.run()
    ending = house.run(house.changed(**change))
    assert ending.code == 0 and len(folders(house)) == 1 and house.model.calls == 3


def test_another_output_folder_or_stream_stales_nothing(house: House) -> None:
    house.run()
    house.store.rename(house.folder / "elsewhere")
    (house.folder / "elsewhere").rename(house.store)
    assert house.run(stream=True).calls == 0


IN: list[dict[str, Any]] = [
    {"solver": {"model": "python/other", "name": "m"}},
    {"solver": {"model": "python/m", "prompt": "Think. {input}"}},
    {"solver": {"model": "python/m", "temperature": 0.5}},
    {"seed": 1},
]


@pytest.mark.parametrize("change", IN, ids=["model", "prompt", "params", "seed"])
def test_what_can_change_an_answer_asks_again_in_a_run_of_its_own(house: House, change: dict[str, Any]) -> None:
    house.models["other"] = house.known["m"]
    house.run()
    ending = house.run(house.changed(**change))
    assert ending.code == 0 and len(folders(house)) == 2 and house.model.calls == 6


def test_prompt_content_counts_and_its_file_does_not(house: House) -> None:
    (house.folder / "a.md").write_text("Say {input}")
    (house.folder / "b.md").write_text("Say {input}")
    house.run(house.changed(solver={"model": "python/m", "prompt": "a.md"}))
    assert house.run(house.changed(solver={"model": "python/m", "prompt": "b.md"})).calls == 0
    (house.folder / "b.md").write_text("Tell {input}")
    assert house.run(house.changed(solver={"model": "python/m", "prompt": "b.md"})).calls == 3


def test_new_takes_the_next_replicate_and_measures_anew(house: House) -> None:
    names = {house.run().run, house.run(new=True).run, house.run(new=True).run}
    assert len(names) == 3 and house.model.calls == 9
    assert house.run().calls == 0, "the newest replicate is the run that goes on"


def test_if_exists_error_refuses_and_rerun_does_it_all_again(house: House) -> None:
    first = house.run(if_exists="error")
    with pytest.raises(UsageError, match=first.run):
        house.run(if_exists="error")
    ending = house.run(if_exists="rerun")
    assert (ending.folder, ending.code, house.model.calls) == (first.folder, 0, 6)
    with house.opened() as run:
        assert {e.generation for e in run.entries("", ("result",))} == {0, 1}


# ---------------------------------------------------------------- how much of it


def test_a_run_extends_from_a_limit_to_the_whole_selection_and_asks_for_the_new_ones_only(house: House) -> None:
    assert house.run(limit=2).total == 2
    ending = house.run()
    assert (ending.total, ending.done, ending.calls, house.model.calls) == (3, 3, 1, 3)
    assert len(folders(house)) == 1


def test_a_smaller_limit_narrows_this_invocation_and_deletes_nothing(house: House) -> None:
    house.run(max_new=0)
    ending = house.run(limit=1)
    assert (ending.code, ending.total, ending.done) == (3, 3, 1)


def test_resume_without_a_limit_finishes_the_recorded_list(house: House) -> None:
    house.run(limit=2, max_new=1)
    ending = house.run(resume=True)
    assert (ending.total, ending.done, house.model.calls) == (2, 2, 2)
    ending = house.run(resume=True, limit=3)
    assert (ending.total, ending.done) == (3, 3)


def test_resume_of_a_run_finishes_the_recorded_list(house: House) -> None:
    house.run(limit=2, max_new=1)
    ending = house.resume()
    assert (ending.total, ending.done) == (2, 2)


def test_resume_with_nothing_to_resume_is_not_there(house: House) -> None:
    house.run()
    with pytest.raises(NotThere) as caught:
        house.resume()
    assert caught.value.exit_code == 1


def test_run_with_resume_and_nothing_recorded_says_so_and_starts(house: House) -> None:
    assert house.run(resume=True).code == 0
    assert any("nothing recorded" in line for line in house.lines)


def test_resume_from_and_max_new_concern_this_invocation_only(house: House) -> None:
    assert house.run(resume_from="t2").done == 2
    assert house.model.texts == ["What is 2 + 2?", "What is 3 + 3?"]
    with pytest.raises(NotThere, match="t9"):
        house.run(resume_from="t9")
    assert house.run(max_new=5).code == 0


def test_extending_after_the_order_changed_is_refused_and_nothing_is_lost(house: House) -> None:
    house.run(limit=1)
    house.tasks.reverse()
    with pytest.raises(Drifted) as caught:
        house.run(resume=True, limit=3)
    assert caught.value.exit_code == 5 and "--parent" in str(caught.value)
    assert house.resume("latest").total == 1


def test_filters_are_a_run_of_their_own_and_a_narrower_one_finishes_part_of_a_wider(house: House) -> None:
    house.tasks = [{**task, "level": 1 + n % 2} for n, task in enumerate(house.tasks)]
    house.run(max_new=0)
    ending = house.run(house.changed(select={"level": 1}), resume=True)
    assert (ending.total, ending.done, ending.code) == (3, 2, 3)
    assert any("narrowed" in line for line in house.lines)
    assert house.run(house.changed(select={"level": 1})).total == 2


# ---------------------------------------------------------------- derived runs


def test_a_changed_scorer_over_a_complete_run_costs_no_call_and_is_complete(house: House) -> None:
    parent = house.run()
    with house.opened() as run:
        before = rows(run)
    child = house.run(house.changed(score=["numeric", "exact"]))
    assert (child.code, child.calls, house.model.calls, child.done) == (0, 0, 3, 3)
    said = next(line for line in house.lines if "takes over" in line)
    assert "3 answers" in said and parent.run in said and "0 calls" in said and "owes 3 scores" in said
    with house.opened(parent.folder) as run:
        assert rows(run) == before, "the parent is never modified"
    with house.opened(child.folder) as run:
        found = summary(run)
        assert set(found.solvers["m"].scores) == {"numeric", "exact"}
        assert (found.usd, found.reused_usd) == (0.0, pytest.approx(0.03))
        reused = [e for e in run.entries("", ("result",)) if e.reused]
        assert all(set(e.data["origin"]) >= {"run", "seq", "usd"} for e in reused)
        with house.opened(parent.folder) as old:
            assert {e.data["origin"]["run"] for e in reused} == {old.id}
            stored = {stored.seq: stored.row for stored in old.journal.rows()}
            assert all(stored[e.data["origin"]["seq"]].key == e.key for e in reused)
        assert list(run.journal.check()) == []


def test_reused_money_is_never_counted_as_spent_nor_against_a_budget(house: House) -> None:
    house.run()
    child = house.run(house.changed(judge={"model": "python/m", "rubric": "good?"}), limits={"budget_usd": 0.031})
    assert child.code == 0, "0.03 USD were spent in the parent, and as much is spent here: each run has its own budget"
    with house.opened(child.folder) as run:
        assert (summary(run).usd, summary(run).reused_usd) == (pytest.approx(0.03), pytest.approx(0.03))


def test_more_samples_reuse_those_that_stand(house: House) -> None:
    house.run()
    child = house.run(house.changed(samples=3))
    assert (child.code, house.model.calls) == (0, 9)
    with pytest.raises(NotThere):
        house.resume()


def test_added_tasks_ask_only_for_themselves(house: House) -> None:
    house.run()
    house.tasks.append({"id": "t4", "input": "What is 4 + 4?", "target": "8"})
    assert house.run().code == 0 and house.model.calls == 4


def test_a_changed_task_is_asked_again_and_its_neighbours_are_not(house: House) -> None:
    house.run()
    house.tasks[1] = {**house.tasks[1], "input": "What is 20 + 2?", "target": "22"}
    house.run()
    assert house.model.texts[3:] == ["What is 20 + 2?"]


def test_the_parent_is_the_newest_of_the_same_name_and_new_has_none(house: House) -> None:
    house.run()
    assert house.run(house.changed(name="other")).calls == 3
    assert house.run(house.changed(score="exact"), new=True).calls == 3


def test_several_parents_combine(house: House) -> None:
    house.tasks = [{**task, "level": n} for n, task in enumerate(house.tasks)]
    one = house.run(house.changed(select={"level": 0}, name="one"))
    two = house.run(house.changed(select={"level": 1}, name="two"))
    house.redo("two")
    house.redo("two/t2/generate")
    calls = house.model.calls
    both = house.run(house.changed(name="both"), parents=(one.run, two.run))
    assert (both.code, house.model.calls - calls) == (0, 1)
    with house.opened(both.folder) as run:
        assert summary(run).reused == 8 and completed_through(run) == "score"
    assert house.resume("both").calls == 0


def test_below_a_step_that_is_not_ok_its_ok_children_are_carried_along(house: House) -> None:
    (house.folder / "solver.py").write_text(
        "async def solve(ctx, task):\n    answer = await ctx.ask(task.input)\n    raise ValueError('after the call')\n"
    )
    solver = {"python": "solver.py:solve", "model": "python/m", "name": "m"}
    house.spec["solver"] = solver
    house.run()
    child = house.run(house.changed(score="exact"))
    assert (child.code, house.model.calls) == (0, 3), "the calls below a failed answer are paid already"


def test_calls_of_an_interrupted_step_are_carried_however_deep_they_are(house: House) -> None:
    (house.folder / "solver.py").write_text(
        "from onward.errors import Stopping\n"
        "async def deep(ctx, task, n):\n"
        "    if n == 0:\n"
        "        await ctx.ask(task.input)\n"
        "        raise Stopping('killed')\n"
        "    return await ctx.step('deeper', lambda below: deep(below, task, n - 1))\n"
        "async def solve(ctx, task):\n    return await deep(ctx, task, 6)\n"
    )
    house.spec["solver"] = {"python": "solver.py:solve", "model": "python/m", "name": "m"}
    house.run()
    assert house.model.calls == 3
    house.run(house.changed(score="exact"))
    assert house.model.calls == 3


def test_a_leftover_of_a_run_that_was_never_made_is_not_a_run(house: House) -> None:
    ending = house.run()
    leftover = house.store / ".making-0123456789ab-1"
    shutil.copytree(ending.folder, leftover)
    assert folders(house) == [ending.run] and find(house.store, "latest") == ending.folder


# ---------------------------------------------------------------- drift


CODE = "async def solve(ctx, task):\n    return (await ctx.ask(task.input)).text\n"


def test_drift_on_resume_goes_on_in_a_derived_run_and_strict_refuses(house: House, monkeypatch: Any) -> None:
    (house.folder / "solver.py").write_text(CODE)
    house.spec["solver"] = {"python": "solver.py:solve", "model": "python/m", "name": "m"}
    first = house.run(max_new=2)
    (house.folder / "solver.py").write_text(CODE + "# edited\n")
    monkeypatch.chdir("/")
    with pytest.raises(Drifted, match="solver m") as caught:
        house.resume(first.run, strict=True)
    assert caught.value.exit_code == 5
    ending = house.resume(first.run)
    assert ending.folder != first.folder and (ending.code, ending.done) == (0, 3)
    assert house.model.calls == 3, "calls that the edited code makes again are known by their content"
    assert any("solver m" in line and "derived" in line for line in house.lines)
    again = house.resume(first.run)
    assert again.folder == ending.folder and again.calls == 0, "the same derivation twice resumes itself"


def test_a_run_needs_none_of_the_files_it_was_made_from(house: House) -> None:
    (house.folder / "prompt.md").write_text("Attached. {input}")
    (house.folder / "score.py").write_text("def half(answer, task):\n    return 0.5\n")
    (house.folder / "data").mkdir()
    (house.folder / "data" / "note.txt").write_text("the note")
    (house.folder / "data" / "tasks.jsonl").write_text(
        '{"id": "a", "input": "What is 1 + 1?", "target": "2", "files": ["note.txt"]}\n'
        '{"id": "b", "input": "What is 2 + 2?", "target": "4", "files": ["note.txt"]}\n'
    )
    house.model.answer = lambda text, params: str(text)
    spec = house.changed(
        tasks="data/tasks.jsonl", solver={"model": "python/m", "prompt": "prompt.md"}, parse=None, score="score.py:half"
    )
    from onward import launch
    from onward.progress import Quiet

    first = launch.run(spec, house.folder, house.settings(max_new=1), Quiet(), models=house.known)
    for name in ("data", "prompt.md", "score.py"):
        path = house.folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    moved = house.folder / "moved" / first.run
    shutil.copytree(first.folder, moved)
    shutil.rmtree(house.store)
    ending = house.resume(str(moved))
    assert (ending.code, ending.done, ending.folder) == (0, 2, moved)
    assert "the note" in house.model.texts[1] and "Attached. What is 2" in house.model.texts[1]


# ---------------------------------------------------------------- again, on purpose


def test_redo_does_a_task_again_in_the_next_generation_and_leaves_the_others(house: House) -> None:
    house.run()
    ending = house.redo("exp/t2")
    assert (ending.code, ending.calls, house.model.calls) == (0, 1, 4)
    with house.opened() as run:
        assert {e.key.names[1] for e in run.entries("", ("result",)) if e.generation == 1} == {"t2"}


def test_redo_of_a_stage_voids_that_prefix_and_asks_with_a_new_seed(house: House) -> None:
    house.run()
    seeds = set(house.model.asked)
    ending = house.redo("exp/t2/generate")
    assert (ending.code, ending.calls) == (0, 1)
    assert len(set(house.model.asked) - seeds) == 1
    assert house.redo("exp/t2/score").calls == 0


def test_a_redone_stage_with_the_same_outcome_leaves_nothing_owed(house: House) -> None:
    house.run()
    house.redo("exp/t2/generate")
    with pytest.raises(NotThere):
        house.resume()
    assert house.run().calls == 0
    with house.opened() as run:
        assert completed_through(run) == "score"


def test_redo_of_what_is_not_there_is_refused(house: House) -> None:
    house.run()
    with pytest.raises(NotThere):
        house.redo("exp/t9")
    with pytest.raises(NotThere, match="generate, reduce, parse, score, judge"):
        house.redo("exp/t1/scores")
    assert house.model.calls == 3


def test_replay_always_executes_and_asks_nothing_for_pure_stages(house: House) -> None:
    (house.folder / "score.py").write_text(
        "import pathlib\n"
        "def mine(answer, task):\n"
        f"    with open({str(house.folder / 'count')!r}, 'a') as f: f.write('x')\n"
        "    return 1.0\n"
    )
    house.spec["score"] = "score.py:mine"
    house.run()
    for times in (2, 3):
        ending = house.replay("score")
        assert (ending.code, ending.calls) == (0, 0)
        assert (house.folder / "count").read_text() == "xxx" * times
    assert house.replay("parse").calls == 0 and len(folders(house)) == 1


def test_replay_with_a_changed_spec_is_a_derived_run_and_a_changed_answer_is_refused(house: House) -> None:
    parent = house.run()
    child = house.replay("score", house.changed(score="exact"))
    assert child.folder != parent.folder and (child.code, child.calls, child.done) == (0, 0, 3)
    with pytest.raises(UsageError, match="generate"):
        house.replay("score", house.changed(solver={"model": "python/m", "temperature": 1}))


def test_replay_with_a_changed_spec_executes_the_stage_and_all_below_it(house: House) -> None:
    (house.folder / "score.py").write_text(
        "def mine(answer, task):\n"
        f"    with open({str(house.folder / 'count')!r}, 'a') as f: f.write('x')\n"
        "    return 1.0\n"
    )
    house.spec["score"] = "score.py:mine"
    house.run()
    house.replay("score", house.changed(score=["score.py:mine", "exact"]))
    assert (house.folder / "count").read_text() == "x" * 6


def grows_wiser(text: str, params: Any) -> Any:
    return right(text, params) if "2 + 2" in text or "1 + 1" in text else "I say 0"


def test_rerun_failed_does_again_what_is_below_the_mark_and_reports_both_scores(house: House) -> None:
    house.model = Oracle(grows_wiser)
    house.run()
    house.model.answer = right
    ending = house.rerun_failed()
    assert (ending.code, ending.calls) == (0, 1) and house.model.texts[-1] == "What is 3 + 3?"
    with house.opened() as run:
        part = summary(run).solvers["m"]
        assert part.scores["numeric"].value == 1.0 and part.first_go["numeric"].value == pytest.approx(2 / 3)
        assert part.rerun == 1
    assert house.rerun_failed().calls == 0, "nothing is below the mark any more"


def test_rerun_failed_repeated_while_any_is_owed_only_finishes_them(house: House) -> None:
    house.model = Oracle(lambda *_: "wrong 0")
    house.run()
    assert house.rerun_failed(max_new=1).code == 3
    assert house.rerun_failed(max_new=1).code == 3
    ending = house.rerun_failed()
    assert (ending.code, house.model.calls) == (0, 6)
    assert house.rerun_failed().code == 0 and house.model.calls == 9


def test_retry_errors_takes_over_all_but_errors_and_does_these(house: House) -> None:
    from onward.errors import CallTransient

    broken = CallTransient("HTTP 500", provider="python", status=500)
    house.model = Oracle(lambda text, params: broken if "3 + 3" in text else grows_wiser(text, params))
    house.spec["limits"] = {"attempts": 1}
    parent = house.run()
    assert (parent.code, parent.done) == (3, 2) and "HTTP 500" in str(parent.reasons)
    with house.opened() as run:
        before = rows(run)
    house.model.answer = right
    child = house.retry_errors(parent.run)
    assert child.folder != parent.folder and (child.code, child.calls, child.done) == (0, 1, 3)
    with house.opened(parent.folder) as run:
        assert rows(run) == before
    assert house.retry_errors(parent.run).folder == child.folder, "the same derivation twice resumes itself"


def test_resume_twice_changes_nothing(house: House) -> None:
    house.run(max_new=1)
    house.resume()
    with house.opened() as run:
        before, found = rows(run), seen(run)
    assert house.resume("latest").calls == 0
    with house.opened() as run:
        assert (rows(run), seen(run)) == (before, found)


def test_a_run_is_named_by_name_prefix_id_folder_or_latest(house: House) -> None:
    ending = house.run()
    house.run(house.changed(name="other", seed=1))
    with house.opened(ending.run) as run:
        names = [ending.run, "exp", run.id, run.id[:8], str(ending.folder)]
    assert {find(house.store, name) for name in names} == {ending.folder}
    with pytest.raises(NotThere):
        find(house.store, "nothing")
    with pytest.raises(NotThere):
        find(Path("/nowhere"), "latest")
