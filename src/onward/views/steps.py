"""A trial from near: its steps, the model calls under them, and one exchange whole."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onward.entry import Entry, unpack
from onward.errors import NotThere
from onward.keys import Key
from onward.plan import STAGES
from onward.runs import Run
from onward.views.trials import is_reused

__all__ = ["Exchange", "Tried", "exchange", "exchanges", "request_messages", "steps", "text_of"]


@dataclass(slots=True)
class Tried:
    """One step: its newest result that counts, and what it took to get there."""

    key: Key
    name: str
    """Relative to the trial."""
    outcome: str = "missing"
    value: Any = None
    reason: str = ""
    attempts: int = 0
    generation: int = 0
    at: str = ""
    parts: Mapping[str, str] = field(default_factory=dict)
    digest: str = ""
    origin: Mapping[str, Any] | None = None
    """Where it was taken over from, if it was."""
    calls: int = 0
    usd: float = 0.0
    tokens: int = 0


def steps(run: Run, trial: Key) -> list[Tried]:
    """The planned steps of a trial, in the order of the stages, with the money of the calls under them."""
    planned = [step for stage in STAGES for step in run.plan.shape.steps(stage)]
    found = {step: Tried(Key(f"{trial}/{step}"), step) for step in planned}
    for stored in run.journal.rows(trial, kinds=("intent", "result")):
        row = stored.row
        parts = row.key[len(trial) + 1 :].split("/")
        name = "/".join(parts[:2]) if "/".join(parts[:2]) in found else parts[0]
        step = found.get(name)
        if step is None or row.kind != "result":
            continue
        if row.tokens is not None and not is_reused(row.body):
            step.calls += 1
            step.usd += row.usd or 0.0
            step.tokens += row.tokens
        if row.key == step.key:
            step.attempts += 1
            if stored.seq > run.voids.since(row.key):
                _take(step, unpack(row, run.journal.blob, seq=stored.seq))
    return list(found.values())


def _take(step: Tried, entry: Entry) -> None:
    step.outcome, step.value, step.at, step.generation = str(entry.outcome), entry.value, entry.at, entry.generation
    step.reason = str(entry.data.get("error", {}).get("reason", ""))
    step.origin = entry.data.get("origin")
    if entry.fingerprint is not None:
        step.parts, step.digest = entry.fingerprint.parts, entry.fingerprint.digest


@dataclass(slots=True)
class Exchange:
    """One model call: what was asked and what was said."""

    key: Key
    outcome: str = "in doubt"
    model: str = ""
    attempts: int = 0
    sent: str = ""
    ended: str = ""
    usd: float | None = None
    tokens: int | None = None
    request: Mapping[str, Any] | None = None
    """As it was sent; None where the call was taken over from another run, which has it."""
    answer: Mapping[str, Any] | None = None
    reason: str = ""
    origin: Mapping[str, Any] | None = None


def exchanges(run: Run, prefix: Key) -> list[Exchange]:
    """The model calls (and named steps) under a step, in the order in which they first left."""
    found: dict[str, Exchange] = {}
    for entry in run.entries(prefix, ("intent", "result")):
        if entry.key == prefix or (entry.kind == "intent" and entry.tokens is None):
            continue
        one = found.setdefault(entry.key, Exchange(entry.key))
        one.attempts = max(one.attempts, entry.attempt)
        if entry.kind == "intent":
            one.sent = one.sent or entry.at
            one.outcome, one.usd, one.tokens = "in doubt", entry.usd, entry.tokens
            one.model = "/".join(str(entry.data[part]) for part in ("provider", "model") if entry.data.get(part))
            one.request = entry.data.get("request")
            continue
        one.ended, one.outcome, one.usd, one.tokens = entry.at, str(entry.outcome), entry.usd, entry.tokens
        one.reason = str(entry.data.get("error", {}).get("reason", ""))
        one.origin = entry.data.get("origin")
        value = entry.value
        if value is not None:
            one.answer = value if isinstance(value, Mapping) and "text" in value else {"text": _plain(value)}
    return list(found.values())


def exchange(run: Run, prefix: Key, name: str) -> Exchange:
    """One of them: by its name, the beginning of it, or its place in the list (from 1). Raises NotThere."""
    known = exchanges(run, prefix)
    start = len(prefix) + 1
    exact = [one for one in known if name in (one.key[start:], "/".join(Key(one.key[start:]).names))]
    found = exact or [one for one in known if one.key[start:].startswith(name)]
    if not found and name.isdigit() and 0 < int(name) <= len(known):
        found = [known[int(name) - 1]]
    if len(found) != 1:
        there = ", ".join(one.key[start:] for one in known[:8]) or "none"
        raise NotThere(f"{prefix} has {'no' if not found else 'several'} exchange {name!r}; there: {there}")
    return found[0]


def request_messages(request: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(role, text) of the conversation in a request of any of the wire formats."""
    above = ("system", "instructions", "systemInstruction", "system_instruction")
    found = [("system", text_of(request[name])) for name in above if request.get(name)]
    history = request.get("messages") or request.get("input") or request.get("contents") or ()
    if isinstance(history, str):
        return [*found, ("user", history)]
    for message in history:
        role = str(message.get("role") or message.get("type") or "user")
        body = {name: item for name, item in message.items() if name not in ("role", "type")}
        content = next((body[name] for name in ("content", "parts", "output") if body.get(name) is not None), None)
        calls = body.get("tool_calls")
        words = text_of(content) if content is not None else "" if calls else _plain(body)
        found.append((role, "\n".join(part for part in (words, _plain(calls) if calls else "") if part)))
    return found


def text_of(content: Any) -> str:
    """The text in a message's content; what is no text is named by its type."""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        return "\n".join(text_of(part) for part in content)
    if isinstance(content, Mapping):
        if isinstance(content.get("text"), str):
            return str(content["text"])
        inner = content.get("parts") or content.get("content")
        if inner is not None:
            return text_of(inner)
        kind = content.get("type")
        return f"[{kind}]" if kind in ("image", "image_url", "input_image", "file", "input_file") else _plain(content)
    return _plain(content)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
