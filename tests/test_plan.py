"""Remaining work = plan − journal, as arithmetic."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from onward.keys import Key
from onward.plan import Plan, Result, Shape, Voids, fold, order_digest, seed_of, standing
from onward.views.means import Marks, outcome_of

SHAPE = Shape(samples=2, reduce=True, parse=True, scores=("a", "b"), judges=("j",))
ALL = SHAPE.until(None)
STEPS = [step for stage in ALL for step in SHAPE.steps(stage)]


def heads(**outcomes: str) -> dict[str, Result]:
    """Every step ok, in order, but for these (`generate_0="failed"`; `""`: none)."""
    found = {}
    for seq, step in enumerate(STEPS, 1):
        outcome = outcomes.get(step.replace("/", "_"), "ok")
        if outcome:
            found[step] = Result(f"s/t/1/{step}", seq, outcome, 0, None)
    return found


def test_the_steps_of_a_trial_are_its_stages_in_order() -> None:
    assert STEPS == ["generate/0", "generate/1", "reduce", "parse", "score/a", "score/b", "judge/j"]
    assert Shape().steps("reduce") == () and SHAPE.until("parse") == ("generate", "reduce", "parse")


def test_all_ok_is_settled_and_any_error_or_gap_is_owed() -> None:
    assert standing(heads(), SHAPE, ALL) == "settled"
    for step in STEPS:
        name = step.replace("/", "_")
        assert standing(heads(**{name: "error"}), SHAPE, ALL) == "owed"
        assert standing(heads(**{name: ""}), SHAPE, ALL) == "owed"


def test_failed_and_timeout_are_done() -> None:
    for outcome in ("failed", "timeout"):
        assert standing(heads(generate_0=outcome), SHAPE, ALL) == "settled", "the other sample stands"
        assert standing(heads(score_a=outcome), SHAPE, ALL) == "settled"


def test_below_a_step_that_failed_nothing_is_wanted() -> None:
    gone = {step.replace("/", "_"): "" for step in STEPS[2:]}
    assert standing(heads(generate_0="failed", generate_1="timeout", **gone), SHAPE, ALL) == "settled"
    assert standing(heads(generate_0="failed", **gone), SHAPE, ALL) == "owed"
    assert standing(heads(parse="failed", score_a="", score_b="", judge_j=""), SHAPE, ALL) == "settled"


def test_a_task_without_an_answer_wants_no_score_but_its_judge() -> None:
    assert standing(heads(score_a="", score_b=""), SHAPE, ALL, scored=False) == "settled"
    assert standing(heads(score_a="", score_b="", judge_j=""), SHAPE, ALL, scored=False) == "owed"


def test_a_run_until_a_stage_wants_no_more() -> None:
    assert standing(heads(score_a="", score_b="", judge_j=""), SHAPE, SHAPE.until("parse")) == "settled"


def test_what_an_agent_had_come_to_when_its_time_was_up_is_judged() -> None:
    agents = Shape(scores=("reward",), agents=("s",))
    late = {"generate/0": Result("s/t/1/generate/0", 1, "timeout", 0, None)}
    scored = {**late, "score/reward": Result("s/t/1/score/reward", 2, "ok", 0, None)}
    stages = agents.until(None)
    assert standing(late, agents, stages) == "owed" and outcome_of(late, agents, scored=True) == "missing"
    assert standing(scored, agents, stages) == "settled" and outcome_of(scored, agents, scored=True) == "timeout"
    for shape in (Shape(scores=("reward",)), Shape(scores=("reward",), agents=("another",))):
        assert standing(late, shape, stages) == "settled", "a model's timeout has no value: nothing is wanted below"
        assert outcome_of(late, shape, scored=True) == "timeout"
    failed = {"generate/0": Result("s/t/1/generate/0", 1, "failed", 0, None)}
    assert standing(failed, agents, stages) == "settled" and outcome_of(failed, agents, scored=True) == "failed"
    assert Shape(**{k: tuple(v) if isinstance(v, list) else v for k, v in agents.to_json().items()}) == agents
    assert "agents" not in Shape().to_json(), "a plan without agents is what it always was"


def test_a_timeout_is_worth_what_it_was_judged_to_be_and_nothing_where_it_was_not() -> None:
    marks = Marks(now={"s/t/1/score/reward": 0.25})
    assert marks.value("s/t/1", "score/reward", "timeout") == 0.25
    assert marks.value("s/t/2", "score/reward", "timeout") == 0.0
    assert marks.value("s/t/1", "score/reward", "failed") == 0.0
    assert marks.value("s/t/2", "score/reward", "error") is None


def test_what_is_older_than_a_step_above_it_is_unsure() -> None:
    newer = {**heads(), "generate/0": Result("s/t/1/generate/0", 99, "ok", 1, None)}
    assert standing(newer, SHAPE, ALL) == "unsure"


PREFIXES = st.sampled_from(["", "s", "s/t", "s/t/1", "s/t/1/generate", "s/t/1/generate/0", "s/t2", "x"])


KEYS = st.sampled_from(["s/t/1/generate/0", "s/t2/1"])


@given(st.lists(st.lists(PREFIXES, min_size=1, max_size=3), max_size=6), KEYS)
def test_a_generation_is_how_many_voids_cover_a_key(voids: list[list[str]], key: str) -> None:
    made = Voids((seq * 10, prefixes) for seq, prefixes in enumerate(voids, 1))
    covering = [seq * 10 for seq, prefixes in enumerate(voids, 1) if any(Key(p).covers(key) for p in prefixes)]
    assert made.generation(key) == len(covering)
    assert made.since(key) == max(covering, default=0)


def test_fold_gives_each_trial_its_heads_and_leaves_out_what_is_voided() -> None:
    results = [
        Result(f"s/{task}/1/{step}", seq, "ok", 0, None)
        for seq, (task, step) in enumerate([(t, s) for t in ("a", "a-b", "b") for s in ("generate/0", "parse")], 1)
    ]
    ordered = sorted(results, key=lambda head: head.key)
    voids = Voids([(3, ["s/a"])])
    found: dict[str, Any] = {trial: set(of) for trial, of in fold(ordered, voids)}
    assert {trial: set(of) for trial, of in fold(ordered, Voids())} == {
        f"s/{task}/1": {"generate/0", "parse"} for task in ("a", "a-b", "b")
    }
    assert found["s/a/1"] == set() and found["s/b/1"] == {"generate/0", "parse"}


def test_a_plan_is_extended_by_later_entries_and_never_changed() -> None:
    chunks = [{"ids": ["a"], "tasks": "0"}]
    first = {"solvers": ["m"], "trials": 2, "shape": Shape(parse=True).to_json(), "chunks": chunks}
    more = {"chunks": [{"ids": ["b", "c"], "tasks": "1", "unscored": ["c"]}]}
    plan = Plan.read([first, more])
    assert list(plan.task_ids()) == ["a", "b", "c"] and len(plan) == 6
    assert plan.chunks[1].unscored == {"c"} and plan.shape == Shape(parse=True)
    assert [key for *_, key in plan.trial_keys(plan.chunks[0])] == ["m/a/1", "m/a/2"]


def test_golden_seeds_and_orders_never_change() -> None:
    assert seed_of(0, "t1", "1", 0, 0) == 1962141680
    assert order_digest([("a", "00"), ("b", "11")]) == "3f5b3c192507fc5736b547ec95aae397"
    assert len({seed_of("t", n) for n in range(1000)}) == 1000 and all(0 <= seed_of(n) < 2**31 for n in range(100))
    assert order_digest([("a", "0"), ("b", "1")]) != order_digest([("b", "1"), ("a", "0")])
