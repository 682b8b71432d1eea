"""What tests of whole runs with agents share: a trial that is killed and gone on with, and a provider that waits.

The runs are real processes in groups of their own, killed by SIGKILL. The provider is in the test's process, so it
outlives them, and knows what it was asked and what it billed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.agents.rig import CACHE, INSTRUCTION, bubblewrap, ready
from tests.cli.console import Done, Shell, ended, until

from onward.gateway.normalisers import normalised, rules_for
from onward.gateway.scripted import Answering, Request
from onward.runs import open_run, stored_runs
from onward.sandbox.marks import MARKER, folders
from onward.staging import place_of
from onward.testing import EQUAL_EPISODE, Fault, ProviderServer, Script

KEY = "sk-onward-testing-77f0"
"""The provider's key, which no sandbox sees."""
MORE: Mapping[str, Mapping[str, Any]] = {
    "aider": {"args": ["--auto-test", "--test-cmd", "false"]},  # a test that fails makes it ask four times
}
"""Options without which an agent has no episode of several calls."""

TALKER = """\
import json, os, sys, urllib.request
messages = []
for number in range(1, 5):
    messages.append({"role": "user", "content": f"{sys.argv[-1]} Part {number}?"})
    body = {"model": os.environ["ONWARD_MODEL"], "messages": messages, "max_tokens": 16}
    headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)) as reply:
        said = json.load(reply)["choices"][0]["message"]["content"]
    messages.append({"role": "assistant", "content": said})
    with open("notes.txt", "a") as notes:
        print(said, file=notes)
print("done")
"""
"""An agent of a page: four calls, each with what was said before, and a file with the answers."""
TALKS = f'/usr/bin/python3 -c {shlex.quote(TALKER)} "$1"'


class Waiting:
    """A script that, after so many answers, keeps a request waiting for ever: whoever asked is killed meanwhile."""

    def __init__(self, script: Answering) -> None:
        self.script = script
        self.answers: int | None = None
        """After how many; None: never."""
        self.given = 0
        self.slowly = False
        """Whether the answer after those comes slowly instead."""
        self.kept = 0
        """Requests that are kept waiting."""
        self.reached = threading.Event()

    def __call__(self, request: Request) -> Any:
        """What the script says, or nothing."""
        if self.answers is not None and self.given >= self.answers:
            self.reached.set()
            if not self.slowly:
                self.kept += 1
                return Fault("hang")
        self.given += 1
        return self.script(request)

    def after(self, answers: int | None) -> None:
        """From now on."""
        self.answers, self.kept = answers, 0
        self.reached.clear()


class Journey:
    """A run of one agent at one task."""

    def __init__(
        self, folder: Path, agent: str, script: Answering | Sequence[str] = EQUAL_EPISODE, **more: Any
    ) -> None:
        """`more`: fields of the experiment; `solver` and `limits` are put over the usual ones."""
        self.agent = agent
        bubblewrap()
        self.rules, self.protocol = rules_for(agent), "chat"
        if agent != "command":
            adapter, installed = ready(agent)
            self.rules, self.protocol = rules_for(agent, installed.version), adapter.protocols[0]
        self.waiting = Waiting(script if callable(script) else Script(script, ids="call"))
        self.server = ProviderServer(self.waiting)
        self.shell = Shell(folder)
        self.shell.environment |= {"ONWARD_CACHE": str(CACHE), "SCRIPTED_API_KEY": KEY}
        self.more = more
        self.started: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        self.server.__enter__()
        solver = {"agent": self.agent, "model": "scripted/mock-1", "sandbox": "bubblewrap"}
        if self.agent in MORE:
            solver["options"] = dict(MORE[self.agent])
        url = self.server.url + ("/v1" if self.protocol in ("chat", "responses") else "")
        if "tasks" not in self.more:
            self.shell.write("tasks.jsonl", json.dumps({"id": "notes", "input": INSTRUCTION, "target": "done"}))
        fields = {
            "tasks": "tasks.jsonl", "score": "includes", **self.more,
            "solver": {**solver, **self.more.get("solver", {})},
            "limits": {"attempts": 1, **self.more.get("limits", {})},
            "providers": {"scripted": {"base_url": url, "protocol": self.protocol, "key_name": "SCRIPTED_API_KEY"}},
        }  # fmt: skip
        self.shell.write("coder.yaml", json.dumps(fields))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self.started:
            if process.poll() is None:
                kill(process)
        self.server.__exit__(*_)

    def task(self, verifier: str, seconds: int = 100) -> None:
        """Write the folder of a task, for `tasks: tasks`, that this verifies."""
        files = {
            "task.toml": f'version = "1.0"\n[agent]\ntimeout_sec = {seconds}\n', "instruction.md": INSTRUCTION,
            "environment/Dockerfile": "FROM debian:12\n", "tests/test.sh": f"#!/bin/sh\n{verifier}\n",
        }  # fmt: skip
        for name, text in files.items():
            self.shell.write(f"tasks/notes/{name}", text).chmod(0o755)

    def wait(self, true: Callable[[], Any], what: str) -> None:
        """Wait for a condition; every process that was started must live until then."""
        until(lambda: true() or any(one.poll() is not None for one in self.started[-1:]), what)
        process = self.started[-1]
        assert process.poll() is None, ended(process)

    def start(self, *words: str) -> subprocess.Popen[str]:
        """A command under way, in a process group of its own; by default the run."""
        process = self.shell.start(*(words or ("run", "coder.yaml")), apart=True)
        self.started.append(process)
        return process

    def __call__(self, *words: str) -> Done:
        """A command to its end; by default the run."""
        return ended(self.start(*words))

    def killed(self, answers: int, *words: str, slowly: bool = False) -> None:
        """The same, killed while the request after so many answers is under way; `slowly`: while it is answered."""
        self.waiting.slowly, self.server.pace = slowly, 0.1 if slowly else 0.0
        self.waiting.after(answers)
        before = self._doubts()
        process = self.start(*words)
        self.wait(self.waiting.reached.is_set, f"the call after answer {answers}")
        if not slowly:  # of two lanes, one may ask on while the other's answer is being recorded
            self.wait(
                lambda: all(now - before.get(run, 0) <= self.waiting.kept for run, now in self._doubts().items()),
                "all that was answered is recorded",
            )
        kill(process)
        self.waiting.after(None)
        if slowly:
            until(lambda: self.billed == answers + 1, "the provider's end: it bills what nobody hears")
            self.server.pace = 0.0

    def _doubts(self) -> dict[str, int]:
        """Calls of each run that have no answer, those that were cut off included."""
        found: dict[str, int] = {}
        for folder in stored_runs(self.shell.store):
            run = open_run(folder)
            try:
                found[folder.name] = run.journal.sums().doubt[2]
            finally:
                run.close()
        return found

    @property
    def billed(self) -> int:
        """Calls that the provider answered."""
        return len(self.server.calls)

    @property
    def asked(self) -> list[Mapping[str, Any]]:
        """What it was asked, without what the agent says differently at each start."""
        return [normalised(one.protocol, one.body, self.rules) for one in self.server.requests]

    def results(self) -> list[tuple[str, Any]]:
        """The results of the episode in the newest run, oldest first: (outcome, value or error) each."""
        run = open_run(self.shell.run)
        try:
            found = [entry for entry in run.entries("", ("result",)) if entry.key.names[-2] == "generate"]
            return [(str(entry.outcome), entry.data.get("value") or entry.data.get("error")) for entry in found]
        finally:
            run.close()

    @property
    def value(self) -> Mapping[str, Any]:
        """What the episode came to."""
        outcome, value = self.results()[-1]
        assert outcome == "ok", (outcome, value)
        return value  # type: ignore[no-any-return]

    @property
    def served(self) -> list[Mapping[str, Any]]:
        """What was served in the newest run, oldest first, with its key."""
        run = open_run(self.shell.run)
        try:
            return [{**entry.data, "key": str(entry.key)} for entry in run.entries("", ("served",))]
        finally:
            run.close()

    @property
    def answered(self) -> list[str]:
        """The keys of the newest run's calls that have an answer, oldest first."""
        run = open_run(self.shell.run)
        try:
            rows = (row for _, row in run.journal.rows("", kinds=("result",)))
            return [row.key for row in rows if "/llm:" in row.key and row.outcome == "ok"]
        finally:
            run.close()

    @property
    def alive(self) -> list[int]:
        """Processes that live in a sandbox of the newest run."""
        mine = f"onward-{self.shell.run.name.rpartition('-')[2]}"
        return [pid for pid, id in marked() if mine in id]

    @property
    def left(self) -> list[Any]:
        """Sandboxes that are there, and who lives in them."""
        return [*folders(place_of(self.shell.store)), *self.alive]


def marked() -> Iterator[tuple[int, str]]:
    """Processes that carry a sandbox's mark, with its id."""
    sign = f"{MARKER}=".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            for one in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                if one.startswith(sign):
                    yield int(pid), one[len(sign) :].decode()


def kill(process: subprocess.Popen[str]) -> None:
    """The whole group, at once."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def retold(folder: Path, name: str, variable: str) -> Path:
    """A cache of an agent's own there, whose program is told this variable: the file with its value."""
    program = copied(folder, name, ready(name)[1].command[0])
    program.rename(f"{program}.real")
    value = program.with_name("value")
    program.write_text(f'#!/bin/sh\n{variable}=$(cat {value}) exec {program}.real "$@"\n')
    program.chmod(0o755)
    return value


def copied(folder: Path, name: str, program: str) -> Path:
    """A cache of an agent's own there, which may be changed; where this program of it is."""
    known, own = CACHE / "agents" / name, folder / "cache" / "agents" / name
    shutil.copytree(known, own, copy_function=_linked)
    return own / Path(program).relative_to(known)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
