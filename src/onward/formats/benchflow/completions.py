"""An exchange of ours as a line of BenchFlow's: what it keeps of a request, and LiteLLM's completion for an answer.

The inverse of `rows` and `answers`, as far as their form can hold it: of a request that is no chat completion the whole
body goes inside `input`, as theirs has it; of a chat completion a part is kept; no frames, no order of starts and ends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from onward.entry import Entry
from onward.protocols import PROTOCOLS, Malformed, Reported
from onward.protocols.recorded import response_of
from onward.protocols.wire import compact

__all__ = ["line_of", "time_of"]

Json = Mapping[str, Any]

_PROJECTED = (
    "model", "messages", "input", "tools", "stream", "reasoning_effort", "thinking", "output_config", "logprobs",
    "top_logprobs",
)  # fmt: skip
_FINISHES = {"tool_use": "tool_calls", "max_tokens": "length", "refusal": "content_filter"}
_CALLS = {
    "messages": "anthropic_messages", "responses": "aresponses", "gemini": "agenerate_content", "chat": "acompletion",
}  # fmt: skip


def line_of(intent: Entry, result: Entry, zone: int) -> dict[str, Any]:
    """The line. `zone`: seconds by which the clock of the lines before it is ahead of UTC."""
    protocol, body, model = intent.data["protocol"], intent.data["request"], str(intent.data["model"])
    value = result.value
    path = "/v1/messages" if protocol == "messages" else "/v1/chat/completions"
    asked, answered = datetime.fromisoformat(intent.at), datetime.fromisoformat(result.at)
    kept = _projection(protocol, body, model)
    return {
        "request": {"timestamp": time_of(asked, zone), "method": "POST", "path": path, "headers": {}, "body": kept},
        "response": {
            "timestamp": time_of(answered, zone), "status_code": value["status"], "headers": {},
            "body": _completion(protocol, value, model, int(answered.timestamp())),
        },
        "duration_ms": (answered - asked).total_seconds() * 1000,
        "metadata": {
            "request_model": model, "provider_model": model, "model_group": None, "call_type": _CALLS[protocol],
            "input_shape": _shape(kept), "call_purpose": "agent",
        },
    }  # fmt: skip


def time_of(at: datetime, zone: int) -> str:
    """A time as they write it: by the recorder's clock, without a zone."""
    return (at.astimezone(UTC) + timedelta(seconds=zone)).replace(tzinfo=None).isoformat(timespec="microseconds")


def _projection(protocol: str, body: Json, model: str) -> dict[str, Any]:
    kept = {name: body[name] for name in _PROJECTED if name in body}
    if protocol in ("messages", "gemini"):
        kept["input"] = [{"role": "user", "content": json.dumps(body)}]
    kept.setdefault("model", model)
    return kept


def _shape(kept: Json) -> dict[str, Any]:
    messages = kept.get("messages")
    number = len(messages) if isinstance(messages, list) else 0
    return {"has_messages": bool(messages), "has_input": bool(kept.get("input")), "n_messages": number}


def _completion(protocol: str, value: Json, model: str, created: int) -> Json:
    response = response_of(protocol, value)
    if not response:
        text = str(value.get("body") or "".join(piece for _, piece in value.get("frames", ())))
        return {"raw": None, "model": model, "error": {"type": "Refused", "message": text, "traceback": ""}}
    if protocol == "chat":
        return response
    if protocol == "messages":
        return _of_claude(response, model, created)
    try:
        made = PROTOCOLS["chat"].render(PROTOCOLS[protocol].parse(response), model)
    except (Malformed, Reported):
        return {**response, "object": "response"}
    return {**made, "id": str(response.get("id") or made["id"]), "created": created}


def _of_claude(response: Json, model: str, created: int) -> Json:
    blocks: Sequence[Json] = [block for block in response.get("content") or () if isinstance(block, dict)]
    texts = [str(block.get("text") or "") for block in blocks if block.get("type") == "text"]
    calls = [
        {"function": {"arguments": compact(block.get("input") or {}), "name": block.get("name")},
         "id": block.get("id"), "type": "function"}
        for block in blocks if block.get("type") in ("tool_use", "server_tool_use")
    ]  # fmt: skip
    thinking = [dict(block) for block in blocks if block.get("type") in ("thinking", "redacted_thinking")]
    searched = [dict(block) for block in blocks if block.get("type") == "web_search_tool_result"]
    message: dict[str, Any] = {
        "content": "".join(texts) if texts else None, "role": "assistant", "tool_calls": calls or None,
        "function_call": None,
    }  # fmt: skip
    fields = {"thinking_blocks": thinking, "web_search_results": searched}
    if thinking or searched:
        message["provider_specific_fields"] = {name: given for name, given in fields.items() if given}
    if thinking:
        message["thinking_blocks"] = thinking
        message["reasoning_content"] = "".join(str(block.get("thinking") or "") for block in thinking)
    finish = _FINISHES.get(str(response.get("stop_reason") or ""), "stop")
    return {
        "id": response.get("id"), "created": created, "model": response.get("model") or model,
        "object": "chat.completion", "system_fingerprint": None,
        "choices": [{"finish_reason": finish, "index": 0, "message": message}],
        "usage": _usage(response.get("usage")),
    }  # fmt: skip


def _usage(given: Any) -> Json:
    counts = given if isinstance(given, dict) else {}
    read = int(counts.get("cache_read_input_tokens") or 0)
    written = int(counts.get("cache_creation_input_tokens") or 0)
    fresh, output = int(counts.get("input_tokens") or 0), int(counts.get("output_tokens") or 0)
    total = fresh + read + written
    made: dict[str, Any] = {
        "completion_tokens": output, "prompt_tokens": total, "total_tokens": total + output,
        "prompt_tokens_details": {"cached_tokens": read, "text_tokens": fresh, "cache_creation_tokens": written},
        "cache_creation_input_tokens": written, "cache_read_input_tokens": read,
    }  # fmt: skip
    details = counts.get("output_tokens_details")
    if isinstance(details, dict) and details.get("thinking_tokens"):
        made["completion_tokens_details"] = {"reasoning_tokens": details["thinking_tokens"]}
    if isinstance(counts.get("server_tool_use"), dict):
        made["server_tool_use"] = counts["server_tool_use"]
    return made
