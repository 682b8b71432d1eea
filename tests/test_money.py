"""What may have been billed is charged: at its upper bound, where no answer says what it was."""

from __future__ import annotations

from pathlib import Path

import pytest

from onward import Experiment
from onward.testing import Fault, ProviderServer


@pytest.mark.parametrize(("kind", "charged"), [("cut", True), ("truncated", True), ("500", False), ("429", False)])
def test_a_call_that_was_cut_is_charged_at_its_upper_bound_and_a_refused_one_is_not(
    tmp_path: Path, kind: str, charged: bool
) -> None:
    with ProviderServer(lambda _: "42", faults=[Fault(kind, times=1)]) as server:
        experiment = Experiment(
            store=tmp_path, tasks=[{"id": "t", "input": "What is 40 + 2?", "target": 42}], score="numeric",
            solver={"model": "scripted/m", "max_tokens": 100}, parse="last_number", prices={"m": "1/10"},
            providers={"scripted": {"base_url": f"{server.url}/v1"}},
        )  # fmt: skip
        summary = experiment.run().summary
    assert (summary.done, len(server.calls)) == (1, 1)
    assert (summary.usd >= 100 * 10 / 1e6) is charged
