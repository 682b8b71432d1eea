"""What happened, and what it comes to: the table of outcomes (SEMANTICS §4), stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.house import House, Oracle, quick_folder, right

from onward.ask import Answer, Usage
from onward.drive import Ending
from onward.errors import CallRejected, CallTransient
from onward.gateway import PROVIDERS
from onward.testing import Fault, ProviderServer
from onward.views import Trial, completed_through, summary, trials


@pytest.fixture
def house() -> Iterator[House]:
    with quick_folder() as folder:
        yield House(folder, spec={"limits": {"attempts": 1}})


def found(house: House) -> list[Trial]:
    with house.opened() as run:
        return list(trials(run))


def score_of(house: House, name: str = "numeric") -> tuple[float, int]:
    with house.opened() as run:
        mean = next(iter(summary(run).solvers.values())).scores[name]
        return mean.value, mean.n


def code(house: House, body: str) -> None:
    (house.folder / "solver.py").write_text(body)
    house.spec["solver"] = {"python": "solver.py:solve", "model": "python/m", "name": "m"}


def scorer(house: House, body: str) -> None:
    (house.folder / "score.py").write_text(f"def mine(answer, task):\n    {body}\n")
    house.spec["score"] = ["numeric", "score.py:mine"]


# ---------------------------------------------------------------- the thing under test failed


def test_the_solvers_own_exception_is_a_failure_with_score_0_and_nothing_runs_below(house: House) -> None:
    code(house, "def solve(ctx, task):\n    if task.id == 't1': raise KeyError('x')\n    return task.target\n")
    ending = house.run()
    assert (ending.code, ending.done) == (0, 3)
    assert [trial.outcome for trial in found(house)] == ["failed", "ok", "ok"]
    assert score_of(house) == (pytest.approx(2 / 3), 3)
    with house.opened() as run:
        assert [e.key.names[3:] for e in run.entries("m/t1", ("result",))] == [("generate", "0")]


def test_an_answer_that_cannot_be_parsed_is_a_failure(house: House) -> None:
    house.model = Oracle(lambda text, params: "no digits" if "1 + 1" in text else right(text, params))
    assert house.run().code == 0
    first = found(house)[0]
    assert first.outcome == "failed" and first.output == "no digits" and first.reason
    assert score_of(house) == (pytest.approx(2 / 3), 3)


def test_a_value_that_is_not_json_names_the_step(house: House) -> None:
    code(house, "def solve(ctx, task):\n    return {'output': {1, 2}}\n")
    house.run()
    assert "not JSON" in found(house)[0].reason


def test_an_answer_with_half_a_character_is_no_end_of_the_run(house: House) -> None:
    house.model = Oracle(lambda text, params: "\ud83d 2" if "1 + 1" in text else right(text, params))
    ending = house.run()
    assert ending.code == 0 and [trial.outcome for trial in found(house)][1:] == ["ok", "ok"]
    assert house.model.calls == 3 and house.resume("latest").calls == 0
    with house.opened() as run:
        assert run.in_doubt() == (0, 0.0)


REFUSED = Answer("no", "refused", usage=Usage(1, 1))


@pytest.mark.parametrize("said", [CallRejected("too long", provider="python"), REFUSED])
def test_a_request_that_is_refused_is_a_failure_and_is_not_sent_again(house: House, said: Any) -> None:
    house.model = Oracle(lambda text, params: said if "1 + 1" in text else right(text, params))
    assert house.run().code == 0
    asked = house.model.asked.total()
    assert found(house)[0].outcome == "failed"
    assert house.resume("latest").code == 0 and house.model.asked.total() == asked


def test_of_several_samples_the_failed_ones_are_left_out_and_counted(house: House) -> None:
    house.spec |= {"samples": 3}
    house.model = Oracle(lambda text, params: (house.model.calls == 0 and "no digits") or right(text, params))
    house.tasks = house.tasks[:1]
    assert house.run().code == 0
    with house.opened() as run:
        [chosen] = [e.value for e in run.entries("m/t1/1/reduce", ("result",))]
        assert chosen["left_out"] == 1 and chosen["votes"] == 2
    assert score_of(house)[0] == 1.0


def test_where_every_sample_failed_the_trial_has_failed(house: House) -> None:
    code(house, "def solve(ctx, task):\n    raise KeyError('x')\n")
    house.spec |= {"samples": 2}
    assert house.run().code == 0
    assert {trial.outcome for trial in found(house)} == {"failed"} and score_of(house)[0] == 0.0


# ---------------------------------------------------------------- our side failed


def test_the_exception_of_a_scorer_is_an_error_and_holds_up_no_other_scorer(house: House) -> None:
    scorer(house, "raise KeyError('x')")
    ending = house.run()
    assert (ending.code, ending.done) == (3, 0)
    assert {trial.outcome for trial in found(house)} == {"error"}
    assert {tuple(trial.scores) for trial in found(house)} == {("numeric",)}
    scorer(house, "return 1.0")
    assert house.resume().code == 0 and house.model.calls == 3


@pytest.mark.parametrize(
    "said", ["what do I know", CallRejected("too long", provider="python"), CallTransient("busy", provider="python")]
)
def test_a_judge_that_gives_no_verdict_is_an_error_of_ours_and_never_a_score(house: House, said: Any) -> None:
    house.spec["judge"] = {"model": "python/m", "rubric": "Is it right?"}
    house.model = Oracle(lambda text, params: said if "answer to grade" in text else right(text, params))
    ending = house.run()
    assert ending.code == 3
    assert {trial.outcome for trial in found(house)} == {"error"}
    with house.opened() as run:
        assert "judge" not in summary(run).solvers["m"].scores


def test_errors_are_counted_beside_the_mean_and_never_in_it(house: House) -> None:
    busy = CallTransient("HTTP 500", provider="python", status=500)
    house.model = Oracle(lambda text, params: busy if "1 + 1" in text else right(text, params))
    ending = house.run(max_new=2)
    assert (ending.code, ending.done) == (3, 1)
    with house.opened() as run:
        part = summary(run).solvers["m"]
        assert (part.ok, part.errors, part.missing, part.owed) == (1, 1, 1, 2)
        assert (part.scores["numeric"].value, part.scores["numeric"].n) == (1.0, 1)
    house.model.answer = right
    assert house.resume().code == 0
    with house.opened() as run:
        part = summary(run).solvers["m"]
        assert (part.ok, part.errors, part.rerun, part.first_go) == (3, 0, 0, {}), "a repaired error leaves no scar"


# ---------------------------------------------------------------- a trial's own limits


def test_a_trials_token_limit_is_a_timeout_with_score_0_and_no_judge_shares_it(house: House) -> None:
    code(house, "async def solve(ctx, task):\n    for n in range(9): await ctx.ask(f'{n} {task.input}')\n")
    house.spec |= {"limits": {"tokens": 12}, "judge": {"model": "python/m", "rubric": "?"}}
    assert house.run().code == 0
    assert {trial.outcome for trial in found(house)} == {"timeout"} and score_of(house)[0] == 0.0
    assert house.model.calls == 9
    assert house.run(limits={"tokens": 1000}).code == 0 and house.model.calls == 9, "raising it reopens nothing"


def test_a_judge_is_not_held_to_the_trials_limits(house: House) -> None:
    house.spec |= {"limits": {"tokens": 6}, "judge": {"model": "python/m", "rubric": "?"}}
    assert house.run().code == 0
    assert {trial.outcome for trial in found(house)} == {"ok"}


# ---------------------------------------------------------------- how far


def test_until_a_stage_is_complete_when_that_stage_is(house: House) -> None:
    ending = house.run(until="generate")
    assert ending.code == 0
    with house.opened() as run:
        assert completed_through(run) == "generate"
    ending = house.run()
    assert (ending.code, ending.calls) == (0, 0)
    with house.opened() as run:
        assert completed_through(run) == "score"


def test_a_task_without_an_answer_is_generated_and_not_scored(house: House) -> None:
    house.tasks[0].pop("target")
    assert house.run().code == 0
    assert [bool(trial.scores) for trial in found(house)] == [False, True, True]
    assert score_of(house) == (1.0, 2)
    assert house.run().calls == 0


def test_samples_differ_by_their_seed_and_trials_too(house: House) -> None:
    house.spec |= {"samples": 2, "trials": 2}
    house.tasks = house.tasks[:1]
    house.run()
    assert len(house.model.asked) == 4 == house.model.calls


# ---------------------------------------------------------------- over real HTTP


def served(house: House, server: ProviderServer, **fields: Any) -> Ending:
    """One solver at a provider that is served here, and one in this process."""
    solvers = [{"model": "openai/x", "name": "far", "max_tokens": 9}, {"model": "python/m", "name": "near"}]
    providers = {"openai": {"base_url": f"{server.url}/v1", "concurrency": 1}}
    spec = house.changed(solver=solvers, providers=providers, parse=None, score="includes", **fields)
    from onward import launch
    from onward.config import settings
    from onward.progress import Quiet

    assert "openai" in PROVIDERS
    chosen = settings(store=house.store, environment={"OPENAI_API_KEY": "sk-test"}, folder=house.folder)
    return launch.run(spec, house.folder, chosen, Quiet(), models=house.known, source=house.source())


@pytest.mark.parametrize("kind", ["408", "409", "429", "500", "529", "error", "cut", "truncated", "garbage"])
def test_what_passes_is_an_error_that_the_next_invocation_repairs(house: House, kind: str) -> None:
    with ProviderServer(lambda request: right(request.text, {}), faults=[Fault(kind, times=1)]) as server:
        ending = served(house, server)
        assert (ending.code, ending.done) == (3, 5)
        assert [trial.outcome for trial in found(house)].count("error") == 1
        before = len(server.calls)
        ending = served(house, server)
        assert (ending.code, ending.done, ending.calls) == (0, 6, 1)
        assert len(server.calls) == before + 1


@pytest.mark.parametrize("kind", ["401", "402", "403", "404", "quota"])
def test_what_somebody_must_act_on_stops_that_provider_at_once_and_no_other(house: House, kind: str) -> None:
    with ProviderServer(lambda request: right(request.text, {}), faults=[Fault(kind, times=1)]) as server:
        ending = served(house, server)
        assert (ending.code, ending.done, len(server.requests)) == (3, 3, 1)
        assert ending.stopped and "openai" in ending.stopped
        assert house.model.calls == 3
        assert served(house, server).code == 0


@pytest.mark.parametrize("kind", ["context", "content"])
def test_what_is_never_answered_is_a_failure(house: House, kind: str) -> None:
    with ProviderServer(lambda request: right(request.text, {}), faults=[Fault(kind, times=1)]) as server:
        assert served(house, server).code == 0
        assert [trial.outcome for trial in found(house)].count("failed") == 1
        assert (served(house, server).calls, len(server.requests)) == (0, 3)
