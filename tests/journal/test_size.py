"""A journal grows with what is new, not with what is said again."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.journal.contract import ME, alive

from onward.entry import Entry, pack, unpack
from onward.fingerprint import Fingerprint
from onward.journal import SqliteJournal
from onward.keys import Key

CHANCE = random.Random(11)


def words(length: int = 2048) -> str:
    """Text of made-up words: hardly compressible, so what is measured is ours."""
    return " ".join("".join(CHANCE.choices(string.ascii_lowercase, k=CHANCE.randint(3, 9))) for _ in range(length))[
        :length
    ]


def conversation(turns: int) -> Iterator[tuple[Entry, int]]:
    """Each turn's request, which repeats all before it, and its answer; with the bytes that the request had."""
    history: list[dict[str, str]] = []
    for turn in range(turns):
        history.append({"role": "user", "content": words()})
        request = {"model": "m-1", "messages": list(history), "temperature": 0.7}
        print_ = Fingerprint.of(model="m-1", request=request, seed=turn)
        key = Key.of("solver", "task-0001", "0", "generate", "0", f"llm:{print_.digest[:12]}#1")
        at = f"2026-07-30T12:{turn // 60:02}:{turn % 60:02}.123Z"
        sent = Entry("intent", key, at, {"request": request, "provider": "p"}, fingerprint=print_, usd=0.1, tokens=4000)
        yield sent, len(json.dumps(request))
        history.append({"role": "assistant", "content": words()})
        response = {
            "id": f"chatcmpl-{CHANCE.randbytes(12).hex()}", "object": "chat.completion", "model": "m-1",
            "created": 1_790_000_000 + turn, "choices": [{"index": 0, "message": history[-1], "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 500 * turn, "completion_tokens": 500, "total_tokens": 500 * turn + 500},
        }  # fmt: skip
        value = {"text": history[-1]["content"], "response": response}
        yield Entry("result", key, at, {"value": value}, "ok", fingerprint=print_, usd=0.05, tokens=2000), 0


def on_disk(run: Path) -> int:
    """Bytes of the database and its log."""
    return sum(path.stat().st_size for path in run.glob("journal.db*") if path.suffix != ".db-shm")


def written(run: Path, turns: int) -> tuple[int, int, int]:
    """Raw bytes of the requests, most bytes on disk at any moment, and bytes on disk at the end."""
    journal = SqliteJournal(run, create=True)
    journal.claim(ME, gone=alive)
    raw = most = 0
    entries = list(conversation(turns))
    for entry, size in entries:
        row, blobs = pack(entry)
        journal.commit([row], blobs)
        raw, most = raw + size, max(most, on_disk(run))
    assert list(journal.check()) == []
    last = list(journal.rows())[-2].row
    assert unpack(last, journal.blob).data == entries[-2][0].data
    journal.release()
    journal.close()
    return raw, most, on_disk(run)


def test_a_conversation_of_100_turns_takes_2_percent_of_its_requests_and_3_at_any_moment(tmp_path: Path) -> None:
    raw, most, end = written(tmp_path / "run", 100)
    assert raw > 20_000_000
    assert end <= 0.02 * raw, f"{end / raw:.4f}"
    assert most <= 0.03 * raw, f"{most / raw:.4f}"


def test_a_conversation_grows_with_its_turns_and_not_with_their_square(tmp_path: Path) -> None:
    sizes = [written(tmp_path / f"run{turns}", turns)[2] for turns in (30, 60, 120)]
    assert sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.1)


def test_a_row_costs_its_content_and_little_more(tmp_path: Path) -> None:
    journal = SqliteJournal(tmp_path / "run", create=True)
    journal.claim(ME, gone=alive)
    entries = [entry for entry, _ in conversation(2)]
    rows = [pack(entry)[0] for entry in entries] * 500
    journal.commit(rows)
    journal.release()
    journal.close()
    assert on_disk(tmp_path / "run") / len(rows) < 450
