"""One driver per run, whoever else tries."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from tests.journal.contract import ME, OTHER, alive, dead, result

from onward.errors import Fenced, Held
from onward.journal import SqliteJournal

ROOT = Path(__file__).parents[2]
CLAIMER = """
import sys
from onward.errors import Held
from onward.journal import SqliteJournal
from tests.journal.contract import ME, alive
journal = SqliteJournal(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
try:
    print("token", journal.claim(ME, gone=alive), flush=True)
except Held:
    print("held", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("again", range(3))
def test_of_processes_that_claim_at_the_same_instant_exactly_one_wins(tmp_path: Path, again: int) -> None:
    SqliteJournal(tmp_path / "run", create=True).close()
    started = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIMER, str(tmp_path / "run")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in started:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in started:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = sorted(process.stdout.readline() for process in started if process.stdout is not None)
    for process in started:
        process.communicate("end\n")
    assert said == ["held\n"] * 3 + ["token 1\n"]


def test_many_processes_that_make_the_same_journal_make_one(tmp_path: Path) -> None:
    code = "import sys; from onward.journal import SqliteJournal; SqliteJournal(sys.argv[1], create=True).post('x')"
    started = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "run")], cwd=ROOT) for _ in range(4)]
    assert [process.wait() for process in started] == [0] * 4
    journal = SqliteJournal(tmp_path / "run")
    assert len(journal.poll()) == 4
    assert sorted(path.name for path in (tmp_path / "run").glob("*.new")) == []
    journal.close()


def test_a_driver_that_lost_its_lease_writes_nothing_more(tmp_path: Path) -> None:
    slept = SqliteJournal(tmp_path / "run", create=True)
    slept.claim(ME, gone=alive)
    slept.commit([result("a")])
    other = SqliteJournal(tmp_path / "run")
    other.claim(OTHER, gone=dead)
    for attempt in (lambda: slept.commit([result("b")]), lambda: slept.beat(1.0), lambda: slept.clear(1)):
        with pytest.raises(Fenced):
            attempt()
    slept.release()
    holder = other.holder()
    assert holder is not None
    assert holder.pid == OTHER.pid
    assert other.head().seq == 1
    slept.close()
    other.close()


def test_a_copied_folder_starts_without_a_holder(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "run", create=True)
    journal.claim(ME, gone=alive)
    journal.commit([result("a")])
    journal.close()
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    copy = SqliteJournal(tmp_path / "copy")
    assert copy.holder() is None
    copy.claim(OTHER, gone=alive)
    copy.commit([result("b")])
    copy.close()
    still = SqliteJournal(tmp_path / "run")
    with pytest.raises(Held):
        still.claim(OTHER, gone=alive)
    still.close()


def test_a_moved_folder_keeps_its_holder(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "run", create=True)
    journal.claim(ME, gone=alive)
    journal.close()
    (tmp_path / "run").rename(tmp_path / "moved")
    moved = SqliteJournal(tmp_path / "moved")
    with pytest.raises(Held):
        moved.claim(OTHER, gone=alive)
    moved.close()


def test_the_inode_is_the_journals_to_know(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "run", create=True)
    journal.claim(replace(ME, inode=12345), gone=alive)
    holder = journal.holder()
    assert holder is not None
    assert holder.inode == (tmp_path / "run").stat().st_ino
    journal.close()


def test_a_post_from_another_process_reaches_the_driver(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "run", create=True)
    journal.claim(ME, gone=alive)
    code = "import sys; from onward.journal import SqliteJournal; SqliteJournal(sys.argv[1]).post('stop')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=True, cwd=ROOT)
    assert [text for _, text in journal.poll()] == ["stop"]
    journal.commit([result("still ours")])
    journal.close()
