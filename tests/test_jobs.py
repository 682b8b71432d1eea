"""A job's run folders: all that timed out are continued, each left out is named, and one holds up no other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tests.benchflow import Episode, folder

from onward import jobs
from onward.config import Settings, settings
from onward.continuing import Terms
from onward.errors import NotThere, UsageError
from onward.jobs import Member, is_job, members
from onward.progress import Quiet
from onward.report.prospects import prospects_page
from onward.views.prospects import Prospect

TASK = {"task.toml": 'version = "1.0"\n', "instruction.md": "Write the file.", "tests/test.sh": "#!/bin/sh\n"}


class Job:
    """A job of BenchFlow's, with the tasks beside it."""

    def __init__(self, at: Path) -> None:
        self.at, self.root, self.tasks, self.watch = at, at / "jobs" / "2026-07-26__20-57-17", at / "tasks", Quiet()
        self.settings: Settings = settings(store=at / "runs", environment={}, folder=at)
        self.terms = Terms(tasks_dir=self.tasks)
        (self.root / "summary.json").parent.mkdir(parents=True)
        (self.root / "summary.json").write_text("{}")

    def add(self, name: str, result: Mapping[str, Any] | None = None, config: Mapping[str, Any] | None = None,
            without: tuple[str, ...] = ()) -> Path:  # fmt: skip
        """A folder that timed out, unless the result says otherwise, and its task."""
        task = name.partition("__")[0]
        for path, text in TASK.items():
            place = self.tasks / task / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(text)
        return folder(
            self.root / name, Episode(steps=len(task)).rows, config={"task_path": f"tasks/{task}", **(config or {})},
            result={"task_name": task, **(result or {})}, without=without,
        )  # fmt: skip

    def members(self, **more: Any) -> dict[str, Member]:
        terms = Terms(tasks_dir=self.tasks, **more)
        return {one.prospect.name: one for one in members(str(self.root), self.settings, terms)}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


DONE = {"error": None, "error_category": None, "rewards": {"reward": 1.0}}
LATER = ("result.json", "prompts.json", "timing.json", "rewards.jsonl", "verifier/reward.txt")


def test_every_folder_that_timed_out_is_continued_and_each_other_is_named_with_the_reason(job: Job) -> None:
    job.add("one__11111111")
    job.add("three__22222222")
    job.add("done__33333333", DONE)
    job.add("cut__44444444", without=LATER)
    job.add("begun__55555555", without=(*LATER, "trajectory/llm_trajectory.jsonl"))
    job.add("goose__66666666", config={"agent": "goose"})
    job.add("changed__77777777", config={"source": {"file_hashes": {"instruction.md": "sha256:00"}}})
    job.add("nobody__88888888", {"agent": None}, {"agent": None})
    job.add("continued/2026-07-27__01-00-00/one__11111111__continued")
    found = job.members()
    reasons = {name: one.prospect.left_out for name, one in found.items()}
    assert [name for name, reason in reasons.items() if not reason] == ["one__11111111", "three__22222222"]
    assert reasons["done__33333333"] == "it did not time out: it ended by itself"
    assert reasons["cut__44444444"] == "it has no result, so nothing says that it timed out"
    assert reasons["begun__55555555"] == "no answer was recorded: there is nothing to go on from"
    assert "'goose', which is no agent here" in reasons["goose__66666666"]
    assert "instruction.md changed since it was recorded" in reasons["changed__77777777"]
    assert "does not say which agent worked" in reasons["nobody__88888888"]
    assert reasons["continued/2026-07-27__01-00-00/one__11111111__continued"] == (
        "it is what one__11111111 was continued to"
    )
    assert [name for name, one in found.items() if one.refused] == ["changed__77777777", "goose__66666666"]
    assert not job.members(accept_mismatch=True)["changed__77777777"].prospect.left_out
    page = prospects_page([one.prospect for one in found.values()])
    assert page.startswith("2 timeouts: served again ≈ ") and "live ≤ 2 min, ≈ $0.60" in page
    assert all(name in page for name in reasons)


@pytest.mark.parametrize("inside", ["", "wrong", "run", "elsewhere"])
def test_a_folder_without_run_folders_is_no_job(tmp_path: Path, inside: str) -> None:
    made = {"wrong": "config.json", "run": "journal.db", "elsewhere": "agent/config.json"}.get(inside)
    if made:
        (tmp_path / made).parent.mkdir(exist_ok=True)
        (tmp_path / made).write_text('{"theme": "dark"}')
    assert not is_job(str(tmp_path)) and not is_job(str(tmp_path / "nowhere"))


def test_what_one_is_refused_for_holds_up_no_other(job: Job) -> None:
    for name in ("one__1", "three__2"):
        job.add(name)
    every = list(job.members().values())
    gone = list(jobs.carry_on(every, job.settings, job.watch, job.terms, None))
    assert [(one.member.prospect.name, "No key for anthropic" in one.refused) for one in gone] == [
        ("one__1", True), ("three__2", True)
    ]  # fmt: skip
    assert jobs.scores(every, gone, job.settings.store) == []


def test_a_ctrl_c_while_one_is_told_stops_the_rest(job: Job) -> None:
    for name in ("one__11111111", "two__22222222", "three__33333333"):
        job.add(name)
    gone = jobs.carry_on(list(job.members().values()), job.settings, job.watch, job.terms, None, lambda: bool(late))
    late = list[str]()
    assert "not begun" not in next(gone).refused
    late.append("Ctrl-C")
    assert [one.refused for one in gone] == ["not begun: Ctrl-C"] * 2


def test_the_budget_is_that_of_all_of_them(job: Job) -> None:
    spent = {"usd": 0.75, "tokens": 400}
    bounded = job.settings.having(limits={"budget_usd": 1.0, "budget_tokens": 1000})
    left = jobs.less(bounded, spent["usd"], int(spent["tokens"]))
    assert left.flags.limits == {"budget_usd": 0.25, "budget_tokens": 600}
    assert jobs.less(job.settings, 5.0, 5).flags.limits == {}
    with pytest.raises(UsageError, match=r"the budget is used up: the others have spent \$1\.00"):
        jobs.less(bounded, 1.0, 0)


def test_where_nothing_timed_out_there_is_nothing_to_continue(job: Job) -> None:
    job.add("done__3", DONE)
    every = list(job.members().values())
    with pytest.raises(NotThere, match="no run folder there timed out"):
        jobs.scores(every, [], job.settings.store)
    assert json.loads(json.dumps(every[0].prospect.to_json()))["left_out"] and isinstance(every[0].prospect, Prospect)
