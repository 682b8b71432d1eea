"""Answers made elsewhere, out of files of any shape, and what scoring them costs: nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.lab import Lab, saying

from onward import launch, views
from onward.errors import NotThere, UsageError
from onward.experiment import Spec
from onward.formats import checkpoint, lines
from onward.formats.answers import Fields, Recorded, read_answers
from onward.importing import Imported, import_outputs
from onward.runs import Run, open_run


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def outputs(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"set/t{place}", "output": f"It is {n}."} for place, n in enumerate(numbers, 1)]


def bring_in(lab: Lab, path: Path, fields: Fields | None = None, spec: Spec | None = None) -> Imported:
    return import_outputs(spec or lab.spec(solver=None), lab.folder, path, lab.settings(), fields)


def scored(lab: Lab, name: str) -> Run:
    lab.resume(name)
    return lab.open(name)


# ---------------------------------------------------------------- what becomes of them


def test_imported_answers_are_scored_at_no_cost(lab: Lab) -> None:
    found = bring_in(lab, lab.write("answers.jsonl", outputs(1, 2, 9, 4)))
    assert (found.created, found.answers, found.missing, found.unknown) == (True, {"recorded": 4}, {"recorded": 0}, 0)
    run = scored(lab, found.run)
    told = views.summary(run)
    assert told.solvers["recorded"].scores["numeric"].value == 0.75
    assert (told.calls, told.usd, lab.asked) == (0, 0.0, [])


def test_an_imported_answer_says_where_it_comes_from(lab: Lab) -> None:
    found = bring_in(lab, lab.write("answers.jsonl", outputs(1, 2, 3, 4)))
    [entry, *_] = lab.open(found.run).entries("", ("result",))
    assert entry.data["origin"]["import"] == "answers.jsonl" and len(entry.data["origin"]["digest"]) == 32
    assert entry.usd is None and entry.reused
    assert views.lineage(lab.open(found.run), {}).imports == {"answers.jsonl": 4}


def test_importing_twice_changes_nothing(lab: Lab) -> None:
    path = lab.write("answers.jsonl", outputs(1, 2, 3, 4))
    first = bring_in(lab, path)
    before = scored(lab, first.run).journal.head()
    second = bring_in(lab, path)
    assert (second.run, second.created) == (first.run, False)
    assert lab.open(first.run).journal.head() == before
    assert len(list(lab.store.iterdir())) == 1


def test_other_answers_never_get_into_a_run(lab: Lab) -> None:
    first = bring_in(lab, lab.write("answers.jsonl", outputs(1, 2, 3, 4)))
    second = bring_in(lab, lab.write("answers.jsonl", outputs(1, 2, 3, 5)))
    assert first.run != second.run


def test_the_order_and_form_of_the_file_make_no_other_run(lab: Lab) -> None:
    first = bring_in(lab, lab.write("answers.jsonl", outputs(1, 2, 3, 4)))
    turned = [{"task_id": row["id"], "answer": row["output"], "more": 1} for row in reversed(outputs(1, 2, 3, 4))]
    assert bring_in(lab, lab.write("turned.jsonl", turned)).run == first.run


def test_tasks_without_an_answer_stay_owed_and_are_told(lab: Lab) -> None:
    rows = [*outputs(1, 2), {"id": "set/t3", "output": None}, {"id": "elsewhere", "output": "It is 7."}]
    found = bring_in(lab, lab.write("answers.jsonl", rows))
    assert (found.answers, found.missing, found.empty) == ({"recorded": 2}, {"recorded": 2}, {"recorded": 1})
    assert (found.unknown, found.unknown_ids) == (1, ["elsewhere"])
    ending = lab.resume(found.run)
    assert (ending.code, ending.done, ending.total) == (3, 2, 4)
    part = views.summary(lab.open(found.run)).solvers["recorded"]
    assert (part.ok, part.missing, part.errors) == (2, 2, 0)
    assert part.scores["numeric"].n == 2


def test_an_id_that_comes_twice_is_refused_and_nothing_is_made(lab: Lab) -> None:
    path = lab.write("answers.jsonl", [*outputs(1, 2), {"id": "set/t1", "output": "It is 3."}])
    with pytest.raises(UsageError, match=r"answers\.jsonl:3: .*also in .*answers\.jsonl:1"):
        bring_in(lab, path)
    assert not lab.store.exists()


def test_a_file_about_other_tasks_is_refused(lab: Lab) -> None:
    with pytest.raises(NotThere, match="none of its tasks"):
        bring_in(lab, lab.write("answers.jsonl", [{"id": "x", "output": "1"}]))
    assert not lab.store.exists()


def test_several_solvers_come_out_of_several_fields(lab: Lab) -> None:
    rows = [{"id": f"set/t{n}", "a": {"said": f"It is {n}."}, "b.c": "It is 1."} for n in range(1, 5)]
    found = bring_in(lab, lab.write("both.jsonl", rows), Fields(outputs={"one": "a.said", "two": "b.c"}))
    told = views.summary(scored(lab, found.run))
    assert {name: part.scores["numeric"].value for name, part in told.solvers.items()} == {"one": 1.0, "two": 0.25}


def test_rows_without_ids_are_told_by_their_question(lab: Lab) -> None:
    rows = [{"input": f"what is {n}", "output": f"It is {n}."} for n in (4, 1, 3)]
    assert bring_in(lab, lab.write("answers.jsonl", rows)).answers == {"recorded": 3}
    with pytest.raises(UsageError, match="no id, and no question"):
        bring_in(lab, lab.write("answers.jsonl", [{"output": "It is 1."}]))


def test_a_question_of_two_tasks_tells_neither(lab: Lab) -> None:
    lab.write("tasks.jsonl", [{"id": name, "input": "what is 1", "target": "1"} for name in ("a", "b")])
    with pytest.raises(UsageError, match="that of 2 tasks: a, b"):
        bring_in(lab, lab.write("answers.jsonl", [{"input": "what is 1", "output": "1"}]))


def test_long_answers_come_back_as_they_were(lab: Lab) -> None:
    said = "long " * 5000 + "It is 1."
    found = bring_in(lab, lab.write("answers.jsonl", [{"id": "set/t1", "output": said}]))
    assert next(views.trials(lab.open(found.run))).output == said


def test_a_changed_scorer_over_imported_answers_is_a_derived_run_without_calls(lab: Lab) -> None:
    found = bring_in(lab, lab.write("answers.jsonl", outputs(1, 2, 9, 4)))
    lab.resume(found.run)
    ending = lab.replay(found.run, "score", lab.spec(solver=None, score={"numeric": {"absolute": 100}}))
    assert ending.run != found.run and ending.calls == 0
    [told] = views.rescored(lab.open(ending.run), lab.open(found.run))
    assert (told.n, told.calls, told.old, told.new, told.changed) == (4, 0, 0.75, 1.0, 1)


def test_several_samples_cannot_be_imported(lab: Lab) -> None:
    with pytest.raises(UsageError, match="set samples to 1"):
        bring_in(lab, lab.write("answers.jsonl", outputs(1)), spec=lab.spec(solver=None, samples=3))


# ---------------------------------------------------------------- round trips


def test_a_checkpoint_can_be_imported_again(lab: Lab) -> None:
    lab.says = saying(t2="It is 9.", t3="down")
    run = lab.open(lab.run().run)
    path = lab.folder / "latest.json"
    path.write_text(json.dumps(checkpoint.document(run), indent=2), encoding="utf-8")
    found = bring_in(lab, path)
    assert (found.answers, found.missing) == ({"echo": 3}, {"echo": 1})
    told = views.summary(scored(lab, found.run)).solvers["echo"]
    assert told.scores["numeric"] == views.summary(run).solvers["echo"].scores["numeric"]


def test_our_own_results_can_be_imported_again_with_trials(lab: Lab) -> None:
    spec = lab.spec(solver=[{"model": "python/echo"}, {"model": "python/other"}], trials=2)
    run = lab.open(lab.run(spec).run)
    path = lab.folder / "results.jsonl"
    path.write_text("".join(lines.results(run)), encoding="utf-8")
    found = bring_in(lab, path, spec=lab.spec(solver=None, trials=2))
    assert (found.answers, found.missing) == ({"echo": 8, "other": 8}, {"echo": 0, "other": 0})


def test_the_seeds_own_checkpoint_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gaia-validation-latest.json"
    rows = [
        {"taskId": "a", "answer": "4", "correct": True},
        {"taskId": "b", "answer": "", "error": "timeout", "correct": False},
    ]
    path.write_text(json.dumps({"metadata": {"model": "gpt-4o"}, "results": rows}), encoding="utf-8")
    assert [(one.solver, one.id, one.output) for one in read_answers(path, Fields())] == [("gpt-4o", "a", "4")]


# ---------------------------------------------------------------- files as they are


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it is empty"), ("not json\n", "file:1: not JSON"),
        ('{"id": "a", "output": "1"}\n[1]\n', "file:2: expected an object"),
        ('{"id": true, "output": "1"}\n', "an id is text or an integer"),
        ('{"id": "a", "output": "\\ud800"}\n', "cannot be recorded"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "file"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=said):
        list(read_answers(path, Fields()))


def test_a_field_that_was_named_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text('{"id": "a", "output": "1"}\n', encoding="utf-8")
    with pytest.raises(UsageError, match='the row has no "key"'):
        list(read_answers(path, Fields(id="key")))
    assert list(read_answers(path, Fields(outputs={"m": "gone"}))) == [Recorded(f"{path}:1", "m", "a", None, None)]


# ---------------------------------------------------------------- GSM8K


def test_gsm8k_recorded_answers_score_exactly_and_a_changed_scorer_costs_no_call(
    tmp_path: Path, shared_data: Path
) -> None:
    right = {"6b_finetuning": 286, "6b_verification": 515, "175b_finetuning": 458, "175b_verification": 742}
    path = shared_data / "gsm8k" / "example_model_solutions.jsonl"
    tasks = {"path": str(path), "input": "question", "target": "ground_truth", "metadata": []}
    spec = Spec(name="gsm8k", tasks=tasks, parse="last_number", score="numeric")
    lab = Lab(tmp_path)
    found = import_outputs(
        spec, tmp_path, path, lab.settings(), Fields(outputs={name: f"{name}.solution" for name in right})
    )
    assert found.answers == dict.fromkeys(right, 1319)
    ending = launch.resume(found.run, lab.settings(), lab.watch)
    assert (ending.code, ending.done, ending.calls) == (0, 4 * 1319, 0)
    told = views.summary(open_run(ending.folder))
    assert {name: round(part.scores["numeric"].value * 1319, 6) for name, part in told.solvers.items()} == right
    assert {name: part.scores["numeric"].n for name, part in told.solvers.items()} == dict.fromkeys(right, 1319)

    changed = Spec(name="gsm8k", parse="last_number", score={"numeric": {"relative": 0.1}})
    again = launch.replay(found.run, "score", lab.settings(), lab.watch, spec=changed, folder=tmp_path)
    assert again.run != found.run and (again.code, again.calls, again.done) == (0, 0, 4 * 1319)
    new = views.rescored(open_run(again.folder), open_run(ending.folder))
    assert {one.solver: round(one.old * one.n) for one in new} == right
    assert all(one.n == 1319 and one.calls == 0 and one.changed > 0 and one.new > one.old for one in new)
