"""Die at every append, before the commit and right after it, and go on: nothing that was recorded is asked again."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.house import House, Oracle, quick_folder, seen

from onward.fingerprint import digest_of
from onward.runs import open_run
from onward.testing import Crash, CrashingJournal, crash_at

SOLVER = """
async def solve(ctx, task):
    plan = await ctx.step("plan", lambda: {"of": task.input})
    draft = await ctx.ask(f"Draft: {plan['of']}", seed=ctx.seed)

    async def check(inner):
        return (await inner.ask(f"Check {draft.text}: {task.input}", seed=inner.seed)).text

    return await ctx.step("check", check)
"""
SCORE = """
def near(answer, task):
    return {"value": 0.25}
"""
SPEC: dict[str, Any] = {
    "solver": [
        {"model": "python/m", "name": "model"}, {"python": "solver.py:solve", "name": "code", "model": "python/m"},
    ],
    "samples": 2,
    "reduce": "majority",
    "score": ["numeric", "score.py:near"],
    "judge": {"model": "python/m", "rubric": "Is it right?"},
}  # fmt: skip


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    with quick_folder() as folder:
        (folder / "solver.py").write_text(SOLVER)
        (folder / "score.py").write_text(SCORE)
        yield folder


def made(place: Path, tasks: int, concurrency: int) -> tuple[House, Path]:
    """An experiment and its run, planned and not begun."""
    house = House(place, spec={**SPEC, "name": f"exp{tasks}x{concurrency}", "limits": {"concurrency": concurrency}})
    house.tasks = house.tasks[:tasks]
    house.run(max_new=0)
    with house.opened(house.spec["name"]) as run:
        return house, run.folder


def recorded(folder: Path) -> tuple[Counter[str], int]:
    """Answered calls that are durable, by request; and how many are in doubt."""
    run = open_run(folder)
    requests = {(e.key, e.attempt): digest_of(e.data["request"]) for e in run.entries("", ("intent",))}
    results = [e for e in run.entries("", ("result",)) if (e.key, e.attempt) in requests]
    done = Counter(requests[e.key, e.attempt] for e in results if e.outcome == "ok")
    doubt = len(requests) - len(results)
    run.close()
    return done, doubt


@pytest.mark.parametrize("late", [False, True], ids=["before the commit", "after it"])
@pytest.mark.parametrize(("tasks", "concurrency"), [(1, 1), (1, 8)])
def test_a_completed_call_is_never_sent_again_whatever_append_dies(
    place: Path, tasks: int, concurrency: int, late: bool
) -> None:
    house, planned = made(place, tasks, concurrency)
    whole = place / f"whole-{concurrency}-{late}"
    shutil.copytree(planned, whole)
    counting: list[CrashingJournal] = []
    house.model = calm = Oracle(faults=5)
    ending = house.drive(whole, journal=lambda inner: counting.append(crash_at(10**9, inner)) or counting[0])  # type: ignore[func-returns-value]
    assert ending.code == 0 and any(count > 1 for count in calm.asked.values()), "some calls were tried again"
    with house.opened(whole) as run:
        expected = seen(run)
    appends = counting[0].appends
    assert appends > 30 * tasks

    for n in range(1, appends + 1):
        folder = place / f"crash-{n}"
        shutil.copytree(planned, folder)
        house.model = oracle = Oracle(faults=5)
        with pytest.raises(Crash):
            house.drive(folder, journal=lambda inner, n=n: crash_at(n, inner, late=late))  # type: ignore[misc]
        done, doubt = recorded(folder)
        assert doubt <= concurrency, "in doubt is at most what was in flight"
        before = Counter(oracle.answered)

        ending = house.drive(folder)
        assert ending.code == 0, (n, ending)
        again = oracle.answered - before
        for request, count in again.items():
            assert count <= calm.answered[request] - done[request], f"append {n}: a recorded answer was asked for again"
        assert (oracle.answered - calm.answered).total() <= doubt
        with house.opened(folder) as run:
            assert seen(run) == expected, f"append {n}"
            assert list(run.journal.check()) == []
        if n % 8 == 0:
            asked = oracle.calls
            assert house.drive(folder).settled == 0 and oracle.calls == asked, "resuming twice changes nothing"
        shutil.rmtree(folder)
