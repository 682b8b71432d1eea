"""A trial that goes on: what it recorded is served to it, and what it did not is asked."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from tests.gateway.street import Street, path_of, run, shown, street

from onward.ask import Answer, Usage
from onward.errors import StepOwed, Stopping, UsageError
from onward.gateway.normalisers import rules_for
from onward.journal import Journal, MemoryJournal
from onward.protocols import PROTOCOLS
from onward.protocols.turns import FORMS
from onward.testing import ProviderServer, Request

FORMATS = ("chat", "responses", "messages", "gemini")
TURNS = 4


def stepping(request: Request) -> Answer:
    """Asks for a tool until it has been told enough; ids are fresh at each answer, as real ones are."""
    done = str(request.body).count("result of")
    usage = Usage(100 + done, 20)
    if done >= TURNS - 1:
        return Answer(f"finished as {request.number}", "stop", (), usage)
    call = {"id": f"call_{request.number}", "name": "bash", "arguments": {"command": f"step {done}"}}
    return Answer(f"thinking {request.number}", "tool", [call], usage)


def result_for(protocol: str, turn: Sequence[Any], text: str) -> list[Any]:
    """What an agent adds after an assistant turn: the turn, and its tool's result."""
    if protocol == "chat":
        return [*turn, {"role": "tool", "tool_call_id": turn[0]["tool_calls"][0]["id"], "content": text}]
    if protocol == "responses":
        asked = next(item for item in turn if item["type"] == "function_call")
        return [*turn, {"type": "function_call_output", "call_id": asked["call_id"], "output": text}]
    if protocol == "messages":
        asked = next(block for block in turn[0]["content"] if block["type"] == "tool_use")
        block = {"type": "tool_result", "tool_use_id": asked["id"], "content": text}
        return [*turn, {"role": "user", "content": [block]}]
    asked = next(part["functionCall"] for part in turn[0]["parts"] if "functionCall" in part)
    given = {"id": asked["id"], "name": asked["name"], "response": {"output": text}}
    return [*turn, {"role": "user", "parts": [{"functionResponse": given}]}]


class Agent:
    """One episode of an agent: asks, runs a tool, tells, until no tool is asked for."""

    def __init__(
        self, protocol: str, stream: bool, *, task: str = "do it", differs: int = -1, around: Any = None
    ) -> None:
        self.protocol, self.stream, self.task, self.differs = protocol, stream, task, differs
        self.around = around or {}
        self.heard: list[bytes] = []
        self.statuses: list[int] = []

    async def live(self, at: Street, token: str, turns: int = 99) -> list[bytes]:
        first = {"role": "user", "parts": [{"text": self.task}]}
        history: list[Any] = [first if self.protocol == "gemini" else {"role": "user", "content": self.task}]
        for number in range(turns):
            got = await self._ask(at, token, history)
            if got is None:
                break
            turn = FORMS[self.protocol].turn(got)
            if not FORMS[self.protocol].said(turn).calls:
                break
            other = " today" if number == self.differs else ""
            history = history + result_for(self.protocol, turn, f"result of {number}{other}")
        return self.heard

    async def _ask(self, at: Street, token: str, history: list[Any]) -> Any:
        name = {"responses": "input", "gemini": "contents"}.get(self.protocol, "messages")
        body: dict[str, Any] = {**self.around, name: history}
        if self.protocol != "gemini":
            body = {"model": "m", "max_tokens": 99, **body, **({"stream": True} if self.stream else {})}
        url = at.door.url + path_of(self.protocol, self.stream)
        async with at.http.post(url, json=body, headers=shown(self.protocol, token)) as reply:
            raw = await reply.read()
            self.statuses.append(reply.status)
            self.heard.append(raw)
            return read(self.protocol, raw, self.stream) if reply.status == 200 else None


def read(protocol: str, raw: bytes, stream: bool) -> Any:
    """The response, streamed or not."""
    if not stream:
        return json.loads(raw)
    from onward.protocols.sse import Frames, event_of

    assembly = PROTOCOLS[protocol].assembly()
    for frame in Frames().feed(raw):
        event = event_of(frame)
        if event is not None:
            assembly.feed(event)
    assert assembly.done
    return assembly.response()


async def recorded(server: ProviderServer, agent: Agent, turns: int = 99) -> Journal:
    """A journal in which this agent lived so long, and was killed."""
    journal = MemoryJournal()
    async with street(server, journal) as at:
        await agent.live(at, at.admit(), turns)
    return journal


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("protocol", FORMATS)
def test_killed_after_each_exchange_it_is_served_the_same_bytes_and_pays_only_the_rest(
    protocol: str, stream: bool
) -> None:
    async def go() -> None:
        for turns in range(1, TURNS + 1):
            async with ProviderServer(stepping) as server:
                before = Agent(protocol, stream)
                journal = await recorded(server, before, turns)
                assert len(server.calls) == turns
                async with street(server, journal) as at:
                    after, token = Agent(protocol, stream), at.admit()
                    await after.live(at, token)
                    assert after.heard[:turns] == before.heard
                    assert len(server.calls) == TURNS and len(after.heard) == TURNS
                    report = await at.door.dismiss(token)
                    assert report["served"] == {"exact": turns} and report["paid"] == TURNS - turns
                    assert report["divergences"] == 0 and report["left"] == 0
                    assert [entry.data["level"] for entry in at.entries("served")] == ["exact"] * turns
                    orders = [entry.value["order"] for entry in at.answers()]
                    assert orders == sorted(orders) and len({n for order in orders for n in order}) == 2 * TURNS

    run(go())


def skilled(*names: str) -> dict[str, Any]:
    """What gemini-cli says of its skills, in the order in which it found them this time."""
    listed = "\n".join(f"  <skill>\n    <name>{name}</name>\n  </skill>" for name in names)
    named = ", ".join(f"'{name}'" for name in names)
    tool = {
        "name": "activate_skill", "description": f"Activates a skill by name (Available: {named}).",
        "parametersJsonSchema": {"type": "object", "properties": {"name": {"type": "string", "enum": [*names]}}},
    }  # fmt: skip
    said = f"You are a CLI.\n<available_skills>\n{listed}\n</available_skills>"
    return {"systemInstruction": {"parts": [{"text": said}]}, "tools": [{"functionDeclarations": [tool]}]}


@pytest.mark.parametrize("agent", ["gemini-cli", "a program that names no agent"])
def test_an_agent_that_finds_its_skills_in_another_order_pays_for_nothing_twice(agent: str) -> None:
    async def go() -> None:
        async with ProviderServer(stepping) as server:
            journal, rules = MemoryJournal(), rules_for(agent)
            async with street(server, journal) as at:
                before = Agent("gemini", True, around=skilled("creator", "support"))
                await before.live(at, at.admit(rules=rules), turns=2)
            async with street(server, journal) as at:
                after, token = Agent("gemini", True, around=skilled("support", "creator")), at.admit(rules=rules)
                await after.live(at, token)
                report = await at.door.dismiss(token)
            assert after.heard[:2] == before.heard and len(after.heard) == TURNS
            assert report["served"] == {"exact": 2} and report["divergences"] == 0
            assert len(server.calls) == TURNS

    run(go())


TOOL = {"name": "bash", "description": "Runs a command.", "input_schema": {"type": "object"}}


@pytest.mark.parametrize("agent", ["claude-code", "command"])
@pytest.mark.parametrize("miss", ["warn", "strict", "fork", "fail"])
def test_an_agent_that_is_told_something_else_around_its_task_is_served_and_it_is_said(agent: str, miss: Any) -> None:
    """Of a program that we do not know, another system prompt may be another question."""

    async def go() -> None:
        async with ProviderServer(stepping) as server:
            journal, rules = MemoryJournal(), rules_for(agent)
            first, second = ({"system": f"You work. {place}", "tools": [TOOL]} for place in ("At home.", "At sea."))
            async with street(server, journal) as at:
                before = Agent("messages", True, around=first)
                await before.live(at, at.admit(rules=rules))
            async with street(server, journal) as at:
                after, token = Agent("messages", True, around=second), at.admit(rules=rules, miss=miss)
                await after.live(at, token)
                report = await at.door.dismiss(token)
            known = agent == "claude-code"
            assert report["divergences"] and "differs at system" in report["first_divergence"]
            if known and miss in ("warn", "fail"):
                assert after.heard == before.heard and len(server.calls) == TURNS
                assert report["served"] == {"opening": 1, "anchored": TURNS - 1}
            elif miss in ("strict", "fail"):
                assert after.statuses == [403] and len(server.calls) == TURNS
            else:
                assert report["served"] == {} and len(server.calls) == 2 * TURNS
                assert report["left"] == (0 if known else TURNS)  # of whose lane nothing is sure, nothing is given up

    run(go())


@pytest.mark.parametrize("protocol", FORMATS)
def test_a_differing_tool_result_is_matched_by_content_and_told(protocol: str) -> None:
    async def go() -> None:
        async with ProviderServer(stepping) as server:
            journal = await recorded(server, Agent(protocol, True))
            async with street(server, journal) as at:
                token = at.admit()
                await Agent(protocol, True, differs=1).live(at, token)
                report = await at.door.dismiss(token)
                assert report["served"] == {"exact": 2, "prefix": 1, "anchored": 1} and report["paid"] == 0
                assert report["divergences"] == 2 and "result of 1 today" in report["first_divergence"]
                served = at.entries("served")
                assert "difference" not in served[0].data and "today" in served[2].data["difference"]
            assert len(server.calls) == TURNS

    run(go())


@pytest.mark.parametrize("protocol", FORMATS)
@pytest.mark.parametrize("stream", [False, True], ids=["recorded-whole", "recorded-streamed"])
def test_a_recording_is_rendered_in_the_other_form_where_that_is_asked_for(protocol: str, stream: bool) -> None:
    async def go() -> None:
        async with ProviderServer(stepping) as server:
            before = Agent(protocol, stream)
            journal = await recorded(server, before, 1)
            async with street(server, journal) as at:
                after = Agent(protocol, not stream)
                (other,) = await after.live(at, at.admit(), 1)
                said, again = (
                    read(protocol, raw, form) for raw, form in ((before.heard[0], stream), (other, not stream))
                )
                form = FORMS[protocol]
                assert form.said(form.turn(said)) == form.said(form.turn(again)) and form.turn(said)
            assert len(server.calls) == 1

    run(go())


def test_fail_names_what_differs_and_asks_nobody() -> None:
    async def go() -> None:
        async with ProviderServer(stepping) as server:
            journal = await recorded(server, Agent("chat", False))
            async with street(server, journal) as at:
                context = at.context()
                token = at.door.admit(context, miss="fail")
                agent = Agent("chat", False, task="do other")
                await agent.live(at, token)
                assert agent.statuses == [403]
                assert b"messages[0].content" in agent.heard[0] and b"do other" in agent.heard[0]
                assert isinstance(context.ended, StepOwed)
            assert len(server.calls) == TURNS

    run(go())


def test_warn_asks_the_model_for_what_does_not_match_and_serves_the_rest() -> None:
    async def go() -> None:
        async with ProviderServer(stepping) as server:
            journal = await recorded(server, Agent("chat", False))
            async with street(server, journal) as at:
                token = at.admit()
                await Agent("chat", False, task="do other").live(at, token, 1)
                await Agent("chat", False).live(at, token)
                report = await at.door.dismiss(token)
                assert report["paid"] == 1 and report["served"] == {"exact": TURNS} and report["divergences"] == 1

    run(go())


def test_strict_stops_the_run_and_leaves_the_trial_unscored() -> None:
    async def go() -> None:
        async with ProviderServer(stepping) as server:
            journal = await recorded(server, Agent("messages", True))
            async with street(server, journal) as at:
                context = at.context()
                agent = Agent("messages", True, differs=1)
                await agent.live(at, at.door.admit(context, miss="strict"))
                assert agent.statuses == [200, 200, 403]
                assert isinstance(context.ended, Stopping) and at.recorder.limits.stopping
            assert len(server.calls) == TURNS

    run(go())


def test_a_fork_gives_its_branch_up_for_good() -> None:
    async def go() -> None:
        async with ProviderServer(stepping) as server:
            journal = await recorded(server, Agent("messages", True))
            async with street(server, journal) as at:
                token = at.admit(miss="fork")
                await Agent("messages", True, differs=1).live(at, token)
                report = await at.door.dismiss(token)
                assert report["served"] == {"exact": 2} and report["paid"] == 2 and report["left"] == 0
                assert len(at.entries("void")[0].data["prefixes"]) == 2
            assert len(server.calls) == TURNS + 2
            async with street(
                server, journal
            ) as at:  # killed and resumed: the new branch is served, the old one is not
                token = at.admit(miss="fork")
                await Agent("messages", True, differs=1).live(at, token)
                report = await at.door.dismiss(token)
                assert report["served"] == {"exact": TURNS} and report["paid"] == 0
                token = at.admit(miss="fork")
                await Agent("messages", True).live(at, token, 3)
                assert (await at.door.dismiss(token))["paid"] == 1

    run(go())


def test_a_call_in_doubt_is_sent_again_as_its_own_next_attempt() -> None:
    async def go() -> None:
        async with ProviderServer(stepping, latency=30) as silent, street(silent) as at:
            token = at.admit()
            request = Agent("chat", False).live(at, token, 1)
            task = asyncio.ensure_future(request)
            while not at.entries("intent"):
                await asyncio.sleep(0.005)
            task.cancel()
            await at.door.dismiss(token, drain=False)
            journal = at.journal
        async with ProviderServer(stepping) as server, street(server, journal) as at:
            await Agent("chat", False).live(at, at.admit(), 1)
            (answer,) = at.answers()
            assert answer.attempt == 2 and {entry.key for entry in at.entries("intent")} == {answer.key}

    run(go())


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("protocol", FORMATS)
def test_another_model_may_go_on_and_what_it_said_is_served_exactly_when_that_is_killed_too(
    protocol: str, stream: bool
) -> None:
    """The agent knows the model by the name it was recorded with; what leaves names the one that is asked."""

    async def go() -> None:
        async with ProviderServer(stepping) as server:
            journal = await recorded(server, Agent(protocol, stream), 2)
            async with street(server, journal) as at:
                await Agent(protocol, stream).live(at, at.admit(live={"m": "n"}), 3)
            assert [request.model for request in server.requests] == ["m", "m", "n"]
            async with street(server, journal) as at:
                agent, token = Agent(protocol, stream), at.admit(live={"m": "n"})
                await agent.live(at, token)
                report = await at.door.dismiss(token)
                assert report["served"] == {"exact": 3} and report["paid"] == 1
                asked = [entry.data["model"] for entry in at.entries("intent")]
            assert [request.model for request in server.requests] == asked == ["m", "m", "n", "n"]
            assert set(agent.statuses) == {200}

    run(go())


def test_whoever_waits_is_told_when_the_record_ends_and_when_all_is_over() -> None:
    async def go() -> None:
        async with ProviderServer(stepping) as server:
            journal = await recorded(server, Agent("chat", False), 2)
            async with street(server, journal) as at:
                live: list[int] = []
                context = at.context()
                token = at.door.admit(context, miss="fail")
                guest = at.door.guest(token)
                guest.on_live = lambda: live.append(len(server.calls))
                assert guest.replaying and not guest.over.is_set()
                agent = Agent("chat", False)
                await agent.live(at, token)
                assert agent.statuses == [200, 200, 403] and guest.over.is_set() and live == []
                assert isinstance(context.ended, StepOwed) and context.ended.kind == "CutPoint"
            async with street(server, journal) as at:
                token = at.admit()
                guest = at.door.guest(token)
                guest.on_live = lambda: live.append(len(server.calls))
                await Agent("chat", False).live(at, token)
                assert live == [2] and not guest.replaying and not guest.over.is_set()

    run(go())


def test_without_a_key_the_record_is_served_and_the_first_call_beyond_it_ends_the_trial() -> None:
    async def go() -> None:
        async with ProviderServer(stepping) as server:
            journal = await recorded(server, Agent("chat", False), 2)
            async with street(server, journal) as at:
                context = at.context()
                keyless = replace(server.providers()["openai"], key=None, key_name="SOME_KEY")
                token = at.door.admit(context, providers={"chat": keyless})
                agent = Agent("chat", False)
                await agent.live(at, token)
                assert agent.statuses[:2] == [200, 200] and agent.statuses[2] >= 400
                assert isinstance(context.ended, UsageError) and "SOME_KEY" in str(context.ended)
            assert len(server.calls) == 2

    run(go())
