"""How much may be under way, how fast, for how much money (SEMANTICS §5)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.engine import Bench, Model, busy, run

from onward.ask import Call
from onward.errors import BudgetReached, CallError, CallTransient, ProviderStopped, StepOwed, Stopping
from onward.limits import Bounds, Limits, Rate, Spending
from onward.retry import Retry
from onward.testing import FakeClock


def call(provider: str = "a", usd: float | None = 0.0, tokens: int | None = 0) -> Call:
    return Call(provider, "python", "m", {}, tokens, usd)


def limits(spending: Spending | None = None, **bounds: Any) -> Limits:
    return Limits(Bounds(**bounds), FakeClock(), spending)


class Crowd:
    """Calls that take a second each, and how many of them were inside at once."""

    def __init__(self, gate: Limits) -> None:
        self.gate, self.inside, self.most = gate, dict[str, int](), dict[str, int]()
        self.started: list[tuple[str, float]] = []

    async def one(
        self, asked: Call, *, seconds: float = 1.0, usd: float | None = 0.0, tokens: int = 0,
        error: CallError | None = None,
    ) -> None:  # fmt: skip
        permit = await self.gate.enter(asked)
        name = asked.provider
        self.started.append((name, round(self.gate.clock.ticks(), 3)))
        for who in (name, "all"):
            self.inside[who] = self.inside.get(who, 0) + 1
            self.most[who] = max(self.most.get(who, 0), self.inside[who])
        try:
            await self.gate.clock.sleep(seconds)
        finally:
            for who in (name, "all"):
                self.inside[who] -= 1
            self.gate.leave(permit, usd=usd, tokens=tokens, error=error)


async def together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    return await asyncio.gather(*work, return_exceptions=True)


def test_concurrency_is_bounded_for_the_run_and_for_each_provider() -> None:
    async def go() -> dict[str, int]:
        crowd = Crowd(limits(concurrency=5, providers={"a": Rate(concurrency=2)}))
        await together(*(crowd.one(call(name)) for name in "ab" * 10))
        return crowd.most

    assert run(go()) == {"a": 2, "b": 3, "all": 5}


def test_ten_is_the_default() -> None:
    async def go() -> int:
        crowd = Crowd(limits())
        await together(*(crowd.one(call()) for _ in range(30)))
        return crowd.most["all"]

    assert run(go()) == 10


def test_a_429_narrows_its_provider_and_answers_widen_it_again() -> None:
    async def go() -> list[int]:
        gate = limits(concurrency=8)
        widths = []
        for error in (busy(429), None):
            crowd = Crowd(gate)
            await together(*(crowd.one(call(), error=error) for _ in range(8)))
            await gate.clock.sleep(10)
            crowd = Crowd(gate)
            await together(*(crowd.one(call(), seconds=0.001) for _ in range(60 if error is None else 1)))
            widths.append(crowd.most["all"])
            probe = Crowd(gate)
            await together(*(probe.one(call()) for _ in range(8)))
            widths[-1] = probe.most["all"]
        return widths

    narrowed, widened = run(go())
    assert narrowed in (4, 5), "halved once by one burst of refusals"
    assert widened == 8


def test_a_429_of_one_provider_does_not_narrow_another() -> None:
    async def go() -> int:
        gate = limits(concurrency=8)
        crowd = Crowd(gate)
        await crowd.one(call("a"), error=busy(429))
        await together(*(crowd.one(call("b")) for _ in range(8)))
        return crowd.most["b"]

    assert run(go()) == 8


def test_requests_per_minute_are_kept() -> None:
    async def go() -> list[tuple[str, float]]:
        crowd = Crowd(limits(concurrency=50, providers={"a": Rate(requests_per_minute=30)}))
        await together(*(crowd.one(call(), seconds=0.1) for _ in range(6)))
        return crowd.started

    assert [when for _, when in run(go())] == [0, 2, 4, 6, 8, 10]


def test_tokens_per_minute_are_kept_over_any_minute_after_the_first_burst() -> None:
    async def go() -> list[float]:
        crowd = Crowd(limits(concurrency=50, providers={"a": Rate(tokens_per_minute=600)}))
        await together(*(crowd.one(call(tokens=300), seconds=0.1) for _ in range(6)))
        return [when for _, when in crowd.started]

    assert run(go()) == [0, 0, 30, 60, 90, 120]


def test_a_call_larger_than_a_minutes_tokens_goes_alone_and_is_paid_off_after() -> None:
    async def go() -> list[float]:
        crowd = Crowd(limits(providers={"a": Rate(tokens_per_minute=60)}))
        await together(*(crowd.one(call(tokens=120), seconds=0.1) for _ in range(2)))
        return [when for _, when in crowd.started]

    assert run(go()) == [0, 120]


def test_a_slow_or_closed_provider_holds_up_only_its_own_calls() -> None:
    async def go() -> list[tuple[str, float]]:
        gate = limits(concurrency=2, providers={"slow": Rate(requests_per_minute=1)})
        crowd = Crowd(gate)
        await crowd.one(call("closed"), seconds=0, error=busy(429, retry_after=3600))
        await together(*(crowd.one(call(name), seconds=0) for name in ["slow"] * 3 + ["closed"] * 3 + ["free"] * 3))
        return crowd.started[1:]

    started = run(go())
    assert [when for name, when in started if name == "free"] == [0, 0, 0]
    assert [when for name, when in started if name == "slow"] == [0, 60, 120]
    assert [when for name, when in started if name == "closed"] == [3600] * 3


def test_a_long_retry_after_parks_says_until_when_and_wakes() -> None:
    bench = Bench(Model())
    trouble = iter([busy(429, retry_after=3600.0)])
    bench.model.answer = lambda text, _: next(trouble, text)
    notes: list[str] = []
    bench.gate.on_wait = notes.append

    async def go() -> str:
        return (await bench.context().ask("q", model="fake/m")).text

    assert run(go()) == "q"
    assert 3600 <= bench.clock.ticks() < 3601
    assert notes[0].startswith("waiting for fake until 2025-06-15T") and notes[-1] == ""


def test_a_retry_after_beyond_max_wait_is_owed_at_once() -> None:
    model = Model(lambda *_: busy(429, retry_after=101.0))
    bench = Bench(model, retry=Retry(max_wait=100), bounds=Bounds(max_wait=100))

    async def go() -> None:
        await bench.context().ask("q", model="fake/m")

    with pytest.raises(StepOwed):
        run(go())
    assert bench.clock.ticks() == 0 and len(bench.model.asked) == 1


def test_a_provider_that_stopped_is_asked_no_more_while_another_goes_on() -> None:
    async def go() -> list[Any]:
        crowd = Crowd(limits(concurrency=2))
        stop = ProviderStopped("no such key", provider="a", status=401)
        calls = [crowd.one(call("a"), error=stop), *(crowd.one(call(name)) for name in "aabb")]
        return [type(found).__name__ for found in await together(*calls)] + [crowd.gate.stopped_providers]

    *ends, stopped = run(go())
    assert ends == ["NoneType", "NoneType", "ProviderStopped", "NoneType", "NoneType"], "one was in flight already"
    assert stopped == {"a": "a: no such key"}


def test_stopping_tells_all_who_wait_and_lets_who_is_inside_finish() -> None:
    async def go() -> list[str]:
        gate = limits(concurrency=1)
        crowd = Crowd(gate)
        work = [asyncio.create_task(crowd.one(call())) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gate.stop("Ctrl-C")
        return [type(found).__name__ for found in await asyncio.gather(*work, return_exceptions=True)]

    assert run(go()) == ["NoneType", "Stopping", "Stopping"]


def test_a_stop_ends_the_wait_before_a_retry() -> None:
    bench = Bench(Model(lambda *_: busy(500)), retry=Retry(attempts=9, first=60))

    async def go() -> None:
        task = asyncio.create_task(bench.context().ask("q", model="fake/m"))
        await bench.clock.sleep(5)
        bench.gate.stop("Ctrl-C")
        await task

    with pytest.raises(Stopping):
        run(go())
    assert bench.clock.ticks() < 10


# ---------------------------------------------------------------- money


def test_a_call_whose_reservation_does_not_fit_is_never_started() -> None:
    async def go() -> tuple[list[str], float]:
        gate = limits(budget_usd=1.0)
        crowd = Crowd(gate)
        ends = await together(*(crowd.one(call(usd=0.3), usd=0.3) for _ in range(5)))
        return [type(end).__name__ for end in ends], gate.spending.usd

    ends, spent = run(go())
    assert sorted(ends) == ["BudgetReached"] * 2 + ["NoneType"] * 3
    assert spent == pytest.approx(0.9)


def test_a_call_waits_while_others_in_flight_may_settle_for_less() -> None:
    async def go() -> list[float]:
        crowd = Crowd(limits(budget_usd=1.0))
        await crowd.gate.clock.sleep(0)
        ends = await together(*(crowd.one(call(usd=0.6), usd=0.1) for _ in range(4)))
        assert ends == [None] * 4
        return [when for _, when in crowd.started]

    assert run(go()) == [0, 1, 2, 3]


@given(st.lists(st.floats(0.01, 1.0), min_size=1, max_size=12), st.floats(0.1, 3.0), st.integers(1, 4))
@settings(max_examples=60)
def test_a_budget_is_never_passed_where_reservations_are_upper_bounds(
    prices: list[float], budget: float, concurrency: int
) -> None:
    """And never hangs: what rounding leaves of the reservations keeps nobody waiting."""

    async def go() -> tuple[float, list[Any]]:
        crowd = Crowd(limits(budget_usd=budget, concurrency=concurrency))
        ends = await together(*(crowd.one(call(usd=price), usd=price) for price in prices))
        return crowd.gate.spending.usd, ends

    spent, ends = run(go())
    assert spent <= budget + 1e-9
    assert all(end is None or isinstance(end, BudgetReached) for end in ends)
    if sum(prices) <= budget:
        assert ends == [None] * len(prices)


def test_where_the_price_or_the_largest_output_is_unknown_a_budget_refuses_and_says_what_to_do() -> None:
    async def go() -> None:
        await limits(budget_usd=1.0).enter(call(usd=None))

    with pytest.raises(BudgetReached, match=r"--price IN/OUT and max_tokens"):
        run(go())


def test_a_budget_in_tokens_holds_too() -> None:
    async def go() -> tuple[int, int]:
        crowd = Crowd(limits(budget_tokens=100))
        ends = await together(*(crowd.one(call(tokens=40), tokens=40) for _ in range(4)))
        return crowd.gate.spending.tokens, sum(end is None for end in ends)

    assert run(go()) == (80, 2)


def test_what_was_spent_before_and_what_is_in_doubt_count_against_the_budget() -> None:
    model = Model(usd=0.4, tokens=5)
    bench = Bench(model, bounds=Bounds(budget_usd=1.0))

    async def ask(fresh: Bench, text: str) -> None:
        await fresh.context().ask(text, model="fake/m")

    async def killed(fresh: Bench) -> None:
        model.answer = lambda *_: asyncio.Event().wait()  # type: ignore[assignment, return-value]
        task = asyncio.create_task(ask(fresh, "lost"))
        while not model.asked:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(killed(bench))
    model.answer = lambda *_: "fine"
    run(ask(bench.again(), "one"))
    with pytest.raises(BudgetReached, match=r"\$0\.2000 of the budget is left"):
        run(ask(bench.again(), "two"))
    run(ask(bench.again(bounds=Bounds(budget_usd=1.3)), "two"))
    assert model.asked == ["lost", "one", "two"]


# ---------------------------------------------------------------- nothing hangs


@given(st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_no_mixture_of_calls_refusals_and_cancellations_hangs_or_leaks(chance: random.Random) -> None:
    providers = {
        "a": Rate(concurrency=2), "b": Rate(requests_per_minute=600), "c": Rate(tokens_per_minute=6000), "d": Rate()
    }  # fmt: skip
    errors: list[Callable[[str], CallError | None]] = [
        *[lambda _: None] * 3, lambda _: busy(429), lambda _: busy(429, 3.0), lambda _: busy(0),
        lambda name: ProviderStopped("stop", provider=name) if chance.random() < 0.1 else None,
    ]  # fmt: skip

    async def go() -> Limits:
        gate = limits(concurrency=chance.randint(1, 4), providers=providers, budget_usd=chance.choice([None, 2.0]))
        crowd = Crowd(gate)
        work = []
        for _ in range(25):
            name = chance.choice("abcd")
            asked = call(name, usd=chance.random() / 3, tokens=chance.randint(0, 100))
            error = chance.choice(errors)(name)
            work.append(asyncio.create_task(crowd.one(asked, seconds=chance.random() * 5, usd=0.1, error=error)))
        for task in chance.sample(work, 5):
            await gate.clock.sleep(chance.random())
            task.cancel()
        if chance.random() < 0.3:
            gate.stop("enough")
        await asyncio.gather(*work, return_exceptions=True)
        for task in work:
            if not task.cancelled() and (error := task.exception()) is not None:
                assert isinstance(error, BudgetReached | ProviderStopped | Stopping), error
        return gate

    gate = run(go())
    assert gate.inside == 0 and all(door.inside == 0 for door in gate._doors.values())
    assert gate.spending.reserved_usd == 0 and gate.spending.reserved_tokens == 0
    assert not gate._waiting and gate._alarm is None


def test_a_transient_error_is_what_a_transient_error_is() -> None:
    assert isinstance(busy(), CallTransient) and busy(429, 3).retry_after == 3
