"""What tests of agents share: the agents that are installed for tests, and a stage on which one plays an episode.

They are looked for in ONWARD_TEST_CACHE (default ~/.cache/onward-tests), where `make test-agents` installs them all.
ONWARD_TEST_AGENTS names those that are wanted, or is `all`; by default the ones that start in a second or two.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.street import Street, street

from onward.agents import AGENTS, Agent, Go, Installed, agent
from onward.gateway.normalisers import rules_for
from onward.journal import Journal
from onward.sandbox import Place, Ran, Snapshot, Spec, open_sandbox
from onward.sandbox.bubblewrap import reaches
from onward.testing import ProviderServer

CACHE = Path(os.environ.get("ONWARD_TEST_CACHE") or Path.home() / ".cache" / "onward-tests")
PUBLISHED = tuple(name for name in AGENTS if name not in ("command", "oracle"))
QUICK = ("claude-code", "codex", "gemini-cli")
INSTRUCTION = "Write the notes, then out.json."
NPM = """\
#!{python}
import json, os, sys, time
from pathlib import Path
folder = Path(sys.argv[sys.argv.index("--prefix") + 1])
name, _, version = sys.argv[-1].rpartition("@")
assert "--ignore-scripts" in sys.argv
with open({log!r}, "a") as log:
    log.write(sys.argv[-1] + chr(10))
{more}
package = folder / "node_modules" / name
package.mkdir(parents=True)
(package / "package.json").write_text(json.dumps({{"version": os.environ.get("GIVEN") or version}}))
(package / "tool").write_text("#!/bin/sh" + chr(10) + "echo " + version + chr(10))
(package / "tool").chmod(0o755)
(folder / "package-lock.json").write_text("https://where.it/came/from")
"""
"""An npm: `python` runs it, `log` is what was asked of it, `more` what it does before it installs."""
SESSION = str(uuid.UUID(int=5, version=4))


def wanted() -> Sequence[str]:
    """The agents that tests may run."""
    named = os.environ.get("ONWARD_TEST_AGENTS") or " ".join(QUICK)
    return PUBLISHED if named == "all" else named.split()


def ready(name: str) -> tuple[Agent, Installed]:
    """An agent and what is installed of it; skips, by name, where it is not wanted or not there."""
    if name not in wanted():
        pytest.skip(f"agent {name}: not among ONWARD_TEST_AGENTS ({' '.join(wanted())}); make test-agents runs all")
    adapter = agent(name)
    found = adapter.find(CACHE, {})
    if found is None:
        pytest.skip(f"agent {name}: not installed in {CACHE}; make test-agents installs it")
    bubblewrap()
    return adapter, found


def bubblewrap() -> None:
    """Skips where there is none."""
    why = reaches("--unshare-user", "--unshare-all", "--as-pid-1")
    if why:
        pytest.skip(f"sandbox bubblewrap: {why}")


@dataclass
class Played:
    """How one attempt went."""

    ran: Ran
    work: Snapshot
    final: str
    report: Mapping[str, Any]
    files: Mapping[str, str]


@dataclass
class Stage:
    """A street, and sandboxes whose only way out is to its door."""

    at: Street
    server: ProviderServer
    folder: Path

    async def play(
        self, adapter: Agent, installed: Installed, options: Mapping[str, Any] | None = None, *,
        instruction: str = INSTRUCTION, seconds: float = 100.0, **more: Any,
    ) -> Played:  # fmt: skip
        """One attempt from its start to its end. What the same step recorded before is served to it."""
        token = self.at.admit(rules=rules_for(adapter.name, installed.version))
        spec = Spec(kind="bubblewrap", socket=self.folder / "door", binds=installed.binds)
        async with open_sandbox(spec, Place(self.folder / "sandboxes")) as sandbox:
            url = f"http://127.0.0.1:{sandbox.port}"
            told = Go(instruction, "mock-1", url, token, sandbox.home, sandbox.workdir, SESSION, options or {}, **more)
            launch = adapter.launch(installed, told)
            for path, content in launch.files.items():
                await sandbox.put(content, path)
            env = {**installed.env, **launch.env}
            ran = await sandbox.run(launch.command, env=env, stdin=launch.stdin, timeout=seconds)
            work = await sandbox.snapshot(without=adapter.own)
            read = await sandbox.run("for f in *; do echo == $f; cat $f; done")
        report = await self.at.door.dismiss(token)
        files = dict(part.split("\n", 1) for part in read.out.split("== ")[1:])
        return Played(ran, work, adapter.final(ran), report, files)


@asynccontextmanager
async def stage(server: ProviderServer, journal: Journal | None = None) -> AsyncIterator[Stage]:
    """Not below pytest's own folder: its paths are too long for a socket."""
    with tempfile.TemporaryDirectory(prefix="onward-") as folder:
        async with server, street(server, journal, unix=f"{folder}/door") as at:
            yield Stage(at, server, Path(folder))


def run(work: Any, seconds: float = 240.0) -> Any:
    """Run it to its end; a hang is a failure."""

    async def whole() -> Any:
        async with asyncio.timeout(seconds):
            return await work

    return asyncio.run(whole())
