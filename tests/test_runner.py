"""Trials through the window, and the two ways to stop (SEMANTICS §4, §5)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from tests.engine import Bench, run

from onward.errors import (
    BudgetReached,
    Fenced,
    OutOfReach,
    ProviderStopped,
    StepFailed,
    StepOwed,
    StepTimeout,
    Stopping,
)
from onward.runner import Outcome, Runner

Work = Callable[[], Awaitable[None]]


def ends(*errors: Exception | None) -> Iterator[Work]:
    for error in errors:

        async def body(error: Exception | None = error) -> None:
            if error is not None:
                raise error

        yield body


def drive(work: Iterator[Work], *, bench: Bench | None = None, **bounds: Any) -> Outcome:
    async def go() -> Outcome:
        return await Runner((bench or Bench()).recorder, **{"window": 1, **bounds}).run(work)

    return run(go())


def test_a_failure_and_a_timeout_are_settled_and_an_error_is_owed() -> None:
    outcome = drive(ends(None, StepFailed("no"), StepTimeout("late"), StepOwed("busy"), StepOwed("busy")))
    assert (outcome.settled, outcome.owed, outcome.stopped) == (3, 2, None)
    assert outcome.reasons == {"busy": 2}


def test_no_more_trials_are_open_than_the_window_lets() -> None:
    bench = Bench()
    inside, most = 0, 0

    async def body() -> None:
        nonlocal inside, most
        inside, most = inside + 1, max(most, inside + 1)
        await bench.clock.sleep(1)
        inside -= 1

    assert drive(iter([body] * 20), bench=bench, window=4).settled == 20
    assert most == 4


def test_errors_in_a_row_stop_the_run_and_a_success_between_starts_the_row_anew() -> None:
    busy = StepOwed("busy")
    outcome = drive(ends(*[busy] * 2, None, *[busy] * 3, None), max_errors=3)
    assert (outcome.settled, outcome.owed) == (1, 5) and "3 errors in a row, the last: busy" in str(outcome.stopped)
    assert drive(ends(*[busy] * 19, None)).stopped is None


def test_what_this_machine_has_not_is_no_error_in_a_row_with_others() -> None:
    lacking, busy = OutOfReach("no container"), StepOwed("busy")
    outcome = drive(ends(busy, *[lacking] * 30, None), max_errors=2)
    assert (outcome.settled, outcome.stopped, outcome.reasons["no container"]) == (1, None, 30)
    assert "2 errors in a row" in str(drive(ends(busy, lacking, busy, None), max_errors=2).stopped)


def test_a_provider_that_stopped_does_not_stop_the_run() -> None:
    outcome = drive(ends(*[ProviderStopped("no key", provider="a")] * 30, None), max_errors=3)
    assert (outcome.settled, outcome.owed, outcome.stopped) == (1, 30, None)


def test_a_budget_that_is_reached_stops_the_run_and_says_so() -> None:
    outcome = drive(ends(None, BudgetReached("$0.10 is left"), None))
    assert (outcome.settled, outcome.stopped) == (1, "budget: $0.10 is left")


@pytest.mark.parametrize("error", [Fenced("lost"), OSError(28, "No space left on device"), ZeroDivisionError()])
def test_what_is_about_the_run_itself_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        drive(ends(None, error, None))


def test_stopping_lets_what_is_open_finish_and_starts_nothing_more() -> None:
    bench = Bench()
    done: list[str] = []

    async def go() -> Outcome:
        runner = Runner(bench.recorder, window=2)

        async def body() -> None:
            await bench.clock.sleep(5)
            done.append("x")

        task = asyncio.create_task(runner.run(iter([body] * 10)))
        await bench.clock.sleep(1)
        runner.stop("enough")
        runner.stop("a second reason")
        return await task

    outcome = run(go())
    assert (done, outcome.settled, outcome.stopped) == (["x", "x"], 2, "enough")


def test_stopping_now_cancels_what_is_open() -> None:
    bench = Bench()

    async def go() -> Outcome:
        runner = Runner(bench.recorder, window=2)

        async def body() -> None:
            await asyncio.Event().wait()

        task = asyncio.create_task(runner.run(iter([body] * 10)))
        await bench.clock.sleep(1)
        runner.stop_now("at once")
        return await task

    assert (run(go()).owed, run(go()).stopped) == (2, "at once")


@pytest.mark.parametrize("now", [False, True])
def test_mail_stops_it_and_is_cleared_and_mail_that_is_no_wish_is_passed_over(now: bool) -> None:
    bench = Bench()
    for message in ("not json", json.dumps({"want": "tea"}), json.dumps({"want": "stop", "now": now})):
        bench.journal.post(message)

    async def body() -> None:
        await bench.clock.sleep(60)

    outcome = drive(iter([body] * 3), bench=bench)
    assert (outcome.settled, outcome.owed) == ((0, 1) if now else (1, 0))
    assert outcome.stopped == "stopped by `onward stop`" and bench.journal.poll() == []


def test_a_heartbeat_is_written_while_it_runs_and_a_lost_lease_ends_it() -> None:
    bench = Bench()
    beats: list[float] = []

    async def body() -> None:
        for _ in range(5):
            await bench.clock.sleep(10)
            holder = bench.journal.holder()
            beats.append(holder.heartbeat if holder else 0)
        Bench(stored=bench.stored, clock=bench.clock)  # takes the lease by force
        holder = bench.journal.holder()
        bench.stored._ours = 0  # type: ignore[attr-defined]
        await bench.clock.sleep(600)
        raise AssertionError("it went on without the lease")

    with pytest.raises(Fenced):
        drive(iter([body]), bench=bench)
    assert beats == sorted(set(beats)) and beats[-1] - beats[0] >= 20


def test_a_stop_from_below_ends_the_run_too() -> None:
    """A nearly full disk stops at the limiter: no further trial is opened only to be told so."""
    opened: list[int] = []

    def work() -> Iterator[Work]:
        for number in range(100):
            opened.append(number)
            yield from ends(Stopping("the disk is nearly full"))

    outcome = drive(work())
    assert outcome.stopped == "the disk is nearly full" and len(opened) == 1
