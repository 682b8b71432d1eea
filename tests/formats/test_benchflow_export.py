"""A trial of an agent comes out as a run folder of BenchFlow's: what was recorded byte for byte, then what was live."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.benchflow import MODEL, Episode, folder, openhands, refused
from tests.gateway.street import PATHS, shown, street

from onward import lineage
from onward.adoption import adopt
from onward.ask import Answer, Usage
from onward.clock import SystemClock
from onward.errors import UsageError
from onward.experiment import Spec, assemble
from onward.fingerprint import Fingerprint
from onward.formats.benchflow import Exported, Recording, export, read
from onward.formats.benchflow.blotting import Blotter
from onward.formats.benchflow.recording import LLM
from onward.formats.files import write_tree
from onward.gateway.normalisers import rules_for
from onward.journal import SqliteJournal
from onward.keys import Key
from onward.runs import open_run
from onward.takeover import survey
from onward.tasks import Selection, Task
from onward.testing import ProviderServer

Body = dict[str, Any]
KEY = "sk-onward-testing-9876543210"
CUT = ["result.json", "timing.json", "prompts.json"]
"""What a host that dies leaves out: the step is owed, and goes on in the very run."""


def exported(run: Path, **keys: str) -> Exported:
    opened = open_run(run)
    try:
        [key] = [key for chunk in opened.plan.chunks for _, _, key in opened.plan.trial_keys(chunk)]
        return export(opened, key, keys)
    finally:
        opened.close()


def again(made: Exported, place: Path) -> Recording:
    """What was exported, read as anybody's."""
    write_tree(place, made.files)
    return read(place)


def document(made: Exported, name: str) -> Any:
    return json.loads(made.files[name])


async def _worked(run: Path, bodies: Sequence[Body], protocol: str, value: Any, says: Any) -> None:
    journal = SqliteJournal(run, create=False)
    opened = open_run(run)
    trial = Key.of(opened.plan.solvers[0], next(opened.plan.task_ids()), "1")
    opened.close()
    try:
        async with ProviderServer(says) as server, street(server, journal) as at:
            context = at.context(trial / "generate" / "0")
            above = at.context(trial)

            async def body() -> Any:
                token = at.door.admit(context, rules=rules_for("claude-code"))
                for one in bodies:
                    url = at.door.url + PATHS[protocol]
                    async with at.http.post(url, json=one, headers=shown(protocol, token)) as reply:
                        await reply.read()
                return {**value, "exchanges": await at.door.dismiss(token)}

            await above.run(context, Fingerprint.of(test=1), body)
    finally:
        journal.close()


def worked(run: Path, bodies: Sequence[Body], protocol: str = "messages", says: Any = lambda asked: "Live.") -> None:
    """An agent that asks these, one after the other, and then is judged."""
    output = {"final": "Done.", "reward": 0.5, "rewards": {"reward": 0.5}}
    verdict = {"reward": 0.5, "rewards": {"reward": 0.5}, "code": 0, "said": "1 passed", "ctrf": {"results": {}}}
    asyncio.run(asyncio.wait_for(_worked(run, bodies, protocol, {"output": output, "verifier": verdict}, says), 60))


def asked(episode: Episode) -> list[Body]:
    return [json.loads(one["request"]["body"]["input"][0]["content"]) for one in episode.rows]


# ---------------------------------------------------------------- as it came


def test_an_import_comes_out_as_it_went_in_file_for_file(tmp_path: Path) -> None:
    rows = [*Episode().rows[:2], b'{"cut": ', *Episode().rows[2:], refused(Episode().body, 90.0)]
    place = folder(tmp_path / "in", rows)
    made = exported(adopt(read(place), tmp_path / "runs").folder)
    assert made.files == {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*.*")}
    assert not made.files[LLM].endswith(b"\n")


def test_the_real_folder_comes_out_as_it_went_in(shared_data: Path, tmp_path: Path) -> None:
    found = sorted((shared_data / "benchflow").glob("*/config.json"))
    if not found:
        pytest.skip(f"no run folder of BenchFlow's in {shared_data}")
    place = found[0].parent
    made = exported(adopt(read(place), tmp_path / "runs").folder, OPENAI_API_KEY=KEY)
    assert made.files == {path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*.*")}
    rows = [json.loads(line) for line in made.files[LLM].split(b"\n")]
    assert rows == [json.loads(line) for line in (place / LLM).read_bytes().split(b"\n")]
    assert again(made, tmp_path / "out").exchanges == read(place).exchanges


def test_a_key_in_a_recorded_line_is_blotted_out_and_counted_and_nothing_else_changes(tmp_path: Path) -> None:
    rows = Episode(commands=[f"export K={KEY}", "token = next(tokens)"]).rows
    place = folder(tmp_path / "in", rows)
    made = exported(adopt(read(place), tmp_path / "runs").folder, OPENAI_API_KEY=KEY)
    assert made.blotted["OPENAI_API_KEY"] > 0
    assert all(KEY.encode() not in content for content in made.files.values())
    assert [json.loads(line) for line in made.files[LLM].split(b"\n")] == json.loads(
        json.dumps(rows).replace(KEY, "[OPENAI_API_KEY]")
    )
    assert b"token = next(tokens)" in made.files[LLM]


# ---------------------------------------------------------------- stitched


def test_what_was_served_comes_byte_for_byte_and_then_what_was_live(tmp_path: Path) -> None:
    first, whole = Episode(2), Episode(3)
    first.rows[1] = whole.rows[1]
    tail = refused(whole.body, 90.0)
    run = adopt(read(folder(tmp_path / "in", [*first.rows, tail], without=CUT)), tmp_path / "runs").folder
    worked(run, asked(whole))
    made = exported(run)
    assert (made.recorded, made.live, made.left_out) == (2, 1, (3,))
    lines = made.files[LLM].split(b"\n")
    assert lines[:2] == [json.dumps(one).encode() for one in first.rows]
    assert not made.files[LLM].endswith(b"\n")
    found = again(made, tmp_path / "out")
    assert [one.standing for one in found.exchanges] == ["consumed", "consumed", "last"]
    assert found.exchanges[2].row.request == asked(whole)[2]
    assert found.exchanges[2].row.response["choices"][0]["message"]["content"] == "Live."


def test_a_stitched_folder_says_where_it_comes_from_and_what_each_part_cost(tmp_path: Path) -> None:
    whole = Episode(3)
    run = adopt(read(folder(tmp_path / "in", whole.rows[:2], without=CUT)), tmp_path / "runs").folder
    worked(run, asked(whole))
    made = exported(run)
    result, config = document(made, "result.json"), document(made, "config.json")
    came = result["continued_from"]
    assert came == config["continued_from"]
    assert (came["recorded_lines"], len(came["run_id"]), came["original_model"]) == (2, 32, MODEL)
    assert came["trajectory_digest"].startswith("sha256:") and came["digest"].startswith("sha256:")
    assert result["divergences"] == {
        "count": 0, "first": None, "policy": "warn", "levels": {"exact": 2}, "left": 0,
    }  # fmt: skip
    details = result["agent_result"]["usage_details"]
    assert details["recorded"]["calls"] == 2 and details["recorded_total_tokens"] == 114
    assert details["live"]["calls"] == 1 and details["live"]["cost_usd"] > 0
    assert result["agent_result"]["total_tokens"] == 114 + details["live_total_tokens"]
    assert result["agent_result"]["cost_usd"] is None  # the recording does not say what it cost
    assert (result["rewards"], result["error"]) == ({"reward": 0.5}, None)
    assert (config["agent"], config["timeout_sec"], config["environment"]) == ("claude-agent-acp", 60, "docker")
    assert made.files["verifier/reward.txt"] == b"0.5\n"
    assert made.files["verifier/test-stdout.txt"] == b"1 passed"
    assert json.loads(made.files["rewards.jsonl"])["value"] == 0.5


def test_a_divergence_is_counted_and_its_first_place_told(tmp_path: Path) -> None:
    whole = Episode(3)
    run = adopt(read(folder(tmp_path / "in", whole.rows[:2], without=CUT)), tmp_path / "runs").folder
    bodies = asked(whole)
    bodies[1]["messages"][-1]["content"][0]["content"] = "another result"
    worked(run, bodies[:2])
    found = document(exported(run), "result.json")["divergences"]
    assert (found["count"], found["levels"]) == (1, {"exact": 1, "prefix": 1})
    assert "another result" in found["first"]


async def _derived(parent: Path, store: Path, **arguments: Any) -> Path:
    """What `continue` makes of a timed-out run."""
    run = open_run(parent)
    try:
        assembled = assemble(Spec.model_validate(run.config["spec"]), Path(), run.config)
        tasks = [task for chunk in run.plan.chunks for _, task in run.tasks(chunk)]
        made = lineage.wanted(assembled, run.facts["source"], run.facts["selection"], tasks, None)
        taken = await survey(run, assembled, run.plan, None)
        derivation = {"verb": "continue", "parents": [run.id], "timeout": 600, **arguments}
        return await lineage.create(
            store, made, SystemClock(), derivation=derivation, takeovers=[taken]
        )  # fmt: skip
    finally:
        run.close()


def test_a_continuation_in_a_run_of_its_own_still_has_the_recorded_lines(tmp_path: Path) -> None:
    whole = Episode(3)
    parent = adopt(read(folder(tmp_path / "in", whole.rows[:2])), tmp_path / "runs")
    run = asyncio.run(_derived(parent.folder, tmp_path / "runs"))
    worked(run, asked(whole))
    made = exported(run)
    assert (made.recorded, made.live, made.left_out) == (2, 1, ())
    assert made.files[LLM].split(b"\n")[:2] == [json.dumps(one).encode() for one in whole.rows[:2]]
    result = document(made, "result.json")
    assert result["continued_from"]["run_id"] == open_run(parent.folder).id
    assert result["continued_from"]["original_error_category"] == "timeout"
    assert result["continued_from"]["original_rewards"] == {"reward": 0.0}
    details = result["agent_result"]["usage_details"]
    assert details["recorded"]["cost_usd"] == 0.3
    assert result["agent_result"]["cost_usd"] == pytest.approx(0.3 + details["live"]["cost_usd"])
    assert document(made, "config.json")["timeout_sec"] == 600
    first, second = (json.loads(line)["request"]["timestamp"] for line in made.files[LLM].split(b"\n")[1:])
    assert first < second  # the live part is told by the recorder's clock


def test_a_continuation_by_another_model_says_both_and_what_did_not_agree(tmp_path: Path) -> None:
    whole = Episode(3)
    parent = adopt(read(folder(tmp_path / "in", whole.rows[:2])), tmp_path / "runs")
    more = {"model": "anthropic/other", "mismatches": ["the task's task.md changed since it was recorded"]}
    run = asyncio.run(_derived(parent.folder, tmp_path / "runs", **more))
    worked(run, asked(whole))
    result = document(exported(run), "result.json")
    assert result["model"] == f"{MODEL} (recorded), other (live)"
    assert result["continued_from"]["mismatches"] == more["mismatches"]
    assert result["rollout_name"] == "in__continued"


# ---------------------------------------------------------------- of our own


def own(store: Path, agent: str, model: str) -> Path:
    """A run of ours with one trial, nothing of it done."""
    spec = Spec.model_validate({"name": "own", "solver": {"agent": agent, "model": model}, "score": "reward"})
    made = lineage.wanted(
        assemble(spec, Path()), {"source": "here"}, Selection.of({}).to_json(), [Task("t", "Work.", 1)], None
    )
    return asyncio.run(lineage.create(store, made, SystemClock()))


def test_a_trial_of_our_own_is_read_back_with_equal_requests_and_answers(tmp_path: Path) -> None:
    run = own(tmp_path, "claude-code", "anthropic/m")
    bodies = asked(Episode(3))
    worked(run, [{**body, "stream": stream} for body, stream in zip(bodies, (True, False, True), strict=True)])
    made = exported(run)
    assert (made.recorded, made.live) == (0, 3)
    found = again(made, tmp_path / "out")
    assert [{**one.row.request, "stream": True} for one in found.exchanges] == bodies
    assert all(one.row.whole for one in found.exchanges)
    assert [one.row.response["choices"][0]["message"]["content"] for one in found.exchanges] == ["Live."] * 3
    assert "continued_from" not in document(made, "result.json")
    assert (found.agent, found.task, found.prompts) == ("claude-agent-acp", "t", ("Work.",))


@pytest.mark.parametrize("beside", [True, False], ids=["background", "foreground"])
def test_a_trial_that_cannot_be_reproduced_says_so_and_its_continuation_too(tmp_path: Path, *, beside: bool) -> None:
    whole, said = Episode(3), {"command": f"echo {KEY}", "run_in_background": beside}
    offered = {"type": "object", "properties": {"command": {}, "run_in_background": {"type": "boolean"}}}
    whole.body["tools"] = [{**whole.body["tools"][0], "input_schema": offered}]
    run = own(tmp_path, "claude-code", "anthropic/m")
    call = {"id": "toolu_0", "name": "Bash", "arguments": said}
    worked(run, [whole.body], says=lambda request: Answer("", "tool", [call]))
    made = exported(run, ANTHROPIC_API_KEY=KEY)
    assert document(made, "result.json")["reproducible"] is not beside
    assert made.blotted == {"ANTHROPIC_API_KEY": 1} and not any(KEY.encode() in one for one in made.files.values())

    result = {**document(made, "result.json"), "error_category": "timeout"}
    place = folder(tmp_path / "in", made.files[LLM], result=json.dumps(result).encode())
    parent = adopt(read(place), tmp_path / "runs")
    further = asyncio.run(_derived(parent.folder, tmp_path / "runs"))
    worked(further, [Episode(1).body])
    assert document(exported(further), "result.json")["reproducible"] is not beside


def test_a_trial_over_chat_completions_is_read_back_as_they_would_have_it(tmp_path: Path) -> None:
    run = own(tmp_path, "openhands", "openai/m")
    bodies = [{"model": "m", "messages": one["request"]["body"]["messages"], "max_tokens": 9} for one in openhands()]
    worked(run, bodies, "chat")
    found = again(exported(run), tmp_path / "out")
    assert [one.row.request for one in found.exchanges] == [
        {"model": "m", "messages": body["messages"]} for body in bodies
    ]
    assert found.tokens[0] > 0


@pytest.mark.parametrize("protocol", ["responses", "gemini"])
def test_other_formats_are_told_as_chat_completions(tmp_path: Path, protocol: str) -> None:
    run = own(tmp_path, "codex", "openai/m")
    said = {"input": [{"role": "user", "content": "Work."}], "model": "m", "max_output_tokens": 9}
    body = said if protocol == "responses" else {"contents": [{"role": "user", "parts": [{"text": "Work."}]}]}
    worked(run, [body], protocol)
    [one] = again(exported(run), tmp_path / "out").exchanges
    assert (one.row.protocol, one.standing) == (protocol, "last")
    assert one.row.response["choices"][0]["message"]["content"] == "Live."


def test_an_answer_with_tool_calls_keeps_their_ids_and_arguments(tmp_path: Path) -> None:
    call = {"id": "toolu_9", "name": "Bash", "arguments": {"command": "ls"}}
    run = own(tmp_path, "claude-code", "anthropic/m")
    worked(run, asked(Episode(1)), says=lambda asked: Answer("On it.", "tool", [call], Usage(30, 5, 10)))
    made = exported(run)
    answer = json.loads(made.files[LLM])["response"]["body"]
    [kept] = answer["choices"][0]["message"]["tool_calls"]
    assert (kept["id"], kept["function"]) == ("toolu_9", {"name": "Bash", "arguments": '{"command":"ls"}'})
    assert (answer["usage"]["prompt_tokens"], answer["usage"]["cache_read_input_tokens"]) == (30, 10)
    assert document(made, "result.json")["n_tool_calls"] == 1


def test_a_key_in_what_was_live_is_blotted_out_and_code_stays_code(tmp_path: Path) -> None:
    run = own(tmp_path, "claude-code", "anthropic/m")
    bodies = asked(Episode(1))
    code = f'token = next(tokens)\npassword: str = "{KEY}"'
    bodies[0]["messages"][0]["content"][0]["text"] = code
    worked(run, bodies)
    made = exported(run, OPENAI_API_KEY=KEY, SHORT="abc")
    assert all(KEY.encode() not in content for content in made.files.values())
    request = again(made, tmp_path / "out").exchanges[0].row.request
    assert request["messages"][0]["content"][0]["text"] == code.replace(KEY, "[OPENAI_API_KEY]")
    assert made.blotted["OPENAI_API_KEY"] > 0


def test_a_trial_without_an_agent_is_refused(tmp_path: Path) -> None:
    spec = Spec.model_validate({"name": "plain", "solver": "openai/m", "score": "exact"})
    made = lineage.wanted(assemble(spec, Path()), {}, Selection.of({}).to_json(), [Task("t", "?", "!")], None)
    with pytest.raises(UsageError, match="no trial of an agent"):
        exported(asyncio.run(lineage.create(tmp_path, made, SystemClock())))


SECRET = 'a"key\\with\ntrouble'
"""A key that is another text in JSON, and another again in JSON in JSON."""


def without(value: Any) -> Any:
    """The value as it should come out."""
    if isinstance(value, str):
        return value.replace(SECRET, "[K]")
    if isinstance(value, dict):
        return {without(name): without(item) for name, item in value.items()}
    return [without(item) for item in value] if isinstance(value, list) else value


_TEXTS = st.text(max_size=12) | st.just(SECRET) | st.text(max_size=3).map(lambda text: f"x = {SECRET}{text}")
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(_VALUES)
def test_a_key_is_blotted_out_however_deep_in_json_and_nothing_else_changes(value: Any) -> None:
    line = json.dumps({"plain": value, "text": json.dumps(value), "twice": json.dumps([json.dumps(value)])}).encode()
    made = Blotter({"K": SECRET}).line(line)
    found = json.loads(made)
    assert found["plain"] == json.loads(found["text"]) == json.loads(json.loads(found["twice"])[0]) == without(value)
    assert (made == line) == (without(value) == value)
