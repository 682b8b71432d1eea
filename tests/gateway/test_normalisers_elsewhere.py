"""What others recorded in part, or with texts replaced, is compared by what is there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.gateway.exchanges import request_of
from onward.gateway.normalisers import GENERIC, allowing, normalised, rules_for

MARK = "***REDACTED***"


def intent(request: Any, protocol: str = "messages", *, partial: bool = False, mark: str = "") -> dict[str, Any]:
    return {"protocol": protocol, "request": request, "recorder": {"partial": partial, "mark": mark}}


def same(protocol: str, recorded: Any, live: Any, **more: Any) -> bool:
    """Whether the live request is the recorded one."""
    rules = allowing(GENERIC, [intent(recorded, protocol, **more)])
    return request_of(protocol, recorded, rules).whole == request_of(protocol, live, rules).whole


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def test_what_was_recorded_here_needs_no_further_rules() -> None:
    assert allowing(GENERIC, [{"protocol": "chat", "request": says("Hi")}]) is GENERIC
    assert allowing(GENERIC, []) is GENERIC


def test_rules_that_were_added_to_are_called_otherwise() -> None:
    found = allowing(rules_for("claude-code"), [intent(says("Hi"))])
    assert found.name.startswith("claude-code+recording@")


@pytest.mark.parametrize("name", ["m", "openai/m", "openai/benchflow-m", "benchflow-m", "a/b/m"])
def test_a_models_name_is_compared_without_what_proxies_put_before_it(name: str) -> None:
    assert same("chat", says("Hi"), {**says("Hi"), "model": name})
    assert not same("chat", says("Hi"), {**says("Hi"), "model": f"{name}-mini"})


def test_fields_that_a_partial_record_lacks_are_not_compared_and_others_are() -> None:
    live = says("Hi", temperature=0.2, seed=7, max_tokens=9)
    assert same("chat", says("Hi"), live, partial=True)
    assert not same("chat", says("Hi"), live)
    assert not same(
        "chat", says("Hi"), {**live, "tools": [{"type": "function", "function": {"name": "f"}}]}, partial=True
    )
    assert same("messages", says("Hi"), says("Hi", system="You work.", max_tokens=9), partial=True)


def test_a_mark_stands_for_anything_and_what_surrounds_it_for_itself() -> None:
    recorded = says(f"token = {MARK}\ndone \\1 (a+b)")
    assert same("chat", recorded, says("token = next(tokens)\ndone \\1 (a+b)"), mark=MARK)
    assert same("chat", recorded, says("token = \n\n\ndone \\1 (a+b)"), mark=MARK)
    assert same("chat", recorded, recorded, mark=MARK)
    assert not same("chat", recorded, says("token = next(tokens)\ndone \\1 (a-b)"), mark=MARK)
    assert not same("chat", recorded, says("x token = next(tokens)\ndone \\1 (a+b)"), mark=MARK)
    assert not same("chat", recorded, says("token = next(tokens)\ndone \\1 (a+b)"))


def test_a_mark_is_found_wherever_it_stands_also_where_an_agent_writes_a_text_as_a_block() -> None:
    blocks = [{"type": "tool_result", "tool_use_id": "a", "content": f"K={MARK}"}]
    messages = [{"role": "user", "content": f"K={MARK}"}, {"role": "user", "content": blocks}]
    recorded = {"model": "m", "tools": [{"name": "t", "description": f"<ta{MARK}>"}], "messages": messages}
    live = json.loads(json.dumps(recorded).replace(f"<ta{MARK}>", "<task-x>").replace(MARK, "v"))
    assert same("messages", recorded, live, mark=MARK)
    live["messages"][0]["content"] = [{"type": "text", "text": "K=v"}]
    rules = allowing(rules_for("claude-code"), [intent(recorded, mark=MARK)])
    assert request_of("messages", recorded, rules).whole == request_of("messages", live, rules).whole


@given(st.lists(st.text(max_size=12), min_size=2, max_size=4), st.lists(st.text(max_size=12), min_size=3, max_size=3))
def test_whatever_was_replaced_the_live_text_becomes_the_recorded_one(pieces: list[str], taken: list[str]) -> None:
    recorded = MARK.join(pieces)
    live = "".join(piece + (taken[n] if n < len(pieces) - 1 else "") for n, piece in enumerate(pieces))
    rules = allowing(GENERIC, [intent(says(recorded), "chat", mark=MARK)])
    found = normalised("chat", says(live), rules)["messages"][0]["content"]
    assert found == normalised("chat", says(recorded), rules)["messages"][0]["content"]


def test_a_text_that_does_not_match_is_given_up_at_once_however_many_marks_there_are() -> None:
    recorded = says(f"password: {MARK}\n" * 40)
    assert same("chat", recorded, says("password: x\n" * 40), mark=MARK)
    assert not same("chat", recorded, says("password: x\n" * 2000 + "and more"), mark=MARK)
