"""What is damaged is found, named and, as far as it is there, recovered."""

from __future__ import annotations

import json
import os
import random
import shutil
import sqlite3
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journal.contract import ME, alive, intent, result

from onward.entry import Entry, Row, blob_digest, pack, unpack
from onward.errors import Damaged
from onward.journal import MemoryJournal, SqliteJournal, salvage
from onward.journal.database import PAGE
from onward.journal.log import read_log
from onward.keys import Key

TURNS = 60
KILLED = 8
"""Rows of a killed run: so few that its log was never emptied."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of a conversation, closed: two rows to a turn, and blobs."""
    journal = SqliteJournal(tmp_path / "run", create=True)
    journal.claim(ME, gone=alive)
    chance, history = random.Random(3), list[dict[str, str]]()
    for turn in range(TURNS):
        key = Key.of("solver", "task", "0", "generate", "0", f"llm:{turn}#1")
        history.append({"role": "user", "content": chance.randbytes(700).hex()})
        said = {"role": "assistant", "content": chance.randbytes(1500).hex()}
        for entry in (
            Entry("intent", key, "now", {"request": {"model": "m", "messages": list(history)}}, usd=0.5, tokens=10),
            Entry("result", key, "now", {"value": {"text": said["content"]}}, outcome="ok", usd=0.25, tokens=5),
        ):
            row, blobs = pack(entry)
            journal.commit([row], blobs)
        history.append(said)
    journal.release()
    journal.close()
    return tmp_path / "run"


def problems(run: Path) -> list[tuple[int, str]]:
    """What `onward verify` would be told: by the check, or by the refusal to open at all."""
    try:
        journal = SqliteJournal(run)
    except Damaged as damage:
        return [(0, str(damage))]
    try:
        return [tuple(problem) for problem in journal.check()]
    finally:
        journal.close()


def edit(run: Path, *statements: str) -> None:
    with sqlite3.connect(run / "journal.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_a_journal_that_is_whole_has_no_problems(run: Path) -> None:
    assert problems(run) == []


@pytest.mark.parametrize(
    ("statement", "seq", "words"),
    [
        ("UPDATE entries SET outcome = 'failed' WHERE seq = 40", 40, "not what was appended"),
        ("UPDATE entries SET usd = 0 WHERE seq = 40", 40, "not what was appended"),
        ("UPDATE entries SET reused = 0 WHERE seq = 40", 40, "not what was appended"),
        ("UPDATE entries SET depth = 1 WHERE seq = 40", 40, "not what was appended"),
        ("UPDATE entries SET at = 'then' WHERE seq = 1", 1, "not what was appended"),
        ("UPDATE entries SET body = '{}' WHERE seq = 120", 120, "not what was appended"),
        ("UPDATE entries SET body = x'01ff' WHERE seq = 40", 40, "not what was appended"),
        ("UPDATE entries SET body = x'00ff' WHERE seq = 40", 40, "not what was appended"),
        ("UPDATE entries SET body = 7 WHERE seq = 40", 40, "not what was appended"),
        ("UPDATE entries SET checksum = 'x' WHERE seq = 40", 40, "not what was appended"),
        ("UPDATE entries SET checksum = zeroblob(16) WHERE seq = 120", 120, "not what was appended"),
        ("DELETE FROM entries WHERE seq = 40", 40, "missing"),
        ("DELETE FROM entries WHERE seq IN (40, 41, 42)", 40, "rows 40 to 42 are missing"),
        ("DELETE FROM entries WHERE seq = 1", 1, "missing"),
        ("DELETE FROM entries WHERE seq > 100", 101, "rows 101 to 120 are missing at the end"),
        ("DELETE FROM entries", 1, "rows 1 to 120 are missing at the end"),
        ("UPDATE head SET seq = 119", 119, "not the one the head names"),
        ("UPDATE head SET chain = zeroblob(16)", 120, "not the one the head names"),
        ("DELETE FROM head", 0, "cannot all be read"),
        ("DROP TABLE entries", 0, "cannot all be read"),
    ],
)
def test_an_edited_or_missing_row_is_found_at_its_place(run: Path, statement: str, seq: int, words: str) -> None:
    edit(run, statement)
    found = problems(run)
    assert (seq, True) in [(at, words in what) for at, what in found], found


def test_two_rows_that_changed_places_are_found(run: Path) -> None:
    edit(
        run,
        "UPDATE entries SET seq = 1000 WHERE seq = 50",
        "UPDATE entries SET seq = 50 WHERE seq = 52",
        "UPDATE entries SET seq = 52 WHERE seq = 1000",
    )
    assert {50, 52} <= {seq for seq, _ in problems(run)}


def test_rows_moved_up_into_a_gap_are_found(run: Path) -> None:
    edit(
        run,
        "DELETE FROM entries WHERE seq = 50",
        *(f"UPDATE entries SET seq = {n - 1} WHERE seq = {n}" for n in range(51, 121)),
    )
    assert problems(run)


@pytest.mark.parametrize(
    "how", ["DELETE FROM blobs WHERE digest = ?", "UPDATE blobs SET content = x'0061' WHERE digest = ?"]
)
def test_a_blob_that_is_gone_or_edited_is_found_at_every_row_that_needs_it(run: Path, how: str) -> None:
    journal = SqliteJournal(run)
    rows = [stored.row for stored in journal.rows()]
    text = unpack(rows[19], journal.blob).value["text"]
    journal.close()
    with sqlite3.connect(run / "journal.db") as connection:
        assert connection.execute(how, (blob_digest(text.encode()),)).rowcount == 1
    connection.close()
    # turn 10's answer: its own result, and every later request of the conversation
    assert [seq for seq, _ in problems(run)] == [20, *range(21, 120, 2)]


@pytest.mark.parametrize("form", ["body", "frames", "long"])
def test_a_lost_text_of_a_recorded_answer_is_found_and_the_rest_salvaged(tmp_path: Path, form: str) -> None:
    said, other = "said by a model " * 50, "said by another " * 50
    journal = SqliteJournal(tmp_path / "run", create=True)
    journal.claim(ME, gone=alive)
    for at, text in enumerate((other, said)):
        sent: object = json.dumps({"id": f"r{at}", "content": text})
        if form != "body":  # of the long ones even what is left has a blob of its own
            pieces = [text[start : start + 8] for start in range(0, len(text), 8)]
            pad = "x" * (2000 if form == "long" else 1)
            sent = [[at, json.dumps({"id": pad, "content": piece})] for piece in pieces]
        name = "body" if form == "body" else "frames"
        row, blobs = pack(Entry("result", Key.of(f"a{at}"), "now", {"value": {name: sent}}))
        journal.commit([row], blobs)
    journal.release()
    journal.close()
    with sqlite3.connect(tmp_path / "run" / "journal.db") as connection:
        assert connection.execute("DELETE FROM blobs WHERE digest = ?", (blob_digest(said.encode()),)).rowcount == 1
    connection.close()
    assert [seq for seq, _ in problems(tmp_path / "run")] == [2]
    target = MemoryJournal()
    target.claim(ME, gone=alive)
    assert salvage(tmp_path / "run", target).lost == [2]
    (kept,) = target.rows()
    assert other in json.dumps(unpack(kept.row, target.blob).data) or form != "body"
    assert target.blob(blob_digest(other.encode())) == other.encode()


def test_a_lost_link_of_a_conversation_is_found(run: Path) -> None:
    journal = SqliteJournal(run)
    links = [content for content in map(journal.blob, digests(run)) if b'"role"' in content]
    journal.close()
    with sqlite3.connect(run / "journal.db") as connection:
        connection.execute("DELETE FROM blobs WHERE digest = ?", (blob_digest(links[30]),))
    connection.close()
    assert problems(run)


def digests(run: Path) -> list[bytes]:
    with sqlite3.connect(run / "journal.db") as connection:
        found = [digest for (digest,) in connection.execute("SELECT digest FROM blobs ORDER BY rowid")]
    connection.close()
    return found


@pytest.mark.parametrize("left", [0, 1, 50, 100, PAGE, 3 * PAGE, 20 * PAGE + 5, -PAGE, -1])
def test_a_truncated_file_is_found(run: Path, left: int) -> None:
    file = run / "journal.db"
    os.truncate(file, left if left >= 0 else file.stat().st_size + left)
    assert problems(run)


def test_a_page_overwritten_anywhere_is_found_and_nothing_but_words_comes_of_it(run: Path) -> None:
    file = run / "journal.db"
    whole = file.read_bytes()
    pages = len(whole) // PAGE
    for page in {*range(12), *range(12, pages, 5), pages - 1}:
        for waste in (bytes(PAGE), random.Random(page).randbytes(PAGE)):
            file.write_bytes(whole[: page * PAGE] + waste + whole[(page + 1) * PAGE :])
            found = problems(run)
            assert found, f"page {page}"
            assert all(isinstance(what, str) and what for _, what in found)


def test_a_flipped_bit_in_what_a_row_holds_is_found(run: Path) -> None:
    file = run / "journal.db"
    whole = bytearray(file.read_bytes())
    at = whole.rindex(b"llm:30#1")
    whole[at] ^= 1
    file.write_bytes(whole)
    assert problems(run)


# the write-ahead log


@pytest.fixture
def killed(tmp_path: Path) -> Path:
    """A run as a kill leaves it: with its log and the shared memory beside it."""
    journal = SqliteJournal(tmp_path / "live", create=True)
    journal.claim(ME, gone=alive)
    for n in range(KILLED):
        journal.commit([result(f"t{n}")])
    (tmp_path / "killed").mkdir(mode=0o700)
    for file in (tmp_path / "live").glob("journal.db*"):
        shutil.copy(file, tmp_path / "killed" / file.name)
    journal.close()
    return tmp_path / "killed"


def test_a_log_that_a_kill_left_is_read(killed: Path) -> None:
    assert (killed / "journal.db-wal").stat().st_size > 0
    assert problems(killed) == []
    journal = SqliteJournal(killed)
    assert journal.head().seq == KILLED
    journal.close()


def test_our_reading_of_a_log_is_sqlites(killed: Path) -> None:
    log = read_log((killed / "journal.db-wal").read_bytes())
    memory = (killed / "journal.db-shm").read_bytes()
    assert log.good == struct.unpack("=I", memory[16:20])[0] > KILLED
    assert log.orphans == 0


@pytest.mark.parametrize("memory", [True, False])
def test_a_log_garbled_in_the_middle_is_damage_and_not_a_shorter_run(killed: Path, memory: bool) -> None:
    file = killed / "journal.db-wal"
    garbled = bytearray(file.read_bytes())
    garbled[len(garbled) // 2] ^= 255
    file.write_bytes(garbled)
    if not memory:
        (killed / "journal.db-shm").unlink()
    for _ in range(2):  # looking must not destroy the evidence
        ((_, words),) = problems(killed)
        assert "torn" in words
        assert file.read_bytes() == garbled


def test_a_log_that_lost_its_tail_is_damage(killed: Path) -> None:
    file = killed / "journal.db-wal"
    os.truncate(file, file.stat().st_size - 5000)
    assert "torn" in problems(killed)[0][1]


@pytest.mark.parametrize("create", [True, False])
def test_a_log_without_its_database_is_damage_and_never_a_fresh_start(killed: Path, create: bool) -> None:
    (killed / "journal.db").unlink()
    with pytest.raises(Damaged, match="its log is there"):
        SqliteJournal(killed, create=create)


def test_half_a_commit_at_the_end_of_a_log_is_only_what_a_kill_leaves(killed: Path) -> None:
    file = killed / "journal.db-wal"
    content = file.read_bytes()
    file.write_bytes(content + content[32 : 32 + 700])
    assert problems(killed) == []


# salvage


@pytest.fixture
def target(tmp_path: Path) -> Iterator[SqliteJournal]:
    journal = SqliteJournal(tmp_path / "salvaged", create=True)
    journal.claim(ME, gone=alive)
    yield journal
    journal.close()


def everything(run: Path) -> list[Row]:
    journal = SqliteJournal(run)
    rows = [stored.row for stored in journal.rows()]
    journal.close()
    return rows


def test_all_of_a_whole_journal_is_salvaged(run: Path, target: SqliteJournal) -> None:
    before = everything(run)
    done = salvage(run, target)
    assert (done.recovered, done.lost, done.unproven) == (2 * TURNS, [], [])
    assert [stored.row for stored in target.rows()] == before
    assert list(target.check()) == []


def test_a_log_counts_when_a_journal_is_salvaged(killed: Path, target: SqliteJournal) -> None:
    assert salvage(killed, target).recovered == KILLED


def test_a_torn_log_is_salvaged_up_to_the_tear(killed: Path, target: SqliteJournal) -> None:
    os.truncate(killed / "journal.db-wal", (killed / "journal.db-wal").stat().st_size // 2)
    done = salvage(killed, target)
    assert 0 < done.recovered < KILLED
    assert [row.key for _, row in target.rows()] == [f"t{n}" for n in range(done.recovered)]


@pytest.mark.parametrize("victim", [0, 1, 2, 3, 4])
def test_without_its_first_pages_a_journal_is_salvaged_but_for_what_lay_there(
    run: Path, target: SqliteJournal, victim: int
) -> None:
    file = run / "journal.db"
    whole = file.read_bytes()
    file.write_bytes(whole[: victim * PAGE] + bytes(PAGE) + whole[(victim + 1) * PAGE :])
    done = salvage(run, target)
    assert done.recovered + len(done.lost) == 2 * TURNS
    assert done.recovered >= 2 * TURNS - 8
    assert list(target.check()) == []


def test_whatever_page_is_destroyed_what_is_salvaged_is_true(run: Path) -> None:
    before = everything(run)
    file = run / "journal.db"
    whole = file.read_bytes()
    chance = random.Random(5)
    for page in range(1, len(whole) // PAGE, 3):
        file.write_bytes(whole[: page * PAGE] + chance.randbytes(PAGE) + whole[(page + 1) * PAGE :])
        target = MemoryJournal()
        target.claim(ME, gone=alive)
        done = salvage(run, target)
        assert done.recovered + len(done.lost) == 2 * TURNS
        kept = [row for seq, row in enumerate(before, 1) if seq not in set(done.lost)]
        assert [stored.row for stored in target.rows()] == kept
        assert list(target.check()) == []
        target.close()


@pytest.mark.parametrize(
    ("statement", "lost"),
    [
        ("DELETE FROM entries WHERE seq IN (7, 8)", [7, 8]),
        ("DELETE FROM entries WHERE seq > 110", list(range(111, 121))),
        ("UPDATE entries SET usd = 99 WHERE seq = 7", [7]),
    ],
)
def test_salvage_says_which_rows_are_lost(run: Path, target: SqliteJournal, statement: str, lost: list[int]) -> None:
    edit(run, statement)
    done = salvage(run, target)
    assert done.lost == lost
    assert done.recovered == 2 * TURNS - len(lost)


def test_a_row_whose_blob_is_lost_is_lost(run: Path, target: SqliteJournal) -> None:
    edit(run, "DELETE FROM blobs WHERE rowid = (SELECT max(rowid) FROM blobs)")
    assert salvage(run, target).lost == [2 * TURNS]


@pytest.mark.parametrize("content", [b"", b"junk", bytes(100_000), random.Random(1).randbytes(100_000)])
def test_of_nothing_nothing_is_salvaged(tmp_path: Path, target: SqliteJournal, content: bytes) -> None:
    (tmp_path / "wreck").mkdir()
    (tmp_path / "wreck" / "journal.db").write_bytes(content)
    assert salvage(tmp_path / "wreck", target).recovered == 0


def test_large_bodies_and_every_kind_of_number_are_salvaged(tmp_path: Path, target: SqliteJournal) -> None:
    journal = SqliteJournal(tmp_path / "run", create=True)
    journal.claim(ME, gone=alive)
    rows = [
        result(f"t{n}", usd=usd, tokens=tokens, attempt=n + 1, body='{"value":"' + body + '"}')
        for n, (usd, tokens) in enumerate([(None, None), (0.0, 0), (1.0, 1), (1.5, 2**40), (-3.0, 127), (1e300, 70000)])
        for body in ("", "é" * 90, os.urandom(40).hex() * 40, os.urandom(30_000).hex())
    ]
    journal.commit([*rows, intent("x")])
    journal.close()
    assert salvage(tmp_path / "run", target).lost == []
    assert [stored.row for stored in target.rows()] == [*rows, intent("x")]


def test_salvage_reads_and_never_writes_what_is_damaged(run: Path, target: SqliteJournal) -> None:
    os.truncate(run / "journal.db", 30 * PAGE)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    salvage(run, target)
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before
