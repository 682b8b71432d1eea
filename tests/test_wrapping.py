"""A program with its model traffic through us: what it is known by, what it is served, what its end means."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from onward import wrapping
from onward.clock import SystemClock
from onward.config import Flags, Settings, for_child, settings
from onward.errors import Held, UsageError
from onward.journal import SqliteJournal
from onward.lease import claim
from onward.runs import open_run, stored_runs
from onward.testing import Fault, ProviderServer, Request
from onward.views.integrity import integrity
from onward.wrapping import Child, Opening, Terms, Wrapped

KEY = "sk-true-key-0123456789"
ASKING = """
import json, os, sys, urllib.request
from concurrent.futures import ThreadPoolExecutor

def ask(text):
    body = {"model": "gpt-4o-mini", "max_tokens": 16, "messages": [{"role": "user", "content": text}]}
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as reply:
        return json.load(reply)["choices"][0]["message"]["content"]

def all_of(*texts):
    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, texts))
"""


@dataclass
class Bench:
    """A folder with programs in it, and a provider that counts what it answers."""

    folder: Path
    server: ProviderServer
    openings: list[Opening] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def opened(self, opening: Opening) -> None:
        self.openings.append(opening)

    def say(self, line: str) -> None:
        self.said.append(line)

    def settings(self, **limits: Any) -> Settings:
        given = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{self.server.url}/v1"}
        return settings(store=self.folder / "runs", flags=Flags(limits={"attempts": 1, **limits}), environment=given)

    def program(self, text: str, name: str = "program.py") -> tuple[str, ...]:
        (self.folder / name).write_text(f"{ASKING}\n{text}\n")
        return (sys.executable, name)

    def wrap(
        self, command: tuple[str, ...], name: str = "", folder: Path | None = None, limits: Any = None, **terms: Any
    ) -> Wrapped:  # fmt: skip
        child = Child(command, folder or self.folder, name)
        return wrapping.wrap(child, Terms(**terms), self.settings(**(limits or {})), self)

    @property
    def how(self) -> list[str]:
        return [opening.how for opening in self.openings]

    @property
    def calls(self) -> int:
        return len(self.server.calls)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with ProviderServer() as server:
        yield Bench(tmp_path, server)


def read(path: Path) -> Any:
    return json.loads(path.read_text())


# ---------------------------------------------------------------- which go it is


def test_a_program_that_ended_by_itself_begins_anew_and_with_resume_is_served_its_record(bench: Bench) -> None:
    asking = bench.program('print(ask("one"), ask("two"))')
    first, second = bench.wrap(asking), bench.wrap(asking)
    assert (first.paid, first.served, second.paid, second.served, bench.calls) == (2, 0, 2, 0, 4)
    third, fourth = bench.wrap(asking, resume=True), bench.wrap(asking, resume=True)
    assert (third.paid, third.served, fourth.paid, fourth.served, bench.calls) == (0, 2, 0, 2, 4)
    assert bench.how == ["new", "anew", "again", "again"] and bench.openings[2].recorded == 2
    assert len(stored_runs(bench.folder / "runs")) == 1


@pytest.mark.parametrize("code", [0, 1, 77])
def test_its_exit_code_is_its_own_and_any_means_that_it_has_ended(bench: Bench, code: int) -> None:
    asking = bench.program(f'ask("one"); sys.exit({code})')
    ended = bench.wrap(asking)
    assert (ended.code, ended.exit, ended.finished) == (code, code, True)
    bench.wrap(asking)
    assert bench.how == ["new", "anew"] and bench.openings[1].exit == code and bench.calls == 2


@pytest.mark.parametrize(
    "death", ["os.kill(os.getpid(), 9)", "sys.exit(137)"], ids=["killed", "a shell whose command was killed"]
)  # fmt: skip
def test_a_program_that_was_killed_goes_on(bench: Bench, death: str) -> None:
    dying = bench.program(f'ask("one"); ask("two"); os.path.exists("go") or {death}; ask("three")')
    died = bench.wrap(dying)
    assert (died.code, died.finished, died.stopped) == (137, False, "killed by SIGKILL")
    (bench.folder / "go").touch()
    went = bench.wrap(dying)
    assert bench.how == ["new", "on"] and (went.served, went.paid, went.code, bench.calls) == (2, 1, 0, 3)


def test_a_killed_go_over_a_finished_record_goes_on_without_being_told_again(bench: Bench) -> None:
    dying = bench.program('ask("one"); os.path.exists("die") and os.kill(os.getpid(), 9)')
    bench.wrap(dying)
    (bench.folder / "die").touch()
    bench.wrap(dying, resume=True)
    (bench.folder / "die").unlink()
    went = bench.wrap(dying)
    assert bench.how == ["new", "again", "on"] and (went.served, bench.calls) == (1, 1)


def test_new_records_anew_what_was_killed(bench: Bench) -> None:
    dying = bench.program('ask("one"); os.kill(os.getpid(), 9)')
    bench.wrap(dying)
    bench.wrap(dying, new=True)
    assert bench.how == ["new", "anew"] and bench.calls == 2


def test_what_was_left_aside_can_be_had_back_until_something_takes_its_place(bench: Bench) -> None:
    early, late = (f'os.path.exists("{name}") and os.kill(os.getpid(), 9)' for name in ("early", "late"))
    asking = bench.program(f'{early}; print(ask("one"), ask("two")); {late}')
    bench.wrap(asking)
    (bench.folder / "early").touch()
    bench.wrap(asking)
    bench.wrap(asking)
    assert bench.how == ["new", "anew", "new"] and [one.aside for one in bench.openings] == [0, 0, 2]
    (bench.folder / "early").unlink()
    before = sums(bench)
    back, again = bench.wrap(asking, resume=True), bench.wrap(asking, resume=True)
    assert bench.how[3:] == ["back", "again"] and bench.openings[3].recorded == 2
    assert (back.served, back.paid, again.served, again.paid, bench.calls) == (2, 0, 2, 0, 2)
    assert sums(bench) == before and integrity(bench.folder / "runs" / back.run).whole
    (bench.folder / "late").touch()
    bench.wrap(asking)
    on = bench.wrap(asking, resume=True)
    assert bench.how[5:] == ["anew", "on"] and (on.served, on.paid, bench.calls) == (2, 0, 4)


def sums(bench: Bench) -> tuple[float, ...]:
    """What the one run has spent."""
    run = open_run(stored_runs(bench.folder / "runs")[0])
    try:
        return tuple(run.journal.sums().spent)
    finally:
        run.close()


# ---------------------------------------------------------------- by what it is known


def test_it_is_known_by_folder_and_words_or_by_its_name(bench: Bench) -> None:
    asking = bench.program('print(ask("one")); os.kill(os.getpid(), 9)')
    other = bench.folder / "other"
    other.mkdir()
    (other / "program.py").write_text((bench.folder / "program.py").read_text())
    bench.wrap(asking)
    bench.wrap((*asking, "--more"))
    bench.wrap(asking, folder=other)
    assert bench.how == ["new", "new", "new"] and bench.calls == 3
    bench.wrap(asking, name="sweep")
    bench.wrap((*asking, "--more"), name="sweep", folder=other)
    assert bench.how[3:] == ["new", "on"] and bench.calls == 4
    assert {folder.name.rpartition("-")[0] for folder in stored_runs(bench.folder / "runs")} == {
        f"wrap-{Path(sys.executable).name}", "sweep",
    }  # fmt: skip


TALKING = """
def talk(told):
    body = {"model": "gpt-4o-mini", "max_tokens": 16, "messages": [
        {"role": "user", "content": "one"}, {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "date", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": told}]}
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).read()
"""


def test_another_command_under_the_same_name_is_served_equal_requests_alone(bench: Bench) -> None:
    talking = bench.program(f'{TALKING}\nask("one"); talk(sys.argv[1]); os.kill(os.getpid(), 9)')
    bench.wrap((*talking, "monday"), name="same")
    changed = bench.wrap((*talking, "tuesday"), name="same")
    assert (changed.served, changed.paid, bench.calls) == (1, 1, 3)
    again = bench.wrap((*talking, "tuesday"), name="same")
    assert again.served == 2 and bench.calls == 3


@pytest.mark.parametrize(("miss", "served", "paid"), [("warn", 2, 0), ("strict", 1, 0), ("fork", 1, 1)])
def test_another_tool_result_is_a_divergence_and_the_policy_decides(
    bench: Bench, miss: Any, served: int, paid: int
) -> None:  # fmt: skip
    talking = bench.program(f'{TALKING}\nask("one"); talk(open("day").read()); os.kill(os.getpid(), 9)')
    (bench.folder / "day").write_text("monday")
    bench.wrap(talking)
    (bench.folder / "day").write_text("tuesday")
    went = bench.wrap(talking, miss=miss)
    assert (went.served, went.paid, went.report["divergences"]) == (served, paid, 1)
    assert not went.finished and bench.calls == 2 + paid


def test_a_second_one_of_the_same_name_is_refused_while_the_first_runs(bench: Bench) -> None:
    asking = bench.program('ask("one")')
    bench.wrap(asking, name="sweep")
    journal = SqliteJournal(stored_runs(bench.folder / "runs")[0])
    try:
        claim(journal, SystemClock())
        with pytest.raises(Held, match="is being driven by process"):
            bench.wrap(asking, name="sweep")
    finally:
        journal.release()
        journal.close()
    assert bench.calls == 1


# ---------------------------------------------------------------- its calls


def test_calls_in_parallel_each_get_their_own_answer_again(bench: Bench) -> None:
    texts = ", ".join(f'"question {number}"' for number in range(24))
    asking = bench.program(
        f'json.dump(all_of({texts}), open(sys.argv[1], "w")); os.path.exists("go") or os.kill(os.getpid(), 9)'
    )
    bench.wrap((*asking, "first.json"), name="all")
    (bench.folder / "go").touch()
    again = bench.wrap((*asking, "second.json"), name="all")
    assert read(bench.folder / "first.json") == read(bench.folder / "second.json")
    assert (again.served, again.paid, bench.calls) == (24, 0, 24)


def test_equal_calls_are_separate_draws_and_each_is_served_once(tmp_path: Path) -> None:
    with ProviderServer(lambda request: f"draw {request.number}") as server:
        bench = Bench(tmp_path, server)
        asking = bench.program('json.dump(sorted(all_of(*["same"] * 5)), open(sys.argv[1], "w"))')
        bench.wrap((*asking, "first.json"), name="draws")
        bench.wrap((*asking, "second.json"), name="draws", resume=True)
        assert read(tmp_path / "first.json") == read(tmp_path / "second.json") == [f"draw {n}" for n in range(1, 6)]
        assert len(server.calls) == 5


def test_a_retry_of_its_sdk_joins_the_call_that_it_repeats(tmp_path: Path) -> None:
    async def slow(_: Request) -> str:
        while not (tmp_path / "left").exists():
            await asyncio.sleep(0.01)
        return "late"

    with ProviderServer(slow) as server:
        bench = Bench(tmp_path, server)
        retrying = bench.program("""
def once(count, patience):
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "x-stainless-retry-count": count}
    body = {"model": "gpt-4o-mini", "max_tokens": 16, "messages": [{"role": "user", "content": "one"}]}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    return urllib.request.urlopen(request, timeout=patience).read()

try:
    once("0", 0.5)
except TimeoutError:
    open("left", "w").close()
assert b"late" in once("1", 60)
""")
        retried = bench.wrap(retrying)
        assert (retried.code, retried.paid, len(server.requests)) == (0, 1, 1)


def test_a_program_that_gives_up_on_a_provider_that_fails_has_not_ended(tmp_path: Path) -> None:
    with ProviderServer(faults=[Fault("500", times=1, after=1)]) as server:
        bench = Bench(tmp_path, server)
        asking = bench.program('ask("one"); ask("two")')
        gave_up, went = bench.wrap(asking), bench.wrap(asking)
        assert gave_up.code == 1 and not gave_up.finished and "500" in gave_up.stopped
        assert bench.how == ["new", "on"] and (went.code, went.served, went.paid) == (0, 1, 1)
        assert len(server.calls) == 2


def test_a_budget_ends_its_calls_and_a_larger_one_goes_on(bench: Bench) -> None:
    asking = bench.program('[ask(f"question {n}") for n in range(40)]')
    poor = bench.wrap(asking, limits={"budget_usd": 0.0002})
    assert poor.code == 1 and not poor.finished and poor.stopped.startswith("budget: ") and 0 < poor.paid < 40
    rich = bench.wrap(asking, limits={"budget_usd": 1.0})
    assert (rich.code, rich.served, rich.paid, bench.calls) == (0, poor.paid, 40 - poor.paid, 40)


def test_a_program_may_be_forbidden_to_ask_what_is_not_recorded(bench: Bench) -> None:
    asking = bench.program('ask("one"); os.path.exists("more") and ask("two")')
    bench.wrap(asking)
    assert bench.wrap(asking, resume=True, miss="fail").code == 0
    (bench.folder / "more").touch()
    more = bench.wrap(asking, resume=True, miss="fail")
    assert more.code == 1 and not more.finished and "no recorded exchange matches" in more.stopped
    assert bench.calls == 1


def test_a_program_that_makes_no_call_is_told_apart(bench: Bench) -> None:
    silent = bench.wrap(bench.program('print("nothing to ask")'))
    assert silent.silent and silent.code == 1 and "OPENAI_API_KEY" in silent.keys
    assert any(one.startswith("ANTHROPIC_BASE_URL=http://127.0.0.1:") for one in silent.variables)
    assert bench.wrap(bench.program("sys.exit(7)")).code == 7


@pytest.mark.parametrize(
    ("stated", "chat", "messages"),
    [("http://h:1", "http://h:1/v1", "http://h:1"), ("http://h:1/v1/", "http://h:1/v1", "http://h:1"),
     ("http://h/api/v1", "http://h/api/v1", "http://h/api")],
)  # fmt: skip
def test_one_upstream_serves_formats_with_and_without_a_version(stated: str, chat: str, messages: str) -> None:
    made = wrapping._providers(Terms(upstream={"": stated}), Settings())
    assert (made["openai"].base_url, made["anthropic"].base_url) == (chat, messages)
    assert made["openai-responses"].base_url == chat and made["google"].base_url == messages


def test_formats_may_have_an_upstream_of_their_own_and_its_key(bench: Bench) -> None:
    found = settings(environment={"MINE": "x", "MINE_KEY": "sk-mine"})
    made = wrapping._providers(Terms(upstream={"messages": bench.server.url}, key_name="MINE_KEY"), found)
    assert list(made) == ["anthropic"] and made["anthropic"].key_name == "MINE_KEY"


EVERY_FORMAT = """
def post(url, header, body):
    headers = {header: os.environ["MINE_KEY"], "anthropic-version": "2023-06-01", "Content-Type": "application/json"}
    urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).read()

said = [{"role": "user", "content": "one"}]
post(os.environ["OPENAI_BASE_URL"] + "/chat/completions", "api-key", {"model": "m", "messages": said})
post(os.environ["OPENAI_BASE_URL"] + "/responses", "api-key", {"model": "m", "input": said})
post(os.environ["ANTHROPIC_BASE_URL"] + "/v1/messages", "x-api-key", {"model": "m", "max_tokens": 9, "messages": said})
post(os.environ["GOOGLE_GEMINI_BASE_URL"] + "/v1beta/models/m:generateContent", "x-goog-api-key",
     {"contents": [{"role": "user", "parts": [{"text": "one"}]}]})
"""


def test_all_four_formats_reach_one_upstream_with_its_key_and_are_served_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("MINE_KEY", KEY)
    command = bench.program(EVERY_FORMAT)
    terms = Terms(upstream={"": bench.server.url}, key_name="MINE_KEY")
    found = settings(store=bench.folder / "runs", environment={"MINE_KEY": KEY})
    asked = wrapping.wrap(Child(command, bench.folder), terms, found, bench)
    served = wrapping.wrap(Child(command, bench.folder), replace(terms, resume=True), found, bench)
    assert (asked.code, asked.paid, served.code, served.served, bench.calls) == (0, 4, 0, 4, 4)
    assert {call.protocol for call in bench.server.calls} == set(wrapping.FORMATS)
    assert all(KEY in str(request.headers) for request in bench.server.requests)
    assert "MINE_KEY" in asked.keys


# ---------------------------------------------------------------- keys


def test_the_true_key_is_neither_in_its_environment_nor_in_the_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("MY_HEADER", f"Authorization: Bearer {KEY}")
    monkeypatch.setenv("KEPT", "as it was")
    asking = bench.program('ask("one"); json.dump(dict(os.environ), open("environment.json", "w"))')
    assert bench.wrap(asking).code == 0
    told = read(bench.folder / "environment.json")
    assert KEY not in str(told) and told["KEPT"] == "as it was" and told["OPENAI_API_KEY"].startswith("onward-")
    assert told["LLM_BASE_URL"] == told["OPENAI_BASE_URL"] == f"{told['ANTHROPIC_BASE_URL']}/v1"
    assert bench.server.requests[0].headers["authorization"] == f"Bearer {KEY}"
    for path in (bench.folder / "runs").rglob("*"):
        assert not path.is_file() or KEY.encode() not in path.read_bytes()
    run = open_run(stored_runs(bench.folder / "runs")[0])
    try:  # unpacked: what lies in files is compressed
        said = [str(dict(entry.data)) for entry in run.entries("", ("plan", "intent", "result", "served", "void"))]
    finally:
        run.close()
    assert "one" in "".join(said) and not any(KEY in each for each in said)


def test_a_key_among_its_words_is_refused_before_anything_is_written(bench: Bench) -> None:
    with pytest.raises(UsageError, match="holds the value of OPENAI_API_KEY"):
        bench.wrap(("curl", "-H", f"Authorization: Bearer {KEY}"))
    assert not (bench.folder / "runs").exists()


def test_what_a_child_sends_to_this_machine_goes_through_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "intranet")
    assert for_child({}, ())["NO_PROXY"] == "intranet,127.0.0.1,localhost"
    assert "PATH" in for_child({}, ()) and os.environ["NO_PROXY"] == "intranet"


# ---------------------------------------------------------------- the run it is


def test_it_is_a_run_like_any_other_with_its_exchanges_under_one_step(bench: Bench) -> None:
    made = bench.wrap(bench.program('ask("one")'))
    run = open_run(made.folder)
    try:
        keys = {entry.key for entry in run.entries(kinds=("result",))}
        assert any(key.startswith("wrap/command/1/generate/0/llm:") for key in keys)
        [value] = [entry.value for entry in run.entries(kinds=("result",)) if entry.key == "wrap/command/1/generate/0"]
        assert value["exit"] == 0 and value["exchanges"]["paid"] == 1
        assert list(run.journal.check()) == [] and run.standings() == {"wrap/command/1": "settled"}
    finally:
        run.close()


def test_of_an_address_only_what_is_nobodys_secret_is_kept() -> None:
    terms = Terms(upstream={"": "https://me:pass@h:8/v1?key=k#f", "chat": "http://other"}, key_name="NAME")
    assert terms.words == ("--upstream", "https://h:8/v1", "--upstream", "chat=http://other", "--key-name", "NAME")
    assert Terms().words == ()
