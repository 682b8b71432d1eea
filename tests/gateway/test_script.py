"""What the scripted provider says to agents, step by step, in each format."""

from __future__ import annotations

from typing import Any

import pytest

from onward.gateway.script import EPISODE, EQUAL_EPISODE, Script
from onward.gateway.scripted import Request

TURNS: dict[str, Any] = {
    "chat": {"role": "assistant", "content": "x", "tool_calls": [{"id": "1", "function": {"name": "bash"}}]},
    "messages": {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "Bash", "input": {}}]},
    "responses": {"type": "function_call", "call_id": "1", "name": "exec_command", "arguments": "{}"},
    "gemini": {"role": "model", "parts": [{"functionCall": {"name": "run_shell_command", "args": {}}}]},
}
RESULTS: dict[str, Any] = {
    "chat": {"role": "tool", "tool_call_id": "1", "content": "ok"},
    "messages": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "1", "content": "ok"}]},
    "responses": {"type": "function_call_output", "call_id": "1", "output": "ok"},
    "gemini": {"role": "user", "parts": [{"functionResponse": {"name": "run_shell_command", "response": {}}}]},
}
TOOLS: dict[str, Any] = {
    "chat": {"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}},
    "messages": {"name": "Bash", "input_schema": {"type": "object"}},
    "responses": {"type": "function", "name": "exec_command", "parameters": {"type": "object"}},
    "gemini": {"functionDeclarations": [{"name": "run_shell_command", "parametersJsonSchema": {"type": "object"}}]},
}
HISTORY = {"chat": "messages", "messages": "messages", "responses": "input", "gemini": "contents"}


def request(protocol: str = "chat", turns: int = 0, tools: Any = None, text: str = "do it") -> Request:
    """A request with so many of the model's turns in it."""
    first = {"role": "user", "parts": [{"text": text}]} if protocol == "gemini" else {"role": "user", "content": text}
    history = [first, *[part for _ in range(turns) for part in (TURNS[protocol], RESULTS[protocol])]]
    offered = [TOOLS[protocol]] if tools is None else tools
    return Request(protocol, "m", {HISTORY[protocol]: history, "tools": offered}, "", 0, {}, 1)


@pytest.mark.parametrize("protocol", HISTORY)
def test_the_step_is_read_off_the_request_and_is_the_same_when_it_comes_again(protocol: str) -> None:
    script = Script()
    for turn, command in enumerate(EPISODE):
        for _ in range(2):
            (call,) = script(request(protocol, turn)).tool_calls
            assert command in call["arguments"].values()
    last = script(request(protocol, len(EPISODE)))
    assert (last.text, list(last.tool_calls)) == ("All done.", []) and script.calls == 5


def test_ids_are_new_each_time_or_the_same_each_time() -> None:
    fresh, same = Script(), Script(ids="call")
    assert len({fresh(request()).tool_calls[0]["id"] for _ in range(5)}) == 5
    assert {same(request()).tool_calls[0]["id"] for _ in range(5)} == {"call_0_0"}
    assert same(request(turns=1)).tool_calls[0]["id"] == "call_1_0"


def test_a_step_of_several_commands_is_one_turn_of_parallel_calls() -> None:
    calls = Script([["true", "false"]], ids="call")(request()).tool_calls
    assert [(call["id"], call["arguments"]) for call in calls] == [
        ("call_0_0", {"command": "true"}), ("call_0_1", {"command": "false"}),
    ]  # fmt: skip


def test_a_request_without_tools_is_beside_the_conversation() -> None:
    assert Script(side="A title")(request(tools=[])).text == "A title"


def test_an_agent_that_edits_by_text_is_given_whole_files() -> None:
    said = Script()(request(tools=[], text="answer with a *file listing*")).text
    assert "notes.txt\n```\nalpha\ngamma\n```" in said and "out.json" in said


def test_agents_that_must_call_a_tool_to_finish_do() -> None:
    finish = {"name": "finish", "parameters": {"properties": {"message": {}}, "required": ["message"]}}
    offered = [TOOLS["chat"], {"type": "function", "function": finish}]
    (call,) = Script([])(request(tools=offered)).tool_calls
    assert (call["name"], call["arguments"]) == ("finish", {"message": "All done."})
    (call,) = Script([])(request(text="say COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")).tool_calls
    assert call["arguments"] == {"command": "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"}


def test_what_else_a_tool_requires_is_filled_in() -> None:
    schema = {
        "properties": {"command": {}, "risk": {"enum": ["LOW", "HIGH"]}, "why": {}},
        "required": ["command", "risk", "why"],
    }
    offered = [{"type": "function", "function": {"name": "terminal", "parameters": schema}}]
    (call,) = Script(["true"])(request(tools=offered)).tool_calls
    assert call["arguments"] == {"command": "true", "risk": "LOW", "why": "as the script says"}


def test_an_agent_without_a_known_shell_is_an_error_that_names_its_tools() -> None:
    with pytest.raises(LookupError, match="teleport"):
        Script()(request(tools=[{"type": "function", "function": {"name": "teleport"}}]))


def test_the_equal_episode_does_the_same_work_without_the_clock() -> None:
    assert len(EPISODE) == len(EQUAL_EPISODE) and not any("date" in step for step in EQUAL_EPISODE)
