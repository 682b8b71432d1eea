"""What is left when the owner of a sandbox is killed: nothing that runs, and nothing at all after the next start."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.sandbox.rig import IMAGE, Lab, aio, remains, running, until

from onward.sandbox import Engine, Place, Spec, marks, reap
from onward.sandbox.bubblewrap import reaches
from onward.sandbox.process import Process, ways

OWNER = Path(__file__).with_name("owner.py")


class Owner:
    """A process with a sandbox."""

    def __init__(self, kind: str, root: Path, engine: Engine | None) -> None:
        self.token = f"4321{int.from_bytes(os.urandom(4))}"
        told = json.dumps([engine.name, engine.command, engine.options]) if engine else ""
        self.process = subprocess.Popen(
            [sys.executable, OWNER, kind, root, told, IMAGE if engine else "", self.token],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        self.id = ""

    def until(self, stage: str) -> None:
        """Read until it says so."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("mark "):
                self.id = line.split()[1]
            if line.split()[0] == stage:
                return
        raise AssertionError(f"it ended before {stage}")

    def kill(self) -> None:
        """SIGKILL, and nothing is said to anybody else."""
        self.process.kill()
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("mark "):
                self.id = line.split()[1]
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def apart(place: Path) -> Iterator[Path]:
    """A place of its own, with the Python that others have made already."""
    root = place / f"apart-{os.urandom(3).hex()}"
    root.mkdir()
    if (place / "sandboxes" / "shared").is_dir():
        (root / "shared").symlink_to(place / "sandboxes" / "shared")
    yield root
    shutil.rmtree(root)


@aio
async def test_nothing_runs_when_the_owner_is_killed_and_nothing_is_there_after_reaping(lab: Lab, apart: Path) -> None:
    owner = Owner(lab.kind, apart, lab.engine)
    owner.until("running")
    engines = [lab.engine] if lab.engine else []
    await until(lambda: len(running(owner.token)) >= 3)
    assert reap(apart) == [], "a living owner's are left alone"
    assert running(owner.token)
    owner.kill()
    await until(lambda: not running(owner.token))
    found = reap(apart)
    assert [one.id for one in found] == [owner.id] and not found[0].failed
    assert remains(apart, [owner.id], engines) == []
    assert reap(apart) == []


@aio
async def test_what_its_run_names_is_removed_whoever_has_it(lab: Lab, apart: Path) -> None:
    owner = Owner(lab.kind, apart, lab.engine)
    owner.until("running")
    found = reap(apart, [owner.id, "onward-never-made-000000000000"])
    assert [one.id for one in found] == [owner.id] and not found[0].failed
    assert remains(apart, [owner.id], [lab.engine] if lab.engine else []) == []
    await until(lambda: not running(owner.token))
    owner.kill()


@aio
async def test_a_container_whose_folder_is_gone_is_found_by_its_place(lab: Lab, apart: Path) -> None:
    if lab.engine is None:
        pytest.skip(f"sandbox {lab.kind}: it has no containers")
    made = [*lab.engine.command, "create", "--name", "onward-lost-0123456789ab", "--label",
            "onward.sandbox=onward-lost-0123456789ab", "--label"]  # fmt: skip
    for place in (apart, apart / "elsewhere"):
        label = f"onward.place={marks.digest(place)}"
        name = f"onward-{place.name[:5]}-0123456789ab"
        mine = [word.replace("onward-lost-0123456789ab", name) for word in made]
        subprocess.run([*mine, label, *lab.engine.options, IMAGE, "sh"], check=True, capture_output=True)
    found = reap(apart, engines=[lab.engine.command])
    assert [(one.id, one.containers) for one in found] == [("onward-apart-0123456789ab", 1)]
    assert len(reap(apart / "elsewhere", engines=[lab.engine.command])) == 1


@aio
async def test_where_there_are_no_namespaces(place: Path, apart: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onward.sandbox.process.ways", lambda: ("", "no bwrap"))
    box = Process(Spec(kind="process", grace=0.3), Place(apart, "bare"))
    token = f"2468{int.from_bytes(os.urandom(4))}"
    async with box:
        assert len(box.notes) == 3
        said = (await box.run("echo $HOME; pwd; cd $TMPDIR; pwd; echo $ONWARD_SANDBOX")).out.split()
        assert said == [box.home, box.workdir, str(apart / box.id / "tmp"), box.id]
        await box.run(f"setsid sleep {token} & setsid sleep {token} &")
        assert len(running(token)) == 2
        ran = await box.run(f"setsid sleep 3{token} & trap '' TERM; while :; do sleep 3{token}; done", timeout=0.3)
        assert ran.killed == "timeout" and not running(f"3{token}") and len(running(token)) == 2
        assert marks.carrying(box.id)
        left = await box.stop()
        assert len(left.processes) == 2
    assert not running(token) and not marks.carrying(box.id) and not (apart / box.id).exists()


@aio
async def test_twenty_killed_at_random_leave_nothing(
    request: pytest.FixtureRequest, apart: Path, docker: Engine | str, podman: Engine | str
) -> None:
    kinds: list[tuple[str, Engine | None]] = []
    if not reaches("--unshare-user", "--unshare-all", "--as-pid-1"):
        kinds.append(("bubblewrap", None))
    if ways()[0] == "bwrap":
        kinds.append(("process", None))
    kinds += [("container", engine) for engine in (docker, podman) if isinstance(engine, Engine)]
    if not kinds:
        pytest.skip("no kind of sandbox works here")
    dice = random.Random(20)
    done: list[Owner] = []

    def one(number: int) -> None:
        kind, engine = kinds[number % len(kinds)]
        owner = Owner(kind, apart, engine)
        done.append(owner)
        stage = dice.choice(["mark", "mark", "started", "daemons", "running"])
        owner.until(stage)
        try:
            owner.process.wait(dice.random() * 0.3)  # somewhere between this stage and the next
        except subprocess.TimeoutExpired:
            owner.kill()

    for first in range(0, 20, 4):
        await asyncio.gather(*(asyncio.to_thread(one, number) for number in range(first, first + 4)))
        reap(apart)  # as every start of a run does, while others are at it
    engines = [engine for _, engine in kinds if engine]
    ids = [owner.id for owner in done]
    assert len(done) == 20 and all(ids)
    # A daemon that was asked for a container may still be making it: its label tells whose it is.
    await until(
        lambda: (reap(apart, engines=[engine.command for engine in engines]), remains(apart, ids, engines) == [])[1]
    )
    for owner in done:
        await until(lambda owner=owner: not running(owner.token))
    assert list(marks.folders(apart)) == []
