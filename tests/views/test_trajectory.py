"""What is read of an episode, out of journals that real exchanges left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.street import run as go
from tests.gateway.street import until
from tests.views.played import FORMATS, TASK, Acts, Agent, attempt, bare_run, recorded, working

from onward import views
from onward.ask import Answer, Usage
from onward.errors import NotThere, StepOwed, UsageError
from onward.report.plain import as_json
from onward.report.trajectory import trajectory_page
from onward.runs import open_run
from onward.testing import Fault, ProviderServer
from onward.views.trajectory_turns import Turn

TITLE = "Write a title of a few words"


def read(folder: Path, lane: int | None = None, turn: int | None = None) -> views.Episode:
    run = open_run(folder)
    try:
        found = views.episodes(run, views.within(run, TASK))
        views.narrowed(found, lane, turn)
        return found[0]
    finally:
        run.close()


def alone(agent: Agent, turns: int = 99) -> Acts:
    return lambda at, token: agent.live(at, token, turns)


def shape(turn: Turn) -> tuple[Any, ...]:
    calls = [(one.tool, one.arguments, one.result, one.exit_code) for one in turn.calls]
    return turn.number, turn.text, calls, turn.tokens.input, turn.tokens.output


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("protocol", FORMATS)
def test_an_episode_reads_the_same_in_every_format(tmp_path: Path, protocol: str, stream: bool) -> None:
    async def play() -> None:
        async with ProviderServer(working()) as server:
            await attempt(run, server, alone(Agent(protocol, stream)))

    run = bare_run(tmp_path)
    go(play())
    found = read(run)
    (lane,) = found.lanes
    assert (lane.kind, lane.name, lane.after) == ("main", "Fix the failing test.", None)
    assert [shape(turn) for turn in lane.turns] == [
        (number, f"Let me look at part {number - 1}.", [
            ("bash", {"command": f"pytest -q test_{number - 1}.py"}, f"result of bash {number - 1}\nexit code: 1", 1),
            ("read", {"path": f"a{number - 1}.py", "limit": 20}, f"result of read {number - 1}\nexit code: 0", 0),
        ], 100 + number - 1, 20)
        for number in (1, 2)
    ] + [(3, "All tests pass now.", [], 102, 20)]  # fmt: skip
    assert [turn.mark for turn in lane.turns] == ["live"] * 3 and lane.turns[2].tokens.cached == 40
    assert (found.attempts, found.exchanges, found.agent, found.tokens) == (1, 3, "scripted 1.0", 363)
    assert lane.turns[0].told == ["Fix the failing test."] and not lane.turns[1].told
    assert found.active is not None and all(turn.seconds is not None for turn in lane.turns)


@pytest.mark.parametrize("protocol", FORMATS)
def test_what_was_served_after_a_kill_is_told_from_what_was_paid(tmp_path: Path, protocol: str) -> None:
    async def play() -> None:
        async with ProviderServer(working(4)) as server:
            await attempt(run, server, alone(Agent(protocol, True), 3), killed=True)
            before = read(run)
            assert (before.marks, before.attempts, before.sample) == ({"live": 3}, 1, "")
            await attempt(run, server, alone(Agent(protocol, True, differs=1)))
            assert len(server.calls) == 4

    run = bare_run(tmp_path)
    go(play())
    found = read(run)
    (lane,) = found.lanes
    assert [(turn.mark, turn.level) for turn in lane.turns] == [
        ("served", "exact"), ("served", "exact"), ("served", "prefix"), ("live", ""),
    ]  # fmt: skip
    assert [bool(turn.difference) for turn in lane.turns] == [False, False, True, False]
    assert "today" in lane.turns[2].difference
    assert lane.turns[1].calls[0].result == "result of bash 1\nexit code: 1", "as it was recorded"
    assert (found.marks, found.levels) == ({"served": 3, "live": 1}, {"exact": 2, "prefix": 1})
    assert (found.attempts, found.sample, found.outcome, found.policy) == (2, "ok", "missing", "warn")


def test_parallel_conversations_are_lanes_of_their_own(tmp_path: Path) -> None:
    prompts = ["Count the files in src, please.", "Count the files in tests, please."]
    tasks = [{"id": f"t{n}", "name": "task", "arguments": {"prompt": text}} for n, text in enumerate(prompts)]

    async def acts(at: Any, token: str) -> None:
        await asyncio.gather(
            Agent("messages", True).live(at, token),
            *(Agent("messages", True, task=text).live(at, token) for text in (*prompts, TITLE)),
        )

    async def play() -> None:
        says = working(3, title=Answer("Counting", "stop", (), Usage(9, 2)))

        def say(request: Any) -> Any:
            text = str(request.body)
            first = "Fix the failing" in text and "result of" not in text
            return Answer("Two helpers.", "tool", tasks, Usage(50, 9)) if first else says(request)

        async with ProviderServer(say) as server:
            await attempt(run, server, acts, killed=True)
            await attempt(run, server, acts)
            assert len(server.calls) == 4 + 3 + 3 + 1

    run = bare_run(tmp_path)
    go(play())
    found = read(run)
    kinds = {lane.name: (lane.kind, lane.after, len(lane.turns)) for lane in found.lanes}
    assert kinds == {
        "Fix the failing test.": ("main", None, 4), TITLE: ("side call", None, 1),
        prompts[0]: ("sub-agent", (1, 1), 3), prompts[1]: ("sub-agent", (1, 1), 3),
    }  # fmt: skip
    assert found.lanes[0].kind == "main" and [lane.number for lane in found.lanes] == [1, 2, 3, 4]
    assert found.marks == {"served": 11} and found.levels == {"exact": 11}


def test_two_conversations_that_begin_alike_stay_apart(tmp_path: Path) -> None:
    async def acts(at: Any, token: str) -> None:
        await asyncio.gather(*(Agent("chat", task="the same").live(at, token) for _ in range(2)))

    async def play() -> None:
        async with ProviderServer(lambda request: Answer(f"Said {request.number}.")) as server:
            await attempt(run, server, acts)

    run = bare_run(tmp_path)
    go(play())
    assert [len(lane.turns) for lane in read(run).lanes] == [1, 1]


def test_a_branch_that_was_given_up_is_counted_and_not_read(tmp_path: Path) -> None:
    async def play() -> None:
        async with ProviderServer(working(4)) as server:
            await attempt(run, server, alone(Agent("messages")), killed=True)
            await attempt(run, server, alone(Agent("messages", differs=1)), miss="fork")

    run = bare_run(tmp_path)
    go(play())
    found = read(run)
    assert found.marks == {"served": 2, "live": 2} and len(found.lanes) == 1
    assert [(one.exchanges, one.why.split(":")[0]) for one in found.given_up] == [(2, "fork")]
    assert found.tokens == sum(123 - n for n in (3, 2, 1, 0)) + 122 + 123, "its money stays spent"
    assert "≠ 2 answers given up" in trajectory_page([found])


def test_what_no_recorded_answer_fits_is_a_divergence_that_is_told(tmp_path: Path) -> None:
    async def acts(at: Any, token: str) -> None:
        await Agent("chat", task="Fix the other test.").live(at, token, 1)
        await Agent("chat").live(at, token)

    async def play() -> None:
        async with ProviderServer(working(3)) as server:
            await attempt(run, server, alone(Agent("chat")), killed=True)
            await attempt(run, server, acts)

    run = bare_run(tmp_path)
    go(play())
    found = read(run)
    assert (found.divergences, found.marks) == (1, {"served": 3, "live": 1})
    assert "messages[0].content" in found.first_divergence
    assert "≠ 1 divergence in the newest attempt; first: no recorded exchange matches" in trajectory_page([found])


def test_what_a_new_attempt_never_asked_for_is_a_branch_behind_it(tmp_path: Path) -> None:
    async def play() -> None:
        async with ProviderServer(working(4)) as server:
            await attempt(run, server, alone(Agent("chat")), killed=True)
            await attempt(run, server, alone(Agent("chat"), 2))

    run = bare_run(tmp_path)
    go(play())
    found = read(run)
    assert [turn.mark for turn in found.lanes[0].turns] == ["served", "served", "recorded", "recorded"]
    assert "2 recorded exchanges not asked for again" in trajectory_page([found])


def test_refusals_errors_and_doubt_are_told(tmp_path: Path) -> None:
    faults = [Fault("529", times=1), Fault("400", when="refuse me", times=None)]

    async def acts(at: Any, token: str) -> None:
        await Agent("messages", True).live(at, token)
        await Agent("messages", task="refuse me").live(at, token)

    async def doubtful(at: Any, token: str) -> None:
        waiting = asyncio.ensure_future(Agent("messages", task="and now").live(at, token))
        await until(lambda: "and now" in str([entry.data for entry in at.entries("intent")]))
        waiting.cancel()

    async def play() -> None:
        async with ProviderServer(working(), faults=faults) as server:
            await attempt(run, server, acts, killed=True)
        async with ProviderServer(working(), latency=30) as silent:
            await attempt(run, silent, doubtful, killed=True)

    run = bare_run(tmp_path)
    go(play())
    found = read(run)
    turns = {lane.name: lane.turns[0] for lane in found.lanes}
    (overloaded,) = turns["Fix the failing test."].tries
    assert (overloaded.outcome, overloaded.status) == ("error", 529) and "529" in overloaded.reason
    assert turns["refuse me"].status == 400 and "scripted 400" in turns["refuse me"].refused
    assert turns["and now"].mark == "in doubt" and [one.outcome for one in turns["and now"].tries] == ["in doubt"]
    text = trajectory_page([found])
    assert "error 529 → retried" in text and "refused 400" in text and "! 1 call in doubt" in text


def test_thinking_and_odd_answers_are_told(tmp_path: Path) -> None:
    blocks = [
        {"type": "thinking", "thinking": "Let me think.\nTwice.", "signature": "s"},
        {"type": "redacted_thinking", "data": "xx"}, {"type": "text", "text": "\x1b[31mRed\x07"},
        {"type": "tool_use", "id": "e1", "name": "edit", "input": {
            "file_path": "a.py", "old_string": "one\ntwo\n", "new_string": "".join(f"line {n}\n" for n in range(9))}},
    ]  # fmt: skip
    body = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": blocks, "usage": {}}

    async def play() -> None:
        from aiohttp import web

        async def say(request: web.Request) -> web.Response:
            odd = "be odd" in await request.text()
            return web.json_response({"id": "msg_2", "type": "message", "content": 7} if odd else body)

        app = web.Application()
        app.router.add_post("/{path:.*}", say)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            async with ProviderServer(working()) as server:
                port = runner.addresses[0][1]
                own = server.providers("k")["anthropic"]
                provider = _elsewhere(own, f"http://127.0.0.1:{port}")
                for task in ("think", "be odd"):
                    acts = alone(Agent("messages", task=task), 1)
                    await attempt(run, server, acts, killed=True, providers={"messages": provider})
        finally:
            await runner.cleanup()

    run = bare_run(tmp_path)
    go(play())
    found = read(run)
    thought, odd = (next(lane.turns[0] for lane in found.lanes if lane.name == name) for name in ("think", "be odd"))
    assert thought.thinking == "Let me think.\nTwice." and thought.calls[0].result is None
    assert odd.mark == "live" and odd.refused == json.dumps({"id": "msg_2", "type": "message", "content": 7})
    text = trajectory_page([found])
    assert "\x1b" not in text and "\x07" not in text and "thinking: Let me think. Twice." in text
    assert "→ edit a.py" in text and "- one" in text and "+ line 2" in text and "+ line 3" not in text
    assert "+ line 8" in trajectory_page([found], full=True)


def _elsewhere(provider: Any, url: str) -> Any:
    from dataclasses import replace

    return replace(provider, base_url=url)


def test_every_line_fits_a_hundred_columns_and_no_style_is_in_plain_text(tmp_path: Path) -> None:
    wide = "宽" * 300 + " and " + "long " * 300

    async def play() -> None:
        async with ProviderServer(working(3, wide=Answer(wide, "stop"))) as server:
            await attempt(run, server, alone(Agent("messages", task=f"wide {wide}")), killed=True)
            await attempt(run, server, alone(Agent("responses", True, task="x" * 400)), killed=True)
            await attempt(run, server, alone(Agent("responses", True, task="x" * 400, differs=0)))

    run = bare_run(tmp_path)
    go(play())
    found = read(run)
    from onward.report.tables import width_of

    lines = trajectory_page([found]).splitlines()
    assert max(map(width_of, lines)) <= 100 and "\x1b" not in "".join(lines)
    styled = trajectory_page([found], paint=lambda style, text: f"<{style}>{text}</{style}>")
    assert "<odd>served prefix</odd>" in styled and "<served>served exact</served>" in styled
    assert wide.rstrip() in trajectory_page([found], full=True)


def test_one_lane_and_one_turn_can_be_asked_for(tmp_path: Path) -> None:
    async def acts(at: Any, token: str) -> None:
        await Agent("chat").live(at, token)
        await Agent("chat", task=TITLE).live(at, token)

    async def play() -> None:
        async with ProviderServer(working(title=Answer("Fixing"))) as server:
            await attempt(run, server, acts)

    run = bare_run(tmp_path)
    go(play())
    assert [lane.name for lane in read(run, lane=2).lanes] == [TITLE]
    assert [turn.number for lane in read(run, turn=3).lanes for turn in lane.turns] == [3]
    for narrow, said in (
        ({"lane": 3}, "no lane 3: there are 1 to 2"), ({"lane": 0}, "no lane 0"),
        ({"lane": 2, "turn": 2}, "no turn 2: there is one"),
    ):  # fmt: skip
        with pytest.raises(NotThere, match=said):
            read(run, **narrow)


def test_a_trial_that_asked_nobody_and_a_stage_without_exchanges(tmp_path: Path) -> None:
    folder = bare_run(tmp_path)
    found = read(folder)
    assert (found.exchanges, found.lanes, found.sample) == (0, [], "")
    assert trajectory_page([found]).splitlines()[-1] == "no model was asked"
    with pytest.raises(NotThere, match="no model was asked"):
        read(folder, lane=1)
    run = open_run(folder)
    with pytest.raises(UsageError, match="a trajectory is of a trial"):
        views.episodes(run, views.within(run, f"{TASK}/score"))
    run.close()


def test_a_models_own_calls_are_read_too(tmp_path: Path) -> None:
    run = open_run(bare_run(tmp_path))
    (found,) = views.episodes(run, views.within(run, "set/t1"))
    run.close()
    (lane,) = found.lanes
    assert (lane.name, lane.turns[0].text, lane.turns[0].mark) == ("what is 1", "It is 1.", "live")
    assert found.outcome == "ok" and ", numeric 1" in trajectory_page([found]).splitlines()[0]


def test_an_answer_given_again_to_a_client_that_retries_is_still_a_live_one(tmp_path: Path) -> None:
    async def acts(at: Any, token: str) -> None:
        for headers in ({}, {"x-stainless-retry-count": "1"}):
            assert (await at.post(token, "chat", "once", headers=headers))[0] == 200

    async def play() -> None:
        async with ProviderServer(working()) as server:
            await attempt(run, server, acts)
            assert len(server.calls) == 1

    run = bare_run(tmp_path)
    go(play())
    found = read(run)
    assert found.marks == {"live": 1} and found.lanes[0].turns[0].served == 1
    assert "live, given again" in trajectory_page([found])


def test_a_later_attempt_that_is_open_has_come_to_nothing_yet(tmp_path: Path) -> None:
    async def fails(at: Any, token: str) -> None:
        await Agent("chat").live(at, token, 1)
        raise StepOwed("the sandbox is gone", kind="SandboxFailed")

    async def play() -> None:
        async with ProviderServer(working()) as server:
            with pytest.raises(StepOwed):
                await attempt(run, server, fails)
            assert (read(run).sample, read(run).attempts) == ("error", 1)
            await attempt(run, server, alone(Agent("chat"), 2), killed=True)

    run = bare_run(tmp_path)
    go(play())
    found = read(run)
    assert (found.sample, found.attempts, found.marks) == ("", 2, {"served": 1, "live": 1})


def test_what_was_taken_over_says_where_it_was_paid(tmp_path: Path) -> None:
    run, text = bare_run(tmp_path), {"type": "text", "text": "Yes."}
    recorded(run, [(request("One?"), said(text))], {"import": "elsewhere__1"})
    found = read(run)
    assert (found.marks, found.usd, found.tokens, found.reused_tokens) == ({"recorded": 1}, 0.0, 0, 1)
    page = trajectory_page([found])
    assert "what was recorded elsewhere was imported from elsewhere__1" in page and "recorded elsewhere\n" in page
    recorded(run, [(request("Two?"), said(text))], {"run": "0123456789ab", "seq": 4})
    both = trajectory_page([read(run)])
    assert "(imported from elsewhere__1)" in both and "(paid in run 012345)" in both
    assert "1 tokens paid elsewhere" in page and "not asked for again" not in both


def said(*blocks: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(blocks)}


def request(*contents: Any) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]
    return {"model": "m", "system": "You are an agent.", "messages": messages}


def test_what_agents_add_is_no_name_and_what_they_wrap_is_no_word_of_the_user(tmp_path: Path) -> None:
    reminder = {"type": "text", "text": "<system-reminder>\nToday is Friday.\n</system-reminder>"}
    task = {"type": "text", "text": "Find the bug."}
    looked = {"type": "text", "text": "I looked."}
    run = bare_run(tmp_path)
    recorded(run, [
        (request([reminder, task]), said(looked)),
        (request([reminder, task], [looked], [reminder, {"type": "text", "text": "Look again."}]), said(looked)),
    ])  # fmt: skip
    found = read(run)
    (lane,) = found.lanes
    assert lane.name == "Find the bug." and lane.turns[0].system == "You are an agent."
    text, whole = trajectory_page([found]), trajectory_page([found], full=True)
    assert "told: Look again." in text and "Friday" not in text
    assert "Friday" in whole and "system: You are an agent." in whole


def test_a_history_that_was_rewritten_stays_in_its_lane(tmp_path: Path) -> None:
    one, two = ({"type": "text", "text": text} for text in ("First of all.", "And then."))
    run = bare_run(tmp_path)
    recorded(run, [
        (request("Edit a.py"), said(one)),
        (request("Edit a.py, shorter", [one], "go on"), said(two)),
        (request("So far: edited.", [two], "go on"), said({"type": "text", "text": "Done."})),
        (request("Something else", [{"type": "text", "text": "an example"}], "now you"), said(one)),
    ])  # fmt: skip
    assert [[turn.text for turn in lane.turns] for lane in read(run).lanes] == [
        ["First of all.", "And then.", "Done."], ["First of all."],
    ]  # fmt: skip


def test_a_search_that_the_provider_runs_has_its_result_and_whom_it_was_for(tmp_path: Path) -> None:
    call = {"type": "tool_use", "id": "w1", "name": "WebSearch", "input": {"query": "the age of the house"}}
    search = {"type": "server_tool_use", "id": "s1", "name": "web_search", "input": {"query": "the age of the house"}}
    answer = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [{"type": "text", "text": "100"}]}
    run = bare_run(tmp_path)
    recorded(run, [
        (request("How old is it?"), said(call)),
        (request("Perform a web search for the query: the age of the house"), said(search, answer)),
        (request("How old is it?", [call], [{"type": "tool_result", "tool_use_id": "w1", "content": "100"}]), None),
    ])  # fmt: skip
    main, side = read(run).lanes
    assert (side.kind, side.after, side.turns[0].calls[0].result) == ("side call", (1, 1), "100")
    assert main.turns[0].calls[0].result == "100" and main.turns[1].mark == "error"


def test_a_real_recording_of_a_coding_agent_falls_into_its_conversations(tmp_path: Path, shared_data: Path) -> None:
    from onward.formats import benchflow
    from onward.formats.benchflow.answers import answer_in

    found = benchflow.read(next(benchflow.find_folders(shared_data / "benchflow")))
    rows = [one.row for one in found.exchanges]
    run = bare_run(tmp_path)
    recorded(run, [(row.request, answer_in(row) if row.is_answer else None) for row in rows])
    episode = read(run)
    kinds = [(lane.kind, lane.after, len(lane.turns)) for lane in episode.lanes]
    assert kinds == [
        ("main", None, 7), *[("side call", (1, 3), 1)] * 3, *[("side call", (1, 4), 1)] * 3,
        *[("side call", (1, 5), 1)] * 3, *[("sub-agent", (1, 2), 1)] * 2,  # who never had an answer
    ]  # fmt: skip
    assert episode.marks == {"live": 16, "error": 2} and not episode.lanes[0].name.startswith("<")
    main = episode.lanes[0].turns
    assert [len(turn.calls) for turn in main] == [1, 2, 3, 3, 3, 1, 0]
    assert all(call.result for turn in main for call in turn.calls) and main[0].thinking


def test_an_episode_is_json(tmp_path: Path) -> None:
    async def play() -> None:
        async with ProviderServer(working()) as server:
            await attempt(run, server, alone(Agent("gemini")))

    run = bare_run(tmp_path)
    go(play())
    (told,) = json.loads(as_json([read(run)]))
    first: Mapping[str, Any] = told["lanes"][0]["turns"][0]
    assert first["calls"][0]["exit_code"] == 1 and first["exchange"].startswith("llm:") and told["marks"] == {"live": 3}
