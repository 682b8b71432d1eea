"""Where tasks come from: files, functions, the hub, and names."""

import hashlib
import json
import tracemalloc
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from onward.errors import SpecError, UsageError
from onward.tasks import FunctionSource, Task, attachment, open_source
from onward.tasks.hub import HubSource
from onward.tasks.jsonl import JsonlSource
from onward.tasks.source import Columns, Source


def written(folder: Path, *rows: Any, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def tasks(stated: Any, folder: Path) -> list[Task]:
    return list(open_source(stated, folder).tasks())


# ---------------------------------------------------------------- rows


def test_other_fields_are_metadata(tmp_path: Path) -> None:
    written(tmp_path, {"id": "a", "input": "1+1", "target": 2, "level": 1, "metadata": {"tags": ["x"]}})
    assert tasks("data.jsonl", tmp_path) == [Task("a", "1+1", 2, {"tags": ["x"], "level": 1})]


def test_a_mapping_says_which_field_is_what(tmp_path: Path) -> None:
    written(tmp_path, {"n": 7, "question": "?", "answer": "!", "a": 1, "b": 2})
    stated = {"path": "data.jsonl", "id": "n", "input": "question", "target": "answer", "metadata": ["a"]}
    assert tasks(stated, tmp_path) == [Task("7", "?", "!", {"a": 1})]


def test_a_row_without_an_id_gets_one_from_its_content(tmp_path: Path) -> None:
    written(tmp_path, {"input": "x"}, {"input": "y"})
    first, second = tasks("data.jsonl", tmp_path)
    assert len(first.id) == 12 and first.id != second.id
    written(tmp_path, {"input": "y"}, {"input": "x"})
    assert [task.id for task in tasks("data.jsonl", tmp_path)] == [second.id, first.id]


def test_what_was_frozen_reads_back(tmp_path: Path) -> None:
    task = Task("a", {"parts": [1]}, None, {"level": 2})
    written(tmp_path, task.to_json())
    assert tasks("data.jsonl", tmp_path) == [task]


def test_bom_blank_lines_nul_bytes_and_crlf_are_taken(tmp_path: Path) -> None:
    content = b'\xef\xbb\xbf{"id": "a", "input": "x\x00y"}\r\n\r\n   \n{"id": "b", "input": "z\\u0000"}'
    (tmp_path / "data.jsonl").write_bytes(content)
    assert [task.input for task in tasks("data.jsonl", tmp_path)] == ["x\x00y", "z\x00"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no task: it is empty"),
        (b"\n\n", "holds no task"),
        (b'{"input": "a"}\n{"input": \xe9}\n', r"data.jsonl:2: not UTF-8 \(byte 11 of the line is 0xe9\)"),
        (b'{"input": "a"}\n{"input": \n', "data.jsonl:2: not JSON"),
        (b'{"input": NaN}', "data.jsonl:1: not JSON: NaN"),
        (b'{"input": 1e999}', "data.jsonl:1: not JSON: 1e999 is too large"),
        (b'{"input": "\\ud800"}', "data.jsonl:1: the value is not"),
        (b'{"input": ' + b"9" * 30 + b"}", "data.jsonl:1: the value is not JSON: an integer beyond 64 bits"),
        (b"[" * 100_000, "data.jsonl:1: not JSON"),
        (b"[1]", "data.jsonl:1: expected an object, found list"),
        (b'{"question": "a"}', r'data.jsonl:1: the row has no "input" \(it has: question\)'),
        (b'{"input": null}', 'the row has no "input"'),
        (b'{"id": "a", "input": 1}\n\n{"id": "a", "input": 2}', 'data.jsonl:3: the id "a" is also in line 1'),
        (b'{"input": 1}\n{"input": 1}', r"data.jsonl:2: the id .* is also in line 1.*duplicates: number"),
        (b'{"id": 1.5, "input": 1}', "an id is text or an integer, not 1.5"),
        (b'{"id": true, "input": 1}', "an id is text or an integer, not True"),
        (b'{"id": "", "input": 1}', "an id is text or an integer, not ''"),
        (b'{"input": 1, "files": ["gone.txt"]}', "data.jsonl:1: there is no file .*gone.txt"),
        (b'{"input": 1, "files": ["../x"]}', "data.jsonl:1: the file ../x lies outside"),
        (b'{"input": 1, "files": ["/etc/passwd"]}', "lies outside"),
        (b'{"input": 1, "files": 5}', "files is a file name or a list of them, not 5"),
    ],
)
def test_a_jsonl_file_that_cannot_be_meant_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "data.jsonl").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        tasks("data.jsonl", tmp_path)


def test_a_named_field_that_a_row_lacks_is_refused_with_the_nearest(tmp_path: Path) -> None:
    written(tmp_path, {"question": "?", "answer": "!"})
    with pytest.raises(UsageError, match=r'the row has no "anser", which is to be its target. Did you mean "answer"'):
        tasks({"path": "data.jsonl", "input": "question", "target": "anser"}, tmp_path)
    with pytest.raises(UsageError, match='the row has no "level", which is to be metadata'):
        tasks({"path": "data.jsonl", "input": "question", "metadata": ["level"]}, tmp_path)


def test_equal_rows_are_numbered_if_asked(tmp_path: Path) -> None:
    written(tmp_path, {"id": "a", "input": 1}, {"id": "a-2", "input": 1}, *[{"id": "a", "input": 1}] * 2)
    stated = {"path": "data.jsonl", "duplicates": "number"}
    assert [task.id for task in tasks(stated, tmp_path)] == ["a", "a-2", "a-3", "a-4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inptu": "q"}, 'tasks: unknown field "inptu". Did you mean "input"'),
        ({"input": 5}, "tasks.input: expected the name of a field, not 5"),
        ({"metadata": "level"}, "tasks.metadata: metadata is a list"),
        ({"duplicates": "skip"}, 'duplicates is "refuse" or "number", not "skip"'),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    written(tmp_path, {"input": 1})
    with pytest.raises(SpecError, match=message):
        open_source({"path": "data.jsonl", **options}, tmp_path)


def test_files_are_attached_by_digest_size_and_type(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_bytes(b"a,b\n")
    written(tmp_path, {"id": "1", "input": "?", "files": ["notes.csv"]}, {"id": "2", "input": "?", "files": []})
    [file] = tasks("data.jsonl", tmp_path)[0].files
    assert (file.name, file.size, file.media_type) == ("notes.csv", 4, "text/csv")
    assert file.digest == hashlib.sha256(b"a,b\n").hexdigest()[:32]
    assert file.read() == b"a,b\n"
    with pytest.raises(ValueError, match="is in the run"):
        Task.from_json(tasks("data.jsonl", tmp_path)[0].to_json()).files[0].read()


def test_a_large_file_is_streamed(tmp_path: Path) -> None:
    written(tmp_path, *({"id": str(n), "input": "x" * 1000} for n in range(20_000)))
    tracemalloc.start()
    assert sum(1 for _ in JsonlSource(tmp_path / "data.jsonl").tasks()) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6_000_000  # 20 MB of rows; what is kept is ids and lines


def test_a_source_can_be_read_again_and_is_known_by_what_was_asked_for(tmp_path: Path) -> None:
    path = written(tmp_path, {"id": "1", "input": "?"})
    source = open_source("data.jsonl", tmp_path)
    assert list(source.tasks()) == list(source.tasks())
    assert isinstance(source, Source) and source.name == "data"
    assert source.identity == {"source": "jsonl", "path": "data.jsonl", "columns": {}}
    assert JsonlSource(path, Columns(id="n")).identity["columns"] == {"id": "n"}


# ---------------------------------------------------------------- CSV and Parquet


def test_csv_is_text_with_quotes_and_lines_in_fields(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text('\ufeffid,input,target,level\na,"x, ""y""\nz",5,1\nb,q,,2\n', encoding="utf-8")
    assert tasks("data.csv", tmp_path) == [
        Task("a", 'x, "y"\nz', "5", {"level": "1"}),
        Task("b", "q", None, {"level": "2"}),
    ]


def test_tsv_is_split_at_tabs(tmp_path: Path) -> None:
    (tmp_path / "data.tsv").write_text("id\tinput\n1\ta, b\n")
    assert tasks("data.tsv", tmp_path) == [Task("1", "a, b")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no task"),
        (b"id,input\n", "holds no task: there is no row below its header"),
        (b"id,input\n1\n", "data.csv:2: 1 fields, but the header has 2"),
        (b"id,input\n1,2,3\n", "data.csv:2: 3 fields"),
        (b"id,id\n1,2\n", 'data.csv:1: the header names "id" twice'),
        (b"id,\n1,2\n", "a column with no name"),
        (b'id,input\n1,"a" b\n', "data.csv:2: not CSV"),
        (b'id,input\n1,"a\n', "not CSV"),
        (b"id,input\n1,\xff\n", "data.csv:2: not UTF-8"),
        (b"id,input\n1,a\n1,b\n", 'data.csv:3: the id "1" is also in line 2'),
    ],
)
def test_a_csv_file_that_cannot_be_meant_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "data.csv").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        tasks("data.csv", tmp_path)


def test_parquet_rows_are_json(tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [
        {
            "id": n, "input": "?", "target": float(n), "day": date(2024, 1, n), "price": Decimal("1.50"),
            "nested": {"a": [n]}, "odd": float("nan"),
        }
        for n in (1, 2)
    ]  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "data.parquet")
    metadata = {"day": "2024-01-01", "price": "1.50", "nested": {"a": [1]}, "odd": "nan"}
    assert tasks("data.parquet", tmp_path)[0] == Task("1", "?", 1.0, metadata)
    with_bytes = pyarrow.Table.from_pylist([{"id": "1", "input": "?", "image": b"\x89PNG"}])
    parquet.write_table(with_bytes, tmp_path / "data.parquet")
    with pytest.raises(UsageError, match=r'row 1: "image" holds bytes.*metadata'):
        tasks("data.parquet", tmp_path)
    assert tasks({"path": "data.parquet", "metadata": []}, tmp_path) == [Task("1", "?")]
    (tmp_path / "data.parquet").write_bytes(b"not parquet at all")
    with pytest.raises(UsageError, match=r"data.parquet is not a readable Parquet file"):
        tasks("data.parquet", tmp_path)


# ---------------------------------------------------------------- functions


def test_a_function_yields_dicts_or_tasks(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from onward.tasks import Task\n"
        "def items():\n    yield {'id': 1, 'input': 'a', 'level': 2}\n    yield Task('2', 'b')\n"
    )
    assert tasks("mine.py:items", tmp_path) == [Task("1", "a", None, {"level": 2}), Task("2", "b")]
    assert open_source("mine.py:items", tmp_path).name == "items"


def test_a_callable_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_text("x")

    def two() -> Iterator[Any]:
        yield {"question": "a"}
        yield Task("t", "b", files=(attachment(tmp_path / "x.txt"),))

    with pytest.raises(UsageError, match='two, task 1: the row has no "input"'):
        tasks(two, tmp_path)
    found = tasks(lambda: [{"id": "1", "input": "a", "files": "x.txt"}], tmp_path)
    assert found[0].files[0].name == "x.txt"


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (list, "gives no task"),
        (lambda: [5], "task 1: expected an object, found int"),
        (lambda: [{"id": "1", "input": "a"}] * 2, 'task 2: the id "1" is also in task 1'),
        (lambda: [Task("1", {1, 2})], "task 1: the value is not JSON"),
        (lambda: 1 / 0, "raised ZeroDivisionError: division by zero"),
        (lambda: 5, "raised TypeError"),
    ],
)
def test_a_function_that_gives_no_tasks_is_refused(function: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(FunctionSource(function).tasks())


# ---------------------------------------------------------------- the hub


class GatedRepoError(Exception):
    """As the hub's own package calls it."""


class DatasetNotFoundError(Exception):
    """As the hub's own package calls it."""


def test_the_hub_is_asked_for_what_was_stated_and_streamed() -> None:
    asked: list[Any] = []

    def load(*args: Any, **more: Any) -> list[dict[str, Any]]:
        asked.append((args, more))
        return [{"question": "a", "answer": "1"}]

    columns = Columns(input="question", target="answer")
    source = HubSource("owner/name", config="main", token="secret", columns=columns, load=load)
    [task] = source.tasks()
    assert (task.input, task.target) == ("a", "1")
    streaming = {"split": "test", "revision": None, "token": "secret", "streaming": True}
    assert asked == [(("owner/name", "main"), streaming)]
    assert source.name == "name"
    assert "secret" not in json.dumps(source.identity)


@pytest.mark.parametrize(
    ("error", "token", "message"),
    [
        (GatedRepoError("403"), None, r"owner/name is gated. No token was given \(HF_TOKEN\): accept its terms"),
        (GatedRepoError("403"), "t", "owner/name is gated. The token has no access yet"),
        (DatasetNotFoundError("x"), None, "the hub has no data set owner/name, or it is private and needs a token"),
        (OSError("no route\nto host"), "t", "owner/name could not be read: OSError: no route$"),
    ],
)
def test_what_the_hub_refuses_is_explained(error: Exception, token: str | None, message: str) -> None:
    def load(*_: Any, **__: Any) -> Any:
        raise error

    with pytest.raises(UsageError, match=message):
        list(HubSource("owner/name", token=token, load=load).tasks())


def test_without_its_package_the_hub_says_how_to_install_it() -> None:
    try:
        import datasets  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match=r"pip install 'onward\[hub\]'"):
            list(open_source("hub:owner/name").tasks())
    else:
        pytest.skip("the package datasets is installed")


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        (None, "say where the tasks come from"),
        ("", "say where the tasks come from"),
        (5, "expected a file or a name, not int"),
        ({"input": "q"}, "a mapping needs `path`"),
        ("arithmetc", 'there is no file .*arithmetc. Did you mean "arithmetic"'),
        ("gone.jsonl", "there is no file .*gone.jsonl"),
        ("data.xml", r"data.xml: tasks are read from .jsonl, .csv, .tsv, .parquet"),
        ({"arithmetic": {"sise": 3}}, 'unknown field "sise". Did you mean "size"'),
        ({"arithmetic": {"size": 0}}, "tasks.size: size is at least 1, not 0"),
        ({"arithmetic": {"size": "many"}}, "size is an integer"),
        ({"arithmetic": {}, "size": 3}, "its options go inside"),
        ({"gaia": {"split": "train"}}, 'split is "validation" or "test", not "train"'),
        ({"gaia": {"path": "nowhere"}}, "there is no folder"),
        ({"gaia": {"token": "x"}}, 'unknown field "token"'),
        ("gone.py:items", "there is no file .*gone.py"),
        ("gone.py", "say which function of it"),
        ("hub:a/b/c", '"owner/name", not "a/b/c"'),
    ],
)
def test_what_names_no_source_is_refused(tmp_path: Path, stated: Any, message: str) -> None:
    (tmp_path / "data.xml").write_text("<x/>")
    with pytest.raises(UsageError, match=message):
        open_source(stated, tmp_path)


def test_names_open_what_they_say(tmp_path: Path) -> None:
    assert sum(1 for _ in open_source("arithmetic").tasks()) == 200
    assert sum(1 for _ in open_source({"arithmetic": {"size": 5, "seed": 3}}).tasks()) == 5
    source = open_source("arithmetic")
    assert open_source(source) is source
    hub = open_source({"hub": "owner/name", "split": "train", "input": "question"}, token="secret")
    assert hub.identity == {
        "source": "hub", "dataset": "owner/name", "split": "train", "columns": {"input": "question"},
    }  # fmt: skip
