"""A task's verifier, in a real sandbox: what it gives, what is no reward, and what an agent left behind for it."""

from __future__ import annotations

import asyncio
import functools
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.sandbox.rig import Lab, remains
from tests.tasks.laid import BENCHFLOW, HARBOR, TASK_MD, laid

from onward.agents.verifying import Verdict, lay_out_solution, verify
from onward.agents.workplace import FOLDERS, write_out
from onward.episode import Episode, File, Folder
from onward.errors import StepFailed, StepOwed, UsageError
from onward.sandbox import Engine, Place, Sandbox, SandboxFailed, Spec, open_sandbox
from onward.sandbox.bubblewrap import reaches
from onward.tasks.folders import look


def aio(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @functools.wraps(test)
    def run(*given: Any, **named: Any) -> None:
        asyncio.run(test(*given, **named))

    return run


class Room:
    """Task folders, and bubblewrap sandboxes in which they are done."""

    def __init__(self, folder: Path, place: Path) -> None:
        self.folder, self.place = folder, place
        self.contents: dict[str, bytes] = {}

    def blob(self, digest: str) -> bytes:
        return self.contents[digest]

    def episode(self, files: dict[str, Any] | None = None, **changed: Any) -> Episode:
        """A task of these files, HARBOR's where nothing else is said."""
        found = look(laid(self.folder / "task", {**(HARBOR if files is None else files), **changed}))
        assert found.task is not None, found.wrong
        folder = Folder.from_json(found.task.metadata["folder"])
        self.contents |= {file.digest: file.read() for file in found.task.files}
        files_ = tuple(File(one.name, one.digest, folder.modes.get(one.name, 0o644)) for one in found.task.files)
        return Episode("command", "", str(found.task.input), files=files_, folder=folder)

    @asynccontextmanager
    async def box(self, episode: Episode) -> AsyncIterator[Sandbox]:
        """A sandbox with the task's files in it."""
        assert episode.folder is not None
        digests = {file.path: file.digest for file in episode.files}
        workspace: dict[str, Path | bytes] = {
            inside: self.blob(digests[path]) for inside, path in episode.folder.environment.files.items()
        }
        spec = Spec(folders=FOLDERS, workdir="/app", files=workspace, grace=0.3)
        async with open_sandbox(spec, Place(self.place, "test")) as box:
            yield box

    async def verdict(self, episode: Episode, work: str = "") -> Verdict:
        """What the work of this command is worth."""
        async with self.box(episode) as box:
            if work:
                await box.run(work, sweep=True)
            return await verify(box, episode, self.blob)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    if why := reaches("--unshare-user", "--unshare-all", "--as-pid-1"):
        pytest.skip(f"sandbox bubblewrap: {why}")
    with tempfile.TemporaryDirectory(prefix="onward-tests-") as place:
        yield Room(tmp_path, Path(place))
        assert not list(Path(place).glob("*/files")), "nothing is left of a sandbox"


def saying(reward: str, name: str = "reward.txt", rest: str = "") -> str:
    """A verifier that writes this."""
    return f"#!/bin/sh\ncat > /logs/verifier/{name} <<'END'\n{reward}\nEND\n{rest}"


@pytest.mark.parametrize("files", [HARBOR, BENCHFLOW], ids=["harbor", "benchflow"])
@aio
async def test_the_solution_gets_the_reward_and_an_empty_attempt_does_not(room: Room, files: dict[str, str]) -> None:
    episode = room.episode(files)
    assert (await room.verdict(episode)).reward == 0
    assert (await room.verdict(episode, "echo SOME WORDS > result.txt")).reward == 1
    async with room.box(episode) as box:
        solution = await lay_out_solution(box, episode, room.blob)
        ran = await box.run(solution.command, env=solution.env)
        assert ran.code == 0, ran
        assert (await verify(box, episode, room.blob)).to_json() == {
            "reward": 1.0, "rewards": {"reward": 1.0}, "code": 0, "said": "",
        }  # fmt: skip


_REWARD = "mkdir -p /logs/verifier; echo 1 > /logs/verifier/reward.txt"
_TEST = "printf '#!/bin/sh\\necho 1 > /logs/verifier/reward.txt\\n'"
_LEFT_BEHIND = {
    "a reward": f"{_REWARD}; echo 1 > /logs/verifier/reward.json",
    "a reward that cannot be written": f"{_REWARD}; chmod 444 /logs/verifier/*; chmod 555 /logs/verifier",
    "a link for the rewards": "mkdir /tmp/mine; echo 1 > /tmp/mine/reward.json; ln -s /tmp/mine /logs/verifier",
    "a link for one reward": "mkdir /logs/verifier; echo 1 > /tmp/mine; ln -s /tmp/mine /logs/verifier/reward.json",
    "a file in the place of the rewards": "echo 1 > /logs/verifier",
    "tests of its own": f"{_TEST} > /tests/test.sh; chmod 555 /tests/test.sh /tests",
    "tests that are a link": f"{_TEST} > /tmp/t; chmod 755 /tmp/t; ln -s /tmp/t /tests/test.sh",
    "files beside the tests": "echo 'exit 0' > /tests/conftest.py; mkdir -p /tests/d/e; chmod 000 /tests/d",
    "the folders themselves renamed": f"mv /tests /tests2; mv /logs /logs2; rm -rf /tests /logs; {_REWARD}",
    "a daemon that writes rewards": f"setsid sh -c 'while :; do {_REWARD}; done' >/dev/null 2>&1 &",
    "much": "n=0; while [ $n -lt 60 ]; do mkdir -p /logs/verifier/$n/$n /tests/$n; n=$((n+1)); done",
}


@pytest.mark.parametrize("way", _LEFT_BEHIND)
@aio
async def test_what_an_agent_left_for_the_verifier_changes_nothing(room: Room, way: str) -> None:
    episode = room.episode()
    async with room.box(episode) as box:
        await box.run(_LEFT_BEHIND[way], sweep=True)
        assert (await verify(box, episode, room.blob)).reward == 0
        assert (await box.run("ls -A /tests")).out == "test.sh\n"
        await box.run(f"echo SOME WORDS > result.txt; {_LEFT_BEHIND[way]}", sweep=True)
        assert (await verify(box, episode, room.blob)).reward == 1


@aio
async def test_in_a_container_the_agent_may_have_been_root(tmp_path: Path, place: Path, podman: Engine | str) -> None:
    if isinstance(podman, str):
        pytest.skip(f"sandbox container: {podman}")
    room = Room(tmp_path, place)
    episode = room.episode()
    lab = Lab("podman", place / "sandboxes", podman)
    async with lab.sandbox(workdir="/app", files={"/app/data.txt": b"some words\n"}) as box:
        ways = {
            **_LEFT_BEHIND,
            "links": "rm -rf /logs /tests; mkdir /tmp/l /tmp/t; ln -s /tmp/l /logs; ln -s /tmp/t /tests",
        }
        for way, command in ways.items():
            await box.run(f"rm -f result.txt; {command}", sweep=True)
            assert (await verify(box, episode, room.blob)).reward == 0, way
            await box.run(f"echo SOME WORDS > result.txt; {command}", sweep=True)
            assert (await verify(box, episode, room.blob)).reward == 1, way
    assert remains(lab.root, lab.ids, [podman]) == []


_REWARDS: list[tuple[str, float, dict[str, float]]] = [
    (saying("0.25"), 0.25, {"reward": 0.25}),
    (saying(" 1e-1 "), 0.1, {"reward": 0.1}),
    (saying("-3"), -3, {"reward": -3}),
    (saying('{"reward": 0.5, "style": 1}', "reward.json"), 0.5, {"reward": 0.5, "style": 1}),
    (saying('{"reward": 0.5, "why": "because"}', "reward.json"), 0.5, {"reward": 0.5}),
    (saying('{"style": 1, "speed": 0}', "reward.json"), 0.5, {"style": 1, "speed": 0}),
    (saying('{"passed": true}', "reward.json"), 1, {"passed": 1}),
    (saying("1", "reward.json"), 1, {"reward": 1}),
    (saying("1", rest="exit 7"), 1, {"reward": 1}),
    (saying("0", rest=saying('{"reward": 1}', "reward.json")), 1, {"reward": 1}),
]


@aio
async def test_a_reward_is_read(room: Room) -> None:
    async with room.box(room.episode()) as box:
        for test, reward, rewards in _REWARDS:
            found = await verify(box, room.episode(**{"tests/test.sh": test}), room.blob)
            assert (found.reward, found.rewards) == (reward, rewards), test
            assert found.code == (7 if "exit 7" in test else 0)


_NO_REWARDS = [
    ("#!/bin/sh\necho nothing to see\n", "ended with exit code 0 and left neither /logs/verifier/reward.txt nor"),
    ("#!/bin/sh\necho pytest: not found >&2; exit 127\n", "exit code 127 and left neither .* It said: pytest: not"),
    ("#!/bin/sh\nexit 1\n", r"It said nothing\. It had no network: network_mode"),
    ("#!/nowhere/python\n", "left neither"),
    ("#!/bin/sh\nkill -9 $$\n", "ended with exit code 137"),
    (saying(""), "wrote '' to reward.txt, which is no number"),
    (saying("passed"), "wrote 'passed' to reward.txt"),
    (saying("nan"), "wrote nan to reward.txt, which is no reward"),
    (saying("inf"), "wrote inf to reward.txt"),
    (saying("{", "reward.json"), "a reward.json that is not JSON"),
    (saying("[1]", "reward.json"), "neither a number nor an object of numbers"),
    (saying("{}", "reward.json"), "neither a number nor an object of numbers"),
    (saying('{"reward": "1"}', "reward.json"), "whose 'reward' is no number"),
    (saying('{"style": 1, "why": "x"}', "reward.json"), "whose 'why' is no number, and that has no `reward`"),
    (saying('{"reward": NaN}', "reward.json"), "wrote nan to reward.json: reward"),
    (saying(f'{{"reward": {"9" * 400}}}', "reward.json"), "wrote inf to reward.json"),
    ("#!/bin/sh\nmkdir /logs/verifier/reward.txt\n", "left neither"),
    ("#!/bin/sh\nln -s /app/data.txt /logs/verifier/reward.txt\n", "left neither"),
    ("#!/bin/sh\nhead -c 2000000 /dev/zero > /logs/verifier/reward.txt\n", "a reward.txt of more than 1 MB"),
]


@aio
async def test_what_is_no_reward_is_an_error_with_a_reason_and_never_a_score(room: Room) -> None:
    async with room.box(room.episode()) as box:
        for test, reason in _NO_REWARDS:
            with pytest.raises(StepOwed, match=reason) as caught:
                await verify(box, room.episode(**{"tests/test.sh": test}), room.blob)
            assert caught.value.kind == "VerifierFailed", test


@aio
async def test_a_verifier_has_a_time_of_its_own(room: Room) -> None:
    slow = TASK_MD.replace("timeout_sec: 60", "timeout_sec: 0.5")
    test = saying("1", rest="sleep 1000")
    with pytest.raises(StepOwed, match=r"did not end within its 0\.5 s: raise verifier\.timeout_sec"):
        await room.verdict(room.episode(BENCHFLOW, **{"task.md": slow, "verifier/test.sh": test}))


@aio
async def test_a_reward_outside_the_stated_range_is_an_error(room: Room) -> None:
    stated = TASK_MD.replace("  type: test-script", "  reward_range: [-1, 1]")
    changed = {"task.md": stated, "verifier/test.sh": saying("-0.5")}
    assert (await room.verdict(room.episode(BENCHFLOW, **changed))).reward == -0.5
    changed["verifier/test.sh"] = saying("2")
    with pytest.raises(StepOwed, match=r"the reward 2, outside the task's reward_range \[-1, 1\]"):
        await room.verdict(room.episode(BENCHFLOW, **changed))


@aio
async def test_a_verifier_has_its_environment_and_starts_in_the_working_folder(room: Room) -> None:
    stated = HARBOR["task.toml"].replace("[agent]", '[verifier.env]\nBAR = "0.75"\n\n[agent]')
    test = '#!/bin/sh\n[ "$PWD" = /app ] && [ -x /tests/test.sh ] && echo $BAR > /logs/verifier/reward.txt\n'
    assert (await room.verdict(room.episode(**{"task.toml": stated, "tests/test.sh": test}))).reward == 0.75


@aio
async def test_a_strategy_of_verifier_md_starts_in_the_verifiers_folder(room: Room) -> None:
    document = "---\nverifier:\n  strategies:\n    main: {type: script, command: ./check.sh 0.5}\n---\n"
    check = '#!/bin/sh\n[ "$PWD" = /verifier ] && cat /tests/about && echo $1 > /logs/verifier/reward.txt\n'
    files = {"verifier/verifier.md": document, "verifier/check.sh": check, "verifier/about": "here too"}
    found = await room.verdict(room.episode(BENCHFLOW, **files, **{"verifier/test.sh": "exit 1"}))
    assert (found.reward, found.said) == (0.5, "here too")


@aio
async def test_a_report_of_tests_is_kept_and_says_which_failed(room: Room) -> None:
    tests = [{"name": f"test_{n}", "status": "failed" if n % 2 else "passed", "duration": 1} for n in range(5)]
    report = {"results": {"tool": {"name": "pytest"}, "summary": {"tests": 5}, "tests": tests}}
    write = saying(json.dumps(report), "ctrf.json", "echo 0.6 > /logs/verifier/reward.txt")
    found = await room.verdict(room.episode(**{"tests/test.sh": write}))
    assert (found.ctrf, found.note) == (report, "2 of 5 tests failed: test_1, test_3")
    assert found.to_json()["ctrf"] == report
    async with room.box(room.episode()) as box:
        for broken in ("{", "NaN", '["\\ud800"]', '{"results": {"tests": [1, {"status": "failed", "name": null}]}}'):
            write = saying(broken, "ctrf.json", "echo 0.6 > /logs/verifier/reward.txt")
            found = await verify(box, room.episode(**{"tests/test.sh": write}), room.blob)
            assert found.reward == 0.6 and ("results" in broken) == (found.ctrf is not None)


@aio
async def test_a_task_without_a_solution_cannot_be_solved_by_the_oracle(room: Room) -> None:
    episode = room.episode()
    assert episode.folder is not None
    async with room.box(episode) as box:
        with pytest.raises(StepFailed, match="has no solution"):
            await lay_out_solution(box, replace(episode, folder=replace(episode.folder, solution="")), room.blob)


@aio
async def test_only_what_is_the_sandboxs_own_can_be_cleared(room: Room) -> None:
    async with room.box(room.episode()) as box:
        for path in ("/usr/lib", "/etc/new", "/proc"):
            with pytest.raises(SandboxFailed, match="clear: "):
                await box.clear(path)
        assert (await box.run("ls /usr/lib | head -1")).out


def test_a_run_from_elsewhere_cannot_write_outside_of_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for path in ("tests/../../out", "tests//etc/out"):
        episode = Episode("oracle", "", "", task="t", files=(File(path, "d"),))
        with pytest.raises(UsageError, match="leads out"):
            write_out(episode, lambda _: b"x", "tests/", tmp_path / "in")
    assert list(tmp_path.rglob("*")) == [tmp_path / "in"]
