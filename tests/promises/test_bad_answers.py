"""Providers that answer badly, a whole run against each: what it says, what it ends with, and that nothing is lost.

After each the provider is repaired and the run resumed: it completes, says what a run says that never met trouble, and
no completed call was paid for again, by the provider's own account.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.console import Done, Shell

from onward.runs import open_run
from onward.testing import Fault, ProviderServer, Request
from onward.views import summary, trials

pytestmark = pytest.mark.slow
TASKS, GOOD = 8, 3
"""How many tasks there are, and how many calls pass before the trouble begins."""
VARIABLE = "SCRIPTED_KEY"


def answer(request: Request) -> str:
    return f"The answer is {int(request.digest[:2], 16)}."


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer(answer) as running:
        yield running


def keyed(folder: Path) -> Shell:
    made = Shell(folder)
    made.environment[VARIABLE] = "sk-onward-testing-0123456789"
    return made


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return keyed(tmp_path)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a run says that never met trouble."""
    shell = keyed(tmp_path_factory.mktemp("calm"))
    with ProviderServer(answer) as server:
        assert shell("run", experiment(shell, server, "calm")).code == 0
    return views(shell, "calm")


def experiment(shell: Shell, server: ProviderServer, name: str, **limits: Any) -> str:
    """One call at a time, so that it is known which calls came before the trouble."""
    return shell.experiment(
        name, TASKS, solver={"model": "scripted/m", "prompt": "{input}"},
        providers={"scripted": {"base_url": f"{server.url}/v1", "key_name": VARIABLE}},
        limits={"concurrency": 1, "attempts": 2, "max_errors": 2, **limits},
    )  # fmt: skip


def views(shell: Shell, name: str) -> list[Any]:
    run = open_run(next(shell.store.glob(f"{name}-*")))
    try:
        return [(trial.key, trial.outcome, trial.output, trial.answer, trial.scores) for trial in trials(run)]
    finally:
        run.close()


def repaired(shell: Shell, server: ProviderServer, name: str, harmed: list[str], calm: list[Any]) -> None:
    """The provider is well again: the run completes, as if nothing had been, and nothing is paid for twice."""
    server.faults.clear()
    assert shell("resume", shell.run.name).code == 0
    billed = Counter(call.digest for call in server.calls if call.digest not in harmed)
    assert set(billed.values()) == {1}
    assert len(billed) + len(set(harmed)) == TASKS

    run = open_run(shell.run)
    try:
        found = summary(run)
        (part,) = found.solvers.values()
        assert (part.ok, part.failed, part.errors, part.missing) == (TASKS, 0, 0, 0)
        assert found.doubt == 0
    finally:
        run.close()
    assert views(shell, name) == calm


def said(done: Done) -> str:
    assert "Traceback" not in done.out + done.err
    return done.out + done.err


STOPS = [
    pytest.param(Fault("401", after=GOOD), f"key in {VARIABLE}", id="401"),
    pytest.param(Fault("402", after=GOOD), f"key in {VARIABLE}", id="402"),
    pytest.param(Fault("403", after=GOOD), f"key in {VARIABLE}", id="403"),
    pytest.param(Fault("404", after=GOOD), "'m' does not exist", id="404"),
    pytest.param(Fault("quota", after=GOOD), f"key in {VARIABLE}", id="quota"),
]


@pytest.mark.parametrize(("fault", "words"), STOPS)
def test_what_would_fail_every_call_stops_the_provider_at_once(
    shell: Shell, server: ProviderServer, calm: list[Any], fault: Fault, words: str
) -> None:
    server.faults.append(fault)
    done = shell("run", experiment(shell, server, "bad"))
    assert done.code == 3, done
    assert words in said(done)
    assert len(server.requests) == GOOD + 1, "one refusal is enough"
    assert len(server.calls) == GOOD
    repaired(shell, server, "bad", [], calm)


ERRORS = [
    pytest.param(Fault("429", after=GOOD, retry_after="0.01"), "rate limit", id="429-for-ever"),
    pytest.param(Fault("500", after=GOOD), "500", id="500"),
    pytest.param(Fault("529", after=GOOD), "overloaded", id="529"),
    pytest.param(Fault("error", after=GOOD), "Overloaded", id="error-inside-a-200"),
    pytest.param(Fault("truncated", after=GOOD), "", id="truncated-json"),
    pytest.param(Fault("cut", after=GOOD), "", id="cut-in-the-middle"),
    pytest.param(Fault("garbage", after=GOOD), "", id="nul-bytes"),
    pytest.param(Fault("not-text", after=GOOD), "", id="not-text"),
    pytest.param(Fault("hang", after=GOOD), "no byte", id="hang"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("fault", "words"), ERRORS)
def test_what_may_pass_is_tried_again_within_bounds_and_then_owed(
    shell: Shell, server: ProviderServer, calm: list[Any], fault: Fault, words: str, stream: bool
) -> None:
    server.faults.append(fault)
    more = ["--stream"] if stream else []
    done = shell("run", experiment(shell, server, "bad", stall=0.3), *more)
    assert done.code == 3, done
    assert words in said(done)
    assert len(server.calls) == GOOD
    repaired(shell, server, "bad", [], calm)


@pytest.mark.parametrize("kind", ["nul", "huge"])
def test_a_strange_answer_is_an_answer(shell: Shell, server: ProviderServer, kind: str) -> None:
    server.faults.append(Fault(kind, times=1, after=GOOD))
    done = shell("run", experiment(shell, server, "bad"))
    assert done.code == 0, done
    said(done)
    size = len(server.calls)
    assert size == TASKS
    odd = views(shell, "bad")[GOOD]
    assert odd[1] == "failed", "no number is in it"
    assert shell("resume", shell.run.name).code in (0, 1)
    assert len(server.calls) == size, "and it is kept"
    assert shell("verify", shell.run.name).code == 0


def test_an_answer_over_64_megabytes_is_dropped_and_owed(shell: Shell, server: ProviderServer, calm: list[Any]) -> None:
    server.faults.append(Fault("huge", after=GOOD, size=65 * 1024 * 1024))
    done = shell("run", experiment(shell, server, "bad", attempts=1, max_errors=1))
    assert done.code == 3, done
    assert "over 64 MB" in said(done)
    repaired(shell, server, "bad", [call.digest for call in server.calls[GOOD:]], calm)
