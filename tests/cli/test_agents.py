"""`onward agents`, and what `onward doctor` says and does about agents and sandboxes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.agents.rig import CACHE, NPM, bubblewrap, ready
from tests.cli.console import Shell

from onward.agents import AGENTS, agent
from onward.staging import place_of

OWNER = Path(__file__).parents[1] / "sandbox" / "owner.py"


@pytest.fixture
def fresh(tmp_path: Path, shell: Shell) -> Shell:
    """A machine without any agent."""
    shell.environment["ONWARD_CACHE"] = str(tmp_path / "cache")
    return shell


def with_npm(shell: Shell, tmp_path: Path) -> Path:
    """Puts an npm on the PATH that installs Claude Code as it stands in its package; returns what was asked of it."""
    program, log = tmp_path / "bin" / "npm", tmp_path / "asked"
    program.parent.mkdir()
    native = "folder / 'node_modules' / '@anthropic-ai' / 'claude-code-linux-x64'"
    more = f"({native}).mkdir(parents=True); ({native} / 'claude').write_text('native')"
    program.write_text(NPM.format(python=sys.executable, log=str(log), more=more))
    program.chmod(0o755)
    shell.environment["PATH"] = f"{program.parent}:/usr/bin:/bin"
    return log


def test_agents_are_listed_with_what_is_installed(fresh: Shell) -> None:
    listed = fresh("agents", "list")
    assert listed.code == 0 and all(name in listed.out for name in AGENTS)
    assert "onward agents install" in listed.out
    rows = {row["agent"]: row for row in json.loads(fresh("agents", "list", "--json").out)}
    assert list(rows) == list(AGENTS)
    assert rows["codex"] == {
        "agent": "codex", "version": agent("codex").version, "installed": False, "formats": ["responses"],
        "summary": agent("codex").summary,
    }  # fmt: skip
    assert rows["command"]["installed"]


def test_an_agent_is_installed_once_where_the_cache_is(fresh: Shell, tmp_path: Path) -> None:
    asked = with_npm(fresh, tmp_path)
    for _ in range(2):
        done = fresh("agents", "install", "claude-code", "claude-code@1.2.3")
        assert done.code == 0, done.err
        assert done.lines == ["claude-code 2.1.197 is installed", "claude-code 1.2.3 is installed"]
    assert asked.read_text().split() == ["@anthropic-ai/claude-code@2.1.197", "@anthropic-ai/claude-code@1.2.3"]
    assert sorted(path.name for path in (tmp_path / "cache" / "agents" / "claude-code").glob("[0-9]*")) == [
        "1.2.3", "2.1.197",
    ]  # fmt: skip
    rows = {row["agent"]: row["installed"] for row in json.loads(fresh("agents", "list", "--json").out)}
    assert rows["claude-code"] and not rows["codex"]


@pytest.mark.parametrize(
    ("name", "said"),
    [("claude-cod", 'Did you mean "claude-code"?'), ("codex@latest", "'latest' is no version"),
     ("codex@../x", "is no version")],
)  # fmt: skip
def test_what_cannot_be_installed_is_refused_in_words(fresh: Shell, name: str, said: str) -> None:
    done = fresh("agents", "install", name)
    assert done.code == 2 and said in done.err


def test_doctor_says_what_works_here_and_how_to_get_the_rest(fresh: Shell, tmp_path: Path) -> None:
    fresh.environment["PATH"] = str(tmp_path)
    found = {one["what"]: one for one in json.loads(fresh("doctor", "--json").out)["findings"]}
    assert {f"agent {name}" for name in AGENTS} <= set(found)
    assert {"sandbox process", "sandbox bubblewrap"} <= set(found)
    lacking = found["agent codex"]
    assert lacking["state"] == "note"
    assert "apt-get install npm" in lacking["said"] and "onward agents install codex" in lacking["said"]
    assert found["agent command"]["state"] == "ok"


def test_doctor_cleans_up_what_a_killed_run_left_and_nothing_else(shell: Shell, tmp_path: Path) -> None:
    bubblewrap()
    root = place_of(tmp_path / "runs")
    command = [sys.executable, OWNER, "bubblewrap", str(root), "", "", "98765"]
    living, dead = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2))
    ids = []
    for owner in (living, dead):
        assert owner.stdout is not None
        ids.append(owner.stdout.readline().split()[1])
        while owner.stdout.readline() != "running\n":
            pass
    dead.kill()
    dead.communicate()
    try:
        assert (root / ids[1]).is_dir()
        done = shell("doctor", "--clean", "--store", str(tmp_path / "runs"))
        assert done.code == 0 and ids[1] in done.out and ids[0] not in done.out
        assert (root / ids[0]).is_dir() and not (root / ids[1]).exists()
        assert "nothing was left behind" in shell("doctor", "--clean", "--store", str(tmp_path / "runs")).out
    finally:
        living.kill()
        living.communicate()
        shell("doctor", "--clean", "--store", str(tmp_path / "runs"))


@pytest.mark.agents
@pytest.mark.slow
def test_doctor_has_an_agent_play_an_episode_twice_and_names_what_no_rule_covers(shell: Shell) -> None:
    ready("codex")
    shell.environment["ONWARD_CACHE"] = str(CACHE)
    done = shell("doctor", "--agent", "codex", "--json")
    assert done.code == 0, done.err
    said = {one["what"]: one["said"] for one in json.loads(done.out)["findings"]}
    assert said == {
        "agent codex": "plays an episode: 5 calls through the gateway, the same files both times",
        "rules": "codex@0.169.0/2: nothing differs that no rule covers",
    }


def test_doctor_has_no_episode_for_an_agent_that_is_whatever_it_is_given(shell: Shell) -> None:
    done = shell("doctor", "--agent", "command")
    assert done.code == 2 and "no episode of its own" in done.err
