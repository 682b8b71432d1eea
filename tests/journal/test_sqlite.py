"""The journal in one SQLite file."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from tests.journal.contract import ME, OTHER, JournalContract, Told, alive, dead, result

from onward.entry import Row, blob_digest
from onward.errors import Damaged, Fenced, NotThere, UsageError
from onward.journal import Journal, SqliteJournal
from onward.journal.place import file_system


class TestSqlite(JournalContract):
    @pytest.fixture
    def empty(self, tmp_path: Path) -> Iterator[Callable[[], Journal]]:
        made: list[Journal] = []

        def make() -> Journal:
            made.append(SqliteJournal(tmp_path / f"run{len(made)}", create=True))
            return made[-1]

        yield make
        for journal in made:
            journal.close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "nightly run #1?%"


@pytest.fixture
def journal(run: Path) -> Iterator[SqliteJournal]:
    made = SqliteJournal(run, create=True)
    made.claim(ME, gone=alive)
    yield made
    made.close()


@contextmanager
def mounted(place: Path, size: str) -> Iterator[Path]:
    """A small file system of its own; skips where mounting is not permitted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "onward-test", str(place)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"mount is not there: {error}")
    if done.returncode:
        pytest.skip(f"mount is not permitted: {done.stderr.strip()}")
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


# making and opening


def test_a_run_folder_and_its_journal_are_private(journal: SqliteJournal, run: Path) -> None:
    journal.commit([result("a")])
    assert stat.S_IMODE(run.stat().st_mode) == 0o700
    assert {name.name: stat.S_IMODE(name.stat().st_mode) for name in run.glob("journal.db*")} == {
        "journal.db": 0o600, "journal.db-wal": 0o600, "journal.db-shm": 0o600,
    }  # fmt: skip


def test_what_was_committed_is_there_when_opened_again(journal: SqliteJournal, run: Path) -> None:
    journal.commit([result("a")], {blob_digest(b"x" * 300): b"x" * 300})
    head = journal.head()
    journal.close()
    again = SqliteJournal(run)
    assert again.head() == head
    assert again.blob(blob_digest(b"x" * 300)) == b"x" * 300
    again.close()


def test_a_closed_run_leaves_one_file(journal: SqliteJournal, run: Path) -> None:
    journal.commit([result("a")])
    journal.release()
    journal.close()
    assert [name.name for name in run.iterdir()] == ["journal.db"]


@pytest.mark.parametrize("make", [lambda run: None, lambda run: run.mkdir(), lambda run: run.write_text("")])
def test_where_there_is_no_journal_nothing_is_made(run: Path, make: Callable[[Path], None]) -> None:
    make(run)
    before = sorted(run.parent.rglob("*"))
    with pytest.raises(NotThere):
        SqliteJournal(run)
    assert sorted(run.parent.rglob("*")) == before


@pytest.mark.parametrize("content", [b"", b"not a database at all", b"SQLite format 3\0" + bytes(84), os.urandom(8192)])
@pytest.mark.parametrize("create", [False, True])
def test_an_empty_or_foreign_file_is_damage_and_never_a_fresh_start(run: Path, content: bytes, create: bool) -> None:
    run.mkdir()
    (run / "journal.db").write_bytes(content)
    with pytest.raises(Damaged):
        SqliteJournal(run, create=create)
    assert (run / "journal.db").read_bytes() == content


def test_another_programs_database_is_not_a_journal(run: Path) -> None:
    run.mkdir()
    other = sqlite3.connect(run / "journal.db")
    other.execute("CREATE TABLE head (seq, chain)")
    other.commit()
    other.close()
    with pytest.raises(Damaged, match="not a journal of Onward"):
        SqliteJournal(run, create=True)


def test_a_newer_schema_is_refused_and_says_so(journal: SqliteJournal, run: Path) -> None:
    journal.close()
    with sqlite3.connect(run / "journal.db") as newer:
        newer.execute("INSERT INTO migrations VALUES (999, 'from the future')")
    newer.close()
    with pytest.raises(Damaged, match="newer Onward"):
        SqliteJournal(run)


def test_a_draft_left_by_a_kill_is_not_taken_for_a_journal(run: Path) -> None:
    run.mkdir()
    (run / "journal.db.17.18.new").write_bytes(b"")
    made = SqliteJournal(run, create=True)
    assert made.head().seq == 0
    made.close()


MOUNTS = """\
22 1 8:1 / / rw - ext4 /dev/sda1 rw
23 22 0:5 / /mnt/team rw shared:1 - nfs4 server:/x rw
24 23 8:2 / /mnt/team/local\\040disk rw - xfs /dev/sdb rw
25 22 0:6 / /home rw - fuse.sshfs me@there: rw
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/", "ext4"), ("/mnt/teams/run", "ext4"), ("/mnt/team", "nfs4"), ("/mnt/team/run", "nfs4"),
        ("/mnt/team/local disk/run", "xfs"), ("/home/me/runs", "fuse.sshfs"),
    ],
)  # fmt: skip
def test_a_folders_file_system_is_that_of_the_innermost_mount(folder: str, kind: str) -> None:
    assert file_system(Path(folder), MOUNTS) == kind


def test_a_network_file_system_is_refused_unless_allowed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onward.journal.place.file_system", lambda folder, mounts: "nfs4")
    with pytest.raises(UsageError, match=r"network file system \(nfs4\).*local disk"):
        SqliteJournal(run, create=True)
    made = SqliteJournal(run, create=True, network=True)
    assert made.head().seq == 0
    made.close()


# reading where nothing can be written


@pytest.mark.parametrize("clean", [True, False])
def test_a_run_on_a_read_only_file_system_can_be_read_and_says_why_it_cannot_be_written(
    tmp_path: Path, clean: bool
) -> None:
    with mounted(tmp_path / "disk", "64m") as disk:
        writer = SqliteJournal(disk / "run", create=True)
        writer.claim(ME, gone=alive)
        writer.commit([result(f"t{n}") for n in range(100)])
        if clean:
            writer.close()
        (tmp_path / "copy").mkdir()
        for file in (disk / "run").glob("journal.db*"):
            (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
        writer.close()
        for name in ("journal.db", "journal.db-wal"):
            copied = tmp_path / "copy" / name
            if copied.exists():
                (disk / "run" / name).write_bytes(copied.read_bytes())
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        reader = SqliteJournal(disk / "run")
        assert len(list(reader.rows())) == reader.head().seq == 100
        assert list(reader.check()) == []
        with pytest.raises(OSError, match="read-only") as refusal:
            reader.claim(OTHER, gone=dead)
        assert refusal.value.errno == errno.EROFS
        reader.close()


# full disk


def test_answers_already_paid_for_land_on_a_full_disk_and_then_it_is_said(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "100m") as disk:
        journal = SqliteJournal(disk / "run", create=True)
        journal.claim(ME, gone=alive)
        assert (disk / "run" / "reserve").stat().st_size == 32 * 1024 * 1024
        journal.commit([result("before")])
        fill(disk / "ballast")
        paid = os.urandom(3_000_000)
        journal.commit([result("paid")], {blob_digest(paid): paid})
        assert journal.low
        assert not (disk / "run" / "reserve").exists()
        assert journal.blob(blob_digest(paid)) == paid

        fill(disk / "ballast2")
        huge = os.urandom(40_000_000)
        told = Told()
        journal.append([result("too much")], {blob_digest(huge): huge}, told)
        (error,) = told.wait(1)
        assert isinstance(error, OSError)
        assert error.errno == errno.ENOSPC
        assert [row.key for _, row in journal.rows()] == ["before", "paid"]

        (disk / "ballast").unlink()
        (disk / "ballast2").unlink()
        journal.commit([result("after")])
        assert [(seq, row.key) for seq, row in journal.rows()] == [(1, "before"), (2, "paid"), (3, "after")]
        assert list(journal.check()) == []
        journal.close()


def test_on_a_full_disk_an_iterator_lands_whole_or_not_at_all(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "100m") as disk:
        journal = SqliteJournal(disk / "run", create=True)
        journal.claim(ME, gone=alive)
        fill(disk / "ballast")
        content = os.urandom(500_000)
        told, blocked = Told(), threading.Event()

        def some(count: int, fails: bool) -> Iterator[Row]:
            blocked.wait()
            for n in range(count):
                yield result(f"{count}/{n}", body='{"value":"' + os.urandom(200).hex() + '"}')
            if fails:
                raise LookupError("the parent is gone")

        journal.append(some(3, fails=False), {}, told)
        journal.append(some(700, fails=True), {}, told)
        journal.append(some(700, fails=False), {blob_digest(content): content}, told)
        journal.append(some(3000, fails=False), {}, told)
        journal.append(some(10, fails=False), {}, told)
        blocked.set()
        outcomes = told.wait(5)
        landed = [3, 700, 3000, 10]
        assert isinstance(outcomes[1], LookupError)
        assert outcomes[0] is outcomes[2] is outcomes[4] is None
        if outcomes[3] is not None:  # so long a one is not drawn twice
            assert isinstance(outcomes[3], OSError)
            landed.remove(3000)
        counts = {n: sum(1 for _ in journal.rows(str(n))) for n in (3, 700, 3000, 10)}
        assert counts == {n: n if n in landed else 0 for n in counts}
        journal.beat(1.0)
        assert list(journal.check()) == []
        journal.close()


def fill(file: Path) -> None:
    """Use all the room that is left."""
    with file.open("wb", buffering=0) as ballast:
        for size in (1 << 20, 1 << 12):
            with suppress(OSError):
                while ballast.write(bytes(size)) == size:
                    pass


def test_after_a_failed_write_nothing_that_was_queued_behind_it_is_written(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "2m") as disk:
        journal = SqliteJournal(disk / "run", create=True)
        journal.claim(ME, gone=alive)
        assert not (disk / "run" / "reserve").exists()
        big, told = os.urandom(4_000_000), Told()
        journal.append([result("first")], {blob_digest(big): big}, told)
        for n in range(20):
            journal.append([result(f"behind{n}")], {}, told)
        outcomes = told.wait(21)
        assert isinstance(outcomes[0], OSError)
        # what was queued by then failed with it; no later append overtook one that failed
        landed = [outcome is None for outcome in outcomes]
        assert landed == sorted(landed)
        journal.commit([result("again")])
        assert [row.key for _, row in journal.rows()][-1] == "again"
        assert list(journal.check()) == []
        journal.close()


def test_a_reserve_is_kept_only_while_the_run_is_driven(journal: SqliteJournal, run: Path) -> None:
    reserve = run / "reserve"
    assert reserve.stat().st_blocks * 512 >= 32 * 1024 * 1024
    assert not journal.low
    journal.release()
    assert not reserve.exists()


# kill -9

WRITER = """
import os, sys
from onward.journal import SqliteJournal
from tests.journal.contract import ME, alive, result
journal = SqliteJournal(sys.argv[1], create=True)
journal.claim(ME, gone=alive)
for n in range(100_000):
    rows = [result(f"t{n}/{part}") for part in range(3)]
    journal.append(rows, {}, lambda error, n=n: os.write(1, b"%d\\n" % n) if error is None else os._exit(3))
journal.close()  # all of it is queued at once: what is not killed before has to be waited for
"""


@pytest.mark.parametrize("lines", [1, 40, 300])
def test_after_a_kill_every_append_that_was_reported_is_there_whole(run: Path, lines: int) -> None:
    command = [sys.executable, "-c", WRITER, str(run)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as writer:
        assert writer.stdout is not None
        reported = [int(writer.stdout.readline()) for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        reported += [int(line) for line in writer.stdout.read().split(b"\n")[:-1]]
    journal = SqliteJournal(run)
    keys = [row.key for _, row in journal.rows()]
    assert len(keys) % 3 == 0, "an append landed in part"
    assert len(keys) // 3 >= len(reported)
    assert keys == [f"t{n}/{part}" for n in range(len(keys) // 3) for part in range(3)]
    assert reported == list(range(len(reported)))
    assert list(journal.check()) == []
    journal.claim(OTHER, gone=dead)
    journal.commit([result("goes on")])
    journal.close()


# keeping small


def test_the_log_is_emptied_while_a_reader_iterates(journal: SqliteJournal, run: Path) -> None:
    journal.commit([result(f"t{n}") for n in range(2000)])
    reader = journal.rows()
    next(reader)
    for n in range(300):
        journal.commit([result(f"later{n}", body='{"value":"' + "x" * 100 + f'{n}"}}')] * 5)
    assert (run / "journal.db-wal").stat().st_size < 512 * 1024
    reader.close()


def test_a_blob_is_stored_once_however_often_it_is_named(journal: SqliteJournal, run: Path) -> None:
    content = os.urandom(100_000)
    for n in range(20):
        journal.commit([result(f"t{n}")], {blob_digest(content): content})
    journal.close()
    assert (run / "journal.db").stat().st_size < 150_000


def test_a_reopened_journal_knows_the_blobs_it_has(journal: SqliteJournal, run: Path) -> None:
    content = os.urandom(100_000)
    journal.commit([], {blob_digest(content): content})
    journal.close()
    again = SqliteJournal(run)
    again.claim(OTHER, gone=dead)
    again.commit([], {blob_digest(content): content})
    again.close()
    assert (run / "journal.db").stat().st_size < 150_000


def test_a_closed_journal_says_so(journal: SqliteJournal) -> None:
    journal.close()
    with pytest.raises(ValueError, match="closed"):
        journal.head()
    with pytest.raises(ValueError, match="closed"):
        journal.post("{}")


def test_a_fenced_journal_still_reads(journal: SqliteJournal, run: Path) -> None:
    journal.commit([result("a")])
    other = SqliteJournal(run)
    other.claim(OTHER, gone=dead)
    with pytest.raises(Fenced):
        journal.commit([result("b")])
    other.commit([result("c")])
    assert [row.key for _, row in journal.rows()] == ["a", "c"]
    other.close()
