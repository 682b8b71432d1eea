"""A run that was killed while its agents worked, as a person takes it up again: what is told, served, paid."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agents.rig import bubblewrap
from tests.cli.console import ended, until
from tests.cli.continued import Episodes, Meanwhile

from onward.testing import EQUAL_EPISODE

pytestmark = pytest.mark.slow


@pytest.fixture
def provider() -> Iterator[Meanwhile]:
    bubblewrap()
    with Meanwhile(EQUAL_EPISODE) as running:
        yield running


def killed(folder: Path, provider: Meanwhile, tasks: tuple[str, ...] = ("notes",), calls: int = 2) -> Episodes:
    """A run that was killed when it had been answered so many calls, with one under way."""
    made = Episodes(folder, provider, tasks)
    provider.hold_after(calls)
    process = made.shell.start("run", "coder.yaml", "--sandboxes", "1")
    until(lambda: provider.held, "a call that is held")
    process.send_signal(signal.SIGKILL)
    ended(process)
    provider.release()
    return made


def test_a_plan_says_what_a_trial_in_mid_episode_is_served_and_what_it_has_cost(
    tmp_path: Path, provider: Meanwhile
) -> None:
    shell = killed(tmp_path, provider, ("notes", "memo")).shell
    planned = shell("resume", "--plan")
    assert planned.code == 0, planned
    assert re.search(
        r"goes on   1 trial in mid-episode: 2 exchanges \(\$0\.0000050\) served from the record in about \d+ s, then ",
        planned.out,
    )
    assert re.search(r"new       1 trial\s*\n", planned.out)
    told = json.loads(shell("resume", "--plan", "--json").out)
    assert told["going_on"] == {"trials": 1, "exchanges": 2, "seconds": told["going_on"]["seconds"], "usd": 5e-06}
    assert 0.6 <= told["going_on"]["seconds"] < 60 and told["given_up"] is None
    assert {one["why"]: one["count"] for one in told["owed"] if one["stage"] == "generate"} == {
        "new": 1, "cut off in the middle": 1
    }  # fmt: skip
    anew = shell("resume", "--plan", "--in-flight", "restart").out
    assert "given up  1 trial in mid-episode: 2 exchanges ($0.0000050), by --in-flight restart; begun again" in anew
    assert "goes on" not in anew and provider.paid <= 3


def test_what_was_given_up_is_told_when_it_began_again(tmp_path: Path, provider: Meanwhile) -> None:
    shell = killed(tmp_path, provider, calls=3).shell
    assert shell("resume", "--in-flight", "restart").code == 0
    assert shell("redo", "latest").code == 0
    told = shell("show", "latest/notes", "--trajectory").out
    assert "≠ attempt 1 given up after 3 exchanges ($0.0000075 stay spent): --in-flight restart" in told
    assert re.search(r"≠ attempt 1 done again after 5 exchanges \(\$0\.00001\d stay spent\): redo", told)
    [found] = json.loads(shell("show", "latest/notes", "--trajectory", "--json").out)
    assert [(one["exchanges"], one["ended"]) for one in found["given_up"]] == [(3, False), (5, True)]
    assert found["usd"] == pytest.approx(13 * 2.5e-6) and provider.paid in (13, 14)


def test_what_is_served_from_the_record_is_no_call_to_come(tmp_path: Path, provider: Meanwhile) -> None:
    shell = killed(tmp_path, provider, ("notes", "memo"), calls=7).shell  # one trial is done, with five
    found = json.loads(shell("resume", "--plan", "--json").out)
    assert (found["going_on"]["exchanges"], found["new"], found["calls"], found["basis"]) == (2, 0, 3, "averages")
    anew = json.loads(shell("resume", "--plan", "--json", "--in-flight", "restart").out)
    assert (anew["given_up"]["exchanges"], anew["calls"]) == (2, 5)
