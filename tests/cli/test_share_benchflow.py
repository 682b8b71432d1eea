"""`onward export --format benchflow`."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.benchflow import Episode, folder
from tests.cli.console import Shell

from onward.adoption import adopt
from onward.formats.benchflow import read
from onward.formats.benchflow.recording import LLM


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    made = Shell(tmp_path)
    adopt(read(folder(tmp_path / "in", Episode().rows)), made.store)
    return made


def test_a_run_or_its_task_is_written_as_a_folder_once_and_over_another_only_by_force(shell: Shell) -> None:
    words = ("export", "latest", "--format", "benchflow", "-o", "out")
    done = shell(*words)
    assert (done.code, done.out) == (0, "out: 3 lines recorded, 0 live\n")
    assert (shell.folder / "out" / LLM).read_bytes() == (shell.folder / "in" / LLM).read_bytes()
    refused = shell(*words)
    assert refused.code == 2 and "--force writes over it" in refused.err
    assert shell(*words, "--force").code == 0
    assert shell("export", "latest/write-file", "--format", "benchflow", "-o", "one").code == 0
    assert sorted(path.name for path in (shell.folder / "one").iterdir()) == sorted(
        path.name for path in (shell.folder / "in").iterdir()
    )


def test_force_never_replaces_a_folder_of_other_things(shell: Shell) -> None:
    shell.write("mine/thesis.md", "years of work")
    done = shell("export", "latest", "--format", "benchflow", "-o", "mine", "--force")
    assert done.code == 2 and "a folder with other things in it" in done.err
    assert (shell.folder / "mine" / "thesis.md").read_text() == "years of work"


def test_what_cannot_be_written_so_is_refused_with_the_reason(shell: Shell) -> None:
    assert "say -o DIR" in shell("export", "latest", "--format", "benchflow", "-o", "-").err
    missing = shell("export", "latest/nothing", "--format", "benchflow")
    assert missing.code == 1 and "has no task 'nothing'" in missing.err


def test_folders_are_imported_each_as_a_run_and_one_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    folder(tmp_path / "jobs" / "a__1", Episode().rows)
    folder(tmp_path / "jobs" / "b__1", Episode(2).rows)
    folder(tmp_path / "jobs" / "c__1", Episode(1).rows, config={"agent": ""}, result={"agent": ""})
    done = shell("import", "jobs")
    assert done.code == 0
    assert [line.partition(": ")[2] for line in done.lines[:2]] == ["made, 3 exchanges", "made, 2 exchanges"]
    assert "left out: jobs/c__1: " in done.lines[2] and "does not say which agent worked" in done.lines[2]
    assert "already imported, nothing changed" in shell("import", "jobs/a__1").out
    assert shell("show", done.lines[0].partition(":")[0]).code == 0


def test_what_holds_no_run_folder_is_said_to_hold_none(tmp_path: Path) -> None:
    shell = Shell(tmp_path)
    shell.write("empty/notes.txt", "nothing")
    done = shell("import", "empty")
    assert done.code == 1 and "no run folder of BenchFlow's in empty" in done.err
    assert "--spec FILE" in shell("import", "empty/notes.txt").err
