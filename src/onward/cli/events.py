"""`--log-format json`: one event a line on standard output, for programs; the last is `run.completed`.

    {"ts": "2026-05-01T02:14:03.120Z", "level": "info", "type": "step.completed", "msg": "…", "run_id": "n-3f9a1c"}

`run.started` (with its `args`), `note`, `step.completed`, `step.reused`, `step.retried`, `step.failed`,
`trial.settled`, `trial.owed`, `run.completed` (`exit_code`, and `error` if there was one).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from onward.cli.outcome import Outcome
from onward.cli.voice import Voice
from onward.clock import SystemClock, iso
from onward.episode import Told
from onward.keys import Key
from onward.progress import Event, Progress

__all__ = ["Lines"]

_LEVELS = {"step.retried": "warning", "step.failed": "warning"}


class Lines:
    """A Watch that writes events."""

    def __init__(self, voice: Voice, out: TextIO | None = None) -> None:
        self._voice, self._out, self._clock = voice, out or sys.stdout, SystemClock()
        self._run, self._notes, self._progress = "", list[str](), None
        self._begun = False

    def _write(self, level: str, type_: str, msg: str, **more: Any) -> None:
        if not self._voice.hears(level) and not type_.startswith("run."):
            return
        line = {
            "ts": iso(self._clock.now()), "level": level, "type": type_, "msg": msg, "run_id": self._run,
            **{name: value for name, value in more.items() if value is not None},
        }  # fmt: skip
        self._out.write(json.dumps(line, ensure_ascii=False, default=str) + "\n")
        self._out.flush()

    def say(self, line: str) -> None:
        """A note; what is said before the run is known follows its start."""
        if self._begun:
            self._write("info", "note", line)
        else:
            self._notes.append(line)

    def begin(self, progress: Progress, facts: Mapping[str, Any]) -> None:
        """`run.started`."""
        self._run, self._begun = progress.run, True
        self._write(
            "info", "run.started", f"{progress.before} of {progress.total} done, {progress.wanted} to do now",
            args=list(self._voice.words), verb=facts.get("verb"), folder=facts.get("folder"), done=progress.before,
            total=progress.total, wanted=progress.wanted, in_doubt=facts.get("doubt", 0),
        )  # fmt: skip
        for note in self._notes:
            self._write("info", "note", note)

    def event(self, event: Event) -> None:
        """A step, after it is durable."""
        reason = f": {event.detail['reason']}" if event.detail and event.detail.get("reason") else ""
        self._write(
            _LEVELS.get(event.type, "info"), event.type, f"{event.key} {event.outcome}{reason}", key=str(event.key),
            outcome=event.outcome, usd=event.usd, tokens=event.tokens,
            detail={name: value for name, value in event.detail.items() if name != "trace"} if event.detail else None,
        )  # fmt: skip

    def text(self, key: Key, text: str) -> None:
        """A piece of an answer."""
        self._write("debug", "text", text, key=str(key))

    def exchange(self, told: Told) -> None:
        """Nothing: it was a step, completed or reused."""

    def trial(self, key: Key, outcome: str, scores: Mapping[str, Any], output: Any) -> None:
        """`trial.settled`, or owed."""
        values = {name: score.get("value") for name, score in scores.items()}
        kind, level = ("trial.owed", "warning") if outcome == "error" else ("trial.settled", "info")
        self._write(level, kind, f"{key} {outcome}", key=str(key), outcome=outcome, scores=values)

    def end(self, facts: Mapping[str, Any]) -> None:
        """Nothing yet: `over` follows."""

    def over(self, outcome: Outcome) -> None:
        """`run.completed`."""
        self._run = self._run or (outcome.ending.run if outcome.ending else "")
        level = "info" if outcome.code == 0 else "warning" if outcome.ending else "error"
        self._write(level, "run.completed", outcome.said, **outcome.to_json())
