"""Power fails, and the disk holds what was synced and little else: nothing that was acknowledged is gone.

`power.c` keeps, beside a run, what a disk that honours fsync and nothing else would hold at every moment. The run is
killed, and what the disk held takes its place: either nothing of what was not synced has landed, or a random part of
it has, sector by sector. Acknowledged is what the run itself has reported (`step.completed`).
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.console import Shell, ended, until

from onward.entry import unpack
from onward.fingerprint import digest_of
from onward.runs import open_run, stored_runs
from onward.testing import ProviderServer
from onward.views import summary

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("gcc") is None or sys.platform != "linux", reason="needs gcc, on Linux"),
]
TASKS, SAMPLES, CUTS = 24, 2, 6
SECTOR = 512


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("power") / "power.so"
    source = Path(__file__).with_name("power.c")
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True)
    return made


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer(lambda request: f"It is {int(request.digest[:2], 16) % 7}.", latency=0.004) as running:
        yield running


@dataclass
class Disk:
    """A folder, and what its disk holds of it."""

    folder: Path
    shadow: Path
    library: Path

    @classmethod
    def at(cls, place: Path, library: Path) -> Disk:
        made = cls(place / "disk", place / "shadow", library)
        made.folder.mkdir(parents=True)
        made.shadow.mkdir()
        return made

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(self.library), "POWER_ROOT": str(self.folder), "POWER_SHADOW": str(self.shadow),
        }  # fmt: skip

    def after_power_loss(self, place: Path, chance: random.Random | None) -> Disk:
        """A disk with what is durable; with `chance`, a random part of what is not has landed as well."""
        made = Disk.at(place, self.library)
        self._folder(_key(self.folder), self.folder, made.folder, chance)
        return made

    def _folder(self, key: str, live: Path | None, target: Path, chance: random.Random | None) -> None:
        """`live`: the folder as the processes saw it, if it is still there."""
        kept = self.shadow / f"{key}.dir"
        synced = [line.split(" ", 2) for line in kept.read_text().splitlines()] if kept.exists() else []
        present = {_key(path): path for path in live.iterdir()} if live else {}
        entries = {name: (kind, inner) for kind, inner, name in synced}
        if chance is not None and chance.random() < 0.5:
            entries = {path.name: ("dir" if path.is_dir() else "file", inner) for inner, path in present.items()}
        for name, (kind, inner) in entries.items():
            if kind == "dir":
                (target / name).mkdir()
                self._folder(inner, present.get(inner), target / name, chance)
            else:
                (target / name).write_bytes(self._content(inner, present.get(inner), chance))

    def _content(self, key: str, live: Path | None, chance: random.Random | None) -> bytes:
        kept = self.shadow / f"{key}.file"
        synced = kept.read_bytes() if kept.exists() else b""
        if chance is None or live is None:
            return synced
        seen = live.read_bytes()
        size = len(chance.choice([synced, seen]))
        mixed = bytearray(size)
        for start in range(0, size, SECTOR):
            end = min(start + SECTOR, size)
            either = [one[start:end] for one in (synced, seen) if len(one) > start]
            part = chance.choice(either)
            mixed[start : start + len(part)] = part
        return bytes(mixed)


def _key(path: Path) -> str:
    """The name that `power.c` has for an inode."""
    found = subprocess.run(["stat", "--format=%i %.9W", path], check=True, capture_output=True, text=True).stdout
    number, birth = found.split()
    seconds, _, rest = birth.partition(".")
    return f"{number}-{seconds}-{int(rest or 0)}"


def acknowledged(events: Path) -> set[str]:
    """What the run has reported done, in whole lines."""
    lines = events.read_text().rpartition("\n")[0].splitlines()
    found = [json.loads(line) for line in lines]
    return {event["key"] for event in found if event["type"] == "step.completed"}


def recorded(store: Path) -> tuple[set[str], dict[str, str]]:
    """Keys that have a result, and the digest of each call's request, as the provider would know it."""
    if not stored_runs(store):
        return set(), {}
    run = open_run(stored_runs(store)[0])
    try:
        assert list(run.journal.check()) == []
        keys = {stored.row.key for stored in run.journal.rows("", kinds=("result",)) if stored.row.outcome == "ok"}
        intents = [unpack(stored.row, run.journal.blob) for stored in run.journal.rows("", kinds=("intent",))]
        return keys, {str(entry.key): digest_of(entry.data["request"]) for entry in intents}
    finally:
        run.close()


def run_until_cut(disk: Disk, server: ProviderServer, chance: random.Random) -> set[str]:
    """Run, and cut the power after some more events and a moment; what was acknowledged by then."""
    shell = Shell(disk.folder, server)
    shell.environment |= disk.environment
    events = disk.shadow / "events.jsonl"
    wanted = chance.randint(0, 60)
    with events.open("w") as out:
        driver = subprocess.Popen(
            [sys.executable, "-m", "onward", "--log-format", "json", "run", "nightly.yaml"], cwd=shell.folder,
            env=shell.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        until(lambda: events.read_bytes().count(b"\n") >= wanted or driver.poll() is not None, "events")
        threading.Event().wait(chance.random() * (0.05 if wanted else 1.0))
        driver.send_signal(signal.SIGKILL)
        done = ended(driver)
    assert done.code in (0, -signal.SIGKILL), done
    return acknowledged(events)


@pytest.mark.parametrize("landing", [False, True], ids=["nothing-unsynced-landed", "a-part-of-it-landed"])
def test_what_was_acknowledged_survives_the_loss_of_power_and_is_not_asked_again(
    tmp_path: Path, library: Path, server: ProviderServer, landing: bool
) -> None:
    chance = random.Random(4 + landing)
    disk = Disk.at(tmp_path / "0", library)
    Shell(disk.folder).experiment(tasks=TASKS, samples=SAMPLES, limits={"concurrency": 4})
    known: set[str] = set()
    paid: set[str] = set()
    for cut in range(1, CUTS + 1):
        begun = len(server.requests)
        fresh = run_until_cut(disk, server, chance)
        assert not {request.digest for request in server.requests[begun:]} & paid, "asked again"
        known |= fresh
        disk = disk.after_power_loss(tmp_path / str(cut), chance if landing else None)
        keys, digests = recorded(disk.folder / "runs")
        assert known <= keys, f"lost at cut {cut}: {sorted(known - keys)[:5]}"
        paid = {digests[key] for key in known if key in digests}
    assert paid

    begun, shell = len(server.requests), Shell(disk.folder, server)
    done = shell("run", "nightly.yaml")
    assert done.code == 0, done
    assert not {request.digest for request in server.requests[begun:]} & paid
    run = open_run(shell.run)
    try:
        (part,) = summary(run).solvers.values()
        assert part.ok == TASKS
    finally:
        run.close()


WRITER = """
import os, sqlite3, sys
there = sqlite3.connect("there.db", isolation_level=None)
there.execute("PRAGMA journal_mode = WAL")
there.execute(f"PRAGMA synchronous = {sys.argv[1]}")
there.execute("CREATE TABLE t (x)")
there.execute("INSERT INTO t VALUES (1)")
os._exit(0)
"""


@pytest.mark.parametrize(("mode", "kept"), [("FULL", True), ("NORMAL", False)])
def test_the_disk_of_these_tests_forgets_what_was_not_synced(
    tmp_path: Path, library: Path, mode: str, kept: bool
) -> None:
    disk = Disk.at(tmp_path / "before", library)
    environment = Shell(disk.folder).environment | disk.environment
    subprocess.run([sys.executable, "-c", WRITER, mode], cwd=disk.folder, env=environment, check=True)
    after = disk.after_power_loss(tmp_path / "after", None)
    probe = "import sqlite3; print(sqlite3.connect('there.db').execute('SELECT count(*) FROM t').fetchone()[0])"
    found = subprocess.run([sys.executable, "-c", probe], cwd=after.folder, capture_output=True, text=True, check=False)
    assert (found.stdout.strip() == "1") == kept, found
