"""The provider's key is nowhere but with the provider: searched for while an agent works, and in all that is left."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import shlex
import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from tests.agents.journey import KEY, Journey
from tests.agents.rig import PUBLISHED
from tests.cli.console import ended
from tests.cli.continued import AGENT

from onward.gateway.scripted import Request
from onward.runs import open_run
from onward.staging import place_of
from onward.testing import EQUAL_EPISODE, Script

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(120)]

TOKEN = re.compile(rb"onward-[A-Za-z0-9_-]{32}")
SECRETS = (KEY.encode(), base64.b64encode(KEY.encode()))
FORMATS = ("events-jsonl", "benchflow", "folder")


class Held:
    """An episode of two calls, the second of which is answered when it is let go."""

    def __init__(self) -> None:
        self.script = Script(EQUAL_EPISODE[:1], ids="call")
        self.asked, self.reached, self.go = 0, threading.Event(), threading.Event()

    async def __call__(self, request: Request) -> Any:
        self.asked += 1
        if self.asked > 1:
            self.reached.set()
            await asyncio.to_thread(self.go.wait, 60)
        return self.script(request)


class Search:
    """Where the key and a trial's token were seen, of all places that were looked at."""

    def __init__(self, places: Iterable[tuple[str, bytes]]) -> None:
        self.places: list[str] = []
        self.keys: list[str] = []
        self.tokens: list[str] = []
        for where, content in places:
            self.places.append(where)
            self.keys += [where] if any(one in content for one in SECRETS) else []
            self.tokens += [where] if TOKEN.search(content) else []


def told(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every file at or below a place, as far as it can be read."""
    for folder, _, names in os.walk(path):
        for name in names:
            with suppress(OSError):
                file = Path(folder, name)
                if file.is_file() and not file.is_symlink():
                    yield str(file), file.read_bytes()


def family(pids: Iterable[int]) -> list[int]:
    """These processes and all below them."""
    above: dict[int, list[int]] = {}
    for one in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            parent = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()[1]
            above.setdefault(int(parent), []).append(int(one))
    found = list(pids)
    for pid in found:  # it grows meanwhile
        found += [child for child in above.get(pid, []) if child not in found]
    return found


def held(pids: Iterable[int]) -> Iterator[tuple[str, bytes]]:
    """What processes of a sandbox are given: their environment and their words."""
    for pid in pids:
        for what in ("environ", "cmdline"):
            with suppress(OSError):
                yield f"{what} of {pid}", Path(f"/proc/{pid}/{what}").read_bytes()


def entries(folder: Path) -> bytes:
    """All that a run's entries say, unpacked."""
    run = open_run(folder)
    try:
        kinds = ("plan", "intent", "result", "served", "void")
        every: list[Any] = [dict(entry.data) for entry in run.entries("", kinds)]
        return json.dumps(every, default=str).encode()
    finally:
        run.close()


@pytest.mark.parametrize("name", ["command", *PUBLISHED])
def test_the_key_is_nowhere_while_an_agent_works_and_in_nothing_that_it_leaves(tmp_path: Path, name: str) -> None:
    command = f'/usr/bin/python3 -c {shlex.quote(AGENT)} "$1"'
    options = {"solver": {"options": {"command": command, "version": "1"}}} if name == "command" else {}
    script = Held()
    with Journey(tmp_path, name, script, **options) as at:
        process = at.start("--log-format", "json", "-v", "run", "coder.yaml")
        at.wait(script.reached.is_set, "the second call")
        within = Search(chain(held(family(at.alive)), told(place_of(at.shell.store))))  # HOME, /tmp and /work of it
        assert not within.keys
        assert any(where.startswith("environ of") for where in within.places), "its environment was looked at"
        assert within.tokens, "it has a token of its own"  # opencode in its settings, the others in their environment
        assert any(where.endswith("/notes.txt") for where in within.places), "its files were looked at"
        script.go.set()
        done = ended(process)
        assert done.code == 0, done
        assert any(KEY in value for one in at.server.requests for value in one.headers.values()), "the provider has it"

        said = {"log": f"{done.out}{done.err}".encode(), "entries": entries(at.shell.run)}
        for form in FORMATS:
            made = at("export", "latest", "--format", form, "-o", f"exported-{form}")
            assert made.code == 0, made
            said[form] = f"{made.out}{made.err}".encode()
        said["copied"] = entries(tmp_path / "exported-folder")
        left = Search(chain(said.items(), told(tmp_path)))
        assert not left.keys and not left.tokens
        assert {Path(where).name for where in left.places} >= {"journal.db", "result.json", "exported-events-jsonl"}
