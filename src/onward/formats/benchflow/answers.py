"""A recorded answer in the wire format that the agent spoke. LiteLLM keeps a chat completion, whatever was asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from onward.ask import Usage
from onward.formats.benchflow.rows import Row, message_of
from onward.protocols import PROTOCOLS, Malformed, Reported
from onward.protocols.wire import arguments_of

__all__ = ["answer_in", "cache_writes_of", "thought", "usage_of"]

Json = Mapping[str, Any]

_STOPS = {"tool_calls": "tool_use", "function_call": "tool_use", "length": "max_tokens", "content_filter": "refusal"}
_SERVER = "srvtoolu_"
"""What the ids of tools begin with that the provider itself ran."""


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**53 else 0


def _part(usage: Json, name: str) -> Json:
    found = usage.get(name)
    return found if isinstance(found, dict) else {}


def cache_writes_of(response: Json) -> int:
    """Tokens of the input that were written to the provider's cache."""
    usage = _part(response, "usage")
    details = _part(usage, "prompt_tokens_details")
    return _count(usage.get("cache_creation_input_tokens")) or _count(details.get("cache_creation_tokens"))


def usage_of(response: Json) -> Usage:
    """What it used. Here `prompt_tokens` holds what touched the cache already; should it be less than that, it does
    not."""
    usage = _part(response, "usage")
    given = _count(usage.get("prompt_tokens"))
    cached = _count(usage.get("cache_read_input_tokens")) or _count(
        _part(usage, "prompt_tokens_details").get("cached_tokens")
    )
    touched = cached + cache_writes_of(response)
    reasoning = _count(_part(usage, "completion_tokens_details").get("reasoning_tokens"))
    total = given if given >= touched else given + touched
    return Usage(total, _count(usage.get("completion_tokens")), cached, reasoning)


def thought(message: Json) -> list[Json]:
    """The thinking blocks of a message, signatures and all.

    LiteLLM keeps them twice, and loses something in each: here the text of all, in `provider_specific_fields` the last
    signature with an empty text.
    """
    fields = _part(message, "provider_specific_fields")
    for given in (message.get("thinking_blocks"), fields.get("thinking_blocks")):
        blocks = [block for block in given if isinstance(block, dict)] if isinstance(given, list) else []
        signed = [block for block in blocks if block.get("signature") or block.get("type") == "redacted_thinking"]
        if signed:
            return [_thinking(block) for block in signed]
    return []


def _thinking(block: Json) -> Json:
    if block.get("type") == "redacted_thinking":
        return {"type": "redacted_thinking", "data": str(block.get("data") or "")}
    text, signature = str(block.get("thinking") or ""), str(block.get("signature") or "")
    return {"type": "thinking", "thinking": text, "signature": signature}


def _calls(message: Json) -> list[Json]:
    given = message.get("tool_calls")
    made: list[Json] = []
    for call in given if isinstance(given, list) else []:
        inner = call.get("function") if isinstance(call, dict) else None
        if isinstance(inner, dict):
            id_, name = str(call.get("id") or ""), str(inner.get("name") or "")
            kind = "server_tool_use" if id_.startswith(_SERVER) else "tool_use"
            made.append({"type": kind, "id": id_, "name": name, "input": arguments_of(inner.get("arguments"))})
    return made


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _claudes(row: Row, *, thinking: bool) -> Json:
    """An Anthropic message. What the provider itself searched stands before the text that was made of it."""
    response, message = row.response, message_of(row.response)
    calls = _calls(message)
    found = _part(message, "provider_specific_fields").get("web_search_results")
    blocks: list[Json] = thought(message) if thinking else []
    blocks += [call for call in calls if call["type"] == "server_tool_use"]
    blocks += [block for block in found if isinstance(block, dict)] if isinstance(found, list) else []
    text = _text(message.get("content"))
    blocks += [{"type": "text", "text": text}] if text or not (blocks or calls) else []
    blocks += [call for call in calls if call["type"] == "tool_use"]
    used, written = usage_of(response), cache_writes_of(response)
    usage: dict[str, Any] = {
        "input_tokens": used.input - used.cached - written, "cache_creation_input_tokens": written,
        "cache_read_input_tokens": used.cached, "output_tokens": used.output,
    }  # fmt: skip
    searched = _count(_part(_part(response, "usage"), "server_tool_use").get("web_search_requests"))
    if searched:
        usage["server_tool_use"] = {"web_search_requests": searched}
    return {
        "id": str(response.get("id") or f"msg_line{row.line}"), "type": "message", "role": "assistant",
        "model": str(response.get("model") or row.model), "content": blocks,
        "stop_reason": _STOPS.get(_finish(response), "end_turn"), "stop_sequence": None, "usage": usage,
    }  # fmt: skip


def _finish(response: Json) -> str:
    choices: Sequence[Any] = response.get("choices") or ()
    return str(choices[0].get("finish_reason") or "") if choices and isinstance(choices[0], dict) else ""


def answer_in(row: Row, *, thinking: bool = True) -> Json | None:
    """The answer of a row in its own wire format; None where it cannot be said in it.

    `thinking`: with the model's thinking. It is left out where the agent's next request shows that it was not given it:
    an agent that carries it along would ask what was never asked.
    """
    if row.protocol == "chat":
        return row.response
    if row.protocol == "messages":
        return _claudes(row, thinking=thinking)
    try:
        return PROTOCOLS[row.protocol].render(PROTOCOLS["chat"].parse(row.response), row.model)
    except (Malformed, Reported):
        return None
