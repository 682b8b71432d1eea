"""Real agents in whole runs that are killed and gone on with: nothing is paid twice, and the work comes out the same."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.agents.journey import Journey
from tests.agents.rig import PUBLISHED, QUICK
from tests.cli.console import until

from onward.testing import EPISODE, EQUAL_EPISODE

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(300)]

ALL = "ONWARD_TEST_AGENTS" in os.environ
"""Every agent is killed everywhere; else the first one is, and the others once."""
CALLS = {"aider": 4}
"""How many calls an agent's episode has, where it is not five."""
KILLS = [
    (name, after) for name in PUBLISHED for after in range(CALLS.get(name, 5)) if ALL or name == QUICK[0] or after == 3
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Journey]]:
    """An agent's journey that nothing interrupted, made once."""
    made: dict[str, Journey] = {}

    def of(name: str) -> Journey:
        if name not in made:
            with Journey(tmp_path_factory.mktemp(name), name) as journey:
                done = journey()
                assert done.code == 0, done
            assert journey.billed == CALLS.get(name, 5)
            made[name] = journey
        return made[name]

    yield of


@pytest.mark.parametrize(("name", "after"), KILLS)
def test_an_agent_killed_after_any_exchange_goes_on_and_pays_for_none_twice(
    tmp_path: Path, whole: Callable[[str], Journey], name: str, after: int
) -> None:
    with Journey(tmp_path, name) as journey:
        journey.killed(after)
        assert journey.billed == after
        done = journey("resume")
        assert done.code == 0, done
        model = whole(name)
        assert journey.billed == model.billed
        assert journey.value["workspace"] == model.value["workspace"]
        assert journey.value["exchanges"]["served"] == ({"exact": after} if after else {})
        assert journey.value["exchanges"]["paid"] == model.billed - after
        until(lambda: not journey.left, f"nothing left: {journey.left}")
        # The one under way when it was killed is sent again. Nothing is added to what the agent itself says.
        assert journey.asked == [*model.asked[: after + 1], *model.asked[after:]]
