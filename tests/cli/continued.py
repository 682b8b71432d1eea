"""What the tests of `continue` share: task folders, and an agent of a page that works on them with one shell tool."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.cli.console import Shell

from onward.testing import EQUAL_EPISODE, ProviderServer

KEY = "sk-onward-testing-4b1d"
"""The provider's key, which must be nowhere afterwards."""
AGENT = """\
import json, os, subprocess, sys, time, urllib.request

def ask(messages):
    body = {"model": os.environ["ONWARD_MODEL"], "messages": messages, "tools": TOOLS, "max_tokens": 256}
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as reply:
        return json.load(reply)["choices"][0]["message"]

def run(call):
    words = json.loads(call["function"]["arguments"])["command"]
    done = subprocess.run(words, shell=True, capture_output=True, text=True)
    return {"role": "tool", "tool_call_id": call["id"], "content": done.stdout + done.stderr}

TOOLS = [{"type": "function", "function": {"name": "bash", "parameters": {
    "type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}}}]
messages = [{"role": "user", "content": sys.argv[-1]}]
while True:
    said = ask(messages)
    messages.append(said)
    if not said.get("tool_calls"):
        print(said["content"])
        break
    messages += [run(call) for call in said["tool_calls"]]
    if os.environ.get("RESTLESS"):
        messages.append({"role": "user", "content": f"It is {time.time_ns()} now."})
"""
"""With RESTLESS it says something else at each start, which no tool said."""
TASK = {
    "task.toml": 'version = "1.0"\n[agent]\ntimeout_sec = 100\n',
    "instruction.md": "Write the notes, then out.json.",
    "environment/Dockerfile": "FROM debian:12\n",
    "tests/test.sh": "#!/bin/sh\n[ -f out.json ]; echo $((1 - $?)) > /logs/verifier/reward.txt\n",
}


class Episodes:
    """A folder of tasks and an experiment on it, whose trials time out after two of their five calls."""

    def __init__(self, folder: Path, server: ProviderServer, tasks: Iterable[str] = ("notes",)) -> None:
        self.shell, self.server = Shell(folder, server), server
        self.shell.environment["OPENAI_API_KEY"] = KEY
        for name in tasks:
            for path, text in TASK.items():
                self.shell.write(f"tasks/{name}/{path}", text).chmod(0o755)

    def experiment(self, **more: Any) -> str:
        """Its file. `more`: fields over the usual ones; `env` is the agent's own."""
        env = more.pop("env", {})
        solver = {
            "agent": "command", "model": "openai/gpt-4o", "sandbox": "bubblewrap",
            "options": {"command": ["/usr/bin/python3", "-c", AGENT], "version": "1", "env": env},
        }  # fmt: skip
        fields = {"tasks": "tasks", "solver": solver, "limits": {"tokens": LIMIT, "attempts": 1}, **more}
        self.shell.write("coder.yaml", json.dumps(fields))
        return "coder.yaml"

    @property
    def paid(self) -> int:
        """Calls that the provider answered."""
        return len(self.server.calls)


LIMIT = 120
STEPS = EQUAL_EPISODE
