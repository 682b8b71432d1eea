"""GAIA's layout, and the rules of its categories. The questions here are ours: the data set is not passed on."""

import json
from pathlib import Path
from typing import Any

import pytest

from onward.errors import UsageError
from onward.tasks import Selection, Task, open_source
from onward.tasks.gaia import GaiaSource, categories

ROW = {
    "task_id": "t-1",
    "Question": "What is in the file?",
    "Level": 1,
    "Final answer": "42",
    "file_name": "notes.txt",
    "Annotator Metadata": {"Steps": "read it", "Number of tools": "1"},
}


def laid_out(folder: Path, *rows: dict[str, Any], under: str = "2023/validation") -> Path:
    place = folder / under
    place.mkdir(parents=True, exist_ok=True)
    (place / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "notes.txt").write_text("42")
    return folder


@pytest.mark.parametrize("under", ["2023/validation", "validation", "."])
def test_each_layout_is_found(tmp_path: Path, under: str) -> None:
    laid_out(tmp_path, ROW, under=under)
    [task] = open_source(str(tmp_path)).tasks()
    assert (task.id, task.input, task.target) == ("t-1", "What is in the file?", "42")
    assert task.metadata == {"level": 1, "category": ["files"], "annotator": ROW["Annotator Metadata"]}
    assert [file.name for file in task.files] == ["notes.txt"]
    assert task.files[0].read() == b"42"


def test_a_folder_can_be_named_with_its_split(tmp_path: Path) -> None:
    laid_out(tmp_path, {**ROW, "Final answer": "?"}, under="2023/test")
    source = open_source({"gaia": {"path": str(tmp_path), "split": "test"}})
    assert next(iter(source.tasks())).target is None
    assert source.identity == {"source": "gaia", "split": "test"}


@pytest.mark.parametrize(
    ("answer", "target"), [("?", None), ("", None), (" ", None), (None, None), ("0", "0"), (17, "17")]
)
def test_an_answer_that_is_hidden_is_not_known(tmp_path: Path, answer: Any, target: Any) -> None:
    laid_out(tmp_path, {**ROW, "Final answer": answer})
    assert next(iter(GaiaSource(tmp_path).tasks())).target == target


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Level": "hard"}, "metadata.jsonl:1: the Level is not a whole number: 'hard'"),
        ({"Level": None}, "the Level is not a whole number"),
        ({"file_name": "gone.pdf"}, "metadata.jsonl:1: there is no file .*gone.pdf"),
        ({"file_name": "../../../secret"}, "lies outside"),
        ({"Question": 5}, "the Question is not text"),
        ({"Final answer": ["a"]}, "the Final answer is not text"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    laid_out(tmp_path, {**ROW, **change})
    with pytest.raises(UsageError, match=message):
        list(GaiaSource(tmp_path).tasks())


def test_rows_are_refused_for_fields_they_lack_and_ids_they_share(tmp_path: Path) -> None:
    laid_out(tmp_path, {key: value for key, value in ROW.items() if key != "task_id"})
    with pytest.raises(UsageError, match='the row has no "task_id", which is to be its id'):
        list(GaiaSource(tmp_path).tasks())
    laid_out(tmp_path, ROW, ROW)
    with pytest.raises(UsageError, match=r'metadata.jsonl:2: the id "t-1" is also in line 1'):
        list(GaiaSource(tmp_path).tasks())
    laid_out(tmp_path)
    with pytest.raises(UsageError, match="holds no task"):
        list(GaiaSource(tmp_path).tasks())


def test_a_folder_without_the_data_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no metadata.jsonl or metadata.parquet in .*2023/validation"):
        list(GaiaSource(tmp_path).tasks())


def test_the_hub_is_asked_with_the_token_and_its_folder_is_read(tmp_path: Path) -> None:
    laid_out(tmp_path, ROW)
    asked: list[Any] = []

    def fetch(name: str, **more: Any) -> str:
        asked.append((name, more))
        return str(tmp_path)

    [task] = GaiaSource(token="secret", fetch=fetch).tasks()
    assert task.id == "t-1"
    [(name, more)] = asked
    assert (name, more["token"], more["allow_patterns"]) == ("gaia-benchmark/GAIA", "secret", ["2023/validation/*"])


def test_without_a_token_it_says_what_to_do() -> None:
    with pytest.raises(UsageError, match=r"is gated: accept its terms on its page and set HF_TOKEN, or give a local"):
        list(GaiaSource(fetch=lambda *_, **__: "").tasks())


def test_parquet_metadata_is_read_too(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    laid_out(tmp_path, ROW)
    place = tmp_path / "2023/validation"
    (place / "metadata.jsonl").unlink()
    row = {**ROW, "Level": "2", "file_path": "2023/validation/notes.txt"}
    parquet.write_table(pyarrow.Table.from_pylist([row]), place / "metadata.parquet")
    [task] = GaiaSource(tmp_path).tasks()
    assert (task.metadata["level"], len(task.files), task.target) == (2, 1, "42")
    assert "file_path" not in task.metadata


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("Compute the sum.", ["code"]),
        ("Write a Python program and find the article", ["code", "search"]),
        ("What is 12+5?", ["code"]),
        ("What is 3 * 4?", ["code"]),
        ("What is 10 - 4?", ["code"]),
        ("Navigate to the web page", ["browser"]),
        ("Search arXiv, then click", ["search", "browser"]),
        # the traps of a rule by substring
        ("Decode this cipher", ["reasoning"]),
        ("The finding of the research", ["reasoning"]),
        ("Who won in 2020-2021?", ["reasoning"]),
        ("Who won in 2020 - 2021?", ["reasoning"]),
        ("On 12/25/2020, who?", ["reasoning"]),
        ("On 2020-12-25, who?", ["reasoning"]),
        ("A computer and a journalist", ["reasoning"]),
        ("Half of it, 1/2", ["reasoning"]),
    ],
)
def test_categories_go_by_whole_words(question: str, found: list[str]) -> None:
    assert categories(question) == found


def test_a_file_is_a_category_beside_the_others() -> None:
    assert categories("Compute it", has_files=True) == ["files", "code"]
    assert categories("What is it?", has_files=True) == ["files"]


def test_levels_and_categories_select(tmp_path: Path) -> None:
    other = {**ROW, "task_id": "t-2", "Level": "2", "Question": "Compute it", "file_name": ""}
    laid_out(tmp_path, ROW, other)
    found: list[Task] = list(Selection.of({"level": 2, "category": "code"}).choose(GaiaSource(tmp_path).tasks()))
    assert [task.id for task in found] == ["t-2"]
