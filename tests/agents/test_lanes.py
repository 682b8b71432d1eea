"""Conversations of one agent in parallel: each is given its own answers again, and timing is not promised."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.agents.journey import Journey
from tests.cli.console import until

from onward.ask import Answer
from onward.gateway.scripted import Request
from onward.protocols.turns import FORMS
from onward.testing import EPISODE, Script

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(300)]

CALLS = 10
"""Of the main conversation four, of each sub-agent three."""
KILLS = range(CALLS) if "ONWARD_TEST_AGENTS" in os.environ else (3, 5, 8)


def lanes(**more: Any) -> Callable[[Request], Answer]:
    """Two sub-agents in one turn, then two tools in one turn, then one. All that is said in a lane has its name."""

    def told(name: str) -> Mapping[str, Any]:
        arguments = {"description": f"Do {name}", "prompt": f"You are lane {name}. Write {name}.txt.", **more}
        return {"name": "Agent", "arguments": arguments}

    scripts = {
        name: Script([f"echo {name} > {name}.txt", f"cat {name}.txt"], ids=name, final=f"{name} is done.")
        for name in ("one", "two")
    }
    main = Script([[told("one"), told("two")], ["cat one.txt", "cat two.txt"], "ls"], ids="main")

    def answer(request: Request) -> Answer:
        lane = lane_of(request)
        said = scripts.get(lane, main)(request)
        return replace(said, text=f"[{lane}] {said.text}")

    return answer


def lane_of(request: Request) -> str:
    """By its first message, which holds what the lane was told."""
    first = json.dumps(request.body["messages"][0])
    return next((name for name in ("one", "two") if f"You are lane {name}." in first), "main")


@pytest.mark.parametrize("after", KILLS)
def test_two_sub_agents_and_two_parallel_tools_are_each_given_their_own_answers(tmp_path: Path, after: int) -> None:
    with Journey(tmp_path, "claude-code", lanes()) as journey:
        journey.killed(after)
        done = journey("resume")
        assert done.code == 0, done
        assert journey.billed == CALLS
        report = journey.value["exchanges"]
        assert (report["served"], report["paid"]) == ({"exact": after} if after else {}, CALLS - after)
        assert report["reproducible"] and not report["left"]
        for request in journey.server.requests:  # what a lane was served is in its history from then on
            form = FORMS[request.protocol]
            said = [json.dumps(one) for one in form.messages(request.body) if form.is_assistant(one)]
            assert all(f"[{lane_of(request)}] " in one for one in said)
        results = {
            part["tool_use_id"]: json.dumps(part["content"])
            for message in journey.server.requests[-1].body["messages"] for part in message["content"]
            if isinstance(part, dict) and part.get("type") == "tool_result"
        }  # fmt: skip
        assert "one is done." in results["main_0_0"] and "two is done." in results["main_0_1"]
        assert (results["main_1_0"], results["main_1_1"]) == ('"one"', '"two"')
        until(lambda: not journey.left, f"nothing left: {journey.left}")


def test_an_episode_with_sub_agents_in_the_background_is_marked_as_not_reproducible(tmp_path: Path) -> None:
    with Journey(tmp_path, "claude-code", lanes(run_in_background=True)) as journey:
        journey.killed(5)
        before = journey.billed
        done = journey("resume")
        assert done.code == 0, done
        report = journey.value["exchanges"]
        assert not report["reproducible"]
        assert sum(report["served"].values()) == before - report["left"]
        assert "not reproducible" in journey("show", "latest/notes").out
        assert "not reproducible" in journey("show", "latest/notes", "--trajectory").out


def test_a_title_asked_for_beside_the_conversation_is_paid_once(tmp_path: Path) -> None:
    options = {"options": {"title": True}}
    with Journey(tmp_path, "opencode", Script(EPISODE, ids="call"), solver=options) as journey:
        calls = len(EPISODE) + 2
        for after in (1, 3, 5):
            journey.killed(after, *(("resume",) if after > 1 else ()))
        done = journey("resume")
        assert done.code == 0, done
        assert journey.billed == calls
        assert journey.value["exchanges"]["served"] == {"exact": 3, "prefix": 1, "anchored": 1}
