"""A real agent's timeout, exported, is gone on with from its folder alone; and the real folder, as far as it goes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.agents.rig import CACHE, ready
from tests.cli.continued import KEY, Episodes, Meanwhile

from onward.formats.benchflow import read
from onward.formats.benchflow.recording import LLM
from onward.testing import EQUAL_EPISODE

pytestmark = [pytest.mark.agents, pytest.mark.slow]

SOLVER = {"agent": "claude-code", "model": "anthropic/claude-sonnet-4-5"}


def episodes(folder: Path, provider: Meanwhile, task: str) -> Episodes:
    ready("claude-code")
    made = Episodes(folder, provider, [task], solver=SOLVER)
    made.shell.environment |= {
        "ONWARD_CACHE": str(CACHE), "ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": provider.server.url,
    }  # fmt: skip
    return made


def test_an_exported_timeout_goes_on_from_its_folder_alone(tmp_path: Path) -> None:
    with Meanwhile(EQUAL_EPISODE, dear=True) as provider:
        made = episodes(tmp_path, provider, "notes")
        shell = made.shell
        assert made.run().code == 0 and provider.paid == 2
        assert shell("export", "latest", "--format", "benchflow", "-o", "jobs/notes__1").code == 0
        shutil.rmtree(shell.store)
        provider.dear = False
        words = ["continue", "jobs/notes__1", "--model", "anthropic/claude-haiku-4-5"]
        told = json.loads(shell(*words, "--json").out)
        assert told["scores"] == ["at the limit 0.0 %, continued 100.0 %"] and provider.paid == 5
        again = json.loads(shell(*words, "--json").out)
        assert (again["written"], again["calls"], provider.paid) == (told["written"], 0, 5)
        before, after = read(tmp_path / "jobs" / "notes__1"), read(tmp_path / told["written"])
        assert after.content[LLM].startswith(before.content[LLM])
        assert len(after.rows) == 5 and {one.row.model for one in after.exchanges} >= {"claude-sonnet-4-5"}
        assert after.config["model"] == "claude-sonnet-4-5 (recorded), claude-haiku-4-5 (live)"
        assert after.result["continued_from"]["original_rewards"] == {"reward": 0.0}
        (tmp_path / "tasks" / "notes" / "tests" / "test.sh").write_text("#!/bin/sh\n")
        refused = shell(*words)
        assert refused.code == 5 and "the task's tests/test.sh changed since it was recorded" in refused.err


def test_the_real_folder_diverges_at_its_first_request_and_says_where(tmp_path: Path, shared_data: Path) -> None:
    """It was made with an older agent, whose tools were others: there is nothing that could be served to this one."""
    folders = sorted((shared_data / "benchflow").glob("*/config.json"))
    if not folders:
        pytest.skip(f"no run folder of BenchFlow's in {shared_data}")
    original = folders[0].parent
    with Meanwhile(EQUAL_EPISODE) as provider:
        shell = episodes(tmp_path, provider, original.name.partition("__")[0]).shell
        shutil.copytree(original, tmp_path / "jobs" / original.name)
        shell.environment = {"PATH": shell.environment["PATH"], "ONWARD_CACHE": str(CACHE)}
        words = ["continue", f"jobs/{original.name}", "--tasks-dir", "tasks", "--replay-only"]
        refused = shell(*words)
        assert refused.code == 5 and "environment/Dockerfile" in refused.err
        done = shell(*words, "--accept-mismatch")
        assert done.code == 3 and provider.paid == 0, done
        assert "a divergence; the nearest left is claude-code/" in done.out and "differs at tools[" in done.out
        assert not (tmp_path / "jobs" / "continued").exists()
