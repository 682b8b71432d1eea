"""`export`, `import` and `verify`, as processes."""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from tests.cli.test_look import Shell

from onward.journal.blobs import whole

FORMATS = ["gaia-checkpoint", "gaia-submission", "events-jsonl", "results-jsonl", "csv"]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """A folder with one complete run, which is only looked at."""
    made = Shell(tmp_path_factory.mktemp("share"))
    made.onward("run", "lab.yaml")
    return made


@pytest.fixture
def fresh(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_is_written_once_and_over_another_only_by_force(shell: Shell, form: str) -> None:
    path = str(shell.folder / f"out.{form}")
    words = ["export", "lab", "--format", form, "-o", path, "--solver", "right"]
    assert path in shell.onward(*words)
    assert Path(path).read_text(encoding="utf-8") == shell.onward(
        "export", "lab", "--format", form, "-o", "-", "--solver", "right"
    )
    assert "--force" in shell.onward(*words, code=2)
    shell.onward(*words, "--force")


def test_a_key_that_an_answer_repeats_is_not_exported(fresh: Shell) -> None:
    secret = "sk-very-secret-1234"
    source = fresh.folder / "solvers.py"
    source.write_text(source.read_text() + f"\ndef leaky(ctx, task):\n    return 'It is 1 {secret} 1.'\n")
    spec = fresh.folder / "lab.yaml"
    spec.write_text("name: lab\ntasks: tasks.jsonl\nsolver: solvers.py:leaky\nparse: last_number\nscore: numeric\n")
    fresh.environment["OPENAI_API_KEY"] = secret
    fresh.onward("run", "lab.yaml")
    for form in FORMATS:
        assert secret not in fresh.onward("export", "lab", "--format", form, "-o", "-")


def test_a_folder_is_copied_private_and_can_be_resumed(fresh: Shell) -> None:
    fresh.onward("run", "lab.yaml", "--max-new", "1", code=3)
    fresh.onward("export", "lab", "--format", "folder", "-o", "copy")
    assert stat.S_IMODE((fresh.folder / "copy").stat().st_mode) == 0o700
    fresh.onward("resume", "copy")
    assert fresh.json("show", "copy")["done"] == 6 and fresh.json("show", "lab")["done"] == 2


def test_an_unknown_format_is_refused(shell: Shell) -> None:
    assert "--format is one of" in shell.onward("export", "lab", "--format", "xml", code=2)


# ---------------------------------------------------------------- import


def test_import_then_resume_scores_what_was_recorded(fresh: Shell) -> None:
    rows = [{"key": f"set/t{n}", "a": {"said": f"It is {n}."}, "b": "It is 1."} for n in (1, 2, 3)]
    (fresh.folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = [
        "import",
        "answers.jsonl",
        "--spec",
        "lab.yaml",
        "--id-field",
        "key",
        "--solver",
        "a=a.said",
        "--solver",
        "b=b",
    ]
    found = fresh.json(*words)
    assert (found["created"], found["answers"]) == (True, {"a": 3, "b": 3})
    assert "already imported, nothing changed" in fresh.onward(*words)
    fresh.onward("resume", found["run"])
    solvers = fresh.json("show", found["run"])["solvers"]
    assert {name: round(part["scores"]["numeric"]["value"], 2) for name, part in solvers.items()} == {
        "a": 1.0,
        "b": 0.33,
    }
    text = fresh.onward("replay", found["run"], "--stage", "score")
    assert "a numeric: 3 re-scored, 0 calls, 100.0 → 100.0 %, 0 changed" in " ".join(text.split())


def test_import_tells_what_did_not_fit(fresh: Shell) -> None:
    rows = [{"id": "set/t1", "output": "It is 1."}, {"id": "set/t2", "output": None}, {"id": "x", "output": "It is 1."}]
    (fresh.folder / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    text = fresh.onward("import", "answers.jsonl", "--spec", "lab.yaml")
    assert "1 of 3 answered, 1 row without an answer, 2 missing (they stay owed)" in text
    assert "1 id in the file that no selected task has: x" in text
    assert "duplicate" not in text
    assert "is also in" in _twice(fresh)


def _twice(fresh: Shell) -> str:
    (fresh.folder / "twice.jsonl").write_text('{"id": "set/t1", "output": "1"}\n' * 2, encoding="utf-8")
    return fresh.onward("import", "twice.jsonl", "--spec", "lab.yaml", code=2)


# ---------------------------------------------------------------- verify


def test_verify_counts_what_is_whole(shell: Shell) -> None:
    assert "all as written" in shell.onward("verify", "lab")
    assert shell.json("verify", "lab")["whole"] is True


def _edit(path: Path) -> None:
    """Change one byte of an answer, where no structure of the file notices."""
    with closing(sqlite3.connect(f"file:{path}?immutable=1", uri=True)) as connection:
        bodies = [body for (body,) in connection.execute("SELECT body FROM entries ORDER BY seq")]
    body = next(body for body in bodies if isinstance(body, bytes) and b"It is 3." in whole(body))
    content = path.read_bytes()
    at = content.index(body) + len(body) - 1
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    path.write_bytes(b"this is no journal at all" * 100)


@pytest.mark.parametrize("damage", [_edit, _cut, _empty, _foreign], ids=["edited", "truncated", "empty", "foreign"])
def test_verify_finds_damage_and_exits_6(fresh: Shell, damage: object) -> None:
    fresh.onward("run", "lab.yaml")
    [folder] = (fresh.folder / "runs").iterdir()
    assert callable(damage)
    damage(folder / "journal.db")
    assert "is damaged" in fresh.onward("verify", "lab", code=6)
    told = json.loads(fresh.onward("verify", "lab", "--json", code=6).partition("error: ")[0])
    assert told["whole"] is False and told["problems"]


def test_salvage_recovers_every_readable_entry_into_a_run_that_goes_on(fresh: Shell) -> None:
    fresh.onward("run", "lab.yaml")
    [folder] = (fresh.folder / "runs").iterdir()
    entries = fresh.json("verify", "lab")["entries"]
    before = (folder / "journal.db").read_bytes()
    _edit(folder / "journal.db")
    edited = (folder / "journal.db").read_bytes()
    text = fresh.onward("verify", "lab", "--salvage", "recovered", code=6)
    assert f"recovered: {entries - 1} entries recovered, 1 lost" in text
    assert (folder / "journal.db").read_bytes() == edited != before
    assert "all as written" in fresh.onward("verify", "recovered")
    fresh.onward("resume", "recovered")
    assert fresh.json("show", "recovered")["state"] == "complete"
    assert "is there already" in fresh.onward("verify", "lab", "--salvage", "recovered", code=2)
