"""A recording of BenchFlow's is a run like any other: its exchanges are served again, each to its own request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.benchflow import CONFIG, RESULT, Episode, completion, folder, openhands, refused, row
from tests.gateway.street import PATHS, Street, shown, street
from tests.house import quick_folder

from onward import launch, views
from onward.adoption import adopt
from onward.config import settings
from onward.errors import UsageError
from onward.formats.benchflow import export, prospect, read
from onward.gateway.normalisers import rules_for
from onward.journal import SqliteJournal
from onward.keys import Key
from onward.progress import Quiet
from onward.runs import open_run
from onward.tasks import Task
from onward.testing import ProviderServer

Body = dict[str, Any]


def made(place: Path, rows: Sequence[Any], **more: Any) -> Any:
    return adopt(read(folder(place / "jobs" / "write-file__0f1e2d3c", rows, **more)), place / "runs")


def seen(run: Path) -> Any:
    """The one trial of a run."""
    opened = open_run(run)
    try:
        [trial] = views.trials(opened)
        return trial
    finally:
        opened.close()


async def _asked(run: Path, bodies: Sequence[Body], protocol: str, **terms: Any) -> list[tuple[int, Any, str]]:
    """Status, answer and match level of each, asked of a gateway that has this run's journal, one after the other."""
    opened = open_run(run)
    step = Key.of(opened.plan.solvers[0], next(opened.plan.task_ids()), "1", "generate", "0")
    opened.close()
    journal = SqliteJournal(run, create=False)
    found = []
    try:
        async with ProviderServer() as server, street(server, journal) as at:
            token = at.admit(step, **terms)
            for body in bodies:
                before = len(at.rows("served"))
                status, answer = await _posted(at, token, protocol, body)
                levels = [entry.data["level"] for entry in at.entries("served")[before:]]
                found.append((status, answer, levels[0] if levels else ""))
    finally:
        journal.close()
    return found


async def _posted(at: Street, token: str, protocol: str, body: Body) -> tuple[int, Any]:
    url = at.door.url + PATHS[protocol]
    async with at.http.post(url, json={**body, "stream": False}, headers=shown(protocol, token)) as reply:
        return reply.status, json.loads(await reply.read())


def asked(run: Path, bodies: Sequence[Body], protocol: str = "messages", **terms: Any) -> list[tuple[int, Any, str]]:
    return asyncio.run(_asked(run, bodies, protocol, **terms))


def bodies_of(rows: Sequence[Any]) -> list[Body]:
    """The original bodies in these rows."""
    return [json.loads(one["request"]["body"]["input"][0]["content"]) for one in rows]


def text_of(answer: Any) -> str:
    return "".join(block.get("text", "") for block in answer["content"])


# ---------------------------------------------------------------- the run


def test_a_timeout_is_recorded_with_what_it_was_worth_and_its_money_was_spent_elsewhere(tmp_path: Path) -> None:
    found = made(tmp_path, Episode().rows, result={"rewards": {"reward": 0.25}})
    trial = seen(found.folder)
    assert (trial.outcome, trial.solver, trial.task) == ("timeout", "claude-code", "write-file")
    assert trial.scores["reward"]["value"] == 0.25
    assert trial.output == {"final": "Step 2.", "reward": 0.25, "rewards": {"reward": 0.25}}
    assert (trial.usd, trial.reused_usd, trial.calls) == (0.0, 0.3, 0)
    assert trial.reason == "Agent timed out after 60s"


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        ({"error": None, "error_category": None}, "ok"),
        ({"error": "exit 1", "error_category": "acp_error"}, "failed"),
        ({"error": "the proxy died", "error_category": "infra_failure"}, "error"),
    ],
)
def test_other_ends_are_what_they_were(tmp_path: Path, result: Any, outcome: str) -> None:
    assert seen(made(tmp_path, Episode().rows, result=result).folder).outcome == outcome


def test_a_run_that_was_cut_before_its_end_is_owed_with_its_answers_there(tmp_path: Path) -> None:
    found = made(tmp_path, Episode().rows, without=["result.json", "timing.json", "prompts.json"])
    assert (found.exchanges, seen(found.folder).outcome) == (3, "missing")


def test_the_same_folder_is_the_same_run_wherever_it_lies(tmp_path: Path) -> None:
    first = made(tmp_path, Episode().rows)
    elsewhere = adopt(read(folder(tmp_path / "b", Episode().rows)), tmp_path / "runs")
    assert (first.created, elsewhere.created, elsewhere.run) == (True, False, first.run)
    other = adopt(read(folder(tmp_path / "c", Episode(2).rows)), tmp_path / "runs")
    assert other.run != first.run


def test_the_run_holds_every_file_and_where_it_came_from(tmp_path: Path) -> None:
    found = made(tmp_path, Episode().rows)
    place = tmp_path / "jobs" / "write-file__0f1e2d3c"
    run = open_run(found.folder)
    facts = run.facts["recording"]
    assert (facts["agent"], facts["timeout"], facts["category"], facts["usd"]) == (
        "claude-agent-acp",
        60.0,
        "timeout",
        0.3,
    )
    for path in place.rglob("*.*"):
        kept = facts["files"][path.relative_to(place).as_posix()]
        assert run.journal.blob(bytes.fromhex(kept["content"])) == path.read_bytes()
    run.close()
    assert views.integrity(found.folder).whole


def test_the_true_task_stands_in_where_it_is_given(tmp_path: Path) -> None:
    task = Task("write-file", "Write it.", 1, {"folder": {}})
    found = adopt(read(folder(tmp_path / "a", Episode().rows)), tmp_path / "runs", task=task)
    run = open_run(found.folder)
    assert next(run.tasks(run.plan.chunks[0]))[1] == task
    run.close()


def test_a_folder_without_exchange_and_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither an exchange nor a result"):
        made(tmp_path, b"", without=["result.json"])


def test_a_complete_import_is_complete_whatever_agent_is_installed_here(tmp_path: Path) -> None:
    found = made(tmp_path, Episode().rows, result={"error": None, "error_category": None})
    known = settings(store=tmp_path / "runs", environment={}, folder=tmp_path)
    before = open_run(found.folder).journal.head().seq
    ending = launch.resume(found.run, known, Quiet())
    assert (ending.code, ending.run) == (0, found.run)
    assert open_run(found.folder).journal.head().seq == before


def test_a_number_that_no_journal_holds_leaves_its_exchange_out_and_no_other(tmp_path: Path) -> None:
    rows = Episode(3).rows
    rows[1]["response"]["body"] = completion("Step 1.", ("toolu_1", "Bash", json.dumps({"n": 2**70})))
    found = made(tmp_path, rows)
    assert (found.exchanges, found.left_out) == (2, {"not to be kept": 1})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=4,
)


@hypothesis.settings(max_examples=40)
@given(st.sampled_from(sorted(CONFIG)), st.sampled_from(sorted({*RESULT} - {"agent"})), _JSON, _JSON)
def test_wrong_types_in_config_and_result_are_survived(field: str, other: str, one: Any, two: Any) -> None:
    with quick_folder() as place:
        config, result = {**CONFIG, field: one}, {**RESULT, other: two}
        made_of = folder(place / "x__1", Episode(1).rows, config=json.dumps(config).encode(),
                         result=json.dumps(result).encode())  # fmt: skip
        recording = read(made_of)
        run = adopt(recording, place / "runs")
        opened = open_run(run.folder)
        try:
            [trial] = views.trials(opened)
            assert export(opened, trial.key, {}).files["config.json"] == json.dumps(config).encode()
            prospect(recording)
        finally:
            opened.close()


# ---------------------------------------------------------------- served again, over real sockets


def test_each_request_is_answered_as_it_was(tmp_path: Path) -> None:
    rows = Episode(thinking=True).rows
    found = asked(made(tmp_path, rows).folder, bodies_of(rows), rules=rules_for("claude-code"), miss="fail")
    assert [(status, level) for status, _, level in found] == [(200, "exact")] * 3
    assert [text_of(answer) for _, answer, _ in found] == ["Step 0.", "Step 1.", "Step 2."]
    assert found[0][1]["content"][-1]["input"] == {"command": "echo 0"}


def test_chat_requests_are_known_by_what_was_recorded_of_them(tmp_path: Path) -> None:
    rows = openhands()
    place = made(tmp_path, rows, config={"agent": "openhands", "model": "deepseek-v4"}).folder
    live = [{**one["request"]["body"], "temperature": 0.7, "model": "openai/benchflow-deepseek-v4", "seed": 3}
            for one in rows]  # fmt: skip
    found = asked(place, live, "chat", rules=rules_for("openhands"), miss="fail")
    assert [(status, level) for status, _, level in found] == [(200, "exact")] * 3
    assert found[0][1] == rows[0]["response"]["body"]


def test_a_request_with_the_true_text_is_known_where_the_record_has_a_mark(tmp_path: Path) -> None:
    rows = Episode().rows
    true = (
        json.dumps(rows)
        .replace("Runs a command.", "Watches for <task-notification> tags.")
        .replace("result 0", "token = next(tokens)")
    )
    damaged = true.replace("<task-notification>", "<ta***REDACTED***>").replace("next(tokens)", "***REDACTED***")
    place = made(tmp_path, json.loads(damaged)).folder
    live = bodies_of(json.loads(true))
    found = asked(place, live, rules=rules_for("claude-code"), miss="fail")
    assert [(status, level) for status, _, level in found] == [(200, "exact")] * 3
    live[0]["tools"][0]["description"] = "Does something else."
    assert asked(place, live[:1], rules=rules_for("claude-code"), miss="fail")[0][2] == "opening"  # and not "exact"


def test_an_error_in_the_middle_is_told_again_with_its_true_status_and_one_at_the_tail_is_not(tmp_path: Path) -> None:
    episode = Episode()
    side = {**episode.body, "model": "haiku", "messages": [{"role": "user", "content": "You are a sub-agent."}]}
    middle = refused(side, 5.0, said="400: {'error': 'no such model'}")
    tail = refused(episode.body, 90.0, said="rate limited")
    found = made(tmp_path, [episode.rows[0], middle, *episode.rows[1:], tail])
    assert (found.exchanges, found.left_out) == (4, {"tail error": 1})
    terms = {"rules": rules_for("claude-code"), "miss": "fail"}
    [(status, answer, level)] = asked(found.folder, [side], **terms)
    assert (status, level, answer["error"]["message"]) == (400, "exact", "400: {'error': 'no such model'}")
    [(status, _, level)] = asked(found.folder, [episode.body], **terms)
    assert (status, level) == (403, "")  # the cut point: the model would be asked


def test_parallel_side_calls_get_their_own_answers_in_whatever_order_they_ask(tmp_path: Path) -> None:
    sides = [
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": f"Search {n}"}]} for n in range(4)
    ]
    rows = [row(body, completion(f"Found {n}."), 5.0 + n, 9.0 - n) for n, body in enumerate(sides)]
    place = made(tmp_path, [*Episode(1).rows, *reversed(rows)]).folder
    found = asked(place, [sides[n] for n in (2, 0, 3, 1)], miss="fail")
    assert [text_of(answer) for _, answer, _ in found] == ["Found 2.", "Found 0.", "Found 3.", "Found 1."]


# ---------------------------------------------------------------- the real one


@pytest.fixture
def real(shared_data: Path) -> Path:
    found = sorted((shared_data / "benchflow").glob("*/config.json"))
    if not found:
        pytest.skip(f"no run folder of BenchFlow's in {shared_data}")
    return found[0].parent


def _as_asked(line: Any) -> Body:
    """What the agent sent, as far as it can be known: the replaced texts as they must have been."""
    given = line["request"]["body"].get("input")
    whole = line["response"]["status_code"] == 200
    text = given[0]["content"] if whole else json.dumps({**line["request"]["body"], "input": None, "system": "?"})
    body: Body = json.loads(
        text.replace("<ta***REDACTED***>", "<task-notification>").replace(
            "Authorization: ***REDACTED*** Dual", "Authorization: A Dual"
        )
    )
    return {name: value for name, value in body.items() if value is not None}


@pytest.mark.parametrize("backwards", [False, True])
def test_every_request_of_the_real_run_is_answered_by_its_own_answer(
    real: Path, tmp_path: Path, backwards: bool
) -> None:
    recording = read(real)
    run = adopt(recording, tmp_path / "runs")
    lines = [json.loads(one.row.raw) for one in recording.exchanges]
    lines = lines[::-1] if backwards else lines
    found = asked(run.folder, [_as_asked(line) for line in lines], rules=rules_for("claude-code"), miss="fail")
    assert [level for _, _, level in found] == ["exact"] * 18
    assert [status for status, _, _ in found] == [
        200 if line["response"]["status_code"] == 200 else 400 for line in lines
    ]
    for line, (status, answer, _) in zip(lines, found, strict=True):
        if status == 200:
            message = line["response"]["body"]["choices"][0]["message"]
            assert text_of(answer) == (message["content"] or "")
            ids = [call["id"] for call in message["tool_calls"] or ()]
            assert [block["id"] for block in answer["content"] if "id" in block] == ids
        else:
            assert "Invalid model name passed in model=claude-haiku" in answer["error"]["message"]


def test_the_real_run_costs_nothing_to_import_and_loses_nothing(real: Path, tmp_path: Path) -> None:
    run = adopt(read(real), tmp_path / "runs")
    trial = seen(run.folder)
    assert (trial.outcome, trial.scores["reward"]["value"], trial.usd) == ("ok", 0.0, 0.0)
    assert trial.reused_usd == pytest.approx(0.34763445)
    assert not adopt(read(real), tmp_path / "runs").created
    assert views.integrity(run.folder).whole
