"""What must not count where requests were recorded by others, who keep a part of them, or replace texts in them.

Such an exchange's intent says so: `recorder` {"partial", "mark"}. The rules made here stand behind an agent's own, and
serve the match alone as those do:

    the model's name is compared without what proxies put before it
    of a format of which only parts were recorded, no field is compared but those that are always there
    where a mark stands in a recorded text, the live text may have anything
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from onward.gateway.normalisers.rules import Rule, Rules

__all__ = ["allowing"]

_MODEL = Rule("model-alias", "mask", ("model",), r"\A(?:[^/]*/)*(?:benchflow-)?", "")

_UNRECORDED: Mapping[str, tuple[str, ...]] = {
    "chat": (
        "audio", "caching", "chat_template_kwargs", "drop_params", "enable_thinking", "extra_body", "extra_headers",
        "frequency_penalty", "logit_bias", "max_completion_tokens", "max_tokens", "metadata", "min_p", "modalities",
        "n", "parallel_tool_calls", "prediction", "presence_penalty", "provider", "reasoning", "repetition_penalty",
        "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "temperature",
        "thinking_budget", "tool_choice", "top_k", "top_p", "transforms", "usage", "user", "verbosity",
        "web_search_options",
    ),
    "messages": (
        "betas", "container", "context_management", "max_tokens", "mcp_servers", "metadata", "output_config",
        "service_tier", "stop_sequences", "system", "temperature", "thinking", "tool_choice", "top_k", "top_p",
    ),
    "responses": (
        "background", "include", "instructions", "max_output_tokens", "max_tool_calls", "metadata",
        "parallel_tool_calls", "previous_response_id", "prompt", "reasoning", "service_tier", "store", "temperature",
        "text", "tool_choice", "top_p", "truncation", "user",
    ),
}  # fmt: skip
"""Fields that a partial record lacks, or has only where the call was answered."""
_ANYTHING = r"[\s\S]*"
_SHOWN = 64
"""Characters of a text by which it is known quickly."""


def allowing(rules: Rules, intents: Iterable[Mapping[str, Any]]) -> Rules:
    """The rules with what these recorded requests need; the very same where all were recorded here."""
    partial: dict[str, None] = {}
    masks: dict[Rule, None] = {}
    others = False
    for intent in intents:
        recorder = intent.get("recorder")
        if recorder is None:
            continue
        others = True
        if recorder.get("partial"):
            partial[intent["protocol"]] = None
        if recorder.get("mark"):
            masks.update(dict.fromkeys(_masks(intent["request"], recorder["mark"])))
    if not others:
        return rules
    drops = [Rule("unrecorded", "drop", _UNRECORDED[name]) for name in partial if name in _UNRECORDED]
    return replace(rules, agent=f"{rules.agent}+recording", rules=(*rules.rules, _MODEL, *drops, *masks))


def _masks(request: Mapping[str, Any], mark: str) -> Iterator[Rule]:
    for path, text in _marked(request, mark, ""):
        pieces = text.split(mark)
        paths = (path, f"{path}[*].text") if path.endswith(".content") else (path,)  # agents write either
        longest = max(pieces, key=len)
        yield Rule(
            "replaced-text", "mask", paths, _anything_between(pieces), text.replace("\\", r"\\"), longest[:_SHOWN]
        )


def _anything_between(pieces: Sequence[str]) -> str:
    """A pattern for a text with these pieces in this order. Each is taken where it is first found and never looked for
    again, which is as good, and takes no longer where a text does not match."""
    first, *middle, last = map(re.escape, pieces)
    between = "".join(f"(?>{_ANYTHING}?{piece})" for piece in middle)
    return rf"\A{first}{between}{_ANYTHING}{last}\Z"


def _marked(value: Any, mark: str, path: str) -> Iterator[tuple[str, str]]:
    """Texts with a mark in them. The first list on the way (messages, tools) keeps its places, the others do not:
    parallel results change theirs."""
    if isinstance(value, str):
        if mark in value:
            yield path, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            plain = re.fullmatch(r"[^.\[\]\"\s]+", name)
            step = (f".{name}" if path else name) if plain else f"[{_quoted(name)}]"
            yield from _marked(item, mark, path + step)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _marked(item, mark, f"{path}[*]" if "[" in path else f"{path}[{index}]")


def _quoted(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
