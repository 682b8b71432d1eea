"""A run in other people's forms."""

from __future__ import annotations

import csv
import io
import json
import stat
from pathlib import Path

import pytest
from tests.lab import Lab, saying

from onward import views
from onward.errors import UsageError
from onward.formats import checkpoint, files, lines
from onward.runs import open_run


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_the_checkpoint_has_the_seeds_form_and_an_error_is_no_result(lab: Lab) -> None:
    lab.says = saying(t2="It is 9.", t3="down")
    document = checkpoint.document(lab.open(lab.run().run))
    metadata = document["metadata"]
    assert {"dataset", "timestamp", "total", "correct", "accuracy", "incremental"} <= set(metadata)
    assert (metadata["total"], metadata["correct"], metadata["accuracy"], metadata["incremental"]) == (
        3,
        2,
        66.67,
        True,
    )
    assert (metadata["errors"], metadata["planned"]) == (1, 4)
    assert [(row["taskId"], row["correct"]) for row in document["results"]] == [
        ("set/t1", True), ("set/t2", False), ("set/t4", True),
    ]  # fmt: skip
    first = document["results"][0]
    assert (first["question"], first["answer"], first["expectedAnswer"], first["level"]) == ("what is 1", 1, "1", 1)
    json.dumps(document, allow_nan=False)


def test_a_complete_checkpoint_is_not_incremental(lab: Lab) -> None:
    assert checkpoint.document(lab.open(lab.run().run))["metadata"]["incremental"] is False


def test_a_task_without_a_known_answer_is_neither_right_nor_wrong(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 3, open_ended=1)
    document = checkpoint.document(lab.open(lab.run().run))
    assert document["results"][2]["correct"] is None
    assert (document["metadata"]["total"], document["metadata"]["accuracy"]) == (3, 100.0)


def test_a_submission_has_a_line_for_every_task(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 3, open_ended=3)
    lab.says = saying(t2="no idea")
    rows = [json.loads(line) for line in lines.submission(lab.open(lab.run(lab.spec(parse="last_number")).run))]
    assert rows == [
        {"task_id": "set/t1", "model_answer": "1"}, {"task_id": "set/t2", "model_answer": ""},
        {"task_id": "set/t3", "model_answer": "3"},
    ]  # fmt: skip


def test_a_submission_is_of_one_solver(lab: Lab) -> None:
    run = lab.open(lab.run(lab.spec(solver=[{"model": "python/echo"}, {"model": "python/other"}])).run)
    with pytest.raises(UsageError, match="say --solver"):
        list(lines.submission(run))
    assert {json.loads(line)["model_answer"] for line in lines.submission(run, "other")} == {"0"}


def test_every_entry_is_an_event_in_order(lab: Lab) -> None:
    lab.says = saying(t1="no idea", t2="down")
    name = lab.run().run
    lab.redo(f"{name}/set/t1")
    run = lab.open(name)
    rows = [json.loads(line) for line in lines.events(run)]
    assert [row["seq"] for row in rows] == list(range(1, run.journal.head().seq + 1))
    assert all({"type", "ts", "run_id", "key"} <= set(row) for row in rows)
    kinds = {row["type"] for row in rows}
    assert {"plan", "step.intended", "step.completed", "step.failed", "step.error", "void"} <= kinds


def test_results_have_a_line_for_each_trial(lab: Lab) -> None:
    lab.says = saying(t2="down")
    rows = [json.loads(line) for line in lines.results(lab.open(lab.run(lab.spec(trials=2)).run))]
    assert [(row["task"], row["trial"]) for row in rows][:3] == [("set/t1", 1), ("set/t1", 2), ("set/t2", 1)]
    assert rows[2]["outcome"] == "error" and "no route" in rows[2]["reason"]
    assert rows[0]["scores"]["numeric"]["value"] == 1.0


def test_csv_has_a_column_for_each_score(lab: Lab) -> None:
    text = "".join(lines.csv_rows(lab.open(lab.run(lab.spec(score=["numeric", "exact"])).run)))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["numeric"] for row in rows] == ["1.0"] * 4 and "exact" in rows[0]


# ---------------------------------------------------------------- how they are written


def test_a_file_is_written_whole_and_not_over_another(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    files.write_text(path, ["a", "b"])
    with pytest.raises(UsageError, match="--force"):
        files.write_text(path, ["c"])
    assert path.read_text() == "ab"

    def broken() -> object:
        yield "c"
        raise ValueError("broken off")

    with pytest.raises(ValueError, match="broken off"):
        files.write_text(path, broken(), force=True)
    assert path.read_text() == "ab" and [one.name for one in tmp_path.iterdir()] == ["out.csv"]


def test_keys_are_never_written() -> None:
    keys = {"OPENAI_API_KEY": "sk-abcdefgh123", "SHORT_KEY": "abc"}
    assert list(files.redacted(["say sk-abcdefgh123, abc"], keys)) == ["say [OPENAI_API_KEY], abc"]


def test_a_copy_is_private_whole_and_free(lab: Lab) -> None:
    name = lab.run(max_new=2).run
    run = lab.open(name)
    target = lab.folder / "elsewhere" / "copy"
    target.parent.mkdir()
    assert files.write_folder(lab.store / name, target) == run.journal.head().seq
    assert stat.S_IMODE(target.stat().st_mode) == 0o700
    copy = open_run(target)
    assert copy.journal.holder() is None and list(copy.journal.check()) == []
    assert views.summary(copy).solvers == views.summary(run).solvers
    with pytest.raises(UsageError, match="is there already"):
        files.write_folder(lab.store / name, target)


def test_a_copy_of_a_run_that_is_held_can_go_on_by_itself(lab: Lab) -> None:
    name = lab.run(max_new=2).run
    copies = []

    def copying(question: str) -> str:
        if not copies:
            copies.append(files.write_folder(lab.store / name, lab.folder / "copy"))
        return saying()(question)

    lab.says = copying
    lab.resume(name)
    copy = open_run(lab.folder / "copy")
    assert copies and copy.journal.holder() is None and copy.journal.poll() == []
    assert views.summary(copy).done == 2
    copy.close()
    assert lab.resume(str(lab.folder / "copy")).done == 4


def test_a_copy_replaces_an_older_one_only_when_told(lab: Lab) -> None:
    name = lab.run(max_new=1).run
    target = lab.folder / "copy"
    files.write_folder(lab.store / name, target)
    lab.resume(name)
    files.write_folder(lab.store / name, target, force=True)
    assert views.summary(open_run(target)).done == 4
    assert sorted(one.name for one in lab.folder.iterdir()) == ["copy", "runs", "tasks.jsonl"]
