"""Real, unmodified agents in a sandbox, through the gateway, against a provider that plays five turns."""

from __future__ import annotations

import pytest
from tests.agents.rig import INSTRUCTION, PUBLISHED, ready, run, stage

from onward.testing import EPISODE, EQUAL_EPISODE, ProviderServer, Script

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(300)]
TOOLS = tuple(name for name in PUBLISHED if name != "aider")
"""Agents that work with tools. Aider edits by what its model writes."""


@pytest.mark.parametrize("name", TOOLS)
def test_an_agent_works_through_an_episode_and_every_call_goes_through_the_gateway(name: str) -> None:
    adapter, installed = ready(name)

    async def go() -> None:
        script = Script()
        async with stage(ProviderServer(script)) as on:
            played = await on.play(adapter, installed)
            assert (played.ran.code, played.ran.left) == (0, ()), played.ran
            assert played.files == {"notes.txt": "alpha\ngamma\n", "out.json": '["alpha", "gamma"]'}
            assert "All done." in played.final
            assert len(on.server.requests) == len(on.at.answers()) == played.report["paid"] == script.calls
            assert {request.protocol for request in on.server.requests} == {adapter.protocols[0]}
            assert all(INSTRUCTION in str(request.body) for request in on.server.requests)

    run(go())


@pytest.mark.parametrize("name", TOOLS)
def test_what_an_agent_was_told_is_served_again_exactly_and_nothing_is_paid(name: str) -> None:
    adapter, installed = ready(name)

    async def go() -> None:
        script = Script(EQUAL_EPISODE)
        async with stage(ProviderServer(script)) as on:
            first = await on.play(adapter, installed)
            second = await on.play(adapter, installed)
            assert first.work.differences(second.work) == []
            assert len(on.server.requests) == script.calls
            assert second.report["served"] == {"exact": script.calls} and second.report["paid"] == 0

    run(go())


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_that_says_something_else_is_noticed_and_the_record_still_answers(name: str) -> None:
    adapter, installed = ready(name)

    async def go() -> None:
        script = Script(EPISODE)
        async with stage(ProviderServer(script)) as on:
            first = await on.play(adapter, installed)
            second = await on.play(adapter, installed)
            assert first.work.differences(second.work) == []
            assert second.report["served"] == {"exact": 2, "prefix": 1, "anchored": 2}
            assert second.report["paid"] == 0 and second.report["first_divergence"]

    run(go())


def test_a_title_that_is_asked_for_beside_the_conversation_is_served_as_well() -> None:
    adapter, installed = ready("opencode")

    async def go() -> None:
        script = Script(EPISODE)
        async with stage(ProviderServer(script)) as on:
            first = await on.play(adapter, installed, {"title": True})
            second = await on.play(adapter, installed, {"title": True})
            assert len(on.server.requests) == script.calls + 1 and first.work.differences(second.work) == []
            assert second.report["served"] == {"exact": 3, "prefix": 1, "anchored": 2}

    run(go())


def test_aider_edits_by_text_and_its_answers_are_known_by_the_replies_before_them() -> None:
    """It rewrites its history: a failing test makes it ask again, four times in all."""
    adapter, installed = ready("aider")
    options = {"args": ["--auto-test", "--test-cmd", "date +%s.%N; false"]}

    async def go() -> None:
        async with stage(ProviderServer(Script())) as on:
            first = await on.play(adapter, installed, options)
            assert first.ran.code == 0, first.ran
            assert first.files == {"notes.txt": "alpha\ngamma\n", "out.json": '["alpha", "gamma"]\n'}
            assert len(on.server.requests) == len(on.at.answers()) == 4
            second = await on.play(adapter, installed, options)
            assert len(on.server.requests) == 4 and first.work.differences(second.work) == []
            assert second.report["served"] == {"exact": 1, "replies": 3}

    run(go())


@pytest.mark.parametrize("name", ["mini-swe-agent", "openhands", "aider"])
def test_an_agent_over_litellm_speaks_messages_where_its_provider_does(name: str) -> None:
    adapter, installed = ready(name)

    async def go() -> None:
        async with stage(ProviderServer(Script())) as on:
            played = await on.play(adapter, installed, protocol="messages")
            assert played.ran.code == 0 and played.files["notes.txt"] == "alpha\ngamma\n", played.ran
            assert {request.protocol for request in on.server.requests} == {"messages"}
            assert len(on.server.requests) == played.report["paid"]

    run(go())
