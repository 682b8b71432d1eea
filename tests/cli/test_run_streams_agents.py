"""`onward run --stream` while agents work: a line for each exchange, however many episodes are under way."""

from __future__ import annotations

import json
import re

import pytest
from tests.agents.rig import bubblewrap
from tests.cli.console import Shell

from onward.testing import Fault, ProviderServer, Request, Script

AGENT = """
import json, os, urllib.request
told = os.environ["ONWARD_INSTRUCTION"]
said = [{"role": "user", "content": told}]
tools = [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}]

def ask(said):
    body = json.dumps({"model": "m", "messages": said, "tools": tools}).encode()
    headers = {"authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "content-type": "application/json"}
    asked = urllib.request.Request(os.environ["OPENAI_BASE_URL"] + "/chat/completions", body, headers)
    return json.load(urllib.request.urlopen(asked))["choices"][0]["message"]

if os.environ.get("TITLED"):
    ask([{"role": "user", "content": "A title for: " + told}])
while True:
    message = ask(said)
    said.append(message)
    if not message.get("tool_calls"):
        break
    said += [{"role": "tool", "tool_call_id": one["id"], "content": "done"} for one in message["tool_calls"]]
"""
SPEC = {
    "score": None, "parse": None,
    "solver": {"name": "coder", "agent": "command", "model": "openai/m",
               "options": {"command": ["python3", "-c", AGENT]}},
}  # fmt: skip


class Failing(Script):
    """Says its script, but for the end of one task, until it is mended."""

    mended = False

    def __call__(self, request: Request) -> object:
        asked = request.body["messages"]
        if not self.mended and "Question 2" in str(asked[0]) and len(asked) > 1:
            return Fault(500)
        return super().__call__(request)


@pytest.fixture
def script(server: ProviderServer) -> Failing:
    server.answer = found = Failing(["ls", ["cat a", "cat b"]], final="It is all done now.")
    return found


def lines(said: str) -> list[str]:
    told = [line for line in said.splitlines() if line.startswith("coder/")]
    return sorted(re.sub(r" · [\d,]+ in, [\d,]+ out( · \$0.00)?", "", line) for line in told)


def test_a_line_says_of_each_exchange_who_where_how_and_what(shell: Shell, script: Failing) -> None:
    bubblewrap()
    first = shell("run", shell.experiment(tasks=2, **SPEC), "--stream", "--price", "openai/m=0/0")
    assert first.code == 3, first.err
    assert lines(first.out) == [
        "coder/t1/1 · lane 1, turn 1 · live · → bash · Step 1.",
        "coder/t1/1 · lane 1, turn 2 · live · → bash, bash · Step 2.",
        "coder/t1/1 · lane 1, turn 3 · live · It is all done now.",
        "coder/t2/1 · error · openai: 500 — no answer this time: scripted 500",
        "coder/t2/1 · lane 1, turn 1 · live · → bash · Step 1.",
    ]
    assert "── coder" not in first.out
    script.mended = True
    again = shell("resume", "--stream")
    assert again.code == 0 and lines(again.out) == [
        "coder/t2/1 · lane 1, turn 1 · served exact · → bash · Step 1.",
        "coder/t2/1 · lane 1, turn 2 · live · → bash, bash · Step 2.",
        "coder/t2/1 · lane 1, turn 3 · live · It is all done now.",
    ]


def test_lanes_have_the_numbers_that_a_trajectory_gives_them(shell: Shell, script: Failing) -> None:
    bubblewrap()
    options = {"command": ["python3", "-c", AGENT], "env": {"TITLED": "1"}}
    solver = {"name": "coder", "agent": "command", "model": "openai/m", "options": options}
    first = shell("run", shell.experiment(tasks=2, score=None, parse=None, solver=solver), "--stream")
    assert first.code == 3, first.err
    script.mended = True
    again = shell("resume", "--stream")
    assert again.code == 0, again.err
    for task, streamed in (("t1", first.out), ("t2", again.out)):
        [episode] = json.loads(shell("show", f"latest/{task}", "--trajectory", "--json").out)
        turns = [(one["number"], turn["number"], turn["text"]) for one in episode["lanes"] for turn in one["turns"]]
        said = re.findall(rf"^coder/{task}/1 · lane (\d), turn (\d) .* · (.*)$", streamed, re.MULTILINE)
        assert sorted((int(lane), int(turn), text) for lane, turn, text in said) == sorted(turns)
        assert [one["kind"] for one in episode["lanes"]] == ["side call", "main"]
