"""What a person reads: the opening line, the live one, the last ones."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from onward.cli.demo import bill
from onward.cli.display import Board, Rate, opening, status
from onward.cli.streaming import Stream
from onward.cli.supervise import counted
from onward.cli.voice import Voice, heard
from onward.cli.words import moment, percent, span
from onward.episode import Told
from onward.errors import UsageError
from onward.journal import Sums
from onward.keys import Key
from onward.progress import Event, Progress

NOON = datetime(2026, 5, 4, 12, 0, tzinfo=UTC)
NOW = NOON.timestamp()


def facts(**more: object) -> dict[str, object]:
    return {"verb": "resume", "doubt": 0, "doubt_usd": 0.0, "sums": Sums((0.41, 10, 61), (0, 0, 0), (0, 0, 0)), **more}


def at(**before: float) -> str:
    return (NOON - timedelta(**before)).isoformat()


def clock(**before: float) -> str:
    return f"{(NOON - timedelta(**before)).astimezone():%H:%M}"


def test_a_resume_says_what_was_found_and_what_it_will_do() -> None:
    progress = Progress("nightly-3f9a1c", 165, 61, 104, spent_before=0.41)
    found = facts(died=object(), doubt=4, doubt_usd=0.03)
    assert opening(progress, found, NOW, at(minutes=30)) == (
        f"nightly-3f9a1c: 61 of 165 done ($0.41). Died {clock(minutes=30)}. "
        "104 to do, 4 in doubt will be asked again (at most $0.03)."
    )


def test_what_stopped_by_itself_did_not_die() -> None:
    progress = Progress("nightly-3f9a1c", 165, 61, 104, spent_before=0.41)
    assert f"Stopped {clock(minutes=30)}. 104 to do." in opening(progress, facts(died=None), NOW, at(minutes=30))


def test_a_complete_run_says_so_and_how_to_measure_again() -> None:
    progress = Progress("nightly-3f9a1c", 165, 165, 0, spent_before=0.41)
    said = opening(progress, facts(verb="run"), NOW, at(days=1))
    assert said == f"nightly-3f9a1c: already complete (yesterday {clock(days=1)}, 0 calls). New measurement: --new"


def test_a_fresh_and_a_narrowed_run() -> None:
    empty = facts(sums=Sums((0, 0, 0), (0, 0, 0), (0, 0, 0)))
    assert opening(Progress("n-1", 165, 0, 165), empty, NOW) == "n-1: 165 to do."
    assert opening(Progress("n-1", 165, 0, 20), empty, NOW) == "n-1: 165 trials, 165 owed, 20 of them now."


def test_the_live_line_has_everything_that_moves() -> None:
    progress = Progress(
        "n-1", 165, 61, 104, primary="numeric", settled=1, errors=2, usd=0.01, spent_before=0.41, reused_usd=0.1,
        score_sum=0.5, scored=1, asking=lambda: 10, note="waiting for openai until 03:12",
    )  # fmt: skip
    assert status(progress, 2.0) == (
        "[62/165] · 2.0/s · ETA 0:52 · 10 in flight · 2 errors · numeric 50.0 % of 1 new · $0.42 spent · "
        "$0.10 reused · waiting for openai until 03:12"
    )


def test_the_rate_is_of_the_last_half_minute() -> None:
    rate = Rate()
    assert rate(0.0, 0) == 0.0
    assert rate(10.0, 20) == 2.0
    for second in range(11, 60):
        last = rate(float(second), 20)
    assert last == 0.0


def test_nothing_is_called_done_before_it_is() -> None:
    out = io.StringIO()
    board = Board(Voice(), Console(file=out, width=120))
    progress = Progress("n-1", 2, 0, 2)
    board.begin(progress, {**facts(sums=Sums((0, 0, 0), (0, 0, 0), (0, 0, 0))), "folder": "nowhere"})
    assert "0 of" not in out.getvalue() and "[1/2]" not in out.getvalue()
    board.text(Key("a/b/1/generate/0/llm:x#1"), "not yet")
    assert "not yet" not in out.getvalue()


def test_a_stream_keeps_conversations_apart() -> None:
    out = io.StringIO()
    stream = Stream(Console(file=out, width=120))
    one, two = Key("s/a/1/generate/0/llm:1#1"), Key("s/b/1/generate/0/llm:2#1")
    for key, piece in ((one, "Hel"), (two, "Good"), (one, "lo"), (two, "bye")):
        stream.text(key, piece)
    stream.ended(Event("step.completed", two, "ok", 0.01, 5))
    stream.ended(Event("step.completed", one, "ok", 0.01, 5))
    said = out.getvalue()
    assert said.index(f"── {one}\nHello\n") < said.index(f"── {two}\nGoodbye\n") and said.count("5 tokens") == 2


def test_a_trial_is_told_by_what_its_agent_said_last() -> None:
    out = io.StringIO()
    board = Board(Voice("debug"), Console(file=out, width=120))
    output = {"final": "All\ndone.", "reward": 1.0, "rewards": {"reward": 1.0}}
    board.trial(Key("coder/fix/1"), "ok", {"reward": {"value": 1.0}}, output)
    assert out.getvalue() == "coder/fix/1 ok · reward 1 · All done.\n"


def told(task: str, said: str, before: Sequence[str] = (), call: str = "") -> Told:
    """An exchange that answers a conversation with these words."""
    messages = [{"role": "user", "content": f"Do {task}."}]
    for words in before:
        messages += [{"role": "assistant", "content": words}, {"role": "user", "content": "And?"}]
    answer = {"choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}
    key = Key(f"coder/{task}/1/generate/0/llm:{said}#1")
    return Told(key, "chat", {"messages": messages}, {"status": 200, "body": json.dumps(answer)}, call)


def test_an_exchange_is_a_line_that_never_breaks_another() -> None:
    out = io.StringIO()
    stream, model = Stream(Console(file=out, width=120)), Key("s/a/1/generate/0/llm:1#1")
    stream.text(model, "Half a")
    stream.exchange(told("fix", "Reading."))
    stream.asked(Event("step.failed", Key("coder/parse/1/generate/0/llm:x#1"), "error", detail={"reason": "busy"}))
    assert out.getvalue().endswith("Half a")
    stream.pause()
    stream.text(model, " line")
    stream.ended(Event("step.completed", model, "ok", 0.01, 5))
    assert out.getvalue().splitlines()[1:] == [
        "Half a", " line", "   ok · 5 tokens · $0.01",
        "coder/fix/1 · lane 1, turn 1 · live · Reading.", "coder/parse/1 · error · busy",
    ]  # fmt: skip


def test_lanes_are_told_apart_while_they_grow() -> None:
    out = io.StringIO()
    stream = Stream(Console(file=out, width=60))
    for one in (
        told("fix", "One."), told("parse", "Uno."), told("fix", "Two.", ["One."], "exact"), told("fix", "Aside."),
        told("fix", "Three. " + "long " * 50, ["One.", "Two."]), told("fix", "Else.", ["One."]),
        told("fix", "Two.", ["One."], "exact"),
    ):  # fmt: skip
        stream.exchange(one)
    said = out.getvalue().splitlines()
    assert [" · ".join(line.split(" · ")[:3]) for line in said] == [
        "coder/fix/1 · lane 1, turn 1 · live", "coder/parse/1 · lane 1, turn 1 · live",
        "coder/fix/1 · lane 1, turn 2 · served exact", "coder/fix/1 · lane 2, turn 1 · live",
        "coder/fix/1 · lane 1, turn 3 · live", "coder/fix/1 · lane 3, turn 1 · live",
        "coder/fix/1 · lane 1, turn 2 · served exact",
    ]  # fmt: skip
    assert said[4].endswith("…") and max(map(len, said)) < 90
    stream.settled(Key("coder/fix/1"))
    stream.exchange(told("fix", "Again."))
    assert out.getvalue().splitlines()[-1].startswith("coder/fix/1 · lane 1, turn 1")


def test_times_and_scores_in_words() -> None:
    assert [span(value) for value in (7.4, 751, 7500)] == ["0:07", "12:31", "2:05:00"]
    assert moment(at(hours=1), NOW) == clock(hours=1)
    assert moment(at(days=40), NOW).startswith("25 March ")
    assert (percent(0.4125), percent(3.25)) == ("41.2 %", "3.25")


@pytest.mark.parametrize(
    ("words", "left", "level", "is_json"),
    [
        (["-v", "run", "x"], ["run", "x"], "debug", False), (["run", "x", "--quiet"], ["run", "x"], "warning", False),
        (["run", "--log-format", "json", "x"], ["run", "x"], "info", True),
        (["run", "--log-level=error", "x"], ["run", "x"], "error", False),
        (["wrap", "--", "tool", "-v"], ["wrap", "--", "tool", "-v"], "info", False),
    ],
)  # fmt: skip
def test_voices_stand_anywhere(words: list[str], left: list[str], level: str, is_json: bool) -> None:
    found, voice = heard(words)
    assert (found, voice.level, voice.json) == (left, level, is_json)


def test_a_voice_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UsageError, match='Did you mean "debug"'):
        heard(["run", "--log-level", "debgu"])


def test_auto_resume_has_a_number_of_its_own() -> None:
    assert counted(["run", "--auto-resume", "x.yaml"]) == ["run", "--auto-resume", "3", "x.yaml"]
    assert counted(["run", "--auto-resume", "7"]) == ["run", "--auto-resume", "7"]
    assert counted(["run", "x", "--auto-resume"]) == ["run", "x", "--auto-resume", "3"]


def test_the_bill_finds_an_answer_that_was_paid_for_twice() -> None:
    def line(digest: str, received: float, answered: float) -> dict[str, object]:
        return {"digest": digest, "received": received, "answered": answered}

    in_flight = [line("a", 0, 1), line("b", 9.7, 9.9), line("b", 12, 13), line("c", 12, 13)]
    assert (bill(in_flight, 10.0).twice, bill(in_flight, 10.0).lost, bill(in_flight, 10.0).before) == (1, 0, 2)
    paid_twice = [*in_flight, line("a", 12, 13)]
    assert bill(paid_twice, 10.0).lost == 1
    assert json.dumps(paid_twice)
