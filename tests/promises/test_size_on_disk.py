"""A run's folder grows with what is new, not with what is said again: through `ask()`, at every turn (issue §5.6)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).resolve().parents[2] / "bench" / "onward_size.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("onward_size", BENCH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_conversation_of_100_turns_takes_2_percent_of_its_requests_and_3_at_every_moment(
    bench: ModuleType, tmp_path: Path
) -> None:
    found = bench.conversation(tmp_path, 100)
    assert found["raw"] > 20_000_000
    assert found["database"] <= 0.02 * found["raw"], found
    assert found["most"] <= 0.03 * found["raw"], found


@pytest.mark.slow
def test_it_grows_with_its_turns_and_not_with_their_square(bench: ModuleType, tmp_path: Path) -> None:
    sizes = [bench.conversation(tmp_path / f"of{turns}", turns)["database"] for turns in (50, 100, 200)]
    assert sizes[2] - sizes[1] == pytest.approx(2 * (sizes[1] - sizes[0]), rel=0.1)


def test_five_equal_calls_are_five_draws_and_five_entries(bench: ModuleType, tmp_path: Path) -> None:
    assert bench.equal_calls(tmp_path) == 5
