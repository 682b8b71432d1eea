"""BenchFlow's run folders are read whatever is wrong with them, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.benchflow import RESULT, START, Episode, at, completion, folder, lines_of, openhands, refused, row
from tests.house import quick_folder

from onward.errors import UsageError
from onward.formats.benchflow import Recording, find_folders, findings, read, recording
from onward.formats.benchflow.answers import answer_in, usage_of
from onward.formats.benchflow.redaction import damages
from onward.formats.benchflow.rows import row_of


def standings(recording: Recording) -> list[tuple[int, str]]:
    return [(one.row.line, one.standing) for one in recording.exchanges]


def kinds(recording: Recording) -> set[str]:
    return {one.kind for one in findings(recording)}


def said(recording: Recording, kind: str) -> str:
    """What one finding of this kind says, and what follows."""
    found = next(one for one in findings(recording) if one.kind == kind)
    return f"{found.what} — {found.then}"


# ---------------------------------------------------------------- what is there


def test_a_timed_out_run_is_read_with_what_it_was_and_came_to(tmp_path: Path) -> None:
    found = read(folder(tmp_path, Episode().rows))
    assert (found.agent, found.task, found.model) == ("claude-agent-acp", "write-file", "claude-sonnet-4-6")
    assert (found.timed_out, found.limit, found.took, found.usd) == (True, 60.0, 60.0, 0.3)
    assert (found.rewards, found.prompts, found.missing) == ({"reward": 0.0}, ("Write the file.",), [])
    assert standings(found) == [(1, "consumed"), (2, "consumed"), (3, "last")]
    assert kinds(found) == set()


def test_the_original_body_is_what_was_asked(tmp_path: Path) -> None:
    episode = Episode(1)
    found = read(folder(tmp_path, episode.rows)).exchanges[0].row
    assert found.whole
    assert found.request["system"] == "You work."
    assert found.request["max_tokens"] == 1000


def test_of_chat_completions_a_part_is_recorded_and_that_is_said(tmp_path: Path) -> None:
    found = read(folder(tmp_path, openhands(), config={"agent": "openhands", "model": "deepseek-v4"}))
    assert standings(found) == [(1, "consumed"), (2, "consumed"), (3, "last")]
    first = found.exchanges[0].row
    assert (first.protocol, first.whole, "temperature" in first.request) == ("chat", False, False)
    assert "all 3 lines hold a part of the request alone" in said(found, "partial request")


def test_the_zone_of_the_recorders_clock_is_told_by_the_providers_times(tmp_path: Path) -> None:
    assert read(folder(tmp_path, Episode().rows)).zone == 3600


def test_a_run_without_a_category_timed_out_if_it_says_so(tmp_path: Path) -> None:
    old = {"error_category": None, "error": "Agent timed out after 900s"}
    assert read(folder(tmp_path / "a", Episode().rows, result=old)).timed_out
    assert not read(folder(tmp_path / "b", Episode().rows, result={"error_category": None, "error": None})).timed_out


def test_folders_are_found_below_a_root(tmp_path: Path) -> None:
    made = [folder(tmp_path / name / f"{name}__1", Episode(1).rows) for name in ("b", "a")]
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "config.json").write_text("{}")
    assert list(find_folders(tmp_path)) == sorted(made)
    assert list(find_folders(made[0])) == [made[0]]


# ---------------------------------------------------------------- what became of each answer


def test_lines_are_put_in_the_order_in_which_they_were_asked(tmp_path: Path) -> None:
    one, two, three = Episode().rows
    found = read(folder(tmp_path, [two, one, three]))
    assert [line for line, _ in standings(found)] == [2, 1, 3]
    assert "lines 1 and 2" in said(found, "out of order")


def test_equal_times_keep_the_files_order_and_are_told(tmp_path: Path) -> None:
    rows = Episode().rows
    rows[1]["request"]["timestamp"] = rows[0]["request"]["timestamp"]
    found = read(folder(tmp_path, rows))
    assert [line for line, _ in standings(found)] == [1, 2, 3]
    assert "lines 1, 2 were asked at the same moment" in said(found, "equal times")


def test_a_line_without_a_time_stays_behind_the_one_before(tmp_path: Path) -> None:
    rows = Episode().rows
    rows[1]["request"]["timestamp"] = rows[1]["response"]["timestamp"] = None
    found = read(folder(tmp_path, rows))
    assert [line for line, _ in standings(found)] == [1, 2, 3]
    assert "line" in said(found, "no time")


def test_an_error_at_the_tail_is_left_out_and_one_in_the_middle_is_not(tmp_path: Path) -> None:
    episode = Episode()
    middle = refused(episode.body, 5.0, said="400: {'error': 'no such model'}")
    tail = refused(episode.body, 90.0, said="rate limited")
    found = read(folder(tmp_path, [*episode.rows[:1], middle, *episode.rows[1:], tail]))
    assert standings(found) == [(1, "consumed"), (2, "error"), (3, "consumed"), (4, "consumed"), (5, "tail error")]
    assert [one.row.line for one in found.served] == [1, 2, 3, 4]
    assert "served again with status 400" in said(found, "error in the middle")
    assert "rate limited" in said(found, "error at the tail") and "left out" in said(found, "error at the tail")


def test_the_true_status_of_a_refusal_is_read_from_its_trace(tmp_path: Path) -> None:
    line = refused(Episode(1).body, 0.0)
    trace = "Traceback …\n  raise Error\nlitellm.ProxyModelNotFoundError: 400: {'error': 'no such model'}\n"
    line["response"]["body"]["error"] = {"type": "NoneType", "message": "None", "traceback": trace}
    found = row_of(1, json.dumps(line).encode(), "claude-agent-acp")
    assert (found.status, found.said_status, found.refusal) == (500, 400, "400: {'error': 'no such model'}")
    assert found.protocol == "messages"  # though it is filed under another path


def test_an_answer_that_came_after_the_agent_had_asked_again_is_left_out(tmp_path: Path) -> None:
    rows = Episode().rows
    late = json.loads(json.dumps(rows[1]))
    late["response"]["body"] = completion("Another step.", ("toolu_late", "Bash", {"command": "rm -rf"}))
    late["request"]["timestamp"], late["response"]["timestamp"] = at(9.0), at(12.0)
    found = read(folder(tmp_path, [rows[0], late, *rows[1:]]))
    assert standings(found) == [(1, "consumed"), (2, "late"), (3, "consumed"), (4, "last")]
    assert "the other answer was used" in said(found, "late answer")


def test_an_answer_that_the_agent_rewrote_is_served_all_the_same(tmp_path: Path) -> None:
    rows = Episode().rows
    rows[1]["response"]["body"] = completion("Quite another thing.")
    found = read(folder(tmp_path, rows))
    assert standings(found) == [(1, "consumed"), (2, "unseen"), (3, "last")]
    assert len(found.served) == 3
    assert "in no later request" in said(found, "unseen answer")


@pytest.mark.parametrize("body", [{}, {"choices": []}, {"choices": [{"message": None}]}, {"choices": "?"}])
def test_an_exchange_without_an_answer_is_asked_again(tmp_path: Path, body: dict[str, Any]) -> None:
    rows = Episode().rows
    rows[2]["response"] = {"timestamp": None, "status_code": None, "headers": {}, "body": body}
    found = read(folder(tmp_path, rows))
    assert standings(found)[-1] == (3, "in flight")
    assert "never served" in said(found, "in flight")


def test_side_calls_are_lanes_of_their_own(tmp_path: Path) -> None:
    rows = Episode().rows
    for n in range(2):
        asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": f"Search for {n}"}]}
        rows.insert(1, row(asked, completion(f"Nothing about {n}."), 5.0 + n, 3.0))
    found = read(folder(tmp_path, rows))
    assert [one.lane for one in found.exchanges] == [0, 1, 2, 0, 0]
    assert "2 exchanges in 2 conversations beside the main one, up to 2 of them at a time" in said(found, "side calls")


def test_a_conversation_is_one_lane_though_the_agent_says_another_time(tmp_path: Path) -> None:
    rows = openhands()
    for n, one in enumerate(rows):
        one["request"]["body"]["messages"][0] = {"role": "system", "content": f"It is 2026-07-26T21:0{n}:17.123456."}
    found = read(folder(tmp_path, rows, config={"agent": "openhands"}))
    assert [one.lane for one in found.exchanges] == [0, 0, 0]


def test_a_side_calls_answer_in_a_tools_result_was_used(tmp_path: Path) -> None:
    episode = Episode()
    long = "The web says that the answer is to be found in many a place, and above all in this one sentence here."
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Search"}]}
    later = json.loads(episode.rows[1]["request"]["body"]["input"][0]["content"])
    later["messages"][-1]["content"][0]["content"] = f"Results: {long}"
    rows = [episode.rows[0], row(asked, completion(long), 5.0), row(later, completion("Done."), 10.0)]
    assert standings(read(folder(tmp_path, rows)))[1] == (2, "consumed")


# ---------------------------------------------------------------- answers in the agent's own format


def test_an_answer_is_a_message_again_with_ids_arguments_and_counts() -> None:
    usage = {
        "completion_tokens": 113, "prompt_tokens": 31498, "total_tokens": 31611, "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 30000, "completion_tokens_details": {"reasoning_tokens": 17},
    }  # fmt: skip
    answer = completion("I read it.", ("toolu_1", "Read", {"file": "a"}), usage=usage, thinking="Let me see.")
    line = row_of(1, json.dumps(row(Episode(1).body, answer, 0.0)).encode(), "claude-agent-acp")
    found = answer_in(line)
    assert found is not None
    assert found["content"] == [
        {"type": "thinking", "thinking": "Let me see.", "signature": "c2lnbmVk"},
        {"type": "text", "text": "I read it."},
        {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": {"file": "a"}},
    ]
    assert found["stop_reason"] == "tool_use"
    assert found["usage"] == {
        "input_tokens": 498, "cache_creation_input_tokens": 30000, "cache_read_input_tokens": 1000,
        "output_tokens": 113,
    }  # fmt: skip
    used = usage_of(line.response)
    assert (used.input, used.output, used.cached, used.reasoning) == (31498, 113, 1000, 17)


def test_thinking_is_given_where_the_agent_was_given_it_and_nowhere_else(tmp_path: Path) -> None:
    found = read(folder(tmp_path, Episode(thinking=True).rows))
    assert [one.thinking for one in found.exchanges] == [False, False, True]
    kept = answer_in(found.exchanges[0].row, thinking=found.exchanges[0].thinking)
    assert kept is not None and [block["type"] for block in kept["content"]] == ["text", "tool_use"]


def test_what_the_provider_itself_searched_stands_before_what_it_said() -> None:
    answer = completion("It is so.", ("srvtoolu_1", "web_search", {"query": "?"}))
    results = [{"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}]
    answer["choices"][0]["message"]["provider_specific_fields"] = {"web_search_results": results}
    answer["choices"][0]["finish_reason"] = "stop"
    found = answer_in(row_of(1, json.dumps(row(Episode(1).body, answer, 0.0)).encode(), "claude-agent-acp"))
    assert found is not None
    assert [block["type"] for block in found["content"]] == ["server_tool_use", "web_search_tool_result", "text"]
    assert found["stop_reason"] == "end_turn"


def test_a_chat_answer_is_given_as_it_is(tmp_path: Path) -> None:
    rows = openhands(1)
    found = read(folder(tmp_path, rows, config={"agent": "openhands"}))
    assert answer_in(found.exchanges[0].row) == rows[0]["response"]["body"]


def test_counts_that_leave_out_the_cache_are_made_whole() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 40}}
    assert usage_of({"usage": usage}).input == 43


# ---------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"request": {"timestamp": "2026', "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[1, 2]", "no JSON object but list"),
        (b'{"request": null}', "no request body"),
        (b'{"request": {"body": []}, "response": {}}', "no request body"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"request": {"body": {"model": "m", "seed": 1e999}}}', ""),
        (b'{"request": {"body": {"model": "m", "seed": 99999999999999999999999}}}', "cannot be kept"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_shifts_no_other(tmp_path: Path, line: bytes, why: str) -> None:
    rows = Episode().rows
    found = read(folder(tmp_path, [rows[0], line, *rows[1:]]))
    whole = read(folder(tmp_path / "whole", rows))
    assert [one.row.request for one in found.served] == [one.row.request for one in whole.served]
    if why:
        assert [one.row.line for one in found.exchanges] == [1, 3, 4, 2]
        assert why in said(found, "unreadable line")


def test_a_truncated_last_line_is_named(tmp_path: Path) -> None:
    content = lines_of(Episode().rows)
    found = read(folder(tmp_path, content[:-40]))
    assert standings(found) == [(1, "consumed"), (2, "last"), (3, "unparsable")]
    assert "line 3 cannot be read" in said(found, "unreadable line")


def test_code_that_redaction_broke_is_damage_and_said_with_its_place(tmp_path: Path) -> None:
    rows = Episode(commands=["cat > a.py <<E\ntoken = ***REDACTED***\nE"]).rows
    found = read(folder(tmp_path, rows))
    [gravest, *_] = findings(found)
    assert (gravest.kind, gravest.gravity, gravest.lines) == ("redacted answer", "damage", (1,))
    assert "tool_calls[0].function.arguments.command" in gravest.what and "token = ***REDACTED***" in gravest.what
    assert "redacted request" in kinds(found)  # its echo in the requests that follow


def test_damage_is_found_inside_json_in_text() -> None:
    [found] = damages({"arguments": json.dumps({"code": ['x = ***REDACTED***"']})})
    assert (found.path, found.text) == ("arguments.code[0]", 'x = ***REDACTED***"')


@pytest.mark.parametrize("without", ["result.json", "prompts.json", "timing.json", "trajectory/llm_trajectory.jsonl"])
def test_a_file_that_is_not_there_is_said_to_be_missing(tmp_path: Path, without: str) -> None:
    found = read(folder(tmp_path, Episode().rows, without=[without]))
    assert found.missing == [without]
    assert f"{without} is not there" in said(found, "missing file")


def test_a_run_whose_host_died_has_no_end_and_its_answers_are_there(tmp_path: Path) -> None:
    found = read(folder(tmp_path, Episode().rows, without=["result.json", "prompts.json", "timing.json"]))
    assert (found.finished, found.timed_out, found.usd, len(found.served)) == (False, False, None, 3)


def test_an_empty_trajectory_is_said_to_be_empty(tmp_path: Path) -> None:
    found = read(folder(tmp_path, b""))
    assert found.exchanges == ()
    assert "nothing can be served again" in said(found, "no exchanges")


def test_a_missing_config_is_made_up_for_by_the_result(tmp_path: Path) -> None:
    found = read(folder(tmp_path, Episode().rows, without=["config.json"]))
    assert (found.agent, found.limit) == ("claude-agent-acp", None)
    assert "say --timeout" in said(found, "missing file")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda place: None, "is no folder"),
        (lambda place: place.mkdir(), "neither config.json nor result.json nor"),
        (lambda place: folder(place, [], config=b"{", without=["result.json"]), "does not say which agent worked"),
        (lambda place: folder(place, [], config={"agent": None}, result={"agent": ""}), "agent"),
    ],
)  # fmt: skip
def test_what_is_no_run_folder_is_refused_and_says_what_to_name(tmp_path: Path, made: Any, message: str) -> None:
    made(tmp_path / "x")
    with pytest.raises(UsageError, match=message):
        read(tmp_path / "x")


def test_links_are_not_followed_and_what_is_too_large_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = folder(tmp_path / "in", Episode(1).rows)
    (tmp_path / "secret").write_text("out of the folder")
    (place / "link.txt").symlink_to(tmp_path / "secret")
    (place / "core").write_bytes(b"x" * 5000)
    monkeypatch.setattr(recording, "_LARGEST", 4096)
    found = read(place)
    assert {"link.txt", "core"} & set(found.content) == set()
    assert len(found.rows) == 1
    told = [one.what for one in findings(found) if one.kind == "unreadable file"]
    assert any("link.txt: it is a link" in what for what in told) and any("core: it is over" in what for what in told)


def test_rewards_are_found_wherever_they_are(tmp_path: Path) -> None:
    none = {"rewards": None}
    rows = Episode(1).rows
    assert read(folder(tmp_path / "a", rows, result=none)).rewards == {"reward": 0.0}
    assert read(folder(tmp_path / "b", rows, result=none, without=["verifier/reward.txt"])).rewards == {"reward": 0.0}
    gone = ["verifier/reward.txt", "rewards.jsonl"]
    assert read(folder(tmp_path / "c", rows, result=none, without=gone)).rewards is None
    place = folder(tmp_path / "d", rows, result=none)
    (place / "verifier" / "reward.json").write_text('{"reward": 0.5, "note": "half", "style": 1}')
    assert read(place).rewards == {"reward": 0.5, "style": 1.0}


def test_a_huge_line_is_read_like_any_other(tmp_path: Path) -> None:
    rows = Episode().rows
    rows[2]["response"]["body"]["choices"][0]["message"]["content"] = "x" * 5_000_000
    found = read(folder(tmp_path, rows))
    assert standings(found)[-1] == (3, "last")


def test_a_line_separator_inside_a_text_ends_no_line(tmp_path: Path) -> None:
    rows = Episode().rows
    rows[0]["response"]["body"]["choices"][0]["message"]["content"] = "one\u2028two\x85three"
    content = b"\n".join(json.dumps(one, ensure_ascii=False).encode() for one in rows)
    assert len(read(folder(tmp_path, content)).rows) == 3


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_GARBAGE = st.one_of(st.binary(max_size=40), _JSON.map(lambda value: json.dumps(value).encode())).map(
    lambda line: line.replace(b"\n", b" ")
)


@given(st.lists(st.tuples(st.integers(0, 3), _GARBAGE), max_size=6))
def test_whatever_stands_between_the_lines_the_rest_is_read_the_same(garbage: list[tuple[int, bytes]]) -> None:
    rows: list[Any] = list(Episode().rows)
    expected = [json.dumps(one).encode() for one in rows]
    for place, line in garbage:
        rows.insert(place, line)
    with quick_folder() as place_:
        found = read(folder(place_, rows))
        assert [one.row.raw for one in found.served] == expected
        findings(found)


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, item in inner for place in _places(item, (*path, name)))]


@given(st.data())
def test_wrong_types_anywhere_are_survived(data: st.DataObject) -> None:
    line = Episode(2).rows[1]
    line["request"]["body"].pop("input")
    document = {"rows": [line], "result": json.loads(json.dumps(RESULT)), "config": {"agent": "claude-agent-acp"}}
    path = data.draw(
        st.sampled_from([place for place in _places(document) if len(place) > 2 or place[:1] == ("result",)])
    )
    if len(path) > 1:
        parent: Any = document
        for name in path[:-1]:
            parent = parent[name]
        parent[path[-1]] = data.draw(_JSON)
    with quick_folder() as place:
        found = read(folder(place, document["rows"], config=document["config"], result=document["result"]))
        findings(found)
        for one in found.served:
            answer_in(one.row)


# ---------------------------------------------------------------- the real one


@pytest.fixture
def real(shared_data: Path) -> Path:
    found = sorted((shared_data / "benchflow").glob("*/config.json"))
    if not found:
        pytest.skip(f"no run folder of BenchFlow's in {shared_data}")
    return found[0].parent


def test_the_real_folder_is_read_as_the_facts_say(real: Path) -> None:
    found = read(real)
    assert (len(found.rows), len(found.served), found.zone) == (18, 18, 3600)
    assert [one.row.line for one in found.exchanges] == [1, 3, 2, 4, 5, 7, 6, 8, 9, 11, 10, 12, 13, 14, 16, 15, 17, 18]
    assert sum(one.row.whole for one in found.exchanges) == 16
    assert [one.standing for one in found.exchanges].count("consumed") == 15
    assert found.tokens == (410631, 13113)
    lanes = [one.lane for one in found.exchanges if one.row.whole]
    assert lanes.count(0) == 7 and len(set(lanes)) == 10
    told = {one.kind: one for one in findings(found)}
    assert told["out of order"].lines == (2, 3, 6, 7, 10, 11, 15, 16)
    assert told["redacted request"].lines == (1, 3, 5, 9, 13, 17, 18)
    assert told["redacted answer"].lines == (12,)
    assert "Authorization: ***REDACTED***" in told["redacted answer"].what
    errors = [one for one in findings(found) if one.kind == "error in the middle"]
    assert [one.lines for one in errors] == [(2,), (4,)]
    assert all("status 400" in one.then for one in errors)
    assert min(one.row.response["created"] for one in found.exchanges if one.row.is_answer) == START
