"""What every journal promises, as one suite. A backend's test file has a class that derives from this one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onward.entry import BlobRef, Entry, Row, blob_digest, pack, unpack
from onward.errors import Damaged, Fenced, Held
from onward.fingerprint import Fingerprint
from onward.journal.contract import Holder, Journal, Newest, Sums
from onward.keys import Key

ME = Holder("here", "boot-1", "pid:[1]", 4711, "99", 1_700_000_000.0, command="onward run spec.toml")
OTHER = replace(ME, pid=4712, command="onward resume nightly")
PRINT = "0123456789abcdef0123456789abcdef"


def alive(_: Holder) -> bool:
    return False


def dead(_: Holder) -> bool:
    return True


def result(key: str, outcome: str = "ok", **other: object) -> Row:
    row = Row("result", key, 1, 0, outcome, PRINT, "2026-07-30T12:00:00.000Z", None, None, '{"value":1}')
    return row._replace(**other)


def intent(key: str, usd: float = 1.0, tokens: int = 100, **other: object) -> Row:
    row = Row("intent", key, 1, 0, None, PRINT, "2026-07-30T12:00:00.000Z", usd, tokens, "{}")
    return row._replace(**other)


class Told:
    """Gathers what `done` was called with, in order."""

    def __init__(self) -> None:
        self.outcomes: list[BaseException | None] = []
        self._changed = threading.Condition()

    def __call__(self, error: BaseException | None) -> None:
        with self._changed:
            self.outcomes.append(error)
            self._changed.notify_all()

    def wait(self, count: int) -> list[BaseException | None]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.outcomes) >= count, timeout=60)
            return list(self.outcomes)


names = st.text(st.sampled_from("ab/0.-é\U0001f600 "), min_size=1, max_size=3)
keys = st.lists(names, max_size=4).map(lambda parts: Key.of(*parts))


class JournalContract:
    """Derive, and give a fixture `empty`: a function that makes a new journal without rows or holder each time."""

    @pytest.fixture
    def journal(self, empty: Callable[[], Journal]) -> Journal:
        made = empty()
        made.claim(ME, gone=alive)
        return made

    # rows

    def test_what_is_committed_is_read_back_as_it_was(self, journal: Journal) -> None:
        rows = [
            Row("plan", "", 1, 0, None, None, "2026-07-30T12:00:00Z", None, None, '{"axes":{}}'),
            Row("intent", "a/ü/\U0001f600", 2, 3, None, PRINT, "2026-07-30T12:00:00.5Z", 0.1, 12, '{"request":{}}'),
            Row("result", "a/ü/\U0001f600", 2, 3, "ok", "not a digest", "2026-07-30", 1e-9, 0, '{"value":"é"}'),
            Row("result", "a", 1, 0, "failed", PRINT.upper(), "x", 0.0, 2**62, '{"value":"' + "long " * 500 + '"}'),
            Row("void", "a", 1, 0, None, None, "x", None, None, '{"prefixes":["a/ü"],"why":"0123456789abcdef"}'),
        ]
        journal.commit(rows)
        assert [row for _, row in journal.rows()] == rows
        assert [seq for seq, _ in journal.rows()] == [1, 2, 3, 4, 5]

    def test_a_key_of_our_own_type_is_read_back_as_plain_text(self, journal: Journal) -> None:
        journal.commit([result(Key.of("a", "b"))])
        (stored,) = journal.rows()
        assert stored.row.key == "a/b"

    def test_an_empty_journal_has_a_head_and_nothing_else(self, journal: Journal) -> None:
        assert journal.head().seq == 0
        assert list(journal.rows()) == list(journal.newest(1)) == journal.poll() == list(journal.check()) == []
        assert journal.sums() == Sums((0.0, 0, 0), (0.0, 0, 0), (0.0, 0, 0))

    def test_rows_count_from_one_without_gaps_over_many_appends(self, journal: Journal) -> None:
        for size in (1, 0, 3, 2):
            journal.commit([result(f"t{size}")] * size)
        assert [seq for seq, _ in journal.rows()] == [1, 2, 3, 4, 5, 6]
        assert journal.head().seq == 6

    def test_the_head_depends_on_every_row_and_on_their_order(self, empty: Callable[[], Journal]) -> None:
        heads = []
        for order in (["a", "b"], ["b", "a"], ["a", "c"], ["a", "b"]):
            journal = empty()
            journal.claim(ME, gone=alive)
            journal.commit(map(result, order))
            heads.append(journal.head())
        assert heads[0] == heads[3]
        assert len({head.chain for head in heads}) == 3

    def test_a_prefix_covers_itself_and_what_is_under_it_and_no_namesake(self, journal: Journal) -> None:
        journal.commit(map(result, ["a", "a/b", "a-b", "a/b/c", "a0", "a.b", "b/a", "", "a/bc"]))
        assert [row.key for _, row in journal.rows("a")] == ["a", "a/b", "a/b/c", "a/bc"]
        assert [row.key for _, row in journal.rows("a/b")] == ["a/b", "a/b/c"]
        assert [row.key for _, row in journal.rows("nothing")] == []

    def test_rows_can_be_asked_for_from_a_place_on_and_by_kind(self, journal: Journal) -> None:
        journal.commit([intent("a"), result("a"), intent("b"), result("b"), intent("a/c")])
        assert [seq for seq, _ in journal.rows(after=3)] == [4, 5]
        assert [seq for seq, _ in journal.rows("a", after=1)] == [2, 5]
        assert [seq for seq, _ in journal.rows(kinds=("result",))] == [2, 4]
        assert [seq for seq, _ in journal.rows("a", after=1, kinds=["intent", "void"])] == [5]

    @settings(
        max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors]
    )
    @given(written=st.lists(keys, max_size=30), prefix=keys, after=st.integers(0, 31))
    def test_reading_under_a_prefix_is_what_a_plain_filter_would_give(
        self, empty: Callable[[], Journal], written: list[Key], prefix: Key, after: int
    ) -> None:
        journal = empty()
        journal.claim(ME, gone=alive)
        journal.commit(map(result, written))
        expected = [(n, key) for n, key in enumerate(written, 1) if n > after and prefix.covers(key)]
        assert [(seq, row.key) for seq, row in journal.rows(prefix, after=after)] == expected
        journal.close()

    def test_a_reader_in_the_middle_does_not_hold_up_the_writer(self, journal: Journal) -> None:
        journal.commit([result(f"t{n}") for n in range(1000)])
        reader = journal.rows()
        next(reader)
        journal.commit([result("late")])
        seen = [row.key for _, row in reader]
        assert len(seen) in (999, 1000)

    def test_the_same_journal_can_be_read_from_many_threads(self, journal: Journal) -> None:
        journal.commit([result(f"t{n}") for n in range(300)])
        counts: list[int] = []
        threads = [threading.Thread(target=lambda: counts.append(len(list(journal.rows())))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts == [300] * 8

    # newest and sums

    def test_the_newest_result_of_each_key_in_key_order(self, journal: Journal) -> None:
        journal.commit([result("b/x", "error"), result("a/x"), intent("a/y"), result("a"), result("a/x/z")])
        journal.commit([result("b/x", "ok", attempt=2), result("a/x", "failed", generation=1, fingerprint=None)])
        assert list(journal.newest(2)) == [
            Newest("a/x", 7, "failed", 1, None),
            Newest("b/x", 6, "ok", 0, PRINT),
        ]
        assert [found.key for found in journal.newest(1)] == ["a"]

    def test_the_newest_is_by_place_and_not_by_generation_or_attempt(self, journal: Journal) -> None:
        journal.commit([result("a", "ok", generation=2, attempt=3), result("a", "timeout", fingerprint="odd")])
        assert list(journal.newest(1)) == [Newest("a", 2, "timeout", 0, "odd")]

    def test_newest_goes_on_over_many_pages(self, journal: Journal) -> None:
        journal.commit([result(f"t{n:05d}/a") for n in range(9000)])
        assert [found.key for found in journal.newest(2)] == [f"t{n:05d}/a" for n in range(9000)]

    def test_spent_reused_and_doubtful_money_are_never_mixed(self, journal: Journal) -> None:
        journal.commit([
            intent("a", 5.0, 50), result("a", usd=2.0, tokens=20),
            result("a", "error", usd=1.0, tokens=None, attempt=2),
            intent("b", 8.0, 80), intent("b", 8.0, 80, attempt=2), result("b", "error", usd=0.0, tokens=7),
            intent("c", 3.0, 30, generation=1), result("c"),
            result("d", body='{"value":1,"origin":{"run":"old","seq":3,"usd":0.25}}', tokens=9),
            result("d2", body='{"value":"\\"origin\\":"}', usd=4.0),
        ])  # fmt: skip
        assert journal.sums() == Sums((7.0, 27, 4), (0.25, 9, 1), (11.0, 110, 2))
        assert journal.sums("b") == Sums((0.0, 7, 1), (0.0, 0, 0), (8.0, 80, 1))
        assert journal.sums("nothing") == Sums((0.0, 0, 0), (0.0, 0, 0), (0.0, 0, 0))

    # blobs

    def test_an_entry_with_long_content_comes_back_whole(self, journal: Journal) -> None:
        history = [{"role": "user", "content": f"{n} " + "word " * 200} for n in range(5)]
        entry = Entry(
            "intent", Key.of("s", "t"), "now", {"request": {"messages": history, "tools": ["x" * 300]}},
            fingerprint=Fingerprint.of(model="m"), usd=0.5,
        )  # fmt: skip
        row, blobs = pack(entry)
        journal.commit([row], blobs)
        journal.commit([row], blobs)
        assert [unpack(row, journal.blob) for _, row in journal.rows()] == [entry, entry]
        assert list(journal.check()) == []

    @pytest.mark.parametrize(
        "content",
        [b"", b"\0", b"\1\2\3", b"a" * 10_000, bytes(range(256)) * 4, b"(\xb5/\xfd", PRINT.encode() * 9, b'\1"'],
    )  # fmt: skip
    def test_a_blob_is_kept_to_the_byte(self, journal: Journal, content: bytes) -> None:
        journal.commit([], {blob_digest(content): content})
        assert journal.blob(blob_digest(content)) == content

    def test_a_blob_that_is_not_there_is_damage(self, journal: Journal) -> None:
        with pytest.raises(Damaged, match="is not in the journal"):
            journal.blob(blob_digest(b"nothing"))

    def test_check_names_the_row_whose_blob_is_missing(self, journal: Journal) -> None:
        row, blobs = pack(Entry("result", Key.of("a"), "now", {"value": {"messages": ["x" * 300, "y", "z"]}}))
        missing = next(name for name in blobs if blobs[name] == b"x" * 300)
        journal.commit([result("b"), row], {name: blobs[name] for name in blobs if name != missing})
        (problem,) = journal.check()
        assert problem.seq == 2
        assert missing.hex() in problem.what

    def test_an_attachment_that_a_row_refers_to_is_looked_for_too(self, journal: Journal) -> None:
        there, gone = b"\xff\x00 an image", b"another"
        for content in (there, gone):
            row, _ = pack(Entry("plan", Key.of("a"), "now", {"file": BlobRef(blob_digest(content).hex())}))
            journal.commit([row], {blob_digest(there): there})
        assert [problem.seq for problem in journal.check()] == [2]

    # appending

    def test_appends_land_in_the_order_they_were_made_and_report_in_it(self, journal: Journal) -> None:
        told = [Told() for _ in range(200)]
        for n, done in enumerate(told):
            journal.append([result(f"t{n}"), result(f"t{n}/x")], {}, done)
        for done in told:
            assert done.wait(1) == [None]
        assert [row.key for _, row in journal.rows()] == [key for n in range(200) for key in (f"t{n}", f"t{n}/x")]

    def test_done_is_called_on_another_thread(self, journal: Journal) -> None:
        threads: list[int] = []
        told = Told()
        journal.append([result("a")], {}, lambda error: (threads.append(threading.get_ident()), told(error))[1])
        told.wait(1)
        assert threads[0] != threading.get_ident()

    def test_what_is_reported_done_can_be_read_by_then(self, journal: Journal) -> None:
        seen: list[int] = []
        told = Told()
        for n in range(20):
            journal.append([result(f"t{n}")], {}, lambda error: (seen.append(journal.head().seq), told(error))[1])
        told.wait(20)
        assert all(seq > n for n, seq in enumerate(seen))

    def test_an_iterator_that_fails_takes_back_its_own_append_and_no_other(self, journal: Journal) -> None:
        def broken() -> Iterator[Row]:
            for n in range(2000):
                yield result(f"lost{n}")
            raise LookupError("the parent is gone")

        content = b"z" * 400
        told = Told()
        journal.append([result("before")], {}, told)
        journal.append(broken(), {blob_digest(content): content}, told)
        journal.append([result("after")], {blob_digest(content): content}, told)
        first, second, third = told.wait(3)
        assert (first, third) == (None, None)
        assert isinstance(second, LookupError)
        assert [(seq, row.key) for seq, row in journal.rows()] == [(1, "before"), (2, "after")]
        assert journal.blob(blob_digest(content)) == content
        assert list(journal.check()) == []

    @pytest.mark.parametrize(
        "row", [result("a", usd=float("nan")), result("a\ud800"), result("a", tokens=2**70), result("a", attempt="x")]
    )
    def test_a_row_that_cannot_be_stored_fails_alone(self, journal: Journal, row: Row) -> None:
        with pytest.raises((ValueError, OverflowError)):
            journal.commit([result("good"), row])
        journal.commit([result("next")])
        assert [(seq, row.key) for seq, row in journal.rows()] == [(1, "next")]

    def test_rows_may_come_from_anything_that_can_be_iterated(self, journal: Journal) -> None:
        journal.commit({result("a"): 1}.keys())
        journal.commit(result(f"t{n}") for n in range(3000))
        assert journal.head().seq == 3001

    def test_rows_are_drawn_on_the_writers_thread(self, journal: Journal) -> None:
        threads: set[int] = set()

        def drawn() -> Iterator[Row]:
            threads.add(threading.get_ident())
            yield result("a")

        journal.commit(drawn())
        assert threads.isdisjoint({threading.get_ident()})

    def test_a_callback_that_fails_does_not_stop_the_journal(
        self, journal: Journal, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        faults: list[threading.ExceptHookArgs] = []
        monkeypatch.setattr(threading, "excepthook", faults.append)

        def broken(_: BaseException | None) -> None:
            raise RuntimeError("the loop is closed")

        journal.append([result("a")], {}, broken)
        journal.commit([result("b")])
        assert journal.head().seq == 2
        assert [str(fault.exc_value) for fault in faults] == ["the loop is closed"]

    # the lease

    def test_without_a_claim_nothing_is_appended(self, empty: Callable[[], Journal]) -> None:
        journal = empty()
        with pytest.raises(Fenced):
            journal.commit([result("a")])
        assert journal.head().seq == 0

    def test_a_second_claim_is_refused_and_told_who_holds_the_run(self, journal: Journal) -> None:
        with pytest.raises(Held) as refusal:
            journal.claim(OTHER, gone=alive)
        for words in ("4711", "here", "2023-11-14 22:13:20 UTC", "onward run spec.toml"):
            assert words in str(refusal.value)
        holder = journal.holder()
        assert holder is not None
        assert (holder.pid, holder.host, holder.boot, holder.namespace, holder.started) == (
            4711,
            "here",
            "boot-1",
            "pid:[1]",
            "99",
        )

    def test_the_lease_of_the_dead_is_taken_over_with_a_larger_token(self, empty: Callable[[], Journal]) -> None:
        journal = empty()
        first = journal.claim(ME, gone=alive)
        asked: list[Holder] = []
        second = journal.claim(OTHER, gone=lambda holder: (asked.append(holder), True)[1])
        assert second > first
        assert [holder.pid for holder in asked] == [4711]
        journal.commit([result("a")])

    def test_a_lease_given_back_is_free_and_its_token_is_not_given_again(self, journal: Journal) -> None:
        journal.commit([result("a")])
        journal.release()
        assert journal.holder() is None
        with pytest.raises(Fenced):
            journal.commit([result("b")])
        with pytest.raises(Fenced):
            journal.beat(1.0)
        assert journal.claim(OTHER, gone=alive) > 1
        journal.commit([result("c")])
        assert [row.key for _, row in journal.rows()] == ["a", "c"]

    def test_release_waits_for_all_appends_and_twice_is_once(self, journal: Journal) -> None:
        told = Told()
        for n in range(50):
            journal.append([result(f"t{n}")], {}, told)
        journal.release()
        assert told.outcomes == [None] * 50
        journal.release()

    def test_a_heartbeat_is_seen_by_whoever_asks(self, journal: Journal) -> None:
        journal.beat(1_700_000_060.0)
        holder = journal.holder()
        assert holder is not None
        assert holder.heartbeat == 1_700_000_060.0

    # the mailbox

    def test_posts_wait_in_order_until_they_are_cleared(self, empty: Callable[[], Journal]) -> None:
        journal = empty()
        for message in ("one", "two", "drei ü"):
            journal.post(message)
        journal.claim(ME, gone=alive)
        waiting = journal.poll()
        assert [text for _, text in waiting] == ["one", "two", "drei ü"]
        assert journal.poll() == waiting
        journal.clear(waiting[1][0])
        assert journal.poll() == waiting[2:]

    def test_a_post_after_a_clear_never_takes_an_older_ones_place(self, journal: Journal) -> None:
        journal.post("one")
        ((first, _),) = journal.poll()
        journal.clear(first)
        journal.post("two")
        journal.clear(first)
        assert [text for _, text in journal.poll()] == ["two"]

    def test_only_the_holder_clears_the_mailbox(self, journal: Journal) -> None:
        journal.post("stop")
        journal.release()
        with pytest.raises(Fenced):
            journal.clear(99)
        assert [text for _, text in journal.poll()] == ["stop"]

    # the end

    def test_close_finishes_what_was_appended_and_twice_is_once(self, journal: Journal) -> None:
        told = Told()
        for n in range(50):
            journal.append([result(f"t{n}")], {}, told)
        journal.close()
        journal.close()
        assert told.outcomes == [None] * 50
        with pytest.raises(ValueError, match="closed"):
            journal.append([result("late")], {}, told)
