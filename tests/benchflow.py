"""Run folders of BenchFlow's, made by hand: an episode of an agent with tools, in either wire format, as BenchFlow
would have left it, and what may be wrong with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MODEL = "claude-sonnet-4-6"
START = 1_785_097_637
"""2026-07-26T20:27:17Z; the recorder's clock is an hour ahead of UTC."""


def at(seconds: float) -> str:
    """A time as BenchFlow writes it, some seconds into the run."""
    minutes, rest = divmod(17 + seconds, 60)
    return f"2026-07-26T21:{27 + int(minutes):02}:{rest:09.6f}"


def completion(text: str, *calls: tuple[str, str, Any], usage: Any = None, thinking: str = "") -> dict[str, Any]:
    """LiteLLM's assembled answer."""
    message: dict[str, Any] = {"content": text or None, "role": "assistant", "function_call": None}
    message["tool_calls"] = [
        {"function": {"arguments": given if isinstance(given, str) else json.dumps(given), "name": name}, "id": id_,
         "type": "function"} for id_, name, given in calls
    ] or None  # fmt: skip
    if thinking:
        message["thinking_blocks"] = [{"type": "thinking", "thinking": thinking, "signature": "c2lnbmVk"}]
        message["provider_specific_fields"] = {
            "thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "c2lnbmVk"}]
        }
        message["reasoning_content"] = thinking
    return {
        "id": "c8caef15", "created": START, "model": MODEL, "object": "chat.completion", "system_fingerprint": None,
        "choices": [{"finish_reason": "tool_calls" if calls else "stop", "index": 0, "message": message}],
        "usage": usage or {"completion_tokens": 7, "prompt_tokens": 50, "total_tokens": 57},
    }  # fmt: skip


def row(
    body: dict[str, Any], answer: dict[str, Any] | None, asked: float, took: float = 1.0, *, status: int = 200,
    whole: bool = True, path: str = "/v1/messages",
) -> dict[str, Any]:  # fmt: skip
    """One line. `whole`: the original body is inside `input`, as it is for Claude's answered requests."""
    kept = ("model", "messages", "tools", "stream", "thinking", "output_config", "reasoning_effort")
    projection = {name: body[name] for name in kept if name in body}
    if whole:
        projection["input"] = [{"role": "user", "content": json.dumps(body)}]
    response = {"timestamp": at(asked + took), "status_code": status, "headers": {}, "body": answer or {}}
    request = {"timestamp": at(asked), "method": "POST", "path": path, "headers": {}, "body": projection}
    return {"request": request, "response": response, "duration_ms": took * 1000}


def refused(body: dict[str, Any], asked: float, *, status: int = 500, said: str = "overloaded") -> dict[str, Any]:
    """A line of a call that came to nothing."""
    error = {"raw": None, "model": body["model"], "error": {"type": "NoneType", "message": said, "traceback": ""}}
    return row(body, error, asked, 0.1, status=status, whole=False, path="/v1/chat/completions")


TOOLS = [{"name": "Bash", "description": "Runs a command.", "input_schema": {"type": "object", "properties": {}}}]


@dataclass
class Episode:
    """A Claude Code that does some steps, one tool call each, and says at last that it is done."""

    steps: int = 3
    thinking: bool = False
    commands: Sequence[str] = ()
    body: dict[str, Any] = field(init=False)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.body = {
            "model": MODEL, "max_tokens": 1000, "stream": True, "system": "You work.", "tools": TOOLS,
            "messages": [{"role": "user", "content": [{"type": "text", "text": "Write the file."}]}],
        }  # fmt: skip
        for step in range(self.steps):
            self.ask(step)

    def ask(self, step: int) -> None:
        """One exchange; the conversation goes on after it."""
        last = step == self.steps - 1
        command = self.commands[step] if step < len(self.commands) else f"echo {step}"
        calls = [] if last else [(f"toolu_{step}", "Bash", {"command": command})]
        thinking = f"thought {step}" if self.thinking else ""
        answer = completion(f"Step {step}.", *calls, thinking=thinking)
        self.rows.append(row(json.loads(json.dumps(self.body)), answer, 10.0 * step, 4.0))
        said = [{"type": "text", "text": f"Step {step}."}]
        uses = [{"type": "tool_use", "id": id_, "name": name, "input": given} for id_, name, given in calls]
        results = [{"type": "tool_result", "tool_use_id": id_, "content": f"result {step}"} for id_, _, _ in calls]
        self.body["messages"] += [{"role": "assistant", "content": said + uses}, {"role": "user", "content": results}]


def openhands(steps: int = 3) -> list[dict[str, Any]]:
    """The same in chat completions, of which a projection alone is recorded."""
    body: dict[str, Any] = {
        "model": "deepseek-v4", "temperature": 0.2, "stream": False,
        "tools": [{"type": "function", "function": {"name": "bash", "parameters": {"type": "object"}}}],
        "messages": [{"role": "system", "content": "You work."}, {"role": "user", "content": "Write the file."}],
    }  # fmt: skip
    rows = []
    for step in range(steps):
        calls = [] if step == steps - 1 else [(f"call_{step}", "bash", {"command": f"echo {step}"})]
        answer = completion(f"Step {step}.", *calls)
        asked = {**body, "messages": list(body["messages"])}
        rows.append(row(asked, answer, 10.0 * step, 4.0, whole=False, path="/v1/chat/completions"))
        said = {name: value for name, value in answer["choices"][0]["message"].items() if value is not None}
        body["messages"] += [said] + [
            {"role": "tool", "tool_call_id": id_, "content": f"result {step}"} for id_, _, _ in calls
        ]
    return rows


CONFIG = {
    "task_path": "tasks/write-file", "agent": "claude-agent-acp", "model": MODEL, "environment": "docker",
    "timeout_sec": 60, "agent_idle_timeout_sec": 600, "started_at": "2026-07-26 21:13:40.173866", "agent_env": {},
}  # fmt: skip
RESULT = {
    "task_name": "write-file", "rollout_name": "write-file__0f1e2d3c", "rewards": {"reward": 0.0},
    "agent": "claude-agent-acp", "model": MODEL, "n_tool_calls": 2, "n_prompts": 1,
    "agent_result": {"n_tool_calls": 2, "n_input_tokens": 150, "n_output_tokens": 21, "total_tokens": 171,
                     "cost_usd": 0.3, "usage_source": "provider_response", "price_source": "litellm"},
    "final_metrics": {"total_prompt_tokens": 150, "total_completion_tokens": 21, "total_cached_tokens": 0,
                      "total_cost_usd": 0.3},
    "error": "Agent timed out after 60s", "error_category": "timeout", "verifier_error": None,
    "started_at": "2026-07-26 21:13:40.173866", "finished_at": "2026-07-26 21:32:05.724788",
    "source": {"type": "github", "repo": "somebody/tasks", "path": "tasks/write-file"},
}  # fmt: skip
TIMING = {"environment_setup": 5.0, "agent_setup": 2.0, "agent_execution": 60.0, "verifier": 3.0, "total": 70.0}


def lines_of(rows: Sequence[Any]) -> bytes:
    """Rows as BenchFlow writes them: no line feed at the end."""
    return b"\n".join(one if isinstance(one, bytes) else json.dumps(one).encode() for one in rows)


def folder(
    path: Path, rows: Sequence[Any] | bytes, *, config: Any = None, result: Any = None, without: Sequence[str] = (),
) -> Path:  # fmt: skip
    """A run folder. `config`, `result`: fields that differ, or the very bytes of the file."""
    files: dict[str, Any] = {
        "config.json": config if isinstance(config, bytes) else {**CONFIG, **(config or {})},
        "result.json": result if isinstance(result, bytes) else {**RESULT, **(result or {})},
        "timing.json": TIMING, "prompts.json": ["Write the file."],
        "rewards.jsonl": b'{"ts":"2026-07-26T21:32:05","type":"terminal","value":0.0,"tag":"reward"}\n',
        "trajectory/llm_trajectory.jsonl": rows if isinstance(rows, bytes) else lines_of(rows),
        "verifier/reward.txt": b"0\n",
    }  # fmt: skip
    for name, content in files.items():
        if name not in without:
            place = path / name
            place.parent.mkdir(parents=True, exist_ok=True)
            text = content if isinstance(content, bytes) else json.dumps(content, indent=2).encode()
            place.write_bytes(text)
    return path
