"""One driver per run: real processes that are refused, killed, frozen, stopped (SEMANTICS §6)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.driver import waiting_house
from tests.house import House, quick_folder

from onward import launch
from onward.errors import Held, NotThere
from onward.runs import find

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def house() -> Iterator[House]:
    with quick_folder() as folder:
        yield waiting_house(folder)


@pytest.fixture
def driver(house: House) -> Iterator[subprocess.Popen[str]]:
    """Another process that drives the run, with two calls in flight."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.driver", str(house.folder)], cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        wait_for(lambda: asked(house).total() >= 2, process)
        yield process
        if process.poll() is None:
            process.kill()


def wait_for(ready: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while not ready():
        try:
            process.wait(0.01)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(process.stderr.read() if process.stderr else "")


def asked(house: House) -> Counter[str]:
    log = house.folder / "asked"
    return Counter(log.read_text().splitlines()) if log.exists() else Counter()


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    out, err = process.communicate(timeout=30)
    assert "Traceback" not in err, err
    return process.returncode, out.strip()


def test_a_second_driver_is_refused_and_told_who_holds_the_run(house: House, driver: subprocess.Popen[str]) -> None:
    for attempt in (house.run, house.resume, lambda: house.redo("exp")):
        with pytest.raises(Held, match=f"process {driver.pid} on .*--take-over") as caught:
            attempt()
        assert caught.value.exit_code == 4
    (house.folder / "go").touch()
    assert ended(driver) == (0, "None")
    assert set(asked(house).values()) == {1}


def test_a_dead_holder_is_taken_over_at_once_and_only_what_was_in_flight_is_asked_again(
    house: House, driver: subprocess.Popen[str]
) -> None:
    driver.kill()
    driver.wait()
    (house.folder / "go").touch()
    ending = house.resume()
    assert (ending.code, ending.done) == (0, 3)
    assert asked(house).total() == 5, "three answers, and the two that were in flight a second time"
    with house.opened() as run:
        assert run.journal.sums().doubt[2] == 2, "what was sent twice stays counted"
        assert run.in_doubt()[0] == 0


def test_a_frozen_driver_that_lost_its_run_stops_at_its_next_commit_cleanly(
    house: House, driver: subprocess.Popen[str]
) -> None:
    driver.send_signal(signal.SIGSTOP)
    with pytest.raises(Held):
        house.resume("latest")
    copy = house.folder / "copy" / "exp-copied"
    shutil.copytree(find(house.store, "latest"), copy)
    (house.folder / "go").touch()
    assert house.resume(str(copy)).done == 3, "a copied folder starts without a lease"

    ending = house.resume("latest", take_over=True)
    assert (ending.code, ending.done) == (0, 3)
    with house.opened("latest") as run:
        before = list(run.journal.rows())
    driver.send_signal(signal.SIGCONT)
    assert ended(driver) == (4, "Fenced")
    with house.opened("latest") as run:
        assert list(run.journal.rows()) == before
        assert list(run.journal.check()) == []


@pytest.mark.parametrize("now", [False, True], ids=["graceful", "now"])
def test_a_run_is_stopped_through_its_mailbox(house: House, driver: subprocess.Popen[str], now: bool) -> None:
    said = launch.stop("latest", house.settings(), now=now)
    assert str(driver.pid) in said
    if not now:
        wait_for(lambda: not mail(house), driver)
        (house.folder / "go").touch()
    code, reason = ended(driver)
    assert (code, reason) == (3, "stopped by `onward stop`")
    (house.folder / "go").touch()
    with house.opened() as run:
        assert run.in_doubt()[0] == (2 if now else 0)
        assert run.journal.holder() is None
    with pytest.raises(NotThere):
        launch.stop("latest", house.settings())
    assert (house.resume().code, asked(house).total()) == (0, 5 if now else 3)


def mail(house: House) -> bool:
    with house.opened() as run:
        return bool(run.journal.poll())


def test_ctrl_c_lets_what_is_in_flight_finish(house: House, driver: subprocess.Popen[str]) -> None:
    driver.send_signal(signal.SIGINT)
    (house.folder / "go").touch()
    assert ended(driver) == (3, "Ctrl-C")
    assert (house.resume().code, set(asked(house).values())) == (0, {1})


def test_ctrl_c_twice_stops_at_once(house: House, driver: subprocess.Popen[str]) -> None:
    os.kill(driver.pid, signal.SIGINT)
    os.kill(driver.pid, signal.SIGTERM)
    code, reason = ended(driver)
    assert (code, reason) == (3, "Ctrl-C")
    with house.opened() as run:
        assert run.in_doubt()[0] == 2
