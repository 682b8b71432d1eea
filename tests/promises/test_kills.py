"""Random SIGKILLs, judged by the provider's own log: nothing that was answered is paid for again (bench/chaos.py).

`make chaos` sets CHAOS_KILLS to 1,000.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

CHAOS = Path(__file__).resolve().parents[2] / "bench" / "chaos.py"


@pytest.fixture(scope="module")
def chaos() -> ModuleType:
    spec = importlib.util.spec_from_file_location("chaos", CHAOS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["chaos"] = module  # where its dataclasses look for their own annotations
    spec.loader.exec_module(module)
    return module


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.slow
def test_whatever_is_killed_whenever_no_completed_call_is_paid_for_twice(
    chaos: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kills = int(os.environ.get("CHAOS_KILLS", "40"))
    verdict = chaos.storm(tmp_path, kills, seed=int(os.environ.get("CHAOS_SEED", "1")))
    with capsys.disabled():
        sys.stdout.write(f"\n{json.dumps(asdict(verdict))}\n")
    assert verdict.wrong == []
    assert verdict.kills == kills
    assert verdict.answered_before_kills > 0
    assert (verdict.paid_twice, verdict.over_in_flight, verdict.views_differ) == (0, 0, 0)


def line(digest: str, received: float, answered: float) -> dict[str, object]:
    return {"digest": digest, "received": received, "answered": answered}


def test_the_judge_sees_a_completed_call_that_was_sent_again(chaos: ModuleType) -> None:
    verdict, lives = chaos.Verdict(), [chaos.Life(-1.0, 1.0), chaos.Life(1.5)]
    chaos.judge(verdict, [line("a", 0.0, 0.1), line("b", 0.9, 1.2), line("a", 2.0, 2.1)], lives, 2)
    assert (verdict.paid_twice, verdict.repeats, verdict.answered_before_kills, verdict.good) == (1, 1, 1, False)


def test_the_judge_lets_pass_what_was_in_flight_and_no_more_than_that(chaos: ModuleType) -> None:
    verdict, lives = chaos.Verdict(), [chaos.Life(0.0, 1.0), chaos.Life(1.2)]
    lines = [line(name, at, at + 0.1) for at in (1.01, 1.5) for name in "ab"]
    chaos.judge(verdict, lines, lives, 2)
    assert (verdict.paid_twice, verdict.over_in_flight, verdict.good) == (0, 0, True)
    chaos.judge(verdict, lines, lives, 1)
    assert (verdict.over_in_flight, verdict.good) == (1, False)


def test_the_judge_asks_who_was_killed_when_a_request_came_twice(chaos: ModuleType) -> None:
    verdict = chaos.Verdict()
    chaos.judge(verdict, [line("a", 0.1, 0.2), line("a", 0.3, 0.4)], [chaos.Life(0.0, 1.0)], 2)
    assert verdict.wrong
