"""The verb: what is recorded comes back, what is not is done, and nothing else (SEMANTICS §1)."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.engine import TRIAL, Bench, Model, busy, run

from onward.ask import Answer, Usage
from onward.errors import (
    CallRejected,
    Fenced,
    ProviderStopped,
    Refused,
    StepFailed,
    StepOwed,
    StepTimeout,
    Stopping,
)  # fmt: skip
from onward.fingerprint import Fingerprint
from onward.history import History
from onward.keys import Key
from onward.once import Missing, Step
from onward.peek import Peek
from onward.plan import Voids
from onward.retry import ONCE

KEY = TRIAL / "generate" / "0"
PRINT = Fingerprint.of(model="m")


def once(bench: Bench, body: Any, *, key: Key = KEY, fingerprint: Fingerprint = PRINT, **more: Any) -> Any:
    """One call of the verb in a fresh loop and over a fresh reading of the journal."""
    fresh = bench.again()

    async def go() -> Any:
        history = History.read(fresh.journal, TRIAL, fresh.voids())
        return await fresh.recorder.once(history, Step(key, fingerprint, body, **more))

    return run(go())


def returns(value: Any, log: list[Any] | None = None) -> Any:
    async def body() -> Any:
        if log is not None:
            log.append(value)
        return value

    return body


def raises(error: BaseException, log: list[Any] | None = None) -> Any:
    async def body() -> Any:
        if log is not None:
            log.append(error)
        raise error

    return body


def test_a_step_that_is_recorded_is_returned_and_not_run() -> None:
    bench, log = Bench(), list[Any]()
    assert once(bench, returns({"a": 1}, log)) == {"a": 1}
    assert once(bench, returns({"a": 2}, log)) == {"a": 1}
    assert log == [{"a": 1}]


def test_a_null_is_a_value() -> None:
    bench, log = Bench(), list[Any]()
    assert once(bench, returns(None, log)) is None and once(bench, returns(1, log)) is None
    assert log == [None]


@pytest.mark.parametrize(("raised", "outcome"), [(StepFailed("no"), "failed"), (StepTimeout("late"), "timeout")])
def test_a_recorded_failure_or_timeout_is_raised_and_nothing_runs(raised: Any, outcome: str) -> None:
    bench, log = Bench(), list[Any]()
    for _ in range(2):
        with pytest.raises(type(raised)) as caught:
            once(bench, raises(raised, log))
        assert caught.value.key == KEY and caught.value.reason == raised.reason
    assert len(log) == 1
    assert bench.results() == {KEY: [outcome]}


def test_the_solvers_own_exception_is_its_failure() -> None:
    bench = Bench()
    with pytest.raises(StepFailed, match="division by zero") as caught:
        once(bench, raises(ZeroDivisionError("division by zero")))
    assert caught.value.kind == "ZeroDivisionError"
    [entry] = bench.entries("result")
    assert entry.outcome == "failed" and "ZeroDivisionError" in entry.data["error"]["trace"]


def test_the_exception_of_a_scorer_is_an_error_of_ours_and_owed_again() -> None:
    bench, log = Bench(), list[Any]()
    for _ in range(2):
        with pytest.raises(StepOwed):
            once(bench, raises(ZeroDivisionError(), log), fails_as="error")
    assert once(bench, returns(1, log), fails_as="error") == 1
    assert len(log) == 3
    assert bench.results() == {KEY: ["error", "error", "ok"]}


def test_attempts_are_counted_and_are_no_part_of_the_key() -> None:
    bench = Bench()
    for _ in range(2):
        with pytest.raises(StepOwed):
            once(bench, raises(OSError(), None), fails_as="error")
    once(bench, returns(1))
    assert [(e.key, e.attempt, e.generation) for e in bench.entries("result")] == [(KEY, n, 0) for n in (1, 2, 3)]


def test_cancellation_writes_no_result() -> None:
    bench = Bench()

    async def go() -> None:
        history = History.read(bench.journal, TRIAL, Voids())
        begun = asyncio.Event()

        async def body() -> None:
            begun.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(bench.recorder.once(history, Step(KEY, PRINT, body)))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(go())
    assert bench.entries() == []


@pytest.mark.parametrize("raised", [Stopping("Ctrl-C"), Fenced("lost")])
def test_what_is_about_the_run_is_no_result_of_the_step(raised: Exception) -> None:
    bench = Bench()
    with pytest.raises(type(raised)):
        once(bench, raises(raised))
    assert bench.entries() == []


def test_a_changed_fingerprint_runs_again_in_the_same_generation() -> None:
    bench = Bench()
    once(bench, returns("old"))
    changed = Fingerprint.of(model="other")
    assert once(bench, returns("new"), fingerprint=changed) == "new"
    assert once(bench, returns("x"), fingerprint=changed) == "new"
    assert [(e.attempt, e.generation) for e in bench.entries("result")] == [(1, 0), (2, 0)]


def test_a_void_starts_the_next_generation_and_takes_children_with_it() -> None:
    bench = Bench()
    once(bench, returns("old"))
    once(bench, returns("child"), key=KEY / "fetch")
    once(bench, returns("apart"), key=TRIAL / "parse")
    fresh = bench.again()
    run(_void(fresh, [KEY]))
    assert once(bench, returns("new")) == "new"
    assert once(bench, returns("new child"), key=KEY / "fetch") == "new child"
    assert once(bench, returns("unread"), key=TRIAL / "parse") == "apart"
    assert [(e.key, e.generation, e.attempt) for e in bench.entries("result")][-2:] == [
        (KEY, 1, 1), (KEY / "fetch", 1, 1),
    ]  # fmt: skip
    assert len(bench.entries("result")) == 5, "no evidence is lost"


async def _void(bench: Bench, prefixes: list[str]) -> None:
    await bench.recorder.void(prefixes, "test")


def test_the_voids_of_one_command_are_one_entry() -> None:
    bench = Bench()
    run(_void(bench, ["a", "b", "c"]))
    [entry] = bench.entries("void")
    assert entry.data["prefixes"] == ["a", "b", "c"]


def test_an_errors_retry_stays_in_its_generation_so_its_finished_children_are_hits() -> None:
    bench = Bench()
    once(bench, returns("child"), key=KEY / "fetch")
    with pytest.raises(StepOwed):
        once(bench, raises(StepOwed("busy")))
    log: list[Any] = []
    assert once(bench, returns("again", log), key=KEY / "fetch") == "child"
    assert log == []


def test_one_result_per_attempt_and_the_first_write_wins() -> None:
    bench = Bench()

    async def go() -> list[Any]:
        history = History.read(bench.journal, TRIAL, Voids())
        gate = asyncio.Event()

        async def slow() -> str:
            await gate.wait()
            return "slow"

        first = asyncio.create_task(bench.recorder.once(history, Step(KEY, PRINT, slow)))
        await asyncio.sleep(0)
        quick = await bench.recorder.once(history, Step(KEY, PRINT, returns("quick")))
        gate.set()
        await first
        return [quick, await bench.recorder.once(history, Step(KEY, PRINT, returns("third")))]

    assert run(go()) == ["quick", "quick"]
    assert once(bench, returns("later")) == "quick"


@pytest.mark.parametrize("value", [math.nan, b"bytes", "\ud800", {1: 2}, object()])
def test_a_value_that_is_not_json_is_refused_with_the_step_named(value: Any) -> None:
    bench = Bench()
    with pytest.raises(StepFailed, match="not JSON") as caught:
        once(bench, returns(value))
    assert KEY in str(caught.value) and caught.value.kind == "Refused"


def test_the_first_body_sees_the_value_that_a_resumed_one_will_see() -> None:
    bench = Bench()
    assert once(bench, returns((1, 2))) == [1, 2] == once(bench, returns(None))


def test_an_exception_that_quotes_half_a_character_is_recorded_all_the_same() -> None:
    bench = Bench()
    with pytest.raises(StepFailed):
        once(bench, raises(ValueError("\ud83d" * 400)))
    assert bench.results() == {KEY: ["failed"]}


TRICKY_NAMES = ["$text", "$plain", "$chain", "$blob", "$json", "messages", "input", "n", "x"]
TRICKY = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20) | st.text(min_size=250, max_size=270),
    lambda inner: st.lists(inner, max_size=10)
    | st.dictionaries(st.sampled_from(TRICKY_NAMES), inner),
    max_leaves=25,
)  # fmt: skip


@given(TRICKY)
def test_any_json_value_comes_back_as_it_was_returned(value: Any) -> None:
    bench = Bench()
    assert once(bench, returns(value)) == value
    assert once(bench, returns("other")) == value


# ---------------------------------------------------------------- calls


def ask(bench: Bench, *texts: str, **options: Any) -> list[str]:
    """Ask one after the other, in a body of a fresh context."""
    fresh = bench.again()

    async def go() -> list[str]:
        child = fresh.context().child_path("generate/0")
        return [(await child.ask(text, model="fake/m", **options)).text for text in texts]

    return run(go())


def test_a_call_is_intended_before_it_leaves_and_recorded_before_it_is_told() -> None:
    seen: list[list[str]] = []
    bench = Bench()
    bench.model.answer = lambda text, _: seen.append([e.kind for e in bench.entries()]) or "hi"  # type: ignore[func-returns-value]
    assert ask(bench, "hello") == ["hi"]
    assert seen == [["intent"]]
    assert [e.kind for e in bench.entries()] == ["intent", "result"]
    intent = bench.entries("intent")[0]
    assert intent.data["request"]["messages"] == [{"role": "user", "content": "hello"}]


def test_a_recorded_call_is_never_sent_again() -> None:
    bench = Bench(Model(usd=0.25, tokens=10))
    assert ask(bench, "a", "b") == ask(bench, "a", "b")
    assert bench.model.asked == ["a", "b"]
    assert bench.journal.sums().spent == (0.5, 20, 2)


def test_an_answer_comes_back_whole_from_the_record() -> None:
    said = Answer(
        "t", "tool", [{"id": "1", "name": "f", "arguments": {"x": 1}}], Usage(10, 5, 3, 2), 0.5, {"choices": [1, 2]}
    )
    bench = Bench(Model(lambda *_: said))

    async def go() -> list[Answer]:
        return [await bench.again().context().ask("q", model="fake/m") for _ in range(2)]

    assert run(go()) == [said, said]
    assert len(bench.model.asked) == 1


def test_equal_calls_are_separate_draws_and_a_resumed_one_finds_each_its_own() -> None:
    draws = iter("abcde")
    bench = Bench(Model(lambda *_: next(draws)))
    assert ask(bench, *["same"] * 5) == list("abcde")
    names = [e.key.name for e in bench.entries("result")]
    assert len(set(names)) == 5 and [name.rpartition("#")[2] for name in names] == list("12345")
    assert len({name.partition("#")[0] for name in names}) == 1 and names[0].startswith("llm:")
    assert ask(bench, *["same"] * 5) == list("abcde")


@given(st.permutations(range(4)))
def test_order_among_parallel_calls_cannot_matter(order: list[int]) -> None:
    """Each request finds its own answer, whatever came first then or now; equal ones share a set of answers."""

    def asked_in(bench: Bench, sequence: list[int]) -> dict[int, str]:
        async def go() -> dict[int, str]:
            ctx = bench.again().context()
            texts = await asyncio.gather(*(ctx.ask(f"q{n}", model="fake/m") for n in sequence))
            return dict(zip(sequence, [answer.text for answer in texts], strict=True))

        return run(go())

    bench = Bench()
    assert asked_in(bench, list(range(4))) == asked_in(bench, order)
    assert len(bench.model.asked) == 4


def test_a_named_call_is_known_by_its_name_and_a_name_twice_is_refused() -> None:
    bench = Bench()

    async def go() -> None:
        ctx = bench.context()
        await ctx.ask("a", model="fake/m", name="first")
        with pytest.raises(Refused, match="twice"):
            await ctx.ask("b", model="fake/m", name="first")

    run(go())
    assert [e.key for e in bench.entries("result")] == [TRIAL / "first"]


def test_a_call_that_fails_is_tried_again_with_a_reason_for_each_attempt() -> None:
    trouble = iter([busy(500), busy(408), busy(0)])
    bench = Bench(Model(lambda text, _: next(trouble, text)))
    assert ask(bench, "q") == ["q"]
    entries = bench.entries("result")
    assert [(e.outcome, e.attempt) for e in entries] == [("error", 1), ("error", 2), ("error", 3), ("ok", 4)]
    assert [e.data["error"]["status"] for e in entries[:3]] == [500, 408, 0]
    assert len({e.key for e in entries}) == 1


def test_attempts_are_bounded_in_one_invocation_and_then_owed() -> None:
    bench = Bench(Model(lambda *_: busy(500)))
    for round_ in (1, 2):
        with pytest.raises(StepOwed, match="5 attempts"):
            ask(bench, "q")
        assert len(bench.model.asked) == 5 * round_
    assert bench.entries("result")[-1].attempt == 10


def test_a_rejected_call_is_failed_and_never_sent_again() -> None:
    bench = Bench(Model(lambda *_: CallRejected("too long", provider="fake", status=400)))
    for _ in range(2):
        with pytest.raises(StepFailed, match="too long"):
            ask(bench, "q")
    assert len(bench.model.asked) == 1


def test_a_stopped_provider_is_an_error_that_is_owed_again() -> None:
    bench = Bench(Model(lambda *_: ProviderStopped("no key", provider="fake", status=401)))
    for _ in range(2):
        with pytest.raises(ProviderStopped):
            ask(bench, "q", "q")
    assert len(bench.model.asked) == 2, "one per invocation: nothing more is asked of it"
    assert {outcome for outcomes in bench.results().values() for outcome in outcomes} == {"error"}


def test_what_was_sent_whole_without_a_refusal_is_charged() -> None:
    lost = busy(0)
    lost.sent_whole = True
    bench = Bench(Model(lambda *_: lost, usd=0.5, tokens=7), retry=ONCE)
    with pytest.raises(StepOwed):
        ask(bench, "q")
    assert bench.journal.sums().spent == (0.5, 7, 1)


def test_a_call_without_a_result_is_in_doubt_and_is_sent_again_and_stays_counted() -> None:
    bench = Bench(Model(usd=0.5, tokens=7))

    async def killed() -> None:
        never = asyncio.Event()
        bench.model.answer = lambda *_: never.wait()  # type: ignore[assignment, return-value]
        task = asyncio.create_task(bench.context().child_path("generate/0").ask("q", model="fake/m"))
        while not bench.model.asked:
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(killed())
    assert bench.journal.sums().doubt == (0.5, 7, 1) and bench.journal.sums().spent == (0.0, 0, 0)
    bench.model.answer = lambda *_: "now"
    assert ask(bench, "q") == ["now"]
    sums = bench.journal.sums()
    assert (sums.doubt, sums.spent) == ((0.5, 7, 1), (0.5, 7, 1))
    assert [e.attempt for e in bench.entries("intent")] == [1, 2]


# ---------------------------------------------------------------- looking without doing


def test_a_peek_returns_what_is_recorded_and_says_why_the_rest_is_owed() -> None:
    bench = Bench()
    once(bench, returns(1))

    async def peek(fingerprint: Fingerprint, key: Key = KEY) -> Any:
        peeking = Peek(bench.journal, bench.clock, bench.gate)
        history = History.read(bench.journal, TRIAL, Voids())
        return await peeking.once(history, Step(key, fingerprint, raises(AssertionError())))

    assert run(peek(PRINT)) == 1
    with pytest.raises(Missing) as caught:
        run(peek(Fingerprint.of(model="other", prompt="p")))
    assert caught.value.why == "model, prompt changed"
    with pytest.raises(Missing) as caught:
        run(peek(PRINT, KEY / "other"))
    assert caught.value.why == "not done yet"
    assert len(bench.entries()) == 1


def test_a_journal_that_takes_no_more_ends_the_run_and_judges_no_step() -> None:
    """A failing disk is not the solver's failure, even where the next write would succeed."""
    bench = Bench()
    real, appends = bench.journal.append, []

    def failing(rows: Any, blobs: Any, done: Any) -> None:
        appends.append(1)
        if len(appends) == 1:
            done(OSError(5, "Input/output error"))
        else:
            real(rows, blobs, done)

    bench.journal.append = failing  # type: ignore[method-assign]

    async def go() -> None:
        ctx = bench.context()
        child = ctx.child_path("generate/0")
        await ctx.run(child, PRINT, lambda: child.ask("q", model="fake/m"))

    with pytest.raises(OSError, match="Input/output"):
        run(go())
    assert bench.entries() == []
