"""Rules as data: what each does, that nothing is mutated, and what the sets for real agents cover."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.errors import UsageError
from onward.gateway.bodies import Said
from onward.gateway.normalisers import (
    ABSENT,
    AGENTS,
    GENERIC,
    Difference,
    Rule,
    Rules,
    differences,
    normalised,
    rules_for,
    rules_from,
    uncovered,
)
from onward.gateway.normalisers.paths import EACH, steps_of


def by(*rules: Rule) -> Rules:
    return Rules("test", "0", rules)


def seen(body: Any, *rules: Rule, protocol: str = "messages") -> Any:
    return normalised(protocol, body, by(*rules))


# --- paths ---


def test_a_path_is_names_positions_and_wildcards() -> None:
    assert steps_of("messages[*].content[0].text") == ("messages", EACH, "content", 0, "text")
    assert steps_of('a["x.y"][2]') == ("a", "x.y", 2)


@pytest.mark.parametrize("path", ["", ".a", "a..b", "a.", "a[", "a[x]", "a]b", "[*]a"])
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(UsageError):
        steps_of(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab.", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab .", max_size=2), inner, max_size=3),
    max_leaves=12,
)


@given(JSON, JSON)
def test_differences_are_none_exactly_between_equals_and_their_paths_can_be_read(one: Any, other: Any) -> None:
    found = list(differences({"x": one}, {"x": other}))
    assert not list(differences({"x": one}, {"x": copy.deepcopy(one)}))
    assert bool(found) == (json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True))
    for place in found:
        for value, end in ((one, place.recorded), (other, place.live)):
            here: Any = {"x": value}
            for step in steps_of(place.path):
                here = here[step] if end is not ABSENT else None
                if here is None:
                    break
            assert end is ABSENT or here == end


def test_long_texts_are_shown_around_the_first_difference() -> None:
    found = next(differences({"a": "x" * 5000 + "1" + "y" * 5000}, {"a": "x" * 5000 + "2" + "y" * 5000}))
    assert found.path == "a" and len(found.recorded) < 300 and len(str(found)) < 800
    assert "x1y" in found.recorded and "x2y" in found.live


def test_a_difference_reads_as_a_sentence() -> None:
    assert str(Difference("a.b", "x", ABSENT)) == 'a.b: recorded "x", now (absent)'


# --- actions ---


def test_drop_leaves_a_key_or_an_item_out() -> None:
    body = {"messages": [{"content": [{"t": 1, "cache_control": {}}, {"t": 2}]}], "x": [1, 2, 3]}
    drop = Rule("d", "drop", ("messages[*].content[*].cache_control", "x[1]", "nothing.here"))
    assert seen(body, drop) == {"messages": [{"content": [{"t": 1}, {"t": 2}]}], "x": [1, 3]}


def test_mask_replaces_what_a_pattern_finds_in_texts_alone() -> None:
    body = {"a": ["on 12", 12, None, {"b": "on 7"}]}
    assert seen(body, Rule("m", "mask", ("a[*]", "a[*].b"), r"on (\d)\d*", r"on \1_")) == {
        "a": ["on 1_", 12, None, {"b": "on 7_"}]
    }


def test_mask_searches_only_texts_that_hold_its_word() -> None:
    rule = Rule("m", "mask", ("a[*]",), r"\d+", "N", "day")
    assert seen({"a": ["day 12", "hour 12"]}, rule) == {"a": ["day N", "hour 12"]}


def test_alias_numbers_ids_by_first_appearance_over_all_its_paths() -> None:
    rule = Rule("ids", "alias", ("messages[*].call", "messages[*].result"), r"^id-\w+$", "call")
    first = {"messages": [{"call": "id-x"}, {"result": "id-x"}, {"call": "id-a"}, {"result": "id-a"}]}
    other = {"messages": [{"call": "id-9"}, {"result": "id-9"}, {"call": "id-1"}, {"result": "id-1"}]}
    crossed = {"messages": [{"call": "id-9"}, {"result": "id-9"}, {"call": "id-1"}, {"result": "id-9"}]}
    assert seen(first, rule) == seen(other, rule) != seen(crossed, rule)
    assert seen(first, rule)["messages"][3] == {"result": "call#2"}


def test_an_alias_stands_for_the_group_and_rules_of_one_name_share_their_numbers() -> None:
    rules = (
        Rule("ids", "alias", ("a[*]",), r"agentId: (\w+)", "agent"),
        Rule("ids", "alias", ("a[*]",), r"<task>(\w+)</task>", "agent"),
    )
    assert seen({"a": ["agentId: q7 ok", "<task>z1</task> <task>q7</task>"]}, *rules) == {
        "a": ["agentId: agent#1 ok", "<task>agent#2</task> <task>agent#1</task>"]
    }


@given(st.lists(st.lists(st.sampled_from("xyz"), min_size=1, max_size=3), min_size=1, max_size=5), st.randoms())
def test_aliases_of_a_beginning_do_not_depend_on_what_follows_nor_on_the_order_of_keys(ids: Any, random: Any) -> None:
    rule = Rule("ids", "alias", ("messages[*].ids[*]", "messages[*].also"), r"^\w$", "id")
    talk: list[Any] = [{"ids": each, "also": each[-1]} for each in ids]
    whole = seen({"messages": talk}, rule)["messages"]
    for size in range(len(talk)):
        shuffled = [dict(random.sample(sorted(one.items()), 2)) for one in talk[:size]]
        assert seen({"messages": shuffled}, rule)["messages"] == whole[:size]


def test_block_makes_a_text_a_block() -> None:
    rule = Rule("b", "block", ("messages[*].content",))
    made = [{"type": "text", "text": "hi"}]
    assert seen({"messages": [{"content": "hi"}, {"content": made}]}, rule) == {
        "messages": [{"content": made}, {"content": made}]
    }


def test_order_puts_what_a_pattern_finds_in_order_and_leaves_what_lies_between() -> None:
    rule = Rule("o", "order", ("a[*]",), r"(?s)<i>.*?</i>", where="<i>")
    assert seen({"a": ["set:\n <i>2\nb</i>, <i>1\nc</i>.", "<j>2</j>", 2]}, rule) == {
        "a": ["set:\n <i>1\nc</i>, <i>2\nb</i>.", "<j>2</j>", 2]
    }


def test_order_without_a_pattern_puts_the_items_of_a_list_in_order() -> None:
    body = {"enum": ["b", None, "a", {"x": 1}], "also": "b a", "in_order": ["a", "b"]}
    made = seen(body, Rule("o", "order", ("enum", "also", "in_order")))
    assert made == {**body, "enum": ["a", "b", None, {"x": 1}]}
    assert made["in_order"] is body["in_order"]


def test_sort_puts_parallel_results_in_the_order_of_their_call_ids() -> None:
    def talk(*ids: str) -> Any:
        return {"messages": [{"role": "tool", "tool_call_id": one, "content": one} for one in ids]}

    assert seen(talk("b", "a"), Rule("s", "sort"), protocol="chat") == talk("a", "b")


@pytest.mark.parametrize("known", [False, True])
def test_ids_are_numbered_in_the_order_of_the_calls_and_not_as_results_come_in(known: bool) -> None:
    rules = Rules(
        "some", "0", (Rule("ids", "alias", ("messages[*].content",), r"^agent-\w+$", "agent"), *GENERIC.rules)
    )

    def talk(*came: str) -> Any:
        calls = {"role": "assistant", "tool_calls": [{"id": "z"}, {"id": "a"}]}
        named = {"z": "agent-p", "a": "agent-q"}
        return {"messages": [calls, *({"role": "tool", "tool_call_id": one, "content": named[one]} for one in came)]}

    def matched(body: Any) -> Any:
        said = [Said(one) for one in body["messages"]] if known else ()
        return normalised("chat", body, rules, said)["messages"][1:]

    first, second = matched(talk("z", "a")), matched(talk("a", "z"))
    assert [one["content"] for one in first] == ["agent#1", "agent#2"]
    assert first == second


PATHS = ("messages[*].content[*].x", "messages[0]", "system", "messages[*].content", "n[*]")


@given(
    st.fixed_dictionaries({"messages": st.lists(st.fixed_dictionaries({"content": JSON}), max_size=3), "n": JSON}),
    st.lists(
        st.builds(lambda path: Rule("d", "drop", (path,)), st.sampled_from(PATHS))
        | st.builds(lambda path: Rule("m", "mask", (path,), "a", "b"), st.sampled_from(PATHS))
        | st.builds(lambda path: Rule("i", "alias", (path,), "[ab]", "i"), st.sampled_from(PATHS))
        | st.builds(lambda path: Rule("b", "block", (path,)), st.sampled_from(PATHS))
        | st.builds(
            lambda path, found: Rule("o", "order", (path,), found),
            st.sampled_from(PATHS),
            st.sampled_from(["", "[ab]"]),
        ),
        max_size=4,
    ),
)
def test_rules_never_mutate_what_they_are_given(body: Any, rules: list[Rule]) -> None:
    before = copy.deepcopy(body)
    seen(body, *rules, Rule("s", "sort"))
    assert body == before


def test_what_no_rule_changes_is_shared_and_not_copied() -> None:
    body = {"messages": [{"content": [{"text": "x"}]}], "tools": [{}], "stream": True}
    made = normalised("messages", body, GENERIC)
    assert made["messages"][0] is body["messages"][0] and made["tools"] is body["tools"] and "stream" not in made


# --- as data ---


def test_rules_come_from_data_and_go_back() -> None:
    for one in (*AGENTS, GENERIC):
        data = asdict(one)
        assert rules_from(data) == one and rules_from(data).digest == one.digest


@pytest.mark.parametrize(
    "rule",
    [
        {}, {"name": "x", "action": "burn", "paths": ["a"]}, {"name": "x", "action": "drop"},
        {"name": "x", "action": "sort", "paths": ["a"]}, {"name": "x", "action": "mask", "paths": ["a"]},
        {"name": "x", "action": "drop", "paths": ["a"], "pattern": "x"},
        {"name": "x", "action": "drop", "paths": ["a["]}, {"name": "x", "action": "order"},
        {"name": "x", "action": "mask", "paths": ["a"], "pattern": "("}, {"name": "x", "action": "drop", "path": "a"},
        None,
    ],
)  # fmt: skip
def test_what_is_no_rule_is_refused_with_a_reason(rule: Any) -> None:
    with pytest.raises(UsageError):
        rules_from({"agent": "a", "since": "1", "rules": [rule]})


def test_a_set_holds_from_its_version_on() -> None:
    old, new = Rules("a", "1.9", ()), Rules("a", "1.10", ())
    assert rules_for("a", "1.9.5", (old, new)) is old
    assert rules_for("a", "1.10.0", (old, new)) is new
    assert rules_for("a", "", (new, old)) is new
    assert rules_for("a", "1.0", (old, new)) is GENERIC
    assert rules_for("b", "9", (old, new)) is GENERIC
    assert rules_for("claude-code", "2.1.328").name == "claude-code@2.1.197/3"


def test_all_agents_of_the_table_have_a_set() -> None:
    assert {one.agent for one in AGENTS} == {
        "claude-code", "codex", "gemini-cli", "opencode", "mini-swe-agent", "aider", "openhands"
    }  # fmt: skip
    for one in AGENTS:
        assert rules_for(one.agent, one.since) is one


# --- the sets, on requests made after what was seen of each agent; the pairs differ where two runs of it differed ---


def claude(run: str, day: str, first: str = "a") -> Any:
    results = [
        {"type": "tool_result", "tool_use_id": one, "content": f"{one} done"} for one in (first, "ba".strip(first))
    ]
    results[-1]["cache_control"] = {"type": "ephemeral"}
    return {
        "model": "m", "stream": True, "metadata": {"user_id": f'{{"device_id":"{run}","session_id":"{run}"}}'},
        "system": [{"type": "text", "text": "You are", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": f"# currentDate\nToday's date is {day}.\n"}]},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": one, "name": "t", "input": {}} for one in "ab"
            ]},
            {"role": "user", "content": results},
        ],
    }  # fmt: skip


def codex(run: str, day: str) -> Any:
    said = (
        f"<environment_context>\n<current_date>{day}</current_date>\n<timezone>{run}</timezone>\n</environment_context>"
    )
    return {
        "model": "m", "client_metadata": {run: run}, "prompt_cache_key": run,
        "input": [
            {"type": "message", "role": "user", "id": f"msg_{run}", "content": [{"type": "input_text", "text": said}]},
            {"type": "function_call", "id": "fc_1", "call_id": "c", "name": "exec_command", "arguments": "{}"},
            {"type": "function_call_output", "id": f"fco_{run}", "call_id": "c",
             "output": f"Chunk ID: {run}\nWall time: 0.{len(run)}1 seconds\nProcess exited with code 0\nOutput:\nok"},
        ],
    }  # fmt: skip


def gemini(run: str, day: str, *skills: str) -> Any:
    minted = f"write_file_17952480000{len(run)}0_0"
    listed = "\n".join(
        f"<skill>\n  <name>{one}</name>\n  <location>/{run}/{one}/SKILL.md</location>\n</skill>" for one in skills
    )
    named, properties = ", ".join(f"'{one}'" for one in skills), {"name": {"type": "string", "enum": [*skills]}}
    return {
        "systemInstruction": {"role": "user", "parts": [
            {"text": f"You are\n\n<available_skills>\n{listed}\n</available_skills>\n\n# Hooks"}]},
        "tools": [{"functionDeclarations": [{
            "name": "activate_skill", "description": f"Activates a skill by name (Available: {named}). Returns it.",
            "parametersJsonSchema": {"type": "object", "properties": properties}}]}],
        "contents": [
            {"role": "user", "parts": [{"text": f"Today's date is {day} (formatted according to the user's locale)."}]},
            {"role": "model", "parts": [{"functionCall": {"id": minted, "name": "write_file", "args": {}}}]},
            {"role": "user", "parts": [{"functionResponse": {"id": minted, "name": "write_file", "response": {
                "output": f"Output: ok\nProcess Group PGID: 4{len(run)}"}}}]},
        ],
    }  # fmt: skip


def opencode(run: str, day: str, skill: str = "pdf") -> Any:
    listed = f"<skill>\n<name>{skill}</name>\n<location>/work/.{run}/skills/{skill}/SKILL.md</location>\n</skill>"
    return {"model": "m", "messages": [
        {"role": "system", "content": f"<env>\n  Today's date: {day}\n</env>\n{listed}"}]}  # fmt: skip


def openhands(run: str, day: str, *skills: str) -> Any:
    files = "\n".join(f"[BEGIN context from [{one}]]\n# {one}\n\n[END Context]\n" for one in skills)
    listed = "\n".join(f"  <skill>\n    <name>{one}</name>\n  </skill>" for one in skills)
    said = f"The current date and time is: 2026-11-21T09:00:0{len(run)}.123456+00:00\n{files}\n{listed}\nGo on."
    return {"prompt_cache_key": run, "messages": [{"role": "system", "content": [{"type": "text", "text": said}]}]}


SAME = [
    ("claude-code", "messages", claude("one", "2026-11-21"), claude("three", "2026-11-22")),
    ("claude-code", "messages", claude("one", "2026-11-21", "a"), claude("one", "2026-11-21", "b")),
    ("codex", "responses", codex("UTC", "2026-11-21"), codex("CET1", "2026-11-22")),
    ("gemini-cli", "gemini", gemini("a", "Saturday, November 21, 2026"), gemini("abc", "Sunday, November 22, 2026")),
    ("gemini-cli", "gemini", gemini("a", "", "pdf", "(a) 'b'", "csv"), gemini("b", "", "csv", "pdf", "(a) 'b'")),
    ("opencode", "chat", opencode("a", "Sat Nov 21 2026"), opencode("abc", "Sun Nov 22 2026")),
    ("openhands", "chat", openhands("a", ""), openhands("abc", "")),
    ("openhands", "chat", openhands("a", "", "pdf", "agents"), openhands("a", "", "agents", "pdf")),
]


@pytest.mark.parametrize(("agent", "protocol", "first", "second"), SAME)
def test_two_runs_of_an_agent_are_the_same_after_its_rules(agent: str, protocol: str, first: Any, second: Any) -> None:
    rules = rules_for(agent)
    kept = copy.deepcopy(first)
    assert not list(differences(normalised(protocol, first, rules), normalised(protocol, second, rules)))
    assert first == kept
    assert list(differences(first, second)), "the example does not show the difference"


@pytest.mark.parametrize(("agent", "protocol", "first", "second"), SAME)
def test_the_text_of_the_task_still_counts(agent: str, protocol: str, first: Any, second: Any) -> None:
    rules = rules_for(agent)
    changed = copy.deepcopy(first)
    history = {"responses": "input", "gemini": "contents"}.get(protocol, "messages")
    said = (
        {"role": "user", "parts": [{"text": "more"}]} if protocol == "gemini" else {"role": "user", "content": "more"}
    )
    changed[history].append(said)
    assert list(differences(normalised(protocol, first, rules), normalised(protocol, changed, rules)))


@pytest.mark.parametrize(
    ("agent", "protocol", "one", "other"),
    [
        ("gemini-cli", "gemini", gemini("a", "", "pdf", "csv"), gemini("a", "", "pdf", "csv", "xls")),
        ("gemini-cli", "gemini", gemini("a", "", "pdf"), gemini("a", "", "csv")),
        ("opencode", "chat", opencode("a", "", "pdf"), opencode("a", "", "csv")),
        ("openhands", "chat", openhands("a", "", "pdf"), openhands("a", "", "csv")),
    ],
)
def test_a_skill_more_or_another_one_still_counts(agent: str, protocol: str, one: Any, other: Any) -> None:
    rules = rules_for(agent)
    assert list(differences(normalised(protocol, one, rules), normalised(protocol, other, rules)))


LISTED = ("total 8\ndrwxr-xr-x 2 root root 4096 {0} 20:12 .\n-rw-r--r--@ 1 me staff 1.2K {0} 09:01 a b\n"
          "crw------- 1 0 0 10, 235 {0}  2024 c")  # fmt: skip


@pytest.mark.parametrize("agent", [one.agent for one in AGENTS if one.agent != "aider"] + [""])
def test_when_a_listed_file_was_made_makes_no_difference_and_all_else_of_it_does(agent: str) -> None:
    rules = rules_for(agent)

    def asked(text: str) -> list[Any]:
        response = {"role": "user", "parts": [{"functionResponse": {"response": {"output": text}}}]}
        result = {"type": "tool_result", "content": [{"type": "text", "text": text}]}
        return [
            normalised("chat", {"messages": [{"role": "tool", "content": json.dumps({"output": text})}]}, rules),
            normalised("messages", {"messages": [{"role": "user", "content": [result]}]}, rules),
            normalised("responses", {"input": [{"type": "function_call_output", "output": text}]}, rules),
            normalised("gemini", {"contents": [response]}, rules),
        ]

    assert asked(LISTED.format("Nov 21")) == asked(LISTED.format("Dec  1"))
    assert asked("-rw-r--r-- 1 a b 9 2026-11-21 20:12:01.5 +0100 f") == asked("-rw-r--r-- 1 a b 9 2026-11-22 07:00 f")
    for other in (LISTED.replace("1.2K", "1.3K"), LISTED.replace("a b", "a c"), LISTED.replace("-rw-", "-r--")):
        for one, another in zip(asked(LISTED.format("Nov 21")), asked(other.format("Nov 21")), strict=True):
            assert one != another
    for text in ("made Nov {} 20:12", "x-rw-r--r-- 1 a b 9 Nov {} 20:12 f"):
        assert asked(text.format(21)) != asked(text.format(22))


def test_dates_in_the_conversation_count_for_the_generic_set() -> None:
    def talk(day: str, asked: str) -> Any:
        return {"messages": [
            {"role": "system", "content": f"Today's date is {day}."}, {"role": "user", "content": "Hi"},
            {"role": "user", "content": f"Suppose that today's date is {asked}."},
        ]}  # fmt: skip

    first = normalised("chat", talk("2026-11-21", "2020-01-01"), GENERIC)
    assert normalised("chat", talk("2026-11-22", "2020-01-01"), GENERIC) == first
    assert normalised("chat", talk("2026-11-21", "2020-01-02"), GENERIC) != first


# --- two recordings, and what no rule covers ---


def test_a_doctor_finds_the_paths_that_differ_and_no_rule_covers() -> None:
    bare = Rules("new-agent", "1", ())
    first = [("messages", claude("one", "2026-11-21")), ("messages", claude("one", "2026-11-21"))]
    second = [("messages", claude("two", "2026-11-22")), ("messages", claude("two", "2026-11-22"))]
    found = uncovered(first, second, bare)
    assert [(one.path, one.count) for one in found] == [
        ("messages[*].content[*].text", 2), ("metadata.user_id", 2)
    ]  # fmt: skip
    assert "2026-11-21" in found[0].example.recorded and "2026-11-22" in found[0].example.live
    assert uncovered(first, second, rules_for("claude-code")) == []


def test_a_doctor_is_not_misled_by_lanes_in_another_order() -> None:
    def ask(text: str) -> tuple[str, Any]:
        return "chat", {"model": "m", "messages": [{"role": "user", "content": text}]}

    assert uncovered([ask("a"), ask("b"), ask("c")], [ask("c"), ask("a"), ask("b")], GENERIC) == []


def test_a_doctor_names_requests_without_a_partner() -> None:
    one = ("chat", {"messages": [{"role": "user", "content": "a"}]})
    two = ("chat", {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]})
    assert [(found.path, found.count) for found in uncovered([one], [two], GENERIC)] == [("(request)", 2)]
