"""A real agent plays an episode twice: what a resume of it would stumble over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.agents.rig import CACHE, PUBLISHED, ready, run

from onward.agents.rehearsing import Rehearsal, rehearse
from onward.gateway.normalisers import rules_for
from onward.sandbox import reap

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """Where its sandboxes are; none may be left."""
    yield tmp_path
    assert reap(tmp_path) == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_nothing_differs_between_two_episodes_that_no_rule_covers(name: str, place: Path) -> None:
    adapter, installed = ready(name)
    said: list[str] = []
    found: Rehearsal = run(rehearse(adapter, {}, CACHE, place, said.append))
    assert [str(one.example) for one in found.uncovered] == []
    assert found.calls[0] == found.calls[1] > 0 and found.same_work
    assert found.rules == rules_for(name, installed.version).name and len(said) == 2
