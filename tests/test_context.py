"""What a body holds: steps within steps, seeds, the trial's own limits (SEMANTICS §1, §5)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from tests.engine import TRIAL, Bench, Model, busy, run

from onward.ask import Answer, Usage
from onward.context import BlockingContext, Context, Meter, in_thread, trial_context
from onward.entry import Entry, pack
from onward.errors import Refused, StepFailed, StepTimeout, Stopping
from onward.fingerprint import Fingerprint
from onward.history import History
from onward.journal.contract import Stored
from onward.limits import Bounds, Rate
from onward.plan import Voids
from onward.retry import ONCE
from onward.testing import FakeClock

PRINT = Fingerprint.of(model="m")


def sample(bench: Bench, body: Any, *, number: int = 0, fingerprint: Fingerprint = PRINT) -> Any:
    """Run a body as a sample of the trial, as the generate stage does."""

    async def go() -> Any:
        ctx = bench.again().context()
        child = ctx.child_path(f"generate/{number}")
        return await ctx.run(child, fingerprint, lambda: body(child), timed=True)

    return run(go())


# ---------------------------------------------------------------- steps


def test_children_of_an_interrupted_step_are_hits() -> None:
    bench, log = Bench(), list[str]()

    def body_that(stops: bool) -> Any:
        async def body(ctx: Context) -> Any:
            first = await ctx.step("first", lambda: log.append("first") or "a")  # type: ignore[func-returns-value]
            answer = await ctx.ask(f"with {first}", model="fake/m")
            if stops:
                raise Stopping("killed here")
            return [first, answer.text]

        return body

    with pytest.raises(Stopping):
        sample(bench, body_that(stops=True))
    assert sample(bench, body_that(stops=False)) == ["a", "answer to with a"]
    assert (log, bench.model.asked) == (["first"], ["with a"])


def test_a_hit_on_a_parent_hides_its_children() -> None:
    bench, log = Bench(), list[int]()

    async def body(ctx: Context) -> Any:
        return await ctx.step("inner", lambda: log.append(1) or "v")  # type: ignore[func-returns-value]

    assert sample(bench, body) == sample(bench, body) == "v"
    assert log == [1]


def test_children_of_a_step_whose_parent_depends_on_something_else_now_run_again() -> None:
    bench, log = Bench(), list[int]()

    async def body(ctx: Context) -> Any:
        return await ctx.step("inner", lambda: log.append(1) or len(log))  # type: ignore[func-returns-value]

    assert sample(bench, body) == 1
    assert sample(bench, body, fingerprint=Fingerprint.of(model="other")) == 2


def test_a_step_whose_depends_changed_runs_again() -> None:
    bench = Bench()

    async def at(depends: Any) -> Any:
        return await bench.again().context().step("s", lambda: depends, depends=depends)

    assert [run(at(value)) for value in (1, 1, 2)] == [1, 1, 2]
    assert len(bench.entries("result")) == 2


def test_a_step_name_twice_is_refused_unless_told_apart_by_key() -> None:
    async def go() -> None:
        ctx = Bench().context()
        await ctx.step("fetch", lambda: 1, key="a")
        assert await ctx.step("fetch", lambda: 2, key="b") == 2
        await ctx.step("fetch", lambda: 3)
        with pytest.raises(Refused, match="key="):
            await ctx.step("fetch", lambda: 4)
        with pytest.raises(Refused, match="key="):
            await ctx.step("fetch", lambda: 4, key="a")

    run(go())


def test_steps_nest_and_their_keys_are_paths() -> None:
    bench = Bench()

    async def inner(ctx: Context) -> Any:
        return (await ctx.ask("q", model="fake/m", name="ask")).text

    async def outer(ctx: Context) -> Any:
        return await ctx.step("in/ner", inner)

    assert sample(bench, outer) == "answer to q"
    assert list(bench.results()) == [
        f"{TRIAL}/generate/0/in%2Fner/ask", f"{TRIAL}/generate/0/in%2Fner", f"{TRIAL}/generate/0",
    ]  # fmt: skip


def test_seeds_come_from_task_trial_sample_and_generation_only() -> None:
    bench = Bench()

    def seed_of(*parts: str | int) -> int:
        return bench.again().context().child_path("generate/0").sample_seed(*parts)

    async def seeds() -> list[int]:
        draws: list[tuple[str, str, int]] = [("t", "1", 0), ("t", "1", 0), ("t", "1", 1), ("t", "2", 0), ("u", "1", 0)]
        return [seed_of(*draw) for draw in draws]

    first = run(seeds())
    assert first[0] == first[1] and len(set(first)) == 4

    async def redone() -> None:
        await bench.recorder.void([TRIAL], "redo")

    run(redone())
    assert not set(run(seeds())) & set(first), "a redone one asks anew"


# ---------------------------------------------------------------- bodies that swallow


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_body_that_swallows_a_stop_has_come_to_no_result(wrapped: bool) -> None:
    bench = Bench()

    async def careless(ctx: Context) -> Any:
        try:
            return (await ctx.ask("q", model="fake/m")).text
        except Exception:  # noqa: BLE001 (that is the point)
            return "n/a"

    async def body(ctx: Context) -> Any:
        if not wrapped:
            return await careless(ctx)
        try:
            return await ctx.step("inner", careless)
        except Exception:  # noqa: BLE001
            return "n/a"

    async def go() -> None:
        bench.gate.stop("Ctrl-C")
        ctx = bench.context()
        child = ctx.child_path("generate/0")
        await ctx.run(child, PRINT, lambda: body(child))

    with pytest.raises(Stopping):
        run(go())
    assert bench.entries() == []
    assert sample(bench, body) == "answer to q"


def test_a_body_may_fall_back_where_a_call_failed() -> None:
    bench = Bench(Model(lambda text, _: busy() if text == "first" else text), retry=ONCE)

    async def body(ctx: Context) -> Any:
        try:
            return (await ctx.ask("first", model="fake/m")).text
        except Exception:  # noqa: BLE001
            return (await ctx.ask("second", model="other/m")).text

    assert sample(bench, body) == "second"


# ---------------------------------------------------------------- sync bodies


def test_sync_bodies_with_steps_of_their_own_never_wait_for_each_other() -> None:
    """More at once than any pool has threads, each in a step within a step."""
    bench = Bench(bounds=Bounds(concurrency=4))

    def solve(ctx: BlockingContext, number: int) -> Any:
        return ctx.step("outer", lambda inner: inner.step("inner", lambda: ctx.ask(f"q{number}", model="fake/m").text))

    async def go() -> list[Any]:
        loop = asyncio.get_running_loop()
        work = []
        for number in range(60):
            ctx = bench.context(TRIAL.parent / str(number))
            work.append(in_thread(solve, BlockingContext(ctx, loop), number))
        return await asyncio.gather(*work)

    assert run(go()) == [f"answer to q{number}" for number in range(60)]


def test_a_thread_that_outlives_its_step_can_do_nothing_more() -> None:
    bench = Bench()
    ended: list[str] = []

    async def go() -> None:
        loop = asyncio.get_running_loop()
        over, out = asyncio.Event(), asyncio.Event()

        def solve(ctx: BlockingContext) -> None:
            asyncio.run_coroutine_threadsafe(over.wait(), loop).result()
            try:
                ctx.ask("late", model="fake/m")
            except Stopping as error:
                ended.append(str(error))
            loop.call_soon_threadsafe(out.set)

        with BlockingContext(bench.context(), loop) as blocking:
            task = asyncio.create_task(in_thread(solve, blocking))
            await asyncio.sleep(0)
            task.cancel()
        over.set()
        await out.wait()

    run(go())
    assert bench.model.asked == [] and "outlived" in ended[0]


# ---------------------------------------------------------------- the trial's own limits


def waits(bench: Bench, *seconds: float) -> Any:
    """A body that takes so long, in one step each."""

    async def body(ctx: Context) -> Any:
        for number, pause in enumerate(seconds):
            await ctx.step(f"step{number}", lambda pause=pause: _sleep(bench, pause))
        return "done"

    return body


async def _sleep(bench: Bench, seconds: float) -> str:
    await bench.clock.sleep(seconds)
    return "slept"


def test_a_time_limit_gives_a_timeout_on_the_step_it_interrupted_and_resume_keeps_it() -> None:
    bench = Bench(limits={"time": 30})
    for _ in range(2):
        with pytest.raises(StepTimeout, match="30 s"):
            sample(bench, waits(bench, 20, 20))
    assert bench.results() == {f"{TRIAL}/generate/0/step0": ["ok"], f"{TRIAL}/generate/0": ["timeout"]}
    assert bench.clock.ticks() == pytest.approx(30, abs=0.1)


def test_raising_a_limit_never_reopens_a_timeout() -> None:
    bench = Bench(limits={"time": 10})
    for limit in (10, 1000, None):
        with pytest.raises(StepTimeout):
            sample(bench.again(limits={"time": limit}), waits(bench, 20))
    assert bench.clock.ticks() == pytest.approx(10, abs=0.1)


def test_active_time_is_kept_every_five_seconds_and_resume_goes_on_with_the_remainder() -> None:
    bench = Bench(limits={"time": 30})

    async def killed() -> None:
        ctx = bench.context()
        child = ctx.child_path("generate/0")
        task = asyncio.create_task(ctx.run(child, PRINT, lambda: waits(bench, 100)(child), timed=True))
        await bench.clock.sleep(22.5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(killed())
    notes = [entry.data["active"] for entry in bench.entries("intent")]
    assert notes == pytest.approx([5, 10, 15, 20], abs=0.01)
    assert bench.journal.sums().doubt[2] == 0, "a note of time is no call in doubt"
    before = bench.clock.ticks()
    with pytest.raises(StepTimeout):
        sample(bench, waits(bench, 100))
    assert bench.clock.ticks() - before == pytest.approx(10, abs=0.1)
    assert bench.entries("result")[-1].attempt == 2


def test_waiting_for_our_own_limiter_or_a_retry_after_is_not_counted() -> None:
    trouble = iter([busy(429, retry_after=3600.0), busy(500), busy(500)])

    async def answer(text: str) -> Any:
        await bench.clock.sleep(2)
        return next(trouble, text)

    bench = Bench(Model(lambda text, _: answer(text)), limits={"time": 30})
    bench.bounds = Bounds(providers={"fake": Rate(requests_per_minute=1)})

    async def body(ctx: Context) -> Any:
        await ctx.ask("one", model="fake/m")
        return (await ctx.ask("two", model="fake/m")).text

    assert sample(bench, body) == "two"
    assert bench.clock.ticks() > 3600 + 3 * 60
    assert bench.entries("result")[-1].data["active"] == pytest.approx(5 * 2, abs=0.1)
    assert len(bench.entries("intent")) <= 5 + 2, "time that does not count is not noted either"


def test_waits_of_parallel_calls_are_not_taken_off_twice() -> None:
    async def answer(text: str) -> Any:
        await bench.clock.sleep(10)
        return text

    bench = Bench(Model(lambda text, _: answer(text)), limits={"time": 1000}, bounds=Bounds(concurrency=1))

    async def body(ctx: Context) -> Any:
        await asyncio.gather(*(ctx.ask(f"q{n}", model="fake/m") for n in range(5)))

    sample(bench, body)
    assert bench.entries("result")[-1].data["active"] == pytest.approx(50, abs=0.1)


def test_what_is_served_from_the_record_takes_no_active_time() -> None:
    bench = Bench(limits={"time": 30})

    async def stopped(ctx: Context) -> Any:
        await waits(bench, 20)(ctx)
        raise Stopping("killed")

    with pytest.raises(Stopping):
        sample(bench, stopped)
    assert sample(bench, waits(bench, 20)) == "done"
    assert bench.clock.ticks() == pytest.approx(20, abs=0.1)


def tokens(*uses: int) -> Any:
    left = iter(uses)
    return lambda text, _: Answer(text, usage=Usage(next(left), 0))


def asks(*texts: str) -> Any:
    async def body(ctx: Context) -> Any:
        return [(await ctx.ask(text, model="fake/m")).text for text in texts]

    return body


def test_a_token_limit_gives_a_timeout_and_no_call_is_paid_in_vain() -> None:
    bench = Bench(Model(tokens(60, 60, 60)), limits={"tokens": 100})
    for _ in range(2):
        with pytest.raises(StepTimeout, match="100 tokens"):
            sample(bench, asks("a", "b", "c"))
    assert bench.model.asked == ["a", "b"]


def test_a_body_that_swallows_its_limit_has_timed_out_all_the_same() -> None:
    bench = Bench(Model(tokens(60, 60)), limits={"tokens": 50})

    async def careless(ctx: Context) -> Any:
        try:
            return await asks("a", "b")(ctx)
        except Exception:  # noqa: BLE001
            return "n/a"

    with pytest.raises(StepTimeout):
        sample(bench, careless)


def test_tokens_of_earlier_attempts_and_of_settled_samples_count_after_a_resume() -> None:
    def stopping(ctx: Context) -> Any:
        async def body() -> Any:
            await asks("a")(ctx)
            raise Stopping("killed")

        return body()

    bench = Bench(Model(tokens(40, 40, 40, 40)), limits={"tokens": 100})
    sample(bench, asks("a"), number=0)
    with pytest.raises(Stopping):
        sample(bench, stopping, number=1)
    with pytest.raises(StepTimeout):
        sample(bench, asks("a", "b", "c"), number=1)
    assert bench.model.asked == ["a", "a", "b"]


def test_the_meter_runs_only_while_a_body_runs() -> None:
    clock = Bench().clock
    meter = Meter(clock, 10)
    clock.advance(50)
    assert meter.active == 0


def test_a_failure_below_a_sample_names_the_step_that_failed() -> None:
    bench = Bench()

    async def body(ctx: Context) -> Any:
        return await ctx.step("inner", lambda: 1 / 0)

    with pytest.raises(StepFailed, match="division"):
        sample(bench, body)
    assert bench.results() == {f"{TRIAL}/generate/0/inner": ["failed"], f"{TRIAL}/generate/0": ["failed"]}


def test_params_reach_the_request_and_stand_in_the_fingerprint() -> None:
    seen: list[Mapping[str, Any]] = []
    bench = Bench(Model(lambda text, params: seen.append(params) or text))  # type: ignore[func-returns-value]

    async def go() -> None:
        for temperature in (0, 1, 0):
            await bench.again().context().ask("q", model="fake/m", temperature=temperature)

    run(go())
    assert [params["temperature"] for params in seen] == [0, 1]


# ---------------------------------------------------------------- a body that says itself what its limit bounds


def bounded(bench: Bench, body: Any) -> Any:
    """One sample whose body bounds its own time, as an agent's does."""

    async def go() -> Any:
        ctx = bench.again().context()
        child = ctx.child_path("generate/0")
        return await ctx.run(child, PRINT, lambda: body(child), timed=True, whole=False)

    return run(go())


def test_work_that_was_cut_short_is_kept_with_its_timeout_and_comes_back_with_it() -> None:
    bench = Bench(limits={"time": 30})

    async def body(ctx: Context) -> Any:
        await bench.clock.sleep(100)  # making a sandbox is no time of the trial's
        try:
            await ctx.timed(_sleep(bench, 50))
        except StepTimeout as error:
            await bench.clock.sleep(100)  # nor is having the work judged
            raise StepTimeout(error.reason, kind=error.kind, value={"output": "half"}) from None

    for _ in range(2):
        with pytest.raises(StepTimeout, match="30 s") as raised:
            bounded(bench, body)
        assert raised.value.value == {"output": "half"}
    assert bench.clock.ticks() == pytest.approx(230, abs=0.1), "the second time it was recalled"
    [result] = bench.entries("result")
    assert (result.outcome, result.value, result.data["active"]) == ("timeout", {"output": "half"}, 30)


def test_what_an_attempt_is_about_to_do_is_durable_before_it_does_it_and_is_no_call() -> None:
    bench = Bench(limits={"time": 30})

    async def body(ctx: Context) -> Any:
        await ctx.note(sandbox="one")
        assert [entry.data for entry in bench.entries("intent")] == [{"sandbox": "one"}]
        raise Stopping("killed")

    with pytest.raises(Stopping):
        bounded(bench, body)
    with pytest.raises(Stopping):
        bounded(bench, _noting("two"))
    assert [(entry.attempt, entry.data) for entry in bench.entries("intent")] == [
        (1, {"sandbox": "one"}), (2, {"sandbox": "two"}),
    ]  # fmt: skip
    assert bench.journal.sums().doubt[2] == 0


def _noting(name: str) -> Any:
    async def body(ctx: Context) -> Any:
        await ctx.note(sandbox=name)
        raise Stopping("killed")

    return body


def test_time_in_which_an_episode_is_served_its_record_does_not_count_until_it_goes_live() -> None:
    bench = Bench(limits={"time": 30})

    async def body(ctx: Context) -> Any:
        assert ctx.meter is not None
        ctx.meter.hold()
        again = asyncio.ensure_future(ctx.timed(waits(bench, 500, 20)(ctx)))
        await bench.clock.sleep(500)
        ctx.meter.release()
        return await again

    assert bounded(bench, body) == "done"
    assert bench.entries("result")[-1].data["active"] == pytest.approx(20, abs=1)


def test_of_two_samples_one_that_is_served_does_not_stop_the_time_of_the_other() -> None:
    clock = FakeClock()
    meter = Meter(clock, 30)

    async def go() -> None:
        meter.hold()  # one of the two
        both = [meter.run(clock.sleep(10), _quiet), meter.run(clock.sleep(10), _quiet)]
        await asyncio.gather(*both)
        assert meter.active == pytest.approx(10, abs=0.1)

    run(go())


async def _quiet(active: float) -> None:
    pass


def test_a_continuation_has_a_budget_of_its_own() -> None:
    """What its parent used stands on entries that were taken over; they say so."""
    origin = {"run": "parent", "seq": 1, "usd": 0.5}
    bench = Bench()
    rows = [
        pack(Entry("result", TRIAL / "generate/0/a", "t", {"value": 1, "active": 25.0, "origin": origin}))[0],
        pack(Entry("result", TRIAL / "generate/0/b", "t", {"value": 1, "active": 3.0}))[0],
    ]
    history = History(Voids(), [Stored(number, row) for number, row in enumerate(rows, 1)])
    assert (history.active(), history.active(own=True)) == (25, 3)

    async def go() -> tuple[Meter | None, Meter | None]:
        world = bench.context().world
        fresh = trial_context(world, TRIAL, history, {"time": 30, "fresh": True}).meter
        return fresh, trial_context(world, TRIAL, history, {"time": 30}).meter

    fresh, usual = run(go())
    assert fresh is not None and usual is not None and (fresh.active, usual.active) == (3, 25)
