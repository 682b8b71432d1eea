"""What continuing would come to is arithmetic, and whoever is left out is named with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.benchflow import Episode, folder
from tests.lab import Lab

from onward.adoption import adopt
from onward.formats.benchflow import prospect, read
from onward.keys import Key
from onward.report.prospects import estimate_line, length, prospects_page
from onward.runs import open_run
from onward.views.begun import replay_seconds
from onward.views.prospects import Prospect, of_run, summed

SPANS = st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e4)).map(lambda one: (one[0], one[0] + one[1])), max_size=8)


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ([], 0.0),
        ([(5.0, 9.0)], 0.3),
        ([(0.0, 4.0), (10.0, 14.0), (20.0, 24.0)], 12.9),
        ([(0.0, 10.0), (2.0, 4.0), (11.0, 12.0)], 1.9),
    ],
)
def test_a_replay_takes_the_time_in_which_no_call_was_under_way(calls: Any, expected: float) -> None:
    assert replay_seconds(calls) == pytest.approx(expected)


@given(SPANS, st.randoms())
def test_the_order_of_the_calls_does_not_matter_and_no_replay_is_longer_than_its_recording(
    calls: list[tuple[float, float]], random: Any
) -> None:
    found = replay_seconds(calls)
    shuffled = list(calls)
    random.shuffle(shuffled)
    assert replay_seconds(shuffled) == found >= 0
    if calls:
        whole = max(end for _, end in calls) - min(begin for begin, _ in calls)
        assert found <= whole + 0.3 * len(calls) + 1e-6


def test_a_timed_out_folder_is_estimated_at_its_own_rate(tmp_path: Path) -> None:
    found = prospect(read(folder(tmp_path, Episode().rows)), require_timeout=True)
    assert (found.left_out, found.exchanges, found.live) == ("", 3, 60.0)
    assert found.replay == pytest.approx(12.9)
    assert found.usd == pytest.approx(0.3)
    longer = prospect(read(folder(tmp_path, Episode().rows)), timeout=600.0)
    assert (longer.live, longer.usd) == (600.0, pytest.approx(3.0))


def test_the_run_of_a_folder_is_estimated_like_the_folder(tmp_path: Path) -> None:
    recording = read(folder(tmp_path / "a", Episode().rows))
    run = open_run(adopt(recording, tmp_path / "runs").folder)
    [found] = of_run(run)
    expected = prospect(recording)
    assert (found.name, found.left_out, found.exchanges, found.live) == ("claude-code/write-file/1", "", 3, 60.0)
    assert (found.replay, found.usd) == (pytest.approx(expected.replay, abs=0.01), pytest.approx(expected.usd))
    assert list(of_run(run, within=Key.of("claude-code", "another"))) == []
    run.close()


@pytest.mark.parametrize(
    ("result", "without", "reason"),
    [
        ({"error": None, "error_category": None}, [], "it ended by itself"),
        ({"error": "gone", "error_category": "infra_failure"}, [], "it ended with infra_failure"),
        ({}, ["result.json"], "it has no result"),
    ],
)
def test_a_folder_that_did_not_time_out_is_left_out_where_that_is_required(
    tmp_path: Path, result: Any, without: list[str], reason: str
) -> None:
    recording = read(folder(tmp_path, Episode().rows, result=result, without=without))
    assert reason in prospect(recording, require_timeout=True).left_out
    assert prospect(recording).left_out == ""


def test_a_folder_without_answers_is_always_left_out(tmp_path: Path) -> None:
    assert "nothing to go on from" in prospect(read(folder(tmp_path, b""))).left_out


def test_trials_that_are_no_timeouts_of_agents_are_left_out(tmp_path: Path) -> None:
    lab = Lab(tmp_path, 2)
    run = open_run(lab.store / lab.run().run)
    assert {one.left_out for one in of_run(run)} == {"its solver is no agent"}
    run.close()


def test_the_sum_is_one_line() -> None:
    many = [Prospect(f"t{n}", "", 30, 30.0, 1800.0, 0.75) for n in range(12)]
    assert estimate_line(summed(many)) == "12 timeouts: served again ≈ 6 min, live ≤ 6 h, ≈ $9"
    unknown = Prospect("u", "", 3, 10.0, None, None)
    assert estimate_line(summed([unknown])) == (
        "1 timeout: served again ≈ 10 s, live without a known limit, cost unknown"
    )
    assert estimate_line(summed([*many, unknown])).endswith("≈ $9, 1 of unknown cost")
    assert estimate_line(summed([])) == "no timeout to continue"


def test_the_page_names_who_is_left_out_and_why_and_what_is_damaged(tmp_path: Path) -> None:
    broken = read(folder(tmp_path / "broken", Episode(commands=["token = ***REDACTED***"]).rows))
    others = [Prospect(f"t{n}", "it is done") for n in range(7)]
    page = prospects_page([prospect(broken), *others])
    assert page.startswith("1 timeout: served again ≈ 13 s, live ≤ 60 s, ≈ $0.30\n")
    assert "damage: line 1: text was replaced as secret in what a tool was told to do" in page
    assert "left out: t0, t1, t2, t3, t4, t5, t6: it is done" in page
    assert "1 note: name the folder alone to read them" in page


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.2, "0 s"), (40, "40 s"), (360, "6 min"), (5400, "1.5 h"), (21600, "6 h")]
)
def test_lengths_in_words(seconds: float, shown: str) -> None:
    assert length(seconds) == shown


def test_the_real_folder_is_estimated(shared_data: Path) -> None:
    folders = sorted((shared_data / "benchflow").glob("*/config.json"))
    if not folders:
        pytest.skip(f"no run folder of BenchFlow's in {shared_data}")
    found = prospect(read(folders[0].parent))
    assert (found.exchanges, found.live) == (18, 900.0)
    assert 20 < found.replay < 40
    assert found.usd == pytest.approx(0.34763445 / 200.8 * 900)
    kinds = {one.kind for one in found.findings}
    assert kinds == {
        "partial request", "out of order", "error in the middle", "redacted request", "redacted answer", "side calls",
    }  # fmt: skip
