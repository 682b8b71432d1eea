"""A real agent's episode, left as BenchFlow leaves a timeout, goes on from where its lines end: `continue FOLDER`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agents.rig import CACHE, ready
from tests.cli.console import Shell

from onward.formats.benchflow import read
from onward.formats.benchflow.recording import LLM
from onward.testing import EPISODE, EQUAL_EPISODE, ProviderServer, Script

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(300)]

TASK = {
    "task.toml": 'version = "1.0"\n[agent]\ntimeout_sec = 100\n',
    "instruction.md": "Write the notes, then out.json.",
    "environment/Dockerfile": "FROM debian:12\n",
    "tests/test.sh": "#!/bin/sh\n[ -f out.json ]; echo $((1 - $?)) > /logs/verifier/reward.txt\n",
}


MODELS = {
    "claude-code": "anthropic/claude-sonnet-4-5", "openhands": "openai/gpt-4o", "mini-swe-agent": "openai/gpt-4o",
    "codex": "openai/gpt-5",
}  # fmt: skip
"""Agents whose traffic BenchFlow records, in three wire formats."""


@pytest.fixture(params=["equal", "differing"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Shell, ProviderServer, bool]]:
    """A task, and a provider that plays five turns; `differing`: one tool says something else each time."""
    equal = request.param == "equal"
    shell = Shell(tmp_path)
    for name, text in TASK.items():
        shell.write(f"tasks/notes/{name}", text).chmod(0o755)
    shell.environment |= {"ONWARD_CACHE": str(CACHE)}
    with ProviderServer(Script(EQUAL_EPISODE if equal else EPISODE)) as server:
        yield shell, server, equal


def _timed_out(folder: Path, lines: int) -> list[bytes]:
    """The folder as a timeout after so many answers would have left it; those lines."""
    trajectory = folder / LLM
    kept = trajectory.read_bytes().split(b"\n")[:lines]
    trajectory.write_bytes(b"\n".join(kept))
    result = json.loads((folder / "result.json").read_text())
    result |= {"error": "Agent timed out after 100s", "error_category": "timeout", "rewards": {"reward": 0.0}}
    (folder / "result.json").write_text(json.dumps(result))
    return kept


@pytest.mark.parametrize("name", MODELS)
def test_a_timed_out_folder_is_served_its_lines_and_goes_on_live(
    house: tuple[Shell, ProviderServer, bool], name: str
) -> None:
    ready(name)
    shell, server, equal = house
    keyless = dict(shell.environment)
    shell.environment |= {
        "ANTHROPIC_API_KEY": "sk-onward-testing", "ANTHROPIC_BASE_URL": server.url,
        "OPENAI_API_KEY": "sk-onward-testing", "OPENAI_BASE_URL": f"{server.url}/v1",
    }  # fmt: skip
    done = shell("run", "tasks/", "--agent", name, "--model", MODELS[name])
    assert done.code == 0, done
    assert shell("export", "latest", "--format", "benchflow", "-o", "jobs/notes__1").code == 0
    kept = _timed_out(shell.folder / "jobs" / "notes__1", 3)
    paid = len(server.requests)

    live, shell.environment = shell.environment, keyless
    planned = shell("continue", "jobs/notes__1", "--plan")
    assert planned.code == 0 and "3 exchanges" in planned.out, planned
    shell.environment = live
    for _ in range(2):  # the second finds it done
        done = shell("continue", "jobs/notes__1", "--tasks-dir", "tasks")
        assert done.code == 0, done
        assert "at the limit 0.0 %, continued 100.0 %" in done.out
        assert len(server.requests) - paid == 2

    [made] = (shell.folder / "jobs" / "continued").glob("*/notes__1__continued")
    assert (made / LLM).read_bytes().split(b"\n")[:3] == kept
    found = read(made)
    assert [one.standing for one in found.exchanges] == ["consumed"] * 4 + ["last"]
    assert found.rewards == {"reward": 1.0}
    assert found.result["continued_from"]["original_rewards"] == {"reward": 0.0}
    levels = {"exact": 3} if equal else {"exact": 2, "prefix": 1}
    assert found.result["divergences"]["levels"] == levels
