"""What a run shows, by real runs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.lab import Lab, saying

from onward import views
from onward.errors import NotThere
from onward.journal import Journal
from onward.keys import Key
from onward.report.pages import errors_page, lineage_page, run_page, runs_table, wrong_page
from onward.report.parts import comparison_page, exchange_page, rescored_lines, step_page, task_page, trial_part
from onward.report.plain import as_json
from onward.runs import Run
from onward.testing import Crash


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


# ---------------------------------------------------------------- the run as a whole


def test_errors_and_missing_are_counted_beside_the_mean_and_a_failure_is_zero(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 6)
    lab.says = saying(t2="no idea", t3="It is 4.", t4="down")
    ending = lab.run(max_new=5)
    found = views.summary(lab.open(ending.run))
    part = found.solvers["echo"]
    assert (part.ok, part.failed, part.errors, part.missing) == (3, 1, 1, 1)
    assert part.scores["numeric"].n == 4 and part.scores["numeric"].value == 0.5
    assert (found.done, found.owed, found.planned) == (4, 2, 6)
    assert part.stages == {"generate": 4, "parse": 4, "score": 4}
    line = views.headline(found, None)
    assert line.startswith(f"{ending.run}: interrupted, 4 of 6 done, 2 owed (1 error), $0.00 spent")


def test_a_task_without_a_known_answer_is_done_without_a_score(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 4, open_ended=1)
    found = views.summary(lab.open(lab.run().run))
    part = found.solvers["echo"]
    assert (part.ok, part.unscored, part.scores["numeric"].n, found.owed) == (4, 1, 3, 0)
    assert views.state(found, None) == "complete"


def test_a_run_up_to_a_stage_is_complete_through_that_stage(lab: Lab) -> None:
    ending = lab.run(until="generate")
    found = views.summary(lab.open(ending.run))
    assert found.completed_through == "generate"
    assert views.state(found, None) == "complete through generate"


def test_first_go_and_after_reruns_are_two_numbers(lab: Lab) -> None:
    lab.says = saying(t1="It is 9.", t2="no idea")
    name = lab.run().run
    lab.says = saying()
    lab.rerun_failed(name)
    run = lab.open(name)
    found = views.summary(run)
    part = found.solvers["echo"]
    assert part.rerun == 2
    assert (part.first_go["numeric"].value, part.scores["numeric"].value) == (0.5, 1.0)
    assert part.first_go["numeric"].n == 4
    assert "50.0 % first go · 100.0 % after 2 reruns" in run_page(run, found, None)


def test_scores_of_a_replay_are_still_the_first_go(lab: Lab) -> None:
    name = lab.run().run
    lab.replay(name, "score")
    part = views.summary(lab.open(name)).solvers["echo"]
    assert part.rerun == 0 and part.first_go == {}


def test_a_derived_run_does_not_call_a_rerun_of_its_parent_a_first_go(lab: Lab) -> None:
    lab.says = saying(t1="It is 9.")
    name = lab.run().run
    lab.says = saying()
    lab.rerun_failed(name)
    part = views.summary(lab.open(lab.run(lab.spec(score="exact")).run)).solvers["echo"]
    assert (part.rerun, part.first_go) == (1, {})


def test_a_redo_of_what_was_never_done_is_a_first_go(lab: Lab) -> None:
    name = lab.run(max_new=1).run
    lab.redo(f"{name}/set/t4")
    part = views.summary(lab.open(name)).solvers["echo"]
    assert (part.rerun, part.first_go) == (0, {})


def test_times_are_those_of_this_run_and_not_of_what_it_took_over(lab: Lab) -> None:
    parent = lab.open(lab.run().run)
    child = lab.open(lab.run(lab.spec(score="exact")).run)
    for before, after in zip(views.trials(parent), views.trials(child), strict=True):
        assert after.started > before.ended


def test_what_was_made_from_an_answer_that_is_gone_does_not_stand(lab: Lab) -> None:
    name = lab.run().run
    lab.says = saying(t1="It is 7.")
    lab.redo(f"{name}/set/t1/generate", until="generate")
    found = views.summary(lab.open(name))
    assert (found.done, found.owed) == (3, 1)
    assert views.trial(lab.open(name), Key.of("echo", "set/t1", "1")).outcome != "timeout"


def test_what_was_made_from_an_equal_answer_stands(lab: Lab) -> None:
    name = lab.run().run
    lab.redo(f"{name}/set/t1/generate", until="generate")
    assert views.summary(lab.open(name)).owed == 0


class _Counting:
    """A journal that counts how often it is asked."""

    def __init__(self, inner: Journal) -> None:
        self.inner, self.asked = inner, Counter[str]()

    def __getattr__(self, name: str) -> Any:
        self.asked[name] += 1
        return getattr(self.inner, name)


def _questions(run: Run, view: Any) -> Counter[str]:
    counting = _Counting(run.journal)
    found = view(replace(run, journal=counting))
    if isinstance(found, Iterator):
        list(found)
    return Counter({name: number for name, number in counting.asked.items() if name != "blob"})


@pytest.mark.parametrize(
    "view", [views.summary, views.trials, views.wrong, views.troubles, views.in_doubt, views.sides]
)
def test_more_tasks_are_not_more_questions_to_the_journal(tmp_path: Path, view: Any) -> None:
    counts = []
    for size in (3, 30):
        (folder := tmp_path / str(size)).mkdir()
        lab = Lab(folder, size)
        counts.append(_questions(lab.open(lab.run().run), view))
    assert counts[0] == counts[1]


# ---------------------------------------------------------------- wrong, troubled, in doubt


def test_the_book_lists_what_is_wrong_by_attempts_and_forgets_what_is_right(lab: Lab) -> None:
    lab.says = saying(t1="It is 9.", t2="It is 8.", t3="no idea")
    name = lab.run().run
    lab.says = saying(t2="It is 7.")
    lab.rerun_failed(name)
    found = views.wrong(lab.open(name))
    assert [(one.task, one.attempts, one.answer, one.expected, one.level) for one in found] == [
        ("set/t2", 2, 7, "2", 2)
    ]
    assert found[0].question == "what is 2"
    assert found[0].first_seen < found[0].last_seen
    assert "1 wrong (level 2: 1)" in wrong_page(found, 1)


def test_a_failed_answer_is_in_the_book_and_an_error_is_not(lab: Lab) -> None:
    lab.says = saying(t1="no idea", t2="down")
    [one] = views.wrong(lab.open(lab.run().run))
    assert (one.task, one.answer, one.attempts) == ("set/t1", None, 1)
    assert "no number" in one.reason


def test_scoring_again_is_no_further_attempt(lab: Lab) -> None:
    lab.says = saying(t1="It is 9.")
    name = lab.run().run
    lab.replay(name, "score")
    [one] = views.wrong(lab.open(name))
    assert one.attempts == 1


def test_troubles_are_grouped_by_reason_errors_first(lab: Lab) -> None:
    lab.says = saying(t1="no idea", t2="down", t4="down")
    groups, repaired = views.troubles(lab.open(lab.run().run))
    assert [(group.outcome, len(group.trials)) for group in groups] == [("error", 2), ("failed", 1)]
    assert "no route to host" in groups[0].reason and repaired == 0
    assert {attempt.key.names[1] for attempt in groups[0].attempts} == {"set/t2", "set/t4"}
    assert "2 × " in errors_page(groups, repaired)


def test_a_repaired_error_leaves_no_scar_and_its_evidence_stays(lab: Lab) -> None:
    lab.says = saying(t2="down")
    name = lab.run().run
    lab.says = saying()
    lab.resume(name)
    run = lab.open(name)
    assert views.summary(run).errors == 0
    assert views.troubles(run) == ([], 1)
    assert any(entry.outcome == "error" for entry in run.entries())


def test_a_scorer_that_breaks_is_the_trouble_and_not_the_call_that_was_tried_again(lab: Lab) -> None:
    said = iter(["down"])

    def once_down(question: str) -> str:
        return saying(t1=next(said, "It is 1."))(question)

    lab.says = once_down
    scorer = lab.folder / "mine.py"
    scorer.write_text("def mine(answer, task):\n    raise RuntimeError('broken')\n", encoding="utf-8")
    limits = {"attempts": 2, "concurrency": 1}
    groups, _ = views.troubles(lab.open(lab.run(lab.spec(score="mine.py:mine", limits=limits)).run))
    assert [(group.kind, group.reason, len(group.trials)) for group in groups] == [("RuntimeError", "broken", 4)]
    assert "mine.py" in groups[0].trace


def _dying(question: str) -> str:
    raise Crash


def test_a_call_that_left_and_never_came_back_is_in_doubt_until_it_is_asked_again(lab: Lab) -> None:
    lab.says = _dying
    with pytest.raises(Crash):
        lab.run()
    [folder] = lab.store.iterdir()
    [doubt] = views.in_doubt(lab.open(folder.name))
    assert doubt.model == "python/echo" and not doubt.again
    assert views.summary(lab.open(folder.name)).doubt == 1
    lab.says = saying()
    lab.resume(folder.name)
    [doubt] = views.in_doubt(lab.open(folder.name))
    assert doubt.again


# ---------------------------------------------------------------- trials and parts


def test_one_trial_and_all_trials_say_the_same(lab: Lab) -> None:
    lab.says = saying(t1="no idea", t2="down", t3="It is 9.")
    run = lab.open(lab.run().run)
    assert [views.trial(run, one.key) for one in views.trials(run)] == list(views.trials(run))
    assert [one.outcome for one in views.trials(run)] == ["failed", "error", "ok", "ok"]
    assert [one.answer for one in views.trials(run)] == [None, None, 9, 4]


@pytest.mark.parametrize("form", ["set/t2", "set%2Ft2", "echo/set/t2", "echo/set%2Ft2"])
def test_a_task_whose_id_has_slashes_is_found_in_each_form(lab: Lab, form: str) -> None:
    run = lab.open(lab.run().run)
    assert views.within(run, form).task == "set/t2"
    place = views.within(run, f"{form}/score/numeric")
    assert (place.task, place.stage) == ("set/t2", "score/numeric")


def test_an_unknown_task_or_stage_is_not_there(lab: Lab) -> None:
    run = lab.open(lab.run().run)
    with pytest.raises(NotThere, match="no task"):
        views.within(run, "set/t9")
    with pytest.raises(NotThere, match="no stage"):
        views.within(run, "set/t1/scores")
    with pytest.raises(NotThere, match="no judge stage"):
        views.within(run, "set/t1/judge")


def test_a_run_is_located_by_name_prefix_folder_and_latest(lab: Lab) -> None:
    name = lab.run().run
    folder = lab.store / name
    for address in (name, name[:-2], "latest", str(folder)):
        assert views.locate(lab.store, f"{address}/set/t1") == (folder, "set/t1")
        assert views.locate(lab.store, address) == (folder, "")


def test_steps_show_values_attempts_and_what_they_depend_on(lab: Lab) -> None:
    lab.says = saying(t1="down")
    name = lab.run().run
    lab.says = saying()
    lab.resume(name)
    run = lab.open(name)
    generate, parse, score = views.steps(run, Key.of("echo", "set/t1", "1"))
    assert (generate.attempts, generate.outcome, generate.value) == (2, "ok", {"output": "It is 1."})
    assert (parse.value, score.value["value"]) == (1, 1.0)
    assert {"model", "prompt", "task", "seed"} <= set(generate.parts)
    told = trial_part(views.trial(run, Key.of("echo", "set/t1", "1")), [generate, parse, score])
    assert "score/numeric" in told
    assert "fingerprint" in step_page(generate, views.exchanges(run, generate.key))


def test_an_exchange_is_what_was_asked_and_what_was_said(lab: Lab) -> None:
    run = lab.open(lab.run(lab.spec(solver={"model": "python/echo", "prompt": "Be brief."})).run)
    key = Key.of("echo", "set/t1", "1", "generate", "0")
    [one] = views.exchanges(run, key)
    for name in (one.key.name, one.key.name[:8], "1"):
        assert views.exchange(run, key, name) == one
    text = exchange_page(one)
    assert "── system\nBe brief." in text and "── user\nwhat is 1" in text and "── answer\nIt is 1." in text
    with pytest.raises(NotThere, match="there: llm:"):
        views.exchange(run, key, "nothing")


@pytest.mark.parametrize(
    "request_",
    [
        {
            "messages": [
                {"role": "system", "content": "S"},
                {"role": "user", "content": [{"type": "text", "text": "U"}]},
            ]
        },
        {"instructions": "S", "input": [{"role": "user", "content": [{"type": "input_text", "text": "U"}]}]},
        {"system": [{"type": "text", "text": "S"}], "messages": [{"role": "user", "content": "U"}]},
        {"systemInstruction": {"parts": [{"text": "S"}]}, "contents": [{"role": "user", "parts": [{"text": "U"}]}]},
    ],
)
def test_requests_of_every_wire_format_read_the_same(request_: dict[str, Any]) -> None:
    assert views.request_messages(request_) == [("system", "S"), ("user", "U")]


# ---------------------------------------------------------------- lineage


def test_a_derived_run_says_what_it_took_over_and_what_changed(lab: Lab) -> None:
    parent = lab.run().run
    child = lab.run(lab.spec(score="exact")).run
    run, older = lab.open(child), lab.open(parent)
    found = views.lineage(run, {older.id: older})
    [one] = found.parents
    assert one.name == parent and one.took["generate"] == 4 and "score" not in one.took
    assert one.changes == ["score/exact is new", "score/numeric is gone"]
    assert "took over from" in lineage_page(found)


def test_a_parent_that_is_gone_is_named_and_not_needed(lab: Lab) -> None:
    parent = lab.run().run
    id_ = lab.open(parent).id
    found = views.lineage(lab.open(lab.run(lab.spec(score="exact")).run), {})
    assert [(one.id, one.name, one.changes) for one in found.parents] == [(id_, "", None)]


def test_voids_are_told_with_their_reason(lab: Lab) -> None:
    name = lab.run().run
    lab.redo(f"{name}/set/t1")
    [void] = views.lineage(lab.open(name), {}).voids
    assert void.why == "redo set/t1" and void.trials == 1 and void.example == "echo/set%2Ft1/1"


def test_why_a_step_ran_again_is_told_by_what_changed(lab: Lab) -> None:
    name = lab.run().run
    lab.says = saying(t1="It is 3.")
    lab.redo(f"{name}/set/t1")
    generates = [one for one in views.step_why(lab.open(name), Key.of("echo", "set/t1", "1")) if "generate" in one.key]
    assert [(one.generation, one.counts, one.changed) for one in generates] == [(0, False, []), (1, True, ["seed"])]


# ---------------------------------------------------------------- against each other


def test_two_solvers_are_compared_on_the_tasks_of_both(lab: Lab) -> None:
    run = lab.open(lab.run(lab.spec(solver=[{"model": "python/echo"}, {"model": "python/other"}])).run)
    [(a, b)] = views.pairs_of(views.sides(run))
    found = views.compare(a, b)
    assert (found.n, found.a_mean, found.b_mean, found.difference, found.worse) == (4, 1.0, 0.0, -1.0, 4)
    assert found.p == pytest.approx(0.125)
    assert [flip.task for flip in found.flips] == ["set/t1", "set/t2", "set/t3", "set/t4"]
    assert "set/t3" in comparison_page([found], flips=True, first_go=True)


def test_a_comparison_uses_the_first_go_unless_told_otherwise(lab: Lab) -> None:
    lab.says = saying(t1="It is 9.", t2="no idea")
    name = lab.run().run
    lab.says = saying()
    lab.rerun_failed(name)
    run = lab.open(name)
    assert sum(views.sides(run)["echo"].scores["numeric"].values()) == 2
    assert sum(views.sides(run, after_reruns=True)["echo"].scores["numeric"].values()) == 4


def test_sides_without_a_common_score_are_not_compared(lab: Lab) -> None:
    one, two = (views.sides(lab.open(lab.run(lab.spec(score=name)).run))["echo"] for name in ("numeric", "exact"))
    with pytest.raises(NotThere, match="no score in common"):
        views.compare(one, two)


def test_a_replay_in_the_same_run_shows_old_against_new(lab: Lab) -> None:
    scorer = lab.folder / "mine.py"
    scorer.write_text("def mine(answer, task):\n    return float(answer == int(task.target))\n", encoding="utf-8")
    lab.says = saying(t1="It is 9.")
    name = lab.run(lab.spec(score="mine.py:mine")).run
    lab.replay(name, "score")
    [found] = views.rescored(lab.open(name))
    assert (found.n, found.calls, found.old, found.new, found.changed) == (4, 0, 0.75, 0.75, 0)


def test_a_derived_replay_shows_its_parent_against_itself(lab: Lab) -> None:
    lab.says = saying(t1="It is 1, or 2.")
    parent = lab.run().run
    child = lab.replay(parent, "parse", lab.spec(parse={"regex": r"(\d+)"})).run
    assert child != parent
    found = views.rescored(lab.open(child), lab.open(parent))
    assert rescored_lines(found) == ["4 re-scored, 0 calls, 75.0 → 100.0 %, 1 changed"]


# ---------------------------------------------------------------- forms


def test_every_view_is_json(lab: Lab) -> None:
    lab.says = saying(t1="no idea", t2="down")
    run = lab.open(lab.run().run)
    key = Key.of("echo", "set/t3", "1")
    for view in (
        views.summary(run), list(views.trials(run)), views.wrong(run), views.troubles(run), views.in_doubt(run),
        views.lineage(run, {}), views.steps(run, key), views.step_why(run, key), views.sides(run),
    ):  # fmt: skip
        json.loads(as_json(view))


def test_a_damaged_run_is_a_line_among_the_others(lab: Lab) -> None:
    found = views.summary(lab.open(lab.run().run))
    text = runs_table([("lab-1", found, None), ("lab-2", "it is empty", None)], 0.0)
    assert "complete" in text and "damaged: it is empty" in text


def test_the_task_is_shown_with_its_fields(lab: Lab) -> None:
    run = lab.open(lab.run().run)
    task = next(task for _, task in run.tasks(run.plan.chunks[0]))
    assert "expected  1" in task_page(task) and "level" in task_page(task)
    long = task_page(replace(task, metadata={"must_time_out": True}))
    assert "expected       1\n" in long and "must_time_out  true" in long


def test_following_gives_each_result_once(lab: Lab) -> None:
    run = lab.open(lab.run(max_new=2).run)
    first, seen = views.follow(run, 0)
    assert {entry.key.names[1] for entry in first} == {"set/t1", "set/t2"}
    assert views.follow(run, seen) == ([], seen)
    lab.resume(run.name)
    then, _ = views.follow(run, seen)
    assert {entry.key.names[1] for entry in then} == {"set/t3", "set/t4"}
