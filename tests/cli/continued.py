"""What the tests of `continue` share: task folders, an agent of a page that works on them, a provider that can wait."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

from tests.cli.console import Done, Shell

from onward.ask import Answer, Usage
from onward.testing import ProviderServer, Request, Script

KEY = "sk-onward-testing-4b1d"
"""The provider's key, which must be nowhere afterwards."""
TOKENS = 150
"""What a trial may use."""
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
for turn in range(20):
    if turn == 2:
        time.sleep(float(os.environ.get("SLEEP", "0")))
    said = ask(messages)
    messages.append(said)
    if not said.get("tool_calls"):
        print(said["content"])
        break
    messages += [run(call) for call in said["tool_calls"]]
    if os.environ.get("RESTLESS"):
        messages.append({"role": "user", "content": f"It is {time.time_ns()} now."})
"""
"""With RESTLESS it says something else at each start, which no tool said; with SLEEP it rests before its third call."""
TASK = {
    "task.toml": 'version = "1.0"\n[agent]\ntimeout_sec = 100\n',
    "instruction.md": "Write the notes, then out.json.",
    "environment/Dockerfile": "FROM debian:12\n",
    "tests/test.sh": "#!/bin/sh\n[ -f out.json ]; echo $((1 - $?)) > /logs/verifier/reward.txt\n",
}


class Meanwhile:
    """A provider that plays an episode. While it is `dear`, a trial's limit is used up after `many` calls."""

    def __init__(self, steps: Sequence[str], *, dear: bool = False, many: int = 2) -> None:
        self.dear, self.many = dear, many
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.held = 0
        """Calls that wait to be released."""
        self._script, self._free, self._open = Script(steps), 1_000, threading.Event()
        self.server = ProviderServer(self._answer)

    async def _answer(self, request: Request) -> Answer:
        self.asked.append({"model": request.model, **request.body})
        self.keys |= {value for name, value in request.headers.items() if name.lower() == "authorization"}
        if len(self.asked) > self._free:
            self.held += 1
            await asyncio.to_thread(self._open.wait, 60)
        return replace(self._script(request), usage=Usage(TOKENS // self.many if self.dear else 1, 0))

    def hold_after(self, calls: int) -> None:
        """Answer so many more calls, and those after them when it is released."""
        self._free, self.held = len(self.asked) + calls, 0
        self._open.clear()

    def release(self) -> None:
        """Answer whatever comes."""
        self._free = 1_000
        self._open.set()

    @property
    def paid(self) -> int:
        """Calls that were answered in full."""
        return len(self.server.calls)

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()
        self.server.__exit__(*error)


class Episodes:
    """A folder of tasks, and an experiment in which the agent works on them. `more`: fields over the usual ones."""

    def __init__(
        self, folder: Path, provider: Meanwhile, tasks: Iterable[str] = ("notes", "memo"), *,
        env: Any = None, **more: Any,
    ) -> None:  # fmt: skip
        self.shell, self.provider = Shell(folder, provider.server), provider
        self.shell.environment["OPENAI_API_KEY"] = KEY
        for name in tasks:
            for path, text in TASK.items():
                self.shell.write(f"tasks/{name}/{path}", text).chmod(0o755)
        options = {"command": ["/usr/bin/python3", "-c", AGENT], "version": "1", "env": env or {}}
        solver = {"agent": "command", "model": "openai/gpt-4o", "sandbox": "bubblewrap", "options": options}
        limits = {"tokens": TOKENS, "attempts": 1}
        fields = {"tasks": "tasks", "solver": solver, "score": "reward", "limits": limits, **more}
        self.shell.write("coder.yaml", json.dumps(fields))  # JSON is YAML

    def run(self) -> Done:
        """Run it to its end."""
        return self.shell("run", "coder.yaml")
