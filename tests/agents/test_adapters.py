"""What adapters make of what they are told, without any agent being there."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from tests.agents.rig import PUBLISHED, SESSION, bubblewrap, run, stage

from onward.agents import AGENTS, Go, Installed, agent
from onward.errors import UsageError
from onward.gateway.normalisers import GENERIC, rules_for
from onward.protocols import PROTOCOLS
from onward.sandbox import Ran
from onward.testing import ProviderServer

TOLD = Go("- do it", "mock-1", "http://127.0.0.1:8399", "onward-token", "/home/agent", "/work", SESSION)


def told(**changes: Any) -> Go:
    return Go(**{**{name: getattr(TOLD, name) for name in Go.__slots__}, **changes})


def installed(name: str) -> Installed:
    return Installed(agent(name).version, ("/agent",))


def launched(name: str, **changes: Any) -> tuple[str, Any]:
    """Everything that reaches the sandbox, as one text; and the launch."""
    launch = agent(name).launch(installed(name), told(**changes))
    files = b"\n".join(launch.files.values()).decode()
    return "\n".join([*launch.command, *(f"{k}={v}" for k, v in launch.env.items()), files]), launch


@pytest.mark.parametrize("name", AGENTS)
def test_every_agent_says_what_it_is(name: str) -> None:
    adapter = agent(name)
    assert adapter.name == name and adapter.summary
    assert set(adapter.protocols) <= set(PROTOCOLS) and bool(adapter.protocols) == adapter.asks


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_agent_is_pinned_and_has_rules_of_its_own(name: str) -> None:
    assert rules_for(name, agent(name).version) is not GENERIC


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_agent_is_told_address_key_model_and_what_to_do(name: str) -> None:
    text, launch = launched(name)
    assert TOLD.url in text and TOLD.token in text and TOLD.model in text
    assert TOLD.instruction in f"{launch.stdin.decode()}\n{text}"
    assert all(path.startswith((TOLD.home, "/")) and not path.startswith(TOLD.workdir) for path in launch.files)


@pytest.mark.parametrize("name", PUBLISHED)
def test_more_arguments_and_environment_come_last(name: str) -> None:
    _, launch = launched(name, options={"args": ["--more", "x"], "env": {"HOW": "so"}})
    assert launch.command[-2:] == ("--more", "x") and launch.env["HOW"] == "so"


@pytest.mark.parametrize("name", PUBLISHED)
def test_two_starts_of_one_trial_are_told_the_same(name: str) -> None:
    assert launched(name) == launched(name)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("codex", {"arg": ["x"]}, 'Did you mean "args"'),
        ("codex", {"args": "x"}, "args is a list of texts"),
        ("codex", {"env": {"A": 1}}, "env is names and texts"),
        ("codex", {"version": 2.1}, "version is a text"),
        ("command", {}, "command is a list of arguments or a text"),
        ("command", {"command": "  "}, "command is a list of arguments or a text"),
        ("command", {"command": ["true"], "instruction": "mail"}, "argument, stdin, environment"),
        ("command", {"command": ["true"], "binds": ["here"]}, "absolute paths"),
        ("command", {"command": ["true"], "binds": ["/no/such/place"]}, "/no/such/place is not there"),
    ],
)
def test_what_an_agent_does_not_take_is_refused_in_words(name: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        agent(name).check(options)
    assert said in str(refused.value)


def test_an_unknown_agent_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(UsageError, match='Did you mean "claude-code"'):
        agent("claude-cod")


def test_what_an_agent_is_counts_and_where_it_is_does_not() -> None:
    options = {"command": ["true"], "binds": ["/usr"], "version": "3", "env": {"A": "b"}}
    assert agent("command").identity(options) == {"command": ["true"], "env": {"A": "b"}}
    assert agent("command").find(Path(), options).version == "3"  # type: ignore[union-attr]
    assert agent("oracle").identity({"command": "solve.sh"}) == {}


def test_claude_code_is_given_one_model_for_all_its_sizes_unless_it_is_one_of_anthropic_s() -> None:
    assert launched("claude-code")[1].env["ANTHROPIC_DEFAULT_HAIKU_MODEL"] == "mock-1"
    assert "ANTHROPIC_DEFAULT_HAIKU_MODEL" not in launched("claude-code", model="claude-sonnet-4-5")[1].env


def test_codex_s_configuration_holds_any_model_s_name() -> None:
    _, launch = launched("codex", model='vendor/"odd"\\name é')
    written = tomllib.loads(launch.files["/home/agent/.codex/config.toml"].decode())
    assert written["model"] == 'vendor/"odd"\\name é'
    assert written["model_providers"]["onward"]["base_url"] == "http://127.0.0.1:8399/v1"


@pytest.mark.parametrize(("protocol", "model"), [("", "openai/m"), ("chat", "openai/m"), ("messages", "anthropic/m")])
def test_agents_over_litellm_ask_in_the_format_that_the_provider_speaks(protocol: str, model: str) -> None:
    assert f"--model={model}" in launched("mini-swe-agent", model="m", protocol=protocol)[1].command


def said(out: str) -> Ran:
    return Ran(0, out, "", 1.0)


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("claude-code", 'noise\n{"type": "result", "result": "the end"}\n'),
        ("codex", '{"type":"x","item":{"type":"agent_message","text":"the end"}}\n{"type":"turn.completed"}\n'),
        ("gemini-cli", 'noise\n{\n "response": "the end"\n}\n'),
        ("opencode", '{"type":"text","part":{"text":"the end"}}\n{"type":"step_finish","part":{}}\n'),
        ("command", "the end\n"),
    ],
)
def test_what_an_agent_said_last_is_read_from_its_output(name: str, out: str) -> None:
    assert agent(name).final(said(out)) == "the end"


@pytest.mark.parametrize("name", AGENTS)
@pytest.mark.parametrize("out", ["", "null", "[]\n", '{"item": 3}\n{"result"', "{}\n"])
def test_output_that_is_cut_or_odd_is_given_as_it_is(name: str, out: str) -> None:
    assert agent(name).final(said(out)) == out.strip()


# ---------------------------------------------------------------- any program

ASKING = """
import json, os, sys, urllib.request
ways = {
    "chat": ("OPENAI_BASE_URL", "/chat/completions", {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}),
    "responses": ("OPENAI_BASE_URL", "/responses", {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}),
    "messages": ("ANTHROPIC_BASE_URL", "/v1/messages", {"x-api-key": os.environ["ANTHROPIC_API_KEY"]}),
    "gemini": ("GOOGLE_GEMINI_BASE_URL", "/v1beta/models/m:generateContent",
               {"x-goog-api-key": os.environ["GEMINI_API_KEY"]}),
}
for name, (variable, path, headers) in ways.items():
    said = [{"role": "user", "content": name}]
    body = {"model": os.environ["ONWARD_MODEL"], "messages": said, "input": said, "max_tokens": 9,
            "contents": [{"role": "user", "parts": [{"text": name}]}]}
    body = {key: body[key] for key in {"responses": ("model", "input"), "gemini": ("contents",)}.get(
        name, ("model", "messages", "max_tokens"))}
    headers = {**headers, "content-type": "application/json"}
    asked = urllib.request.Request(os.environ[variable] + path, json.dumps(body).encode(), headers)
    print(name, urllib.request.urlopen(asked).status)
print(json.dumps([sys.argv[1:], sys.stdin.read(), os.environ.get("ONWARD_INSTRUCTION")]))
"""


@pytest.mark.parametrize(
    ("way", "heard"),
    [("argument", [["- do it"], "", "- do it"]), ("stdin", [[], "- do it", "- do it"]),
     ("environment", [[], "", "- do it"])],
)  # fmt: skip
def test_a_command_asks_in_all_formats_and_hears_what_to_do(way: str, heard: list[Any]) -> None:
    bubblewrap()
    options = {"command": ["python3", "-c", ASKING], "instruction": way}
    adapter = agent("command")
    adapter.check(options)

    async def go() -> None:
        async with stage(ProviderServer()) as on:
            played = await on.play(adapter, Installed("", ()), options, instruction="- do it")
            assert played.ran.code == 0, played.ran.err
            *asked, last = played.final.splitlines()
            assert asked == [f"{name} 200" for name in ("chat", "responses", "messages", "gemini")]
            assert json.loads(last) == heard
            assert [request.protocol for request in on.server.requests] == [line.split()[0] for line in asked]

    run(go())


def test_a_command_may_be_a_text_for_the_shell() -> None:
    bubblewrap()

    async def go() -> None:
        async with stage(ProviderServer()) as on:
            options = {"command": 'echo "$1" | tee said; test "$ONWARD_INSTRUCTION" = "$1"'}
            played = await on.play(agent("command"), Installed("", ()), options, instruction="$(id) 'x'")
            assert (played.ran.code, played.files) == (0, {"said": "$(id) 'x'\n"})

    run(go())


def test_gemini_cli_is_given_by_stdin_what_is_too_long_for_an_argument_alone() -> None:
    """It waits for its stdin for half a second: an argument cannot come too late."""
    short, long = "-x do it", "do it " * 50_000
    launched = agent("gemini-cli").launch(Installed("0.61.0", ("gemini",)), told(instruction=short))
    assert launched.command[-1] == f"--prompt={short}" and not launched.stdin
    launched = agent("gemini-cli").launch(Installed("0.61.0", ("gemini",)), told(instruction=long))
    assert launched.stdin == long.encode() and not any("do it" in word for word in launched.command)


def test_an_instruction_too_long_for_an_argument_goes_by_stdin_and_is_else_refused_in_words() -> None:
    bubblewrap()
    long = "x" * 200_000
    with pytest.raises(UsageError, match="instruction: stdin"):
        agent("command").launch(Installed("", ()), told(instruction=long, options={"command": ["true"]}))

    async def go() -> None:
        async with stage(ProviderServer()) as on:
            options = {"command": "wc -c", "instruction": "stdin"}
            played = await on.play(agent("command"), Installed("", ()), options, instruction=long)
            assert played.final == "200000"

    run(go())


def test_the_oracle_runs_the_task_s_command_and_is_shown_no_key() -> None:
    launch = agent("oracle").launch(Installed("", ()), told(options={"command": "bash /solution/solve.sh"}))
    assert launch.command[:3] == ("/bin/sh", "-c", "bash /solution/solve.sh") and not launch.env
