"""A trial of ours as a run folder of BenchFlow's.

A recording that was imported and never gone on with comes out as it went in, file for file and byte for byte. One that
was continued comes out stitched: the lines that were served again, byte for byte, then those of the live part; with
`continued_from`, what diverged, and tokens and money of both parts. Any other trial of an agent is written from its
entries. Keys are blotted out here, and nowhere before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from hashlib import sha256
from typing import Any

from onward.entry import Entry
from onward.episode import AGENT_SECONDS
from onward.errors import UsageError
from onward.formats.benchflow.blotting import Blotter
from onward.formats.benchflow.completions import line_of, time_of
from onward.formats.benchflow.recording import LLM
from onward.formats.benchflow.rows import object_of
from onward.formats.benchflow.worth import Part, agent_result, final_metrics
from onward.keys import Key
from onward.runs import Run
from onward.views.trials import Trial, is_reused, trial

__all__ = ["Exported", "export"]

_AGENTS = {
    "claude-code": "claude-agent-acp", "codex": "codex-acp", "gemini-cli": "gemini", "mini-swe-agent": "mini-swe",
}  # fmt: skip
"""Our names of agents that BenchFlow calls otherwise."""


@dataclass(frozen=True, slots=True)
class Exported:
    """A run folder, ready to be written."""

    files: Mapping[str, bytes] = field(repr=False)
    recorded: int
    """Lines of the trajectory that were recorded before this run."""
    live: int
    left_out: tuple[int, ...]
    """Lines of the imported recording that no agent was served again, by number."""
    blotted: Mapping[str, int]
    """How many texts held the value of a key, by the key's name."""


def export(run: Run, key: Key, keys: Mapping[str, str]) -> Exported:
    """One trial of an agent. `keys`: what must not appear, by name. Raises UsageError where no agent worked."""
    if key.names[0] not in run.plan.shape.agents:
        raise UsageError(f"{key} is no trial of an agent: BenchFlow's folders hold an agent's episode")
    return _Trial(run, key, Blotter(keys)).exported()


@dataclass(frozen=True, slots=True)
class _Call:
    """An exchange: what was asked and what was answered."""

    intent: Entry
    result: Entry

    @property
    def line(self) -> int | None:
        """The line of the imported recording that it was."""
        return (self.result.data.get("origin") or {}).get("line")

    @property
    def recorded(self) -> bool:
        """Whether it was recorded before this run."""
        return self.result.reused


class _Trial:
    """One trial as it stands in its run."""

    def __init__(self, run: Run, key: Key, blotter: Blotter) -> None:
        self.run, self.key, self.blotter = run, key, blotter
        self.imported: Mapping[str, Any] = run.facts.get("recording") or {}
        self.derivation: Mapping[str, Any] = run.facts["run"].get("derivation") or {}
        self.step: Entry | None = None
        self.served: set[str] = set()
        self.before: list[_Call] = []
        self.live: list[_Call] = []

    def _is_untouched(self) -> bool:
        """Whether it is an import with which nobody has gone on."""
        if not self.imported or self.derivation.get("verb") == "continue":
            return False
        rows = self.run.journal.rows(self.key, kinds=("intent", "result", "served"))
        return all(stored.row.kind != "served" and is_reused(stored.row.body) for stored in rows)

    def _read(self) -> None:
        """One pass over the trial's entries that count."""
        intents: dict[str, Entry] = {}
        calls: list[_Call] = []
        for entry in self.run.entries(self.key, ("intent", "result", "served")):
            if entry.seq <= self.run.voids.since(entry.key) or not entry.key.startswith(f"{self.key}/generate/"):
                continue
            if entry.kind == "served":
                self.served.add(entry.key)
            elif entry.kind == "intent" and entry.tokens is not None:
                intents[entry.key] = entry
            elif entry.kind == "result" and entry.key.count("/") == self.key.count("/") + 2:
                self.step = entry
            elif entry.kind == "result" and entry.outcome == "ok" and entry.key in intents:
                calls.append(_Call(intents[entry.key], entry))
        gone_on = bool(self.served) or any(not call.recorded for call in calls)
        kept = [call for call in calls if not gone_on or not call.recorded or call.result.key in self.served]
        self.before = [call for call in kept if call.recorded]
        self.live = [call for call in kept if not call.recorded]

    # ------------------------------------------------------------------------------------------ what is written

    def exported(self) -> Exported:
        """The whole folder."""
        if self._is_untouched():
            return self._as_it_came()
        self._read()
        lines = [*self._recorded_lines(), *map(self._made, self.live)]
        files = {
            "config.json": self._document(self._config(lines)), "result.json": self._document(self._result(lines)),
            "timing.json": self._document(self._timing()), "prompts.json": self._document(self._prompts()),
            LLM: b"\n".join(lines), **dict(self._verdict()),
        }  # fmt: skip
        known = len(self._original_lines)
        used = {call.line for call in self.before}
        left = tuple(number for number in range(1, known + 1) if number not in used)
        return Exported(files, len(self.before), len(self.live), left, dict(self.blotter.found))

    def _as_it_came(self) -> Exported:
        files = {}
        for path in self.imported["files"]:
            files[path] = b"\n".join(map(self.blotter.line, self._original(path).split(b"\n")))
        return Exported(files, len(self._original_lines), 0, (), dict(self.blotter.found))

    def _original(self, path: str) -> bytes:
        held = self.imported.get("files", {}).get(path)
        return b"" if held is None else self.run.journal.blob(bytes.fromhex(held["content"]))

    @cached_property
    def _original_lines(self) -> list[bytes]:
        content = self._original(LLM)
        return content.split(b"\n") if content else []

    @property
    def _zone(self) -> int:
        return int(self.imported.get("zone") or 0)

    def _recorded_lines(self) -> Iterator[bytes]:
        """The imported ones in their file's order, then what else was recorded before."""
        numbers = sorted(call.line for call in self.before if call.line is not None)
        yield from (self.blotter.line(self._original_lines[number - 1]) for number in numbers)
        yield from (self._made(call) for call in self.before if call.line is None)

    def _made(self, call: _Call) -> bytes:
        return json.dumps(self.blotter.value(line_of(call.intent, call.result, self._zone))).encode()

    def _document(self, value: Any) -> bytes:
        return json.dumps(self.blotter.value(value), indent=2).encode()

    # ------------------------------------------------------------------------------------------ its parts

    @cached_property
    def trial(self) -> Trial:
        """The trial as views tell it."""
        return trial(self.run, self.key)

    @cached_property
    def _value(self) -> Mapping[str, Any]:
        return (self.step.value if self.step is not None else None) or {}

    @cached_property
    def _solver(self) -> Mapping[str, Any]:
        """The solver as the experiment says it."""
        named = self.run.config["spec"].get("solver") or []
        return next((one for one in named if one.get("name") in ("", None, self.key.names[0])), {})

    @property
    def _agent(self) -> str:
        agent = str(self._solver.get("agent") or self.key.names[0])
        return str(self.imported.get("agent") or _AGENTS.get(agent, agent))

    @property
    def _models(self) -> tuple[str, str]:
        """Recorded and live. They are one, unless a continuation was given another."""
        stated = str(self._solver.get("model") or "").partition("/")[2]
        live = str(self.derivation.get("model") or "").partition("/")[2]
        recorded = str(self.imported.get("model") or stated)
        return recorded, live or recorded

    @property
    def _model(self) -> str:
        recorded, live = self._models
        both = bool(self.live) and bool(self.before) and recorded != live
        return f"{recorded} (recorded), {live} (live)" if both else live if self.live else recorded

    @property
    def _limit(self) -> float:
        stated = self.derivation.get("timeout") or (self.run.config["spec"].get("limits") or {}).get("time")
        own = (self._task.metadata.get("folder") or {}).get("agent_seconds")
        return float(stated or self.imported.get("timeout") or own or AGENT_SECONDS)

    @cached_property
    def _task(self) -> Any:
        for chunk in self.run.plan.chunks:
            if self.key.names[1] in chunk.ids:
                return next(task for _, task in self.run.tasks(chunk) if task.id == self.key.names[1])
        raise AssertionError(f"{self.key} is not planned")

    def _continued_from(self, lines: Sequence[bytes]) -> dict[str, Any] | None:
        parents = self.run.facts["run"].get("parents") or ()
        if not self.before and not parents:
            return None
        prefix = sha256(b"\n".join(lines[: len(self.before)])).hexdigest()
        found: dict[str, Any] = {
            "kind": "onward", "run_id": parents[0] if parents else self.run.id, "trial": str(self.key),
            "recorded_lines": len(self.before), "digest": f"sha256:{prefix}",
        }  # fmt: skip
        if self.derivation.get("mismatches"):
            found["mismatches"] = list(self.derivation["mismatches"])
        if self.imported:
            held = self.imported["files"].get(LLM, {})
            found |= {
                "path": self.imported["path"], "trajectory_digest": f"sha256:{held.get('sha256', '')}",
                "original_error_category": self.imported.get("category"), "original_model": self.imported.get("model"),
                "original_rewards": self._imported_result.get("rewards"),
            }  # fmt: skip
        return found

    @cached_property
    def _imported_result(self) -> Mapping[str, Any]:
        return object_of(self._original("result.json"))[0] or {}

    def _config(self, lines: Sequence[bytes]) -> dict[str, Any]:
        original = object_of(self._original("config.json"))[0] or {}
        made = {
            "task_path": self._task_path, "agent": self._agent, "model": self._model, "reasoning_effort": None,
            "environment": _sandbox(self._solver.get("sandbox")), "timeout_sec": self._limit,
            "started_at": self._at(self.trial.started), "agent_env": {}, **(original or self._identity()),
        }  # fmt: skip
        made |= {"model": self._model, "timeout_sec": _whole(self._limit)}
        came = self._continued_from(lines)
        return made if came is None else {**made, "continued_from": came}

    @property
    def _task_path(self) -> str:
        """Where its task was, as the experiment says it: in this folder of tasks, or this very one."""
        source = self.run.facts.get("source") or {}
        path = str(source["path"]).rstrip("/") if source.get("source") == "folders" else self._task.id
        return path if path.rpartition("/")[2] == self._task.id else f"{path}/{self._task.id}"

    def _identity(self) -> dict[str, Any]:
        """What a continuation compares with what it finds: BenchFlow's own hashes, and what it does not keep."""
        blob = self.run.journal.blob
        hashes = {file.name: f"sha256:{sha256(blob(bytes.fromhex(file.digest))).hexdigest()}"
                  for file in self._task.files}  # fmt: skip
        source = {"type": "local", "path": self._task.id, "file_hashes": hashes}
        return {"source": source, "agent_version": (self._value.get("agent") or {}).get("version")}

    def _at(self, at: str) -> str | None:
        return time_of(datetime.fromisoformat(at), self._zone).replace("T", " ") if at else None

    def _parts(self) -> tuple[Part, Part]:
        """Tokens and money, recorded and live."""
        recorded, live = (Part.of([(one.intent, one.result) for one in calls]) for calls in (self.before, self.live))
        if self.imported and recorded.usd is None:
            recorded = recorded.costing(self.imported.get("usd"))
        return recorded, live

    def _result(self, lines: Sequence[bytes]) -> dict[str, Any]:
        recorded, live = self._parts()
        report = self._value.get("exchanges") or {}
        rewards = self._rewards()
        outcome = self.trial.outcome
        made = {
            **self._imported_result,
            "task_name": self._imported_result.get("task_name") or self._task.id,
            "rollout_name": self._rollout, "rewards": rewards or None,
            "agent": self._agent, "model": self._model, "n_prompts": 1, "n_tool_calls": recorded.tools + live.tools,
            "agent_result": agent_result(recorded, live), "final_metrics": final_metrics(recorded, live),
            "usage_tracking": {"requested": "required", "status": "captured_from_stitched_llm_trajectory",
                               "usage_source": "provider_response"},
            "error": self.trial.reason or None if outcome != "ok" else None,
            "error_category": {"timeout": "timeout", "failed": "other", "error": "infra_failure"}.get(outcome),
            "started_at": self._at(self.trial.started), "finished_at": self._at(self.trial.ended),
            "timing": self._timing(), "partial_trajectory": outcome != "ok",
        }  # fmt: skip
        if "reproducible" in report:
            made["reproducible"] = report["reproducible"] and self._imported_result.get("reproducible") is not False
        came = self._continued_from(lines)
        if came is not None:
            made["continued_from"] = came
            made["divergences"] = {
                "count": report.get("divergences", 0), "first": report.get("first_divergence"),
                "policy": report.get("policy"), "levels": report.get("served", {}), "left": report.get("left", 0),
            }  # fmt: skip
        return made

    @property
    def _rollout(self) -> str:
        """A name as theirs are; that of the recording, where it was gone on with."""
        path = str(self.imported.get("path") or "")
        return f"{path.rpartition('/')[2]}__continued" if path else f"{self._task.id}__{self.run.id[:8]}"

    def _rewards(self) -> dict[str, float]:
        output = self._value.get("output")
        given = output.get("rewards") if isinstance(output, Mapping) else None
        if isinstance(given, Mapping) and given:
            return {str(name): float(value) for name, value in given.items()}
        return {name: float(score["value"]) for name, score in self.trial.scores.items()}

    def _timing(self) -> dict[str, float]:
        original = object_of(self._original("timing.json"))[0] or {}
        active = (self.step.data if self.step is not None else {}).get("active")
        made = {name: value for name, value in original.items() if name in ("environment_setup", "agent_setup")}
        if active is not None:
            made["agent_execution"] = round(float(active), 1)
        if self.trial.started and self.trial.ended:
            took = datetime.fromisoformat(self.trial.ended) - datetime.fromisoformat(self.trial.started)
            made["total"] = round(took.total_seconds(), 1)
        return made

    def _prompts(self) -> list[str]:
        given = self._task.input
        return [given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)]

    def _verdict(self) -> Iterator[tuple[str, bytes]]:
        """What the verifier gave, as its files."""
        rewards = self._rewards()
        if not rewards:
            return
        ended = self._at(self.trial.ended) or ""
        events: list[dict[str, Any]] = [
            {"ts": ended.replace(" ", "T"), "type": "terminal", "source": "verifier", "value": value, "tag": name,
             "step_index": None, "space": "output", "granularity": "terminal", "meta": {}}
            for name, value in rewards.items()
        ]  # fmt: skip
        yield "rewards.jsonl", "".join(json.dumps(event) + "\n" for event in events).encode()
        main = rewards.get("reward", next(iter(rewards.values())))
        yield "verifier/reward.txt", f"{main:g}\n".encode()
        yield "verifier/reward.json", self._document(rewards)
        verdict = self._value.get("verifier") or {}
        if verdict.get("said"):
            yield "verifier/test-stdout.txt", self.blotter.text(str(verdict["said"])).encode()
        if verdict.get("ctrf") is not None:
            yield "verifier/ctrf.json", self._document(verdict["ctrf"])


def _sandbox(given: Any) -> str | None:
    """The kind, in their words: only a container is called otherwise. None: what the machine had."""
    kind = str(given.get("kind") or "" if isinstance(given, Mapping) else given or "")
    return {"container": "docker"}.get(kind, kind) or None


def _whole(seconds: float) -> int | float:
    return int(seconds) if seconds == int(seconds) else seconds
