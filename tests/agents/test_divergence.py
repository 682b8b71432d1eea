"""A tool that says something else after a kill: noticed, named by its JSON path, and treated as was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agents.journey import Journey
from tests.agents.rig import QUICK

from onward.testing import EPISODE, Script

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(300)]

NAME = QUICK[1]
PLACE = "input["
"""Where in a request of that agent a tool's answer stands."""


@pytest.fixture
def journey(tmp_path: Path) -> Iterator[Journey]:
    """Killed after the fourth of five answers; what the second command says is never the same."""
    with Journey(tmp_path, NAME, Script(EPISODE, ids="call"), score="includes") as made:
        made.killed(4)
        yield made


def test_warn_serves_the_record_and_says_where_it_differed(journey: Journey) -> None:
    done = journey("resume", "--on-divergence", "warn")
    assert done.code == 0, done
    report = journey.value["exchanges"]
    assert report["served"] == {"exact": 2, "prefix": 1, "anchored": 1} and report["policy"] == "warn"
    assert f"differs at {PLACE}" in report["first_divergence"] and ".output" in report["first_divergence"]
    assert journey.billed == 5


def test_strict_stops_the_run_and_leaves_the_trial_unscored(journey: Journey) -> None:
    done = journey("resume", "--on-divergence", "strict")
    assert done.code == 3, done
    assert f"differs at {PLACE}" in done.out + done.err
    assert journey.billed == 4
    assert [outcome for outcome, _ in journey.results() if outcome == "ok"] == []
    assert "includes 0" not in done.out
    done = journey("resume")  # with the usual policy it goes on
    assert done.code == 0, done
    assert journey.billed == 5 and journey.value["exchanges"]["paid"] == 1


def test_an_abandoned_branch_never_matches_again(journey: Journey) -> None:
    """Forked at the third call, which is asked anew, and so is all after it; killed after the fourth; gone on with."""
    branch = journey.answered
    journey.killed(6, "resume", "--on-divergence", "fork")
    assert journey.billed == 6
    forked = [key for key in journey.answered if key not in branch]
    done = journey("resume")
    assert done.code == 0, done
    assert journey.billed == 7
    served = [one["key"] for one in journey.served]
    newest = served[-4:]  # of the second resume, which differs from both
    assert newest == [*branch[:2], *forked]
    assert [one["level"] for one in journey.served[-4:]] == ["exact", "exact", "prefix", "anchored"]
    told = journey("show", "latest/notes", "--trajectory").out
    assert "2 answers given up" in told
