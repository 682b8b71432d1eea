"""`onward run --agent`, as a person meets it: what it would cost, what is told while agents work, what is refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest
from tests.agents.rig import bubblewrap
from tests.cli.console import Shell

from onward.cli.display import status
from onward.faking import FakeClock
from onward.keys import Key
from onward.meter import Meter
from onward.once import Event
from onward.progress import Progress
from onward.sandbox.bubblewrap import bwrap
from onward.testing import ProviderServer

SPEC = {
    "score": None, "parse": None,
    "solver": {
        "agent": "command", "model": "openai/unheard-of",
        "options": {"command": 'curl -s "$OPENAI_BASE_URL/chat/completions" -H "Authorization: Bearer $OPENAI_API_KEY" '
                    """-d '{"model": "unheard-of", "messages": [{"role": "user", "content": "Well?"}]}'"""},
    },
}  # fmt: skip


def test_a_plan_of_agents_says_what_it_cannot_know_and_bounds_the_rest(shell: Shell, server: ProviderServer) -> None:
    file = shell.experiment(tasks=4, **SPEC)
    planned = shell("run", file, "--plan", "--time", "600", "--sandboxes", "2")
    assert planned.code == 0, planned.err
    assert "unknown: agents ask as often as they see fit" in planned.out and "--budget-usd" in planned.out
    assert "at most 20:00" in planned.out  # four of ten minutes, two at a time
    found = json.loads(shell("run", file, "--plan", "--json").out)
    assert (found["calls"], found["usd"], found["basis"], found["bounded"]) == (None, None, "agents", True)
    assert not server.requests and not shell.store.exists()


def test_a_plan_of_solutions_asks_for_nothing(shell: Shell) -> None:
    planned = shell("run", "examples", "--agent", "oracle", "--plan")
    assert planned.code == 0 and "unknown" not in planned.out
    assert "calls  0" in planned.out and "at most" in planned.out


def test_what_recorded_agents_asked_is_what_others_are_expected_to_ask(shell: Shell) -> None:
    bubblewrap()
    file = shell.experiment(tasks=4, **SPEC)
    assert shell("run", file, "--limit", "2", "--price", "openai/unheard-of=1/1").code == 0
    planned = json.loads(shell("run", file, "--plan", "--json").out)
    assert (planned["calls"], planned["basis"], planned["new"]) == (2, "averages", 2)
    assert planned["usd"] > 0


def test_a_bill_that_is_not_the_whole_one_says_so(shell: Shell) -> None:
    bubblewrap()
    done = shell("run", shell.experiment(tasks=4, **SPEC), "--limit", "1")
    assert done.code == 0, done.err
    assert "not in it: 1 call at a price that nobody knows. --price MODEL=IN/OUT" in done.out


def test_the_live_line_moves_while_agents_work() -> None:
    clock, key = FakeClock(), Key.of("coder", "fix", "1")
    progress = Progress("n-1", 3, 0, 3)
    for name, before in (("fix", 151.0), ("parse", 4.0), ("waits", 0.0)):
        progress.working[Key.of("coder", name, "1")] = Meter(clock, 1800.0, before)

    async def works() -> None:
        assert status(progress, 0.0) == "[0/3] · at work 2:31 · $0.00 spent"
        for _ in range(3):
            progress.take(Event("step.completed", key, "ok", 0.01, 4_000, None))
        progress.take(Event("step.reused", key, "ok", 0.01, 4_000, None))
        await progress.working[Key.of("coder", "parse", "1")].run(both_work(), unnoted)

    async def both_work() -> None:
        said = status(progress, 0.0)
        assert said == "[0/3] · 2 at work, longest 2:31 · 1 served · 3 exchanges, 12,000 tokens · $0.03 spent"

    async def unnoted(_: float) -> None: ...

    asyncio.run(progress.working[key].run(works(), unnoted))


def test_a_price_that_was_told_to_a_run_holds_when_it_is_resumed(shell: Shell) -> None:
    bubblewrap()
    file = shell.experiment(tasks=2, **SPEC)
    assert shell("run", file, "--max-new", "1", "--price", "openai/unheard-of=1/1").code == 3
    resumed = shell("resume")
    assert resumed.code == 0 and "not in it" not in resumed.out


@pytest.mark.parametrize("name", ["arithmetic", "examples"])
def test_a_benchmark_keeps_its_sampling_for_models(shell: Shell, name: str) -> None:
    done = shell("run", name, "--agent", "oracle", "--plan")
    assert done.code == 0, done.err


def test_a_folder_without_tasks_is_told_how_tasks_are_made(shell: Shell) -> None:
    (shell.folder / "empty").mkdir()
    done = shell("run", "empty", "--agent", "oracle")
    assert done.code == 2 and "holds no tasks" in done.err and "onward tasks init NAME" in done.err


@pytest.mark.parametrize("version", ["latest", "../x"])
def test_a_version_that_does_not_stay_the_same_is_refused_before_a_run_is_made(shell: Shell, version: str) -> None:
    done = shell("run", "examples", "--agent", f"claude-code@{version}", "--model", "openai/m")
    assert done.code == 2 and "is no version" in done.err and not shell.store.exists()


def test_where_there_is_no_bubblewrap_what_is_open_to_agents_is_said(shell: Shell) -> None:
    bubblewrap()
    program, _ = bwrap()
    hidden = [program, "--dev-bind", "/", "/", "--ro-bind", "/dev/null", program]
    done = subprocess.run(
        [*hidden, sys.executable, "-m", "onward", "run", "examples", "--agent", "oracle", "--max-new", "1"],
        cwd=shell.folder, env=shell.environment, text=True, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert "bubblewrap does not work here (bwrap is not installed: apt-get install bubblewrap)" in done.stdout
    assert "files and network are open" in done.stdout


def test_a_plan_names_tasks_that_need_another_sandbox_than_was_asked_for(shell: Shell) -> None:
    assert shell("tasks", "init", "tasks/plain").code == shell("tasks", "init", "tasks/needs").code == 0
    shell.write("tasks/needs/environment/Dockerfile", "FROM debian:12\nRUN make it\nWORKDIR /app\n")
    planned = shell("run", "tasks", "--agent", "oracle", "--sandbox", "bubblewrap", "--plan")
    assert planned.code == 0 and "1 of 2 tasks: this task needs --sandbox container" in planned.out
    assert "RUN make it" in planned.out


@pytest.mark.parametrize(
    ("sandbox", "said"),
    [({"memroy": "1g"}, 'Did you mean "memory"?'), ({"memory": "lots"}, "'lots' is not a size"),
     ({"kind": "bubblewarp"}, "there is no sandbox called 'bubblewarp'")],
)  # fmt: skip
def test_a_sandbox_that_cannot_be_meant_is_refused_before_a_run_is_made(
    shell: Shell, sandbox: dict[str, str], said: str
) -> None:
    done = shell("run", shell.experiment(solver={"agent": "oracle", "sandbox": sandbox}, score="reward", parse=None))
    assert done.code == 2 and said in done.err and not shell.store.exists()
