"""The one door: money over all invocations, doubt, exit codes (SEMANTICS §5, §8)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.house import House, Oracle, quick_folder, right

from onward import launch
from onward.ask import Answer, Usage
from onward.errors import (
    Damaged,
    Drifted,
    Fenced,
    Held,
    NotThere,
    OnwardError,
    SpecError,
    StepOwed,
    UsageError,
)  # fmt: skip
from onward.journal import SqliteJournal
from onward.runs import JOURNAL
from onward.testing import Crash, CrashingJournal, FakeClock, InlineJournal, crash_at
from onward.views import summary


@pytest.fixture
def house() -> Iterator[House]:
    with quick_folder() as folder:
        yield House(folder)


PRICED: dict[str, Any] = {"prices": {"python/m": "10000/10000"}, "solver": {"model": "python/m", "max_tokens": 10}}
"""A token costs a cent. A call is reserved for $1.84, by the bytes of its request; its answer says what it cost."""


def spent(house: House) -> float:
    with house.opened() as run:
        return summary(run).usd


# ---------------------------------------------------------------- money


def test_a_budget_is_the_runs_total_over_all_its_invocations(house: House) -> None:
    house.spec |= {**PRICED, "limits": {"concurrency": 1}}
    house.model = Oracle(lambda text, params: Answer(right(text, params), usd=0.5))
    first = house.run(limits={"budget_usd": 2.4})
    assert (first.code, first.done) == (3, 2) and "budget" in str(first.stopped), first
    assert house.run(limits={"budget_usd": 2.4}).calls == 0, "what is left does not fit, today as yesterday"
    assert house.resume(limits={"budget_usd": 50}).code == 0
    assert house.model.calls == 3


def test_an_unknown_price_refuses_a_budget_until_told(house: House) -> None:
    house.spec |= {"prices": {"python/m": "1/1"}}
    ending = house.run(limits={"budget_usd": 5})
    assert ending.code == 3 and "--price" in str(ending.stopped) and house.model.calls == 0
    assert house.run().code == 0


def test_a_call_in_doubt_is_charged_and_a_user_may_ask_to_stop_for_it(house: House) -> None:
    house.spec |= {**PRICED, "limits": {"concurrency": 1}}
    house.run(max_new=0)
    with house.opened() as run:
        folder = run.folder
    with pytest.raises(Crash):
        house.drive(folder, journal=lambda inner: crash_at(2, inner))
    with house.opened() as run:
        count, bound = run.in_doubt()
        assert count == 1 and bound > 0.1
    ending = house.resume(in_doubt="stop")
    assert (ending.code, ending.calls) == (3, 0) and "1 calls are in doubt" in str(ending.stopped)
    tight = house.resume(limits={"budget_usd": bound * 1.5})
    assert (tight.code, tight.calls) == (3, 0), "the doubt fills the budget"
    assert house.resume().code == 0 and house.model.calls == 4
    with house.opened() as run:
        assert run.in_doubt() == (0, 0.0) and summary(run).doubt_usd == pytest.approx(bound)


# ---------------------------------------------------------------- seeds


def test_a_retried_step_asks_the_same_and_a_redone_one_asks_anew(house: House) -> None:
    house.tasks = house.tasks[:1]
    house.model = Oracle(faults=16)
    house.spec["limits"] = {"attempts": 1}
    assert (house.run().code, house.resume().code) == (3, 0)
    assert list(house.model.asked.values()) == [2], "the same request, seed and all"
    house.model.faults = 0
    house.redo("exp")
    assert sorted(house.model.asked.values()) == [1, 2]
    house.run(new=True)
    assert sorted(house.model.asked.values()) == [1, 3], "another replicate draws as the first one did"


def test_two_tasks_of_one_content_are_two_draws(house: House) -> None:
    house.tasks = [{**house.tasks[0], "id": name} for name in "ab"]
    house.run()
    assert len(house.model.asked) == 2


# ---------------------------------------------------------------- time


def test_a_time_limit_holds_over_a_crash_and_resume_goes_on_with_the_remainder(house: House) -> None:
    clock = FakeClock()

    async def slow(text: str, params: Any) -> str:
        await clock.sleep(100)
        return right(text, params)

    house.model = Oracle(slow)
    house.tasks = house.tasks[:1]
    house.spec["limits"] = {"time": 30}
    house.run(max_new=0)
    with house.opened() as run:
        folder = run.folder
    with pytest.raises(Crash):
        house.drive(folder, clock, journal=lambda inner: crash_at(6, InlineJournal(inner)))
    before = clock.ticks()
    assert house.drive(folder, clock).code == 0
    assert clock.ticks() - before == pytest.approx(10, abs=0.1), "20 of 30 seconds were noted before the crash"
    with house.opened(folder) as run:
        assert summary(run).solvers["m"].timeout == 1
        assert run.in_doubt() == (0, 0.0), "a call that its trial's own limit cut short is not sent again"
        assert summary(run).doubt > 0, "but it stays counted"


# ---------------------------------------------------------------- exit codes


def test_exit_codes_are_those_of_the_documents() -> None:
    codes = {UsageError: 2, SpecError: 2, NotThere: 1, Held: 4, Fenced: 4, Drifted: 5, Damaged: 6, StepOwed: 3}
    assert {kind: kind.exit_code for kind in codes} == codes
    assert OnwardError.exit_code == 1


def test_a_run_that_ends_whole_is_0_and_one_that_owes_is_3(house: House) -> None:
    assert house.run(max_new=1).code == 3
    assert house.run().code == 0
    assert house.run(until="generate").code == 0


def test_a_damaged_run_is_never_a_fresh_start(house: House) -> None:
    ending = house.run()
    (ending.folder / JOURNAL).write_bytes(b"")
    for attempt in (house.run, lambda: house.resume(ending.run)):
        with pytest.raises(Damaged):
            attempt()
    assert house.model.calls == 3


# ---------------------------------------------------------------- whoever watches


@dataclass
class Diary:
    told: list[Any] = field(default_factory=list)

    def say(self, line: str) -> None:
        self.told.append(line)

    def begin(self, progress: Any, facts: Any) -> None:
        self.told.append("begin")

    def event(self, event: Any) -> None:
        self.told.append(event.type)

    def text(self, key: Any, text: str) -> None:
        self.told.append(text)

    def exchange(self, told: Any) -> None:
        self.told.append(told)

    def trial(self, key: Any, outcome: str, scores: Any, output: Any) -> None:
        self.told.append(outcome)

    def end(self, facts: Any) -> None:
        self.told.append(facts)


def watched(house: House, diary: Diary, **flags: Any) -> None:
    launch.run(house.changed(), house.folder, house.settings(**flags), diary, models=house.known, source=house.source())


def test_the_end_is_the_last_that_a_watcher_hears_also_on_abort(house: House) -> None:
    diary = Diary()
    watched(house, diary, max_new=1, stream=True)
    assert diary.told[0] == "begin" and diary.told[-1]["ending"].done == 1
    assert "The answer is 2" in diary.told and diary.told.count("step.completed") == 4
    with house.opened() as run:
        holder = SqliteJournal(run.folder)
    from onward import lease
    from onward.clock import SystemClock

    lease.claim(holder, SystemClock())
    diary = Diary()
    with pytest.raises(Held):
        watched(house, diary)
    holder.release()
    holder.close()
    assert isinstance(diary.told[-1]["error"], Held)


def test_nothing_is_told_before_it_is_durable(house: House) -> None:
    house.run(max_new=0)
    with house.opened() as run:
        folder = run.folder
    seen: list[bool] = []

    class Asking(CrashingJournal):
        def append(self, rows: Any, blobs: Any, done: Any) -> None:
            rows = list(rows)

            def after(error: Any) -> None:
                keys = {row.key for row in rows}
                stored = {s.row.key for s in self.inner.rows()}
                seen.append(keys <= stored)
                done(error)

            super().append(rows, blobs, after)

    assert house.drive(folder, journal=lambda inner: Asking(inner, 10**9)).code == 0
    assert seen and all(seen)


def test_an_event_loop_that_runs_already_is_told_of_the_async_form(house: House) -> None:
    async def inside() -> None:
        with pytest.raises(UsageError, match="_async"):
            house.run()

    asyncio.run(inside())


def test_money_of_every_attempt_is_counted(house: House) -> None:
    house.model = Oracle(lambda text, params: Answer(right(text, params), usage=Usage(1, 1), usd=1.0))
    house.run()
    house.redo("exp/t1")
    house.replay("score")
    assert spent(house) == 4.0
