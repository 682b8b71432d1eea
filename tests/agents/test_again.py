"""An agent's trials are done again on purpose, or because of errors: what is void, served, paid again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.agents.journey import Journey
from tests.cli.continued import AGENT

from onward.gateway.scripted import Request
from onward.runs import open_run
from onward.testing import EQUAL_EPISODE, Fault, Script

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(180)]

WORKED = "[ -f out.json ] && echo 1 > /logs/verifier/reward.txt || echo 0 > /logs/verifier/reward.txt"
WHOLE, HALF = Script(EQUAL_EPISODE, ids="call"), Script(EQUAL_EPISODE[:2], ids="call")
"""The whole work is five calls; half of it is three, and leaves no `out.json`. Their first requests are the same."""


@pytest.fixture(params=["command", "claude-code"])
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journey]:
    """Two tasks, one after the other: `memo`, in which half of the work is enough, and `notes`."""
    options = {"command": ["/usr/bin/python3", "-c", AGENT], "version": "1"} if request.param == "command" else {}
    more = {"tasks": "tasks", "score": "reward", "solver": {"options": options}, "prices": {"scripted/mock-1": "1/1"}}
    with Journey(tmp_path, request.param, HALF, **more) as found:
        found.task(WORKED)
        for file in (tmp_path / "tasks" / "notes").rglob("*.*"):
            found.shell.write(f"tasks/memo/{file.relative_to(tmp_path / 'tasks' / 'notes')}", file.read_text())
        found.shell.write("tasks/memo/environment/Dockerfile", "FROM debian:12\n")
        found.shell.write("tasks/memo/tests/test.sh", "#!/bin/sh\necho 1 > /logs/verifier/reward.txt\n").chmod(0o755)
        yield found


def report(at: Journey, task: str) -> Any:
    """What the gateway said of a trial: what was served, what was paid."""
    [trial] = json.loads(at("show", f"latest/{task}/generate", "--json").out)
    return trial["value"]["exchanges"]


def voids(at: Journey) -> list[Any]:
    run = open_run(at.shell.run)
    try:
        return [(entry.data["prefixes"], entry.data["why"]) for entry in run.entries("", ("void",))]
    finally:
        run.close()


def test_a_failed_trial_is_done_again_from_its_first_call_and_served_nothing_of_its_first_go(at: Journey) -> None:
    done = at("run", "coder.yaml", "--sandboxes", "1")
    assert done.code == 0 and at.billed == 6 and "reward 50.0 %" in done.out, done

    at.waiting.script = WHOLE
    at.waiting.given = 0
    at.killed(2, "resume", "latest", "--rerun-failed")
    agent = at.agent
    assert voids(at) == [([f"{agent}/notes/1"], "--rerun-failed")], "what passed is not touched"
    done = at("resume", "latest", "--rerun-failed")  # what was cut off is finished, and nothing is begun anew
    assert done.code == 0 and len(voids(at)) == 1, done
    said = report(at, "notes")
    assert (said["served"], said["paid"]) == ({"exact": 2}, 3), "of this go alone"
    assert at.billed == 6 + 5
    assert "50.0 % first go · 100.0 % after 1 rerun" in done.out
    assert "≠ attempt 1 done again after 3 exchanges" in at("show", "latest/notes", "--trajectory").out
    assert "11 calls" in done.out, "what the first go cost stays spent"

    again = at("resume", "latest", "--rerun-failed")
    assert at.billed == 11 and len(voids(at)) == 1, again


def test_an_errors_retry_takes_over_what_was_answered_and_leaves_the_run_as_it_was(at: Journey) -> None:
    def refusing(request: Request) -> Any:
        return Fault("401") if at.waiting.given > 5 + 3 else WHOLE(request)

    at.waiting.script = refusing
    done = at("run", "coder.yaml", "--sandboxes", "1")
    assert done.code == 3 and at.billed == 5 + 3, done
    original = at.shell.run
    before = _head(original)

    at.waiting.script = WHOLE
    at.waiting.given = 0
    words = ["run", "--retry-errors", original.name]
    at.killed(1, *words)
    done = at(*words)  # the same words are the same run
    assert done.code == 0, done
    assert at.shell.run != original and _head(original) == before and len(list(at.shell.store.glob("coder-*"))) == 2
    said = report(at, "notes")
    assert (said["served"], said["paid"]) == ({"exact": 4}, 1)
    assert report(at, "memo")["paid"] == 5, "taken over as it was"
    assert at.billed == 5 + 5 and "spent" in done.out and "(2 calls" in done.out and "reused $" in done.out


def _head(folder: Path) -> Any:
    run = open_run(folder)
    try:
        return run.journal.head()
    finally:
        run.close()
