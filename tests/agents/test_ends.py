"""How a trial of an agent ends, and what a run does then: told loudly, paid once, and gone on with where it is owed."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.agents.journey import KEY, TALKS, Journey
from tests.cli.console import ended, interrupt, until

from onward.ask import Answer
from onward.gateway.scripted import Request
from onward.testing import Fault, default_answer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

CALLS = 4


def journey(
    folder: Path, command: str = TALKS, answer: Callable[[Request], Any] = default_answer, **more: Any
) -> Journey:
    """One of that agent, or of any command."""
    solver = {"options": {"command": command, "version": "1"}}
    return Journey(folder, "command", answer, solver=solver, **more)


class Held:
    """A provider that answers the request after so many others only when it is let go."""

    def __init__(self, after: int) -> None:
        self.after, self.asked = after, 0
        self.reached, self.go = threading.Event(), threading.Event()

    async def __call__(self, request: Request) -> str:
        self.asked += 1
        if self.asked > self.after:
            self.reached.set()
            await asyncio.to_thread(self.go.wait, 60)
        return default_answer(request)


def test_an_agent_that_makes_no_call_fails_loudly(tmp_path: Path) -> None:
    with journey(tmp_path, "echo I know better") as at:
        done = at()
        assert done.code == 3
        told = at("show", "latest", "--errors").out
        assert "made no model call through the gateway" in told and "I know better" in told
        assert at.results() == [] or at.results()[-1][0] == "error"


def test_an_agent_that_gives_up_has_failed_and_its_last_words_are_kept(tmp_path: Path) -> None:
    with journey(tmp_path, f"{TALKS}; echo It is beyond me. >&2; exit 7") as at:
        done = at()
        assert done.code == 0, done
        outcome, error = at.results()[-1]
        assert outcome == "failed"
        assert "exit code 7" in error["reason"] and "It is beyond me." in error["reason"]
        assert "includes 0.0 %" in done.out
        assert at("resume").code in (0, 1) and at.billed == CALLS


def test_one_that_will_not_hear_that_its_time_is_up_is_killed_and_its_work_is_verified(tmp_path: Path) -> None:
    with journey(
        tmp_path, f"trap '' TERM INT HUP; {TALKS}; while :; do sleep 1; done", tasks="tasks", score="reward"
    ) as at:
        at.task("[ -f notes.txt ] && echo 0.5 > /logs/verifier/reward.txt", seconds=4)
        done = at()
        assert done.code == 0, done
        outcome, _ = at.results()[-1]
        assert outcome == "timeout" and "reward 50.0 %" in done.out
        until(lambda: not at.left, f"nothing left: {at.left}")


def test_an_answer_that_came_after_its_time_was_up_is_kept_for_its_continuation(tmp_path: Path) -> None:
    limit, late = 3.0, 5.0
    asked = 0

    async def answer(request: Request) -> str:
        nonlocal asked
        asked += 1
        if asked == 3:
            await asyncio.sleep(late)
        return default_answer(request)

    with journey(tmp_path, answer=answer, limits={"time": limit}) as at:
        done = at()
        assert done.code == 0 and at.results()[-1][0] == "timeout", done
        paid = at.billed
        assert len(at.answered) == paid == asked < CALLS
        done = at("continue", "latest")
        assert done.code == 0, done
        assert at.billed == CALLS
        assert at.value["exchanges"]["served"] == {"exact": paid}


def test_a_provider_that_refuses_the_key_stops_the_run(tmp_path: Path) -> None:
    fault = Fault("401")
    with journey(tmp_path, answer=lambda request: fault) as at:
        done = at()
        assert done.code == 3, done
        assert "401" in done.out + done.err and KEY not in done.out + done.err
        at.waiting.script = default_answer
        done = at("resume")
        assert done.code == 0, done
        assert at.billed == CALLS


def test_a_budget_that_ends_in_the_middle_leaves_the_trial_owed_and_more_of_it_goes_on(tmp_path: Path) -> None:
    with journey(tmp_path, prices={"scripted/mock-1": "1000/1000"}, limits={"budget_usd": 0.5}) as at:
        done = at()
        assert done.code == 3, done
        paid = at.billed
        assert paid == 2
        done = at("resume", "--budget-usd", "10")
        assert done.code == 0, done
        assert at.billed == CALLS
        assert at.value["exchanges"]["served"] == {"exact": paid}


def test_ctrl_c_lets_the_call_under_way_land_and_resume_goes_on(tmp_path: Path) -> None:
    held = Held(2)
    with journey(tmp_path, answer=held) as at:
        process = at.start()
        at.wait(held.reached.is_set, "the third call")
        interrupt(process)
        held.go.set()
        done = ended(process)
        assert done.code == 3, done
        assert at.billed == 3
        done = at("resume")
        assert done.code == 0, done
        assert at.billed == CALLS and "in doubt" not in done.out
        assert at.value["exchanges"]["served"] == {"exact": 3}


def test_two_ctrl_c_stop_at_once_though_the_provider_is_silent(tmp_path: Path) -> None:
    with journey(tmp_path, f"trap '' INT TERM; {TALKS}") as at:
        at.waiting.after(2)
        process = at.start()
        at.wait(at.waiting.reached.is_set, "the third call, which nobody answers")
        interrupt(process)
        assert process.stdout is not None
        while "Ctrl-C again stops at once" not in process.stdout.readline():
            assert process.poll() is None
        interrupt(process)
        done = ended(process)  # long before the provider's silence would be called a stall
        assert done.code == 3 and "1 call cut off" in done.out, done
        at.waiting.after(None)
        done = at("resume")
        assert done.code == 0 and "1 in doubt will be asked again" in done.out, done
        assert at.billed == CALLS
        assert at.value["exchanges"]["served"] == {"exact": 2}


def test_two_trials_are_performed_at_once_where_two_sandboxes_may_be_open(tmp_path: Path) -> None:
    both = threading.Event()
    asked: set[str] = set()

    async def answer(request: Request) -> str:
        asked.add(request.text[:9])
        if len(asked) > 1:
            both.set()
        await asyncio.to_thread(both.wait, 60)
        return default_answer(request)

    rows = [{"id": f"t{n}", "input": f"Task {n}:", "target": "done"} for n in (1, 2, 3)]
    with journey(tmp_path, answer=answer, tasks="three.jsonl", limits={"sandboxes": 2}) as at:
        at.shell.write("three.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
        done = at()
        assert done.code == 0, done
        assert both.is_set() and at.billed == 3 * CALLS
        assert [outcome for outcome, _ in at.results()] == ["ok"] * 3


def test_a_sandbox_that_is_killed_from_outside_is_an_error_and_is_owed(tmp_path: Path) -> None:
    held = Held(2)
    with journey(tmp_path, answer=held) as at:
        process = at.start()
        at.wait(held.reached.is_set, "the third call")
        for pid in at.alive:
            os.kill(pid, signal.SIGKILL)
        held.go.set()  # what is under way is still recorded
        done = ended(process)
        assert done.code == 3, done
        assert "the sandbox ended under the agent" in at("show", "latest", "--errors").out
        done = at("resume")
        assert done.code == 0, done
        assert at.billed == CALLS and at.value["exchanges"]["served"] == {"exact": 3}


def test_what_was_cut_off_can_be_begun_again_and_its_cost_stays(tmp_path: Path) -> None:
    with journey(tmp_path) as at:
        at.killed(2)
        done = at("resume", "--in-flight", "restart")
        assert done.code == 0, done
        assert at.billed == 2 + CALLS
        assert at.value["exchanges"]["served"] == {} and at.value["exchanges"]["paid"] == CALLS
        assert f"{2 + CALLS} calls" in done.out
        told = at("show", "latest/notes", "--trajectory").out
        assert "4 exchanges: 4 live" in told and "6 without a known price" in told


ASKS = """\
import json, os, urllib.request
tool = {"name": "bash", "parameters": {"type": "object", "properties": {"run_in_background": {"type": "boolean"}}}}
body = {"model": os.environ["ONWARD_MODEL"], "messages": [{"role": "user", "content": "Go."}], "max_tokens": 16}
body["tools"] = [{"type": "function", "function": tool}]
headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"], "Content-Type": "application/json"}
url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), headers)).read()
"""


@pytest.mark.parametrize("beside", [True, False])
def test_a_tool_told_to_work_in_the_background_marks_its_trial_as_not_reproducible(
    tmp_path: Path, beside: bool
) -> None:
    call = {"id": "call_1", "name": "bash", "arguments": {"command": "make", "run_in_background": beside}}
    said = Answer("", "tool", [call])
    with journey(tmp_path, f"/usr/bin/python3 -c {shlex.quote(ASKS)}", lambda request: said) as at:
        assert at().code == 0
        assert at.value["exchanges"]["reproducible"] is not beside
        for more in ((), ("--trajectory",)):
            assert ("not reproducible" in at("show", "latest/notes", *more).out) is beside
