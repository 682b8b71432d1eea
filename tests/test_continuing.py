"""What a continuation is made of: exchanges and no results, its own budget, both scores, and nothing guessed."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.benchflow import CONFIG, Episode, folder

from onward import launch, lease
from onward.choice import derive_continuation
from onward.clock import iso
from onward.config import Settings, settings
from onward.context import Context, World, trial_context
from onward.continuations import Known, as_continuation, continuations
from onward.continuing import Terms, carry_on, prospects
from onward.entry import Entry, pack
from onward.errors import Drifted, NotThere, StepTimeout, UsageError
from onward.formats.benchflow import read
from onward.gateway.proxy import Door
from onward.gateway.serving import before
from onward.history import History
from onward.journal import SqliteJournal
from onward.keys import Key
from onward.limits import Bounds, Limits
from onward.meter import Meter
from onward.once import Recorder
from onward.originals import found_here, lacking
from onward.progress import Quiet
from onward.report.continued import both_scores
from onward.runs import Run, open_run
from onward.staging import bounds_of
from onward.testing import FakeClock
from onward.views.continued import continuation
from onward.views.prospects import Prospect

TRIAL = "claude-code/write-file/1"
TASK = {"task.toml": 'version = "1.0"\n', "instruction.md": "Write the file.", "tests/test.sh": "#!/bin/sh\n"}


class Room:
    """A recording that timed out, the task that it is of, and a store."""

    def __init__(self, at: Path, config: Mapping[str, Any] | None = None, **more: Any) -> None:
        self.at, self.tasks, self.watch = at, at / "tasks", Quiet()
        for name, text in TASK.items():
            path = self.tasks / "write-file" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.folder = folder(at / "jobs", Episode().rows, config=config or {}, **more)
        self.settings: Settings = settings(store=at / "runs", environment={}, folder=at)

    def adopted(self, version: str = "") -> Run:
        found = found_here(read(self.folder), self.settings, self.watch, tasks_dir=self.tasks, version=version)
        return open_run(found.run)

    def derived(self, parent: Run, **terms: Any) -> Run:
        """A continuation that nobody has driven yet."""
        derivation = {"verb": "continue", "trials": {TRIAL: 0}, **Terms(**terms).arguments}
        made = derive_continuation(
            parent, launch.stored(parent), self.settings, self.watch, derivation, {TRIAL: parent}, {TRIAL}
        )  # fmt: skip
        return open_run(asyncio.run(made))


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_a_continuation_has_the_exchanges_of_its_trial_and_none_of_its_results(room: Room) -> None:
    parent = room.adopted()
    before_it = parent.journal.head()
    made = room.derived(parent)
    kept = [row for _, row in made.journal.rows("", kinds=("result",))]
    assert len(kept) == 3 and all("llm:" in row.key and row.outcome == "ok" for row in kept)
    assert all('"origin":' in row.body for row in kept)
    assert made.journal.sums().spent[2] == 0 and made.journal.sums().reused[2] == 3
    assert parent.journal.head() == before_it
    assert room.derived(parent).folder == made.folder, "the same derivation twice is the same run"
    assert room.derived(parent, timeout=9.0).folder != made.folder


def test_what_it_had_scored_at_its_limit_is_in_the_continuation_itself(room: Room) -> None:
    found = continuation(room.derived(room.adopted(), timeout=120.0, model="anthropic/claude-haiku-4-5"))
    assert found is not None
    assert (found.trials, found.timeout, found.again) == ((TRIAL,), 120.0, ())
    assert found.models == "anthropic/claude-sonnet-4-6 (recorded), anthropic/claude-haiku-4-5 (live)"
    assert found.scores == [] and list(both_scores(found.scores)) == [], "nothing is scored yet"
    assert continuation(room.adopted()) is None


def _context(run: Run, bounds: Mapping[str, Any]) -> Context:
    """Of the trial, in a run that nobody drives."""
    clock = FakeClock()

    async def made() -> Context:
        recorder = Recorder(run.journal, clock, Limits(Bounds(), clock))
        history = History.read(run.journal, TRIAL, run.voids)
        world = World(recorder, None, lambda _: b"", 0)  # type: ignore[arg-type]  # nobody is asked
        return trial_context(world, Key(TRIAL), history, bounds)

    return asyncio.run(made())


def test_the_live_budget_is_the_originals_or_the_one_that_is_stated_and_begins_at_nothing(room: Room) -> None:
    parent = room.adopted()
    for terms, seconds in (({}, 60.0), ({"timeout": 5.0}, 5.0)):
        run = room.derived(parent, **terms)
        [chunk] = run.plan.chunks
        [(_, task)] = run.tasks(chunk)
        bounds = bounds_of(run, task, {"time": 60.0, "tokens": 100})
        assert (bounds["time"], bounds["tokens"]) == (seconds, 100)
        context = _context(run, bounds)
        assert context.meter is not None
        assert (context.meter.active, context.meter.used_tokens, context.meter.own) == (0.0, 0, True)


def test_a_replay_is_not_charged_and_the_live_budget_is_exact() -> None:
    clock = FakeClock()

    async def worked(live: float) -> float:
        meter = Meter(clock, 60.0, own=True)

        async def body() -> None:
            meter.hold()
            await clock.sleep(1000)
            meter.release()
            await clock.sleep(live)

        await meter.run(body(), _noted)
        return meter.active

    async def _noted(active: float) -> None:
        """Nothing to keep."""

    assert asyncio.run(worked(59.5)) == pytest.approx(59.5)
    began = clock.ticks()
    with pytest.raises(StepTimeout, match="60 s"):
        asyncio.run(worked(3600))
    assert clock.ticks() - began == pytest.approx(1060, abs=1.1)


def test_a_run_that_is_a_continuation_is_continued_as_it_was(room: Room) -> None:
    made = room.derived(room.adopted(), timeout=120.0, model="openai/b", on_divergence="fork")
    assert Terms().over(made).arguments == {"timeout": 120.0, "model": "openai/b", "on_divergence": "fork"}
    assert Terms(timeout=7.0, on_divergence="warn").over(made).arguments == {"timeout": 7.0, "model": "openai/b"}
    recorded = Terms(model="anthropic/claude-sonnet-4-6").over(room.adopted())
    assert recorded.arguments == {}, "the recorded model is no other"
    assert Terms(on_divergence="warn").arguments == Terms().arguments


def test_what_was_continued_is_known_by_its_terms_and_by_its_generation(room: Room) -> None:
    parent = room.adopted()
    made = room.derived(parent, timeout=9.0)
    with ExitStack() as stack:
        known = Known(continuations(room.settings.store, stack), {})
        found = known.furthest(parent, TRIAL)
        assert found is not None and found.run.id == made.id
        assert (found.reached(TRIAL), found.unfinished, found.arguments) == ("open", [TRIAL], {"timeout": 9.0})
        assert not found.holds({TRIAL: 1}), "redone since"
        assert Known(continuations(room.settings.store, stack), {"model": "openai/b"}).furthest(parent, TRIAL) is None
    assert as_continuation(parent) is None


def _ended(run: Run, outcome: str) -> None:
    """The continuation as it is when its trial has come to an end."""
    journal, clock = SqliteJournal(run.folder), FakeClock()
    lease.claim(journal, clock)
    value = {"output": {"reward": 1.0, "rewards": {"reward": 1.0}}}
    error = {"reason": "60 s", "kind": "time"} if outcome == "timeout" else None
    for step, data, said in (
        ("generate/0", {"value": value, **({"error": error} if error else {})}, outcome),
        ("score/reward", {"value": {"value": 1.0}}, "ok"),
    ):
        row, blobs = pack(Entry("result", Key(f"{TRIAL}/{step}"), iso(clock.now()), data, said))  # type: ignore[arg-type]
        journal.commit([row], blobs)
    journal.release()
    journal.close()


@pytest.mark.parametrize("tasks_dir", [True, False], ids=["with its task", "without"])
def test_a_plan_of_a_folder_says_that_it_is_continued_already(room: Room, *, tasks_dir: bool) -> None:
    def planned(**more: Any) -> Prospect:
        terms = Terms(tasks_dir=room.tasks if tasks_dir else None, **more)
        [found] = prospects(str(room.folder), room.settings, terms)
        return found

    assert planned().earlier == ""
    made = room.derived(room.adopted())
    assert (planned().left_out, planned().earlier) == ("", made.name), "it was cut off, and goes on there"
    _ended(made, "ok")
    assert re.fullmatch(rf"already continued in {made.name} \(.+, 0 calls\)", planned().left_out)
    assert planned(timeout=90.0).left_out and not planned(model="openai/b").left_out
    assert not planned(version="2.0").left_out, "with another version it is another run"
    (room.tasks / "write-file" / "instruction.md").write_text("Write another file.")
    (room.tasks / "write-file" / "more.txt").write_text("more")
    assert bool(planned().left_out) != tasks_dir, "with another task it is another run"


def test_a_plan_of_a_folder_at_its_limit_again_says_how_it_gets_more_time(room: Room) -> None:
    made = room.derived(room.adopted())
    _ended(made, "timeout")
    [found] = prospects(str(room.folder), room.settings, Terms(tasks_dir=room.tasks))
    assert found.left_out.endswith(f"to its limit again: onward continue {made.name} gives it more time")
    [more] = prospects(str(room.folder), room.settings, Terms(tasks_dir=room.tasks, timeout=90.0))
    assert (more.left_out, more.earlier) == ("", "")


def test_what_was_recorded_is_ready_to_be_served_by_a_continuation(room: Room) -> None:
    run = room.derived(room.adopted())
    step = _context(run, {}).child_path("generate/0")

    async def admitted() -> None:
        door = Door({})
        guest = door.guest(door.admit(step, cut=True))
        assert len(before(step, guest.terms.rules).recorded) == 3
        assert guest.replaying and guest.terms.closed

    asyncio.run(admitted())


# ---------------------------------------------------------------- a folder, and what differs here


def _hash(text: str) -> str:
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def test_a_task_whose_files_are_the_recorded_ones_is_no_mismatch(tmp_path: Path) -> None:
    hashes = {name: _hash(text) for name, text in TASK.items()}
    room = Room(tmp_path, {"source": {"file_hashes": hashes}})
    found = found_here(read(room.folder), room.settings, room.watch, tasks_dir=room.tasks, version="")
    assert found.mismatches == ()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"source": {"file_hashes": {"instruction.md": "sha256:00"}}}, "instruction.md changed since it was recorded"),
        ({"source": {"file_hashes": {"gone.txt": "sha256:00"}}}, "gone.txt changed since"),
        ({"effective_skills_dir": "/skills"}, "the skills in /skills"),
        ({"agent_version": "0.9", "source": None}, "made with claude-code 0.9, not 1.0"),
    ],
)
def test_what_is_not_as_it_was_is_refused_before_anything_is_started(
    tmp_path: Path, config: dict[str, Any], said: str
) -> None:
    room = Room(tmp_path, config)
    terms = Terms(tasks_dir=room.tasks, version="1.0" if "agent_version" in config else "")
    with pytest.raises(Drifted, match=r"--accept-mismatch") as raised:
        carry_on(str(room.folder), room.settings, room.watch, terms)
    assert said in str(raised.value)
    [planned] = prospects(str(room.folder), room.settings, terms)
    assert said in " ".join(one.what for one in planned.findings if one.kind == "mismatch")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"agent": "goose"}, "'goose', which is no agent here"),
        ({"agent": "command"}, "which is no agent here"),
        ({"task_path": "tasks/elsewhere"}, "--tasks-dir DIR says in which folder of tasks it is"),
    ],
)
def test_what_is_not_to_be_had_here_is_said_with_what_to_do(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    room = Room(tmp_path, config)
    with pytest.raises(UsageError) as raised:
        carry_on(str(room.folder), room.settings, room.watch, Terms())
    assert said in str(raised.value)
    [planned] = prospects(str(room.folder), room.settings, Terms())
    assert said in " ".join(one.what for one in planned.findings)


def test_the_version_that_a_recording_states_goes_on_with_it(tmp_path: Path) -> None:
    room = Room(tmp_path, {"agent_version": "2.0.9"})
    run = room.adopted()
    [solver] = run.config["spec"]["solver"]
    assert solver["options"]["version"] == "2.0.9"
    assert not list(lacking(read(room.folder), tasks_dir=room.tasks, version=""))


def test_without_a_key_it_is_refused_before_minutes_are_spent_on_being_served(room: Room) -> None:
    with pytest.raises(UsageError, match="No key for anthropic"):
        carry_on(str(room.folder), room.settings, room.watch, Terms(tasks_dir=room.tasks))
    assert len(list(room.settings.store.glob("write-file-*"))) == 1, "the recording, and no continuation"


def test_a_folder_that_did_not_time_out_is_refused_where_that_is_required(tmp_path: Path) -> None:
    room = Room(tmp_path, result={"error": None, "error_category": None})
    with pytest.raises(NotThere, match="it did not time out"):
        carry_on(str(room.folder), room.settings, room.watch, Terms(tasks_dir=room.tasks, require_timeout=True))


def test_several_prompts_are_not_gone_on_with(tmp_path: Path) -> None:
    room = Room(tmp_path)
    (room.folder / "prompts.json").write_text('["Write the file.", "And now another."]')
    with pytest.raises(UsageError, match="2 prompts, one after the other"):
        carry_on(str(room.folder), room.settings, room.watch, Terms(tasks_dir=room.tasks))


def test_the_agent_is_told_the_recorded_words_though_the_task_says_others(room: Room) -> None:
    (room.tasks / "write-file" / "instruction.md").write_text("Do something else.")
    run = room.adopted()
    [chunk] = run.plan.chunks
    [(_, task)] = run.tasks(chunk)
    [told] = read(room.folder).prompts
    assert task.input == told and "task_path" in CONFIG
