"""SEMANTICS §7, rule by rule: which recorded exchange answers a live request.

A small agent with any number of lanes plays against a model that is a function; what a kill leaves is a prefix of what
was recorded; a second attempt is served from it. Answers carry the lane's name, so a lane that gets another's is seen.
"""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.ask import Answer
from onward.gateway.matching import Exchange, Match, Recorded, State, match, request_of
from onward.gateway.normalisers import GENERIC, Rule, Rules, rules_for
from onward.protocols import PROTOCOLS
from onward.protocols.turns import FORMS

NONE = Rules("bare", "0", ())
ALL = pytest.mark.parametrize("protocol", sorted(FORMS))
Result = Callable[[str, int], str]


def equal(lane: str, step: int) -> str:
    """What a tool answers every time."""
    return f"{lane}: result {step}"


def dated(now: str, since: int = 0) -> Result:
    """A tool that tells the time from that step on."""
    return lambda lane, step: f"{lane}: {now if step >= since else ''} result {step}"


def user(protocol: str, text: str) -> Any:
    if protocol == "gemini":
        return {"role": "user", "parts": [{"text": text}]}
    return {"role": "user", "content": [{"type": "input_text" if protocol == "responses" else "text", "text": text}]}


def results(protocol: str, given: Sequence[tuple[str, str]]) -> list[Any]:
    if protocol == "chat":
        return [{"role": "tool", "tool_call_id": call, "content": text} for call, text in given]
    if protocol == "responses":
        return [{"type": "function_call_output", "call_id": call, "output": text} for call, text in given]
    if protocol == "messages":
        blocks = [{"type": "tool_result", "tool_use_id": call, "content": text} for call, text in given]
        return [{"role": "user", "content": blocks}]
    parts = [{"functionResponse": {"id": c, "name": "bash", "response": {"output": text}}} for c, text in given]
    return [{"role": "user", "parts": parts}]


@dataclass
class Lane:
    """One conversation of an agent: a prompt, then a tool call answered at each step."""

    name: str
    protocol: str = "messages"
    result: Result = equal
    ids: Callable[[str, int], str] = lambda name, step: f"call_{name}_{step}"
    says: str = ""
    """The same at every step, in place of its name and the step."""
    system: str = "You are an agent."
    settings: dict[str, Any] = field(default_factory=dict)
    talk: list[Any] = field(default_factory=list)
    step: int = 0

    def body(self) -> Any:
        form = FORMS[self.protocol]
        tools = [{"name": "bash", "description": "runs", "parameters": {}}]
        if not self.talk:
            self.talk.append(user(self.protocol, f"Do what {self.name} must do."))
        made = {"model": "m", "system": self.system, "tools": tools, form.history: list(self.talk), **self.settings}
        return copy.deepcopy(made)

    def reply(self) -> Answer:
        call = {"id": self.ids(self.name, self.step), "name": "bash", "arguments": {"cmd": "date"}}
        return Answer(self.says or f"{self.name} thinks {self.step}", "tool", [call])

    def hear(self, answer: Answer) -> None:
        """Takes an answer in, and runs its tools."""
        wire, form = PROTOCOLS[self.protocol], FORMS[self.protocol]
        self.talk += form.turn(wire.render(answer, "m"))
        given = [(str(call["id"]), self.result(self.name, self.step)) for call in answer.tool_calls]
        self.talk += results(self.protocol, given) if given else []
        self.step += 1


class Tape:
    """What was recorded, and a second attempt at it."""

    def __init__(self, rules: Rules = NONE) -> None:
        self.rules = rules
        self.rows: list[tuple[str, str, Any, Answer, dict[str, bool]]] = []

    def call(self, lane: Lane, **flags: bool) -> Answer:
        answer = lane.reply()
        self.rows.append((f"{lane.name}{lane.step}", lane.protocol, lane.body(), answer, flags))
        lane.hear(answer)
        return answer

    def exchange(self, row: tuple[str, str, Any, Answer, dict[str, bool]]) -> Exchange:
        key, protocol, body, answer, flags = row
        turn = FORMS[protocol].turn(PROTOCOLS[protocol].render(answer, "m"))
        return Exchange.of(key, request_of(protocol, body, self.rules), turn, **flags)

    def recorded(self) -> Recorded:
        return Recorded(map(self.exchange, self.rows))

    def answers(self) -> dict[str, Answer]:
        return {key: answer for key, _, _, answer, _ in self.rows}


class Attempt:
    """A second attempt: asks by lane, serves what matches, asks the model for what does not."""

    def __init__(self, tape: Tape, rules: Rules | None = None, *, opens: bool = False) -> None:
        self.recorded, self.answers, self.state = tape.recorded(), tape.answers(), State(opens=opens)
        self.rules = rules or tape.rules
        self.live = 0

    def look(self, lane: Lane) -> Match:
        return match(request_of(lane.protocol, lane.body(), self.rules), self.recorded, self.state)

    def ask(self, lane: Lane) -> Match:
        body = lane.body()
        kept = copy.deepcopy(body)
        request = request_of(lane.protocol, body, self.rules)
        found = match(request, self.recorded, self.state)
        assert body == kept
        if found.key is None:
            self.live += 1
            answer = lane.reply()
            self.state.missed(request, found)
            turn = FORMS[lane.protocol].turn(PROTOCOLS[lane.protocol].render(answer, "m"))
            key = f"live{self.live}"
            self.state.served(request, self.recorded.add(Exchange.of(key, request, turn)))
            self.answers[key] = answer
        else:
            answer = self.answers[found.key]
            self.state.served(request, self.recorded.named[found.key])
        lane.hear(answer)
        return found


def levels(found: Iterable[Match]) -> list[str | None]:
    return [one.level for one in found]


def recording(*lanes: Lane, steps: int = 4, rules: Rules = NONE) -> Tape:
    tape = Tape(rules)
    for _ in range(steps):
        for lane in lanes:
            tape.call(lane)
    return tape


# --- exact ---


@ALL
@given(data=st.data())
def test_every_recorded_episode_matches_itself_whole_at_level_exact(protocol: str, data: Any) -> None:
    names = ["a", "b", "c"][: data.draw(st.integers(1, 3))]
    order = data.draw(st.permutations([name for name in names for _ in range(3)]))
    again = data.draw(st.permutations(order))
    tape, lanes = Tape(), {name: Lane(name, protocol) for name in names}
    for name in order:
        tape.call(lanes[name])
    attempt, lanes = Attempt(tape), {name: Lane(name, protocol) for name in names}
    for name in again:
        step = lanes[name].step
        found = attempt.ask(lanes[name])
        assert (found.key, found.level, found.difference) == (f"{name}{step}", "exact", None)
    assert attempt.live == 0


@given(st.data())
def test_matching_never_depends_on_the_order_of_recordings_across_lanes(data: Any) -> None:
    lanes = [Lane(name, result=dated("then", 1)) for name in "abc"]
    tape = recording(*lanes, steps=3)
    cut = data.draw(st.integers(0, len(tape.rows)))
    tape.rows = tape.rows[:cut]
    asked = data.draw(st.permutations([name for name in "abc" for _ in range(4)]))
    outcomes = []
    for rows in (tape.rows, data.draw(st.permutations(tape.rows))):
        tape.rows = rows
        attempt, lanes_now = Attempt(tape), {name: Lane(name, result=dated("now", 1)) for name in "abc"}
        outcomes.append([(found.key, found.level, found.left) for found in (attempt.ask(lanes_now[n]) for n in asked)])
    assert outcomes[0] == outcomes[1]


@given(st.integers(1, 6), st.integers(0, 8))
def test_equal_requests_are_served_first_in_first_out_and_each_recording_once(recorded: int, asked: int) -> None:
    tape = Tape()
    for number in range(recorded):
        lane = Lane("x")
        tape.rows.append((f"x{number}", "messages", lane.body(), Answer(f"answer {number}"), {}))
    attempt = Attempt(tape)
    found = [attempt.ask(Lane("x")) for _ in range(asked)]
    keys: list[str | None] = [f"x{number}" for number in range(recorded)]
    assert [one.key for one in found] == [*keys, *[None] * asked][:asked]
    assert not any(one.left for one in found), "asked once more than recorded: a new draw, and no divergence"


def test_an_answer_that_was_never_fully_delivered_is_served_first_to_its_next_equal() -> None:
    tape = Tape()
    for number, delivered in enumerate([True, False, True]):
        tape.rows.append(
            (f"x{number}", "chat", Lane("x", "chat").body(), Answer(f"{number}"), {"delivered": delivered})
        )
    attempt = Attempt(tape)
    assert [attempt.ask(Lane("x", "chat")).key for _ in range(3)] == ["x1", "x0", "x2"]
    attempt.state.undelivered("x2")
    assert attempt.ask(Lane("x", "chat")).key == "x2"
    assert attempt.ask(Lane("x", "chat")).key is None


def test_an_answer_made_live_and_not_delivered_is_served_to_its_next_equal() -> None:
    attempt = Attempt(Tape())
    assert attempt.ask(Lane("x")).key is None
    attempt.state.undelivered("live1")
    assert attempt.ask(Lane("x")).key == "live1"


def test_how_the_answer_is_to_come_is_no_part_of_the_request() -> None:
    tape = recording(Lane("a", settings={"stream": True}), steps=2, rules=GENERIC)
    assert levels([Attempt(tape).ask(Lane("a", settings={"stream": False}))]) == ["exact"]


def test_what_the_path_says_counts() -> None:
    body = Lane("a", "gemini").body()
    recorded = Recorded([Exchange.of("k", request_of("gemini", body, target="gemini-pro"), [])])
    assert match(request_of("gemini", body, target="gemini-pro"), recorded, State()).level == "exact"
    assert match(request_of("gemini", body, target="gemini-flash"), recorded, State()).level is None


# --- opening ---

RAIN = "You are an agent. It rains."


def tool(name: str = "bash", does: str = "runs") -> dict[str, Any]:
    return {"tools": [{"name": name, "description": does, "parameters": {}}]}


@ALL
@pytest.mark.parametrize("change", [{"system": RAIN}, {"settings": tool(does="runs a command")}])
def test_what_is_said_around_the_words_may_differ_and_all_that_follows_is_served(protocol: str, change: Any) -> None:
    tape = recording(Lane("a", protocol), Lane("b", protocol))
    attempt = Attempt(tape, opens=True)
    for name in "ba":
        lane = Lane(name, protocol, **change)
        found = [attempt.ask(lane) for _ in range(4)]
        assert levels(found) == ["opening", "anchored", "anchored", "anchored"]
        assert [one.key for one in found] == [f"{name}{step}" for step in range(4)]
        assert found[0].difference is not None and found[0].difference.path.startswith(("system", "tools[0]"))
    assert attempt.live == 0


def test_a_system_message_among_the_words_is_none_of_them() -> None:
    def talk(*texts: str) -> Any:
        said = [
            {"role": role, "content": text} for role, text in zip(("system", "developer", "user"), texts, strict=True)
        ]
        return {"model": "m", **tool(), "messages": said}

    recorded = Recorded([Exchange.of("a", request_of("chat", talk("be", "quick", "do it"), NONE), [])])
    state = State(opens=True)
    assert match(request_of("chat", talk("were", "slow", "do it"), NONE), recorded, state).level == "opening"
    assert match(request_of("chat", talk("be", "quick", "do that"), NONE), recorded, state).level is None


@pytest.mark.parametrize(
    "other",
    [
        Lane("b", system=RAIN), Lane("a", system=RAIN, settings=tool("python")),
        Lane("a", system=RAIN, settings={"tools": [*tool()["tools"], *tool("python")["tools"]]}),
        Lane("a", system=RAIN, settings={"tools": []}), Lane("a", system=RAIN, settings={"max_tokens": 5}),
        Lane("a", system=RAIN, settings={"model": "n"}),
    ],
    ids=["words", "tool", "tools", "no-tools", "sampling", "model"],
)  # fmt: skip
def test_other_words_tools_models_or_settings_open_nothing(other: Lane) -> None:
    found = Attempt(recording(Lane("a")), opens=True).ask(other)
    assert found.key is None and found.left == (other.settings.get("tools") != [])


def test_for_anybodys_program_another_system_prompt_is_another_question() -> None:
    assert Attempt(recording(Lane("a"))).ask(Lane("a", system=RAIN)).level is None


def test_where_two_opened_with_the_same_words_neither_is_served_to_a_third() -> None:
    tape = recording(Lane("a"), steps=1)
    tape.call(Lane("a", system="You are another agent."))
    assert Attempt(tape, opens=True).ask(Lane("a", system=RAIN)).level is None
    tape.rows.pop()
    tape.call(Lane("a", system="You are another agent."), complete=False)
    assert Attempt(tape, opens=True).ask(Lane("a", system=RAIN)).level is None


@pytest.mark.parametrize("flags", [{"complete": False}, {"parent_changed": True}])
def test_what_has_no_answer_or_another_parent_opens_nothing(flags: dict[str, bool]) -> None:
    tape = Tape()
    tape.call(Lane("a"), **flags)
    assert Attempt(tape, opens=True).ask(Lane("a", system=RAIN)).level is None


def test_a_request_that_is_asked_once_more_than_it_was_recorded_opens_nothing() -> None:
    attempt = Attempt(recording(Lane("a"), steps=1), opens=True)
    assert levels(attempt.ask(Lane("a")) for _ in range(2)) == ["exact", None]
    assert attempt.ask(Lane("a", system=RAIN)).level is None


# --- prefix and anchored ---


@ALL
def test_a_differing_tool_result_gives_prefix_once_then_anchored(protocol: str) -> None:
    tape = recording(Lane("a", protocol, dated("09:00", 1)), steps=6)
    attempt, lane = Attempt(tape), Lane("a", protocol, dated("10:30", 1))
    found = [attempt.ask(lane) for _ in range(6)]
    assert levels(found) == ["exact", "exact", "prefix", "anchored", "anchored", "anchored"]
    assert [one.key for one in found] == [f"a{step}" for step in range(6)]
    difference = found[2].difference
    assert difference and "09:00" in str(difference.recorded) and "10:30" in str(difference.live)
    assert difference == found[5].difference, "the first place where it differs stays the first"


def test_the_difference_is_named_by_path_and_both_values() -> None:
    tape = recording(Lane("a", result=dated("09:00")), steps=2)
    attempt, lane = Attempt(tape), Lane("a", result=dated("10:30"))
    attempt.ask(lane)
    assert attempt.ask(lane).reason == (
        "answered by a1 (prefix), and differs at messages[2].content[0].content: "
        'recorded "a: 09:00 result 0", now "a: 10:30 result 0"'
    )


@ALL
def test_prefix_wants_all_but_tool_results_equal(protocol: str) -> None:
    tape = recording(Lane("a", protocol), steps=3)
    attempt, lane = Attempt(tape), Lane("a", protocol, dated("now"))
    attempt.ask(lane)
    lane.talk.append(user(protocol, "And hurry."))
    found = attempt.ask(lane)
    assert (found.key, found.left) == (None, True)


def test_prefix_wants_the_same_settings() -> None:
    tape = recording(Lane("a", settings={"temperature": 0}), steps=3)
    attempt, lane = Attempt(tape), Lane("a", result=dated("now"), settings={"temperature": 0})
    attempt.ask(lane)
    lane.settings = {"temperature": 1}
    found = attempt.ask(lane)
    assert found.key is None and found.difference and found.difference.path == "temperature"


def test_an_envelope_that_changes_on_the_way_as_it_did_then_is_anchored() -> None:
    def play(lane: Lane, ask: Callable[[Lane], Any]) -> list[Any]:
        found = []
        for step in range(5):
            lane.settings = {"max_tokens": 100 + step // 3}
            found.append(ask(lane))
        return found

    tape = Tape()
    play(Lane("a", result=dated("then")), tape.call)
    attempt = Attempt(tape)
    found = play(Lane("a", result=dated("now")), attempt.ask)
    assert levels(found) == ["exact", "prefix", "anchored", "anchored", "anchored"]


@ALL
def test_agents_that_tell_results_as_text_are_anchored(protocol: str) -> None:
    def play(now: str, ask: Callable[[Lane], Any]) -> list[Any]:
        lane, found = Lane("a", protocol), []
        for step in range(4):
            found.append(ask(lane))
            lane.talk.append(user(protocol, f"Observation {step}: {now}"))
        return found

    class Talker(Tape):
        def call(self, lane: Lane, **flags: bool) -> Answer:
            self.rows.append((f"a{lane.step}", protocol, lane.body(), Answer(f"```date``` {lane.step}"), {}))
            lane.hear(self.rows[-1][3])
            return self.rows[-1][3]

    tape = Talker()
    play("then", tape.call)
    assert levels(play("now", Attempt(tape).ask)) == ["exact", "anchored", "anchored", "anchored"]


def told(replies: Sequence[str], observed: str, first: Sequence[Any] = (), asked: str = "Go.") -> list[Any]:
    """The requests of an agent that tells results as text, one for each reply and a last one."""
    talk, made = [{"role": "user", "content": asked}, *first], []
    for step, reply in enumerate(replies):
        made.append({"model": "m", "messages": list(talk)})
        talk += [*spoken(reply), {"role": "user", "content": f"Observation {step}: {observed}"}]
    return [request_of("chat", body, NONE) for body in [*made, {"model": "m", "messages": talk}]]


def test_a_request_that_ends_in_an_assistants_words_is_an_anchor_too() -> None:
    started = spoken("Let me")
    recorded = Recorded(Exchange.of(f"k{n}", one, []) for n, one in enumerate(told(["ls", "rm"], "then", started)))
    state = State()
    for n, one in enumerate(told(["ls", "rm"], "now", started)):
        found = match(one, recorded, state)
        assert (found.key, found.level) == (f"k{n}", "anchored" if n else "exact")
        state.served(one, recorded.named[f"k{n}"])


def test_what_is_told_as_text_must_be_told_by_the_same_speakers() -> None:
    asked = told(["ls"], "then")
    recorded = Recorded(Exchange.of(f"k{n}", one, []) for n, one in enumerate(asked))
    state = State()
    state.served(asked[0], recorded.named["k0"])
    talk = [*asked[0].messages, *spoken("ls"), {"role": "user", "content": "now"}]
    twice = request_of("chat", {"model": "m", "messages": [*talk, {"role": "user", "content": "And now?"}]}, NONE)
    assert match(twice, recorded, state).key is None
    assert match(request_of("chat", {"model": "m", "messages": talk}, NONE), recorded, state).key == "k1"


def test_of_two_that_differ_in_tool_results_the_one_that_shares_more_is_served() -> None:
    def body(*given: str) -> Any:
        calls = [{"id": one, "type": "function", "function": {"name": "x", "arguments": "{}"}} for one in "ab"]
        asked = {"role": "assistant", "content": None, "tool_calls": calls}
        talk = [{"role": "user", "content": "Go."}, asked, *results("chat", list(zip("ab", given, strict=True)))]
        return request_of("chat", {"model": "m", "messages": talk}, NONE)

    rows = {"k0": body("1", "1"), "k1": body("1", "2"), "k2": body("2", "2")}
    recorded = Recorded(Exchange.of(key, one, []) for key, one in rows.items())
    assert match(body("3", "2"), recorded, State()).key == "k1", "k1 and k2 share as much: first in, first out"
    assert match(body("2", "3"), recorded, State()).key == "k2"


def test_results_of_parallel_tools_in_another_order_are_exact_with_the_rule_and_by_no_other_level_without() -> None:
    def play(order: Sequence[str], ask: Callable[[Lane], Any]) -> list[Any]:
        lane = Lane("a")
        found = [ask(lane)]
        lane.talk[-1] = results("messages", [(one, f"{one} done") for one in order])[0]
        return [*found, ask(lane)]

    sort = Rules("sorting", "0", (Rule("s", "sort"),))
    for rules, level in ((sort, "exact"), (NONE, None)):
        tape = Tape(rules)
        play(["t1", "t2"], tape.call)
        assert levels(play(["t2", "t1"], Attempt(tape).ask)) == ["exact", level]


# --- replies ---


def aider(step: int, output: str, replies: Sequence[str], asked: str = "Fix it.") -> Any:
    """A history that is not append-only: the prompt loses its end, files move with their current text."""
    shots = [{"role": "user", "content": "Change the greeting."}, {"role": "assistant", "content": "Ok."}]
    talk = [{"role": "system", "content": "Act as an expert."}, *shots]
    talk.append({"role": "user", "content": asked + (" To suggest changes, write files." if step == 0 else "")})
    for number, reply in enumerate(replies):
        talk += [{"role": "assistant", "content": reply}, {"role": "user", "content": f"{output} {number}"}]
    talk.insert(3, {"role": "user", "content": f"file.py is now version {step} {output}"})
    talk.insert(4, {"role": "assistant", "content": "Ok, I use it."})
    return {"model": "m", "messages": talk}


def rewriting(tape_of: Sequence[str], output: str, asked: str = "Fix it.") -> list[Any]:
    return [request_of("chat", aider(n, output if n else "", tape_of[:n], asked), NONE) for n in range(len(tape_of))]


def spoken(text: str) -> list[Any]:
    return [{"role": "assistant", "content": text}]


def test_an_agent_that_rewrites_its_history_is_matched_by_its_replies() -> None:
    said = ["first edit", "second edit", "third edit", "done"]
    recorded = Recorded(
        Exchange.of(f"k{n}", one, spoken(said[n])) for n, one in enumerate(rewriting(said, "3 tests failed in 0.11 s"))
    )
    state, found = State(), []
    for live in rewriting(said, "3 tests failed in 0.29 s"):
        found.append(match(live, recorded, state))
        key = found[-1].key
        assert key
        state.served(live, recorded.named[key])
    assert levels(found) == ["exact", "replies", "replies", "replies"]
    assert [one.key for one in found] == ["k0", "k1", "k2", "k3"]


def test_an_agent_that_hears_the_same_reply_twice_is_matched_by_its_replies() -> None:
    said = ["edit", "edit", "done"]
    recorded = Recorded(Exchange.of(f"k{n}", one, spoken(said[n])) for n, one in enumerate(rewriting(said, "then")))
    state = State()
    for n, live in enumerate(rewriting(said, "now")):
        assert match(live, recorded, state).key == f"k{n}"
        state.served(live, recorded.named[f"k{n}"])


def test_replies_want_the_same_model_and_tools() -> None:
    said = ["edit", "done"]
    rows = rewriting(said, "then")
    recorded = Recorded(Exchange.of(f"k{n}", one, spoken(said[n])) for n, one in enumerate(rows))
    state = State()
    state.served(rows[0], recorded.named["k0"])
    body = aider(1, "now", ["edit"])
    for changed in ({"model": "n"}, {"tools": [{"name": "x"}]}):
        assert match(request_of("chat", {**body, **changed}, NONE), recorded, state).key is None
    assert match(request_of("chat", body, NONE), recorded, state).level == "replies"


def test_replies_are_never_used_before_the_first_reply() -> None:
    """Synthetic assistant messages look like replies: two lanes' first requests hold the same ones."""
    one, other = (request_of("chat", aider(0, "", [], asked), NONE) for asked in ("Do a.", "Do b."))
    recorded = Recorded([Exchange.of("a", one, spoken("edit"))])
    assert one.replies == other.replies and one.runs
    assert match(other, recorded, State()).key is None


def test_replies_want_a_reply_that_this_attempt_was_served() -> None:
    said = ["edit", "done"]
    rows = rewriting(said, "then")
    recorded = Recorded(Exchange.of(f"k{n}", one, spoken(said[n])) for n, one in enumerate(rows))
    live = rewriting(said, "now")[1]
    assert match(live, recorded, State()).key is None


def test_the_same_reply_in_two_lanes_proves_nothing() -> None:
    said = ["edit", "done"]
    a, b = rewriting(said, "then", "Do a."), rewriting(said, "then", "Do b.")
    recorded = Recorded(
        [Exchange.of("a0", a[0], spoken("edit")), Exchange.of("b0", b[0], spoken("edit")),
         Exchange.of("a1", a[1], spoken("a done"))]
    )  # fmt: skip
    state = State()
    for one in (a[0], b[0]):
        found = match(one, recorded, state)
        assert found.level == "exact" and found.key
        state.served(one, recorded.named[found.key])
    assert match(rewriting(said, "now", "Do b.")[1], recorded, state).key is None
    assert match(a[1], recorded, state).level == "exact"


def test_an_agent_that_appends_is_never_matched_by_replies() -> None:
    """Two lanes with equal call ids and texts: only what they were asked differs."""

    def lane(name: str, now: str) -> Lane:
        return Lane(name, result=dated(now), ids=lambda _, step: f"c{step}", says="I look.")

    tape = recording(lane("a", "then"), lane("b", "then"), steps=3)
    tape.rows.pop()
    again = [lane("a", "now"), lane("b", "now")]
    attempt = Attempt(tape)
    for _ in range(2):
        for one in reversed(again):
            assert (attempt.ask(one).key or "")[0] == one.name
    assert attempt.ask(again[1]).key is None
    assert attempt.ask(again[0]).key == "a2"


# --- lanes ---


def test_one_sub_agents_answer_is_never_given_to_another_where_matching_by_order_gave_it() -> None:
    """The case in the facts: A's third answer was recorded, B's was not; B asks first, with a differing result."""
    tape = recording(Lane("a", result=dated("then", 1)), Lane("b", result=dated("then", 1)), steps=3)
    tape.rows.pop()
    attempt, a, b = Attempt(tape), Lane("a", result=dated("now", 1)), Lane("b", result=dated("now", 1))
    for lane in (a, b, b, a):
        attempt.ask(lane)
    found = attempt.ask(b)
    assert (found.key, found.left) == (None, False), "B's record ends here; what is left is A's"
    found = attempt.ask(a)
    assert (found.key, found.level) == ("a2", "prefix")


@ALL
@given(data=st.data())
def test_two_sub_agents_never_get_each_others_answers(protocol: str, data: Any) -> None:
    """Any interleaving, any kill, any difference in results, ids that are alike or not."""
    alike, says = data.draw(st.booleans()), data.draw(st.sampled_from(["", "I look."]))
    ids: Any = (lambda _, step: f"c{step}") if alike else (lambda name, step: f"c_{name}{step}")

    def lanes_at(now: str) -> dict[str, Lane]:
        return {name: Lane(name, protocol, dated(now), ids, says) for name in "ab"}

    order = data.draw(st.permutations(["a"] * 4 + ["b"] * 4))
    tape, lanes, again = Tape(), lanes_at("then"), lanes_at(data.draw(st.sampled_from(["then", "now"])))
    for name in order[: data.draw(st.integers(0, 8))]:
        tape.call(lanes[name])
    attempt = Attempt(tape)
    have = {name: sum(row[0][0] == name for row in tape.rows) for name in "ab"}
    for name in data.draw(st.permutations(order)):
        lane = again[name]
        step = lane.step
        found = attempt.ask(lane)
        assert found.key == f"{name}{step}" if step < have[name] else found.key is None
        assert found.key is not None or step == 0 or not found.left


def test_a_fork_of_a_conversation_is_a_lane_of_its_own() -> None:
    """Two sub-agents that inherit their parent's context differ in what they are told beside the tool's result."""

    def forked(task: str, result: Result) -> Lane:
        lane = Lane("main", result=result)
        lane.body()
        lane.hear(lane.reply())
        lane.talk[-1]["content"].append({"type": "text", "text": f"You are the fork that does {task}."})
        return lane

    tape = Tape()
    main = Lane("main")
    tape.call(main)
    tape.rows.append(("a", "messages", forked("a", equal).body(), Answer("a did it"), {}))
    attempt = Attempt(tape)
    attempt.ask(Lane("main"))
    assert attempt.look(forked("b", equal)).key is None
    assert attempt.look(forked("b", dated("now"))).key is None
    assert attempt.look(forked("a", equal)).level == "exact"
    assert attempt.look(forked("a", dated("now"))).level == "prefix"


def test_lanes_that_differ_in_their_system_prompt_alone_stay_apart() -> None:
    def lane(name: str, now: str) -> Lane:
        return Lane("same", result=dated(now), system=f"You are {name}.")

    tape = Tape()
    for name in "ab":
        one = lane(name, "then")
        for step in range(3):
            tape.rows.append((f"{name}{step}", "messages", one.body(), one.reply(), {}))
            one.hear(one.reply())
    tape.rows.pop()
    attempt, a, b = Attempt(tape), lane("a", "now"), lane("b", "now")
    assert [attempt.ask(b).key, attempt.ask(b).key, attempt.ask(b).key] == ["b0", "b1", None]
    assert [attempt.ask(a).key, attempt.ask(a).key, attempt.ask(a).key] == ["a0", "a1", "a2"]


# --- a changed parent ---


def test_under_a_parent_whose_fingerprint_changed_only_exact() -> None:
    tape = recording(Lane("a", result=dated("then", 1)), steps=4)
    for row in tape.rows:
        row[4]["parent_changed"] = True
    attempt, lane = Attempt(tape), Lane("a", result=dated("now", 1))
    assert levels([attempt.ask(lane), attempt.ask(lane), attempt.ask(lane)]) == ["exact", "exact", None]
    attempt, lane = Attempt(tape), Lane("a", result=dated("then", 1))
    assert levels([attempt.ask(lane) for _ in range(4)]) == ["exact"] * 4


def test_under_a_changed_parent_no_reply_is_matched_either() -> None:
    said = ["edit", "done"]
    recorded = Recorded(
        Exchange.of(f"k{n}", one, spoken(said[n]), parent_changed=True) for n, one in enumerate(rewriting(said, "then"))
    )
    state, live = State(), rewriting(said, "now")
    state.served(live[0], recorded.named["k0"])
    assert match(live[1], recorded, state).key is None


# --- misses ---


@ALL
@pytest.mark.parametrize("kept", range(5))
def test_where_nothing_of_the_lane_is_left_is_the_cut_point(protocol: str, kept: int) -> None:
    tape = recording(Lane("a", protocol), Lane("b", protocol), steps=4)
    tape.rows = [row for row in tape.rows if row[0] < f"a{kept}" or row[0][0] == "b"]
    attempt, lane = Attempt(tape), Lane("a", protocol, dated("now", 1))
    found = [attempt.ask(lane) for _ in range(6)]
    assert [one.key for one in found] == [f"a{n}" if n < kept else None for n in range(6)]
    if kept:
        assert not any(one.left for one in found), "b's exchanges are another lane's"


def test_a_miss_with_exchanges_of_the_lane_left_is_a_divergence() -> None:
    tape = recording(Lane("a"), Lane("b"), steps=4)
    attempt, lane = Attempt(tape), Lane("a")
    attempt.ask(lane)
    attempt.ask(lane)
    lane.talk[-1]["content"].append({"type": "text", "text": "Something else."})
    found = attempt.ask(lane)
    assert (found.key, found.left, found.nearest, found.lane) == (None, True, "a2", ("a2", "a3"))
    assert found.reason == (
        "no recorded exchange matches: a divergence; the nearest left is a2, and differs at messages[4].content[1]: "
        'recorded (absent), now {"type": "text", "text": "Something else."}'
    )
    attempt.state.abandoned(found.lane)
    assert not attempt.ask(lane).left, "after a fork nothing of this lane is left"
    other = Lane("b")
    assert levels([attempt.ask(other) for _ in range(4)]) == ["exact"] * 4


def test_a_lane_that_went_live_still_says_what_it_left_behind() -> None:
    tape = recording(Lane("a"), steps=4)
    attempt, lane = Attempt(tape), Lane("a")
    attempt.ask(lane)
    lane.talk[-1]["content"].append({"type": "text", "text": "Something else."})
    found = [attempt.ask(lane) for _ in range(3)]
    assert [(one.key, one.left, one.lane) for one in found] == [(None, True, ("a1", "a2", "a3"))] * 3


def test_a_rewritten_history_that_matches_nothing_says_what_its_opening_left() -> None:
    said = ["edit", "more", "done"]
    rows = rewriting(said, "then")
    recorded = Recorded(Exchange.of(f"k{n}", one, spoken(said[n])) for n, one in enumerate(rows))
    state = State()
    state.served(rows[0], recorded.named["k0"])
    found = match(request_of("chat", aider(1, "now", ["another edit"]), NONE), recorded, state)
    assert (found.key, found.left, found.lane) == (None, True, ("k1", "k2"))


def test_of_two_lanes_that_began_alike_the_turn_tells_which_is_left() -> None:
    a, b = told(["ls"], "then"), told(["rm"], "then")
    rows = {"a0": a[0], "b0": b[0], "a1": a[1], "b1": b[1]}
    recorded = Recorded(Exchange.of(key, one, []) for key, one in rows.items())
    found = match(told(["rm"], "now")[1], recorded, State())
    assert (found.key, found.left, found.lane) == (None, True, ("b1",)), "nothing was served, so nothing is extended"


def test_where_only_the_opening_is_known_nothing_is_surely_the_lanes() -> None:
    a, b = told(["ls"], "then"), told(["rm"], "then", asked="Stop.")
    recorded = Recorded(Exchange.of(key, one, []) for key, one in {"a0": a[0], "a1": a[1], "b1": b[1]}.items())
    state, live = State(), told(["cp"], "now")[1]
    found = match(live, recorded, state)
    assert (found.key, found.left, found.lane, found.nearest) == (None, True, (), "a1")
    for one, key in zip(a, ("a0", "a1"), strict=True):
        state.served(one, recorded.named[key])
    state.anchors.clear()  # as for an agent that rewrites its history
    assert not match(live, recorded, state).left, "what is left opened otherwise: another lane"


def test_a_call_that_is_in_doubt_is_never_served_and_is_a_cut_point() -> None:
    tape = recording(Lane("a"), Lane("b"), steps=1)
    tape.rows[1] = (*tape.rows[1][:4], {"complete": False})
    attempt = Attempt(tape)
    found = attempt.ask(Lane("b"))
    assert (found.key, found.left) == (None, False)
    assert attempt.ask(Lane("a")).key == "a0"


def test_a_call_that_is_in_doubt_is_not_answered_by_one_with_other_results() -> None:
    tape = recording(Lane("a", result=dated("noon")), steps=2)
    other = recording(Lane("a", result=dated("one")), steps=2)
    tape.rows.append(("doubt", *other.rows[1][1:4], {"complete": False}))
    attempt, lane = Attempt(tape), Lane("a", result=dated("one"))
    attempt.ask(lane)
    assert attempt.ask(lane).key is None


def test_what_was_not_delivered_is_left_again() -> None:
    tape = recording(Lane("a"), steps=1)
    attempt = Attempt(tape)
    attempt.ask(Lane("a"))
    assert not attempt.look(Lane("b")).left
    attempt.state.undelivered("a0")
    assert attempt.look(Lane("b")).left


def test_a_first_request_that_differs_is_a_divergence_while_a_recorded_one_waits() -> None:
    tape = recording(Lane("a"), steps=2)
    attempt = Attempt(tape)
    found = attempt.ask(Lane("other"))
    assert (found.key, found.left, found.lane, found.nearest) == (None, True, (), "a0")
    attempt.ask(Lane("a"))
    assert not attempt.ask(Lane("third")).left, "a new lane, once every recorded one was begun"


def test_an_agent_that_begins_with_other_tools_has_left_its_record() -> None:
    tape = recording(Lane("a"), steps=2)
    body = Lane("a").body()
    body["tools"].append({"name": "new", "description": "of a later version", "parameters": {}})
    attempt = Attempt(tape)
    found = match(request_of("messages", body, NONE), tape.recorded(), attempt.state)
    assert (found.key, found.left, found.nearest) == (None, True, "a0")
    assert "tools[1]" in found.reason
    body["tools"] = []
    beside = match(request_of("messages", body, NONE), tape.recorded(), attempt.state)
    assert not beside.left, "a side request without tools is no beginning of what was recorded"


def test_with_nothing_recorded_a_miss_is_a_cut_point() -> None:
    found = Attempt(Tape()).ask(Lane("a"))
    assert (found.left, found.nearest, found.difference) == (False, None, None)
    assert found.reason == "no recorded exchange matches: the cut point; nothing recorded is left"


def test_the_nearest_of_another_format_differs_by_its_format() -> None:
    tape = recording(Lane("a", "chat"), steps=1)
    found = Attempt(tape).ask(Lane("a", "messages"))
    assert found.difference == ("(format)", "chat", "messages") and not found.left


# --- midnight ---


class Dated(Lane):
    day = "2026-11-21"

    def body(self) -> Any:
        made = super().body()
        made["messages"][0]["content"].insert(0, {"type": "text", "text": f"Today's date is {self.day}."})
        return made


class NextDay(Dated):
    day = "2026-11-22"


def test_midnight_with_the_date_rule() -> None:
    tape = recording(Dated("a", result=dated("then", 1)), steps=5, rules=rules_for("claude-code"))
    attempt, lane = Attempt(tape), NextDay("a", result=dated("now", 1))
    found = [attempt.ask(lane) for _ in range(5)]
    assert levels(found) == ["exact", "exact", "prefix", "anchored", "anchored"]


def test_midnight_without_the_date_rule_is_a_divergence_that_names_the_date() -> None:
    tape = recording(Dated("a"), steps=5)
    found = Attempt(tape).ask(NextDay("a"))
    assert (found.key, found.left, found.nearest) == (None, True, "a0")
    assert found.difference == (
        "messages[0].content[0].text", "Today's date is 2026-11-21.", "Today's date is 2026-11-22."
    )  # fmt: skip


# --- the moving cache mark: harmless for exact, fatal for a chain without its rule ---


def test_a_mark_that_moves_breaks_no_chain_with_its_rule_and_costs_a_level_without() -> None:
    class Marking(Lane):
        def body(self) -> Any:
            made = super().body()
            made["messages"][-1]["content"][-1]["cache_control"] = {"type": "ephemeral"}
            return made

    for rules, end in ((rules_for("claude-code"), "anchored"), (NONE, "replies")):
        tape = recording(Marking("a", result=dated("then")), steps=3, rules=rules)
        attempt, lane = Attempt(tape), Marking("a", result=dated("now"))
        assert levels([attempt.ask(lane) for _ in range(3)]) == ["exact", "prefix", end]


# --- size and speed ---


def test_messages_that_are_equal_are_held_once() -> None:
    tape = recording(Lane("a"), steps=5)
    recorded = tape.recorded()
    first, last = recorded[0].request, recorded[-1].request
    assert first.messages[0] is last.messages[0] and first.rest is last.rest and first.chain[1] is last.chain[1]


@pytest.mark.slow
def test_a_match_takes_less_than_a_millisecond_among_5000_exchanges_in_64_lanes() -> None:
    names = [f"lane-{n:02}-" for n in range(64)]
    lanes = [Lane(name, result=dated("then", 15)) for name in names]
    tape = recording(*lanes, steps=32)
    far = [(f"{key}-{n}", *rest) for n in range(3) for key, *rest in tape.rows[: 1000 if n else 0]]
    recorded = Recorded(map(tape.exchange, [*tape.rows, *far]))  # type: ignore[arg-type]
    again = [Lane(name, result=dated("now", 15)) for name in names]
    order = [lane for lane in again for _ in range(32)]
    random.Random(1).shuffle(order)
    state, spent, asked = State(), 0.0, 0
    answers = tape.answers()
    for lane in order:
        request = request_of("messages", lane.body(), NONE)
        begun = time.process_time()
        found = match(request, recorded, state)
        spent += time.process_time() - begun
        asked += 1
        key = f"{lane.name}{lane.step}"
        assert found.key == key
        state.served(request, recorded.named[key])
        lane.hear(answers[key])
    assert spent / asked < 0.001


# --- real data ---

_FOLDER = Path(__file__).resolve().parents[3] / "shared" / "data" / "benchflow"


def _bodies() -> list[tuple[Any, Any]]:
    """Every well-formed request of the real run, as Claude Code sent it (inside `input`), and the recorded answer."""
    found = []
    for file in sorted(_FOLDER.glob("*/trajectory/llm_trajectory.jsonl")):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            given = row["request"]["body"].get("input")
            if given and row["response"]["status_code"] == 200:
                found.append((json.loads(given[0]["content"]), row["response"]["body"]))
    return found


@pytest.mark.skipif(not _FOLDER.is_dir(), reason=f"no {_FOLDER}: the real run folder is not here")
def test_all_well_formed_requests_of_a_real_run_match_themselves() -> None:
    rules = rules_for("claude-code", "2.1.200")
    rows = _bodies()
    assert len(rows) == 16
    chat, wire, form = PROTOCOLS["chat"], PROTOCOLS["messages"], FORMS["messages"]
    recorded = Recorded(
        Exchange.of(f"k{n}", request_of("messages", body, rules), form.turn(wire.render(chat.parse(answer), "m")))
        for n, (body, answer) in enumerate(rows)
    )
    for order in (list(range(16)), list(range(15, -1, -1))):
        state = State()
        for n in order:
            live = request_of("messages", rows[n][0], rules)
            found = match(live, recorded, state)
            assert (found.key, found.level) == (f"k{n}", "exact")
            state.served(live, recorded.named[f"k{n}"])
    main = [body for body, _ in rows if len(body["tools"]) > 1]
    answers = [answer for body, answer in rows if len(body["tools"]) > 1]
    for answer, after in zip(answers, main[1:], strict=False):
        start, stop = form.runs(after["messages"])[-1]
        assert form.said(form.turn(wire.render(chat.parse(answer), "m"))) == form.said(after["messages"][start:stop])


@pytest.mark.skipif(not _FOLDER.is_dir(), reason=f"no {_FOLDER}: the real run folder is not here")
def test_a_real_run_on_another_day_with_another_result_keeps_its_lanes() -> None:
    rules = rules_for("claude-code", "2.1.200")
    rows = _bodies()
    recorded = Recorded(
        Exchange.of(f"k{n}", request_of("messages", body, rules), []) for n, (body, _) in enumerate(rows)
    )
    state, found = State(), {}
    for n, (body, _) in enumerate(rows):
        changed = json.loads(json.dumps(body).replace("Today's date is 2026-07-26", "Today's date is 2026-08-01"))
        changed["metadata"] = {"user_id": "another"}
        if len(changed["messages"]) > 4:
            changed["messages"][4]["content"][0]["content"] = "another result"
        live = request_of("messages", changed, rules)
        one = match(live, recorded, state)
        assert one.key == f"k{n}"
        state.served(live, recorded.named[one.key])
        found[n] = one.level
    main = [found[n] for n, (body, _) in enumerate(rows) if len(body["tools"]) > 1]
    assert main == ["exact", "exact", "prefix", *["anchored"] * 4]
    assert {found[n] for n, (body, _) in enumerate(rows) if len(body["tools"]) == 1} == {"exact"}
