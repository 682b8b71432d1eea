"""Real agents in whole runs that are killed and gone on with: nothing is paid twice, and all comes out the same."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.agents.journey import Journey, copied, kill, retold
from tests.agents.rig import PUBLISHED, QUICK, ready
from tests.cli.console import until

from onward.ask import Answer, Usage
from onward.gateway.scripted import Request
from onward.testing import EPISODE, EQUAL_EPISODE, Script

pytestmark = [pytest.mark.agents, pytest.mark.slow, pytest.mark.timeout(300)]

ALL = "ONWARD_TEST_AGENTS" in os.environ
"""Every agent is killed everywhere; else the first one is, and the others once."""
CALLS = {"aider": 4}
"""How many calls an agent's episode has, where it is not five."""
KILLS = [
    (name, after) for name in PUBLISHED for after in range(CALLS.get(name, 5))
    if ALL or after == 3 or (name == QUICK[0] and after)
]  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Journey]:
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

    return of


@pytest.mark.parametrize(("name", "after"), KILLS)
def test_an_agent_killed_after_any_exchange_goes_on_and_pays_for_none_twice(
    tmp_path: Path, whole: Callable[[str], Journey], name: str, after: int
) -> None:
    with Journey(tmp_path, name) as journey:
        journey.killed(after)
        until(lambda: not journey.alive, "the end of all in the sandbox")
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


TOOLS = tuple(name for name in PUBLISHED if name != "aider")
ONE = TOOLS if ALL else QUICK[1:2]
STREAMING = (*QUICK, "opencode")
"""The others are given each answer in one piece."""


@pytest.mark.parametrize("name", ONE)
def test_it_may_be_killed_again_and_again_and_while_it_is_served(tmp_path: Path, name: str) -> None:
    with Journey(tmp_path, name) as journey:
        journey.killed(0)
        for after in range(1, 5) if ALL else (2, 4):
            journey.killed(after, "resume")
        given = len(journey.served)
        process = journey.start("resume")
        journey.wait(lambda: len(journey.served) > given, "an answer out of the record")
        kill(process)
        done = journey("resume")
        assert done.code == 0, done
        assert journey.billed == 5
        assert journey.value["exchanges"]["served"] == {"exact": 4}
        assert journey.value["exchanges"]["paid"] == 1


@pytest.mark.parametrize("name", ONE)
def test_killed_after_the_last_exchange_it_pays_for_nothing_and_its_work_is_verified(tmp_path: Path, name: str) -> None:
    with Journey(tmp_path, name, tasks="tasks", score="reward") as journey:
        journey.task("sleep 2; [ -f out.json ]; echo $((1 - $?)) > /logs/verifier/reward.txt")
        process = journey.start()
        journey.wait(lambda: journey.shell.answers() == 5, "the last answer")
        kill(process)
        done = journey("resume")
        assert done.code == 0 and "reward 100.0 %" in done.out, done
        assert journey.billed == 5
        assert journey.value["exchanges"]["served"] == {"exact": 5} and journey.value["exchanges"]["paid"] == 0


@pytest.mark.parametrize("name", ONE)
def test_where_a_tool_says_something_else_the_levels_say_so_and_the_work_is_the_same(
    tmp_path: Path, whole: Callable[[str], Journey], name: str
) -> None:
    with Journey(tmp_path, name, Script(EPISODE, ids="call")) as journey:
        journey.killed(4)
        done = journey("resume")
        assert done.code == 0, done
        assert journey.billed == 5
        report = journey.value["exchanges"]
        assert report["served"] == {"exact": 2, "prefix": 1, "anchored": 1}
        assert [one["level"] for one in journey.served] == ["exact", "exact", "prefix", "anchored"]
        assert report["divergences"] == 2 and "differs at " in report["first_divergence"]
        assert journey.value["workspace"] == whole(name).value["workspace"]
        assert "≠ 2 answers served to a request that differed" in journey("show", "latest/notes", "--trajectory").out


@pytest.mark.parametrize("name", STREAMING if ALL else QUICK[:1])
def test_killed_while_it_is_answered_it_asks_for_that_answer_alone_again(
    tmp_path: Path, whole: Callable[[str], Journey], name: str
) -> None:
    with Journey(tmp_path, name) as journey:
        journey.killed(2, slowly=True)
        done = journey("resume")
        assert done.code == 0, done
        assert "1 in doubt will be asked again" in done.out
        assert journey.billed == 6
        assert journey.value["exchanges"]["served"] == {"exact": 2}
        assert journey.value["workspace"] == whole(name).value["workspace"]


class Dear:
    """A script whose first answers use up what a trial may use."""

    def __init__(self, dear: int) -> None:
        self.script, self.dear = Script(EQUAL_EPISODE, ids="call"), dear

    def __call__(self, request: Request) -> Answer:
        self.dear -= 1
        return replace(self.script(request), usage=Usage(90, 10) if self.dear >= 0 else Usage(1, 1))


@pytest.mark.parametrize("name", ONE)
def test_what_came_to_its_limit_is_continued_killed_and_continued_still_and_pays_for_none_twice(
    tmp_path: Path, whole: Callable[[str], Journey], name: str
) -> None:
    with Journey(tmp_path, name, Dear(2), limits={"tokens": 150}) as journey:
        done = journey()
        assert done.code == 0 and "includes 0.0 %" in done.out, done
        assert journey.results()[-1][0] == "timeout" and journey.billed == 2
        original = journey.shell.run.name
        journey.killed(4, "continue", original)
        done = journey("resume")
        assert done.code == 0, done
        assert journey.billed == 5, journey("show", "latest/notes", "--trajectory").out
        assert journey.value["exchanges"]["served"] == {"exact": 4}
        assert journey.value["workspace"] == whole(name).value["workspace"]
        again = journey("continue", original)
        assert again.code == 0 and "at the limit 0.0 %, continued 100.0 %" in again.out, again
        assert journey.billed == 5
        asked = whole(name).asked
        assert journey.asked == [*asked, asked[-1]]  # the last one twice; and nothing of ours is in any


@pytest.mark.parametrize("name", [one for one in ("claude-code", "codex", "opencode") if ALL or one == QUICK[0]])
def test_the_next_day_it_goes_on_as_well(tmp_path: Path, name: str) -> None:
    """Killed in the west, gone on with 26 hours further east."""
    zone = retold(tmp_path, name, "TZ")
    with Journey(tmp_path, name) as journey:
        journey.shell.environment["ONWARD_CACHE"] = str(tmp_path / "cache")
        zone.write_text("Etc/GMT+12")
        journey.killed(3)
        zone.write_text("Pacific/Kiritimati")
        done = journey("resume")
        assert done.code == 0, done
        days = [set(DAY.findall(str(one.body))) for one in journey.server.requests]
        assert days[0] and days[0].isdisjoint(days[-1])
        assert journey.billed == 5
        assert journey.value["exchanges"]["served"] == {"exact": 3}


DAY = re.compile(r"\d{4}-\d\d-\d\d|[A-Z][a-z]{2} [A-Z][a-z]{2} \d\d \d{4}")


READ = "for (const skillFile of skillFiles"
"""Where gemini-cli goes through the skills that it has found."""


def test_gemini_cli_goes_on_where_it_finds_its_skills_in_another_order(tmp_path: Path) -> None:
    """It tells of them as they were found, which on a busy machine is not always the same order."""
    program = copied(tmp_path, "gemini-cli", ready("gemini-cli")[1].command[1])
    sources = {path: text for path in program.parent.glob("chunk-*.js") if READ in (text := path.read_text())}

    def found(order: str) -> None:
        for path, text in sources.items():
            path.unlink()  # it is the very file of the cache
            path.write_text(text.replace(READ, f"{READ}.{order}"))

    with Journey(tmp_path, "gemini-cli") as journey:
        journey.shell.environment["ONWARD_CACHE"] = str(tmp_path / "cache")
        found("sort()")
        journey.killed(3)
        found("sort().reverse()")
        elsewhere = (tmp_path / "cache").rename(tmp_path / "elsewhere")  # it names the skills' paths, too
        journey.shell.environment["ONWARD_CACHE"] = str(elsewhere)
        done = journey("resume")
        assert done.code == 0, done
        skills = [re.findall(r"<skill>\\n *<name>(.+?)</name>", str(one.body)) for one in journey.server.requests]
        assert skills[0] == skills[-1][::-1] != skills[-1]
        assert journey.billed == 5
        assert journey.value["exchanges"]["served"] == {"exact": 3}
