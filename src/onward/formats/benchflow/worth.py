"""Tokens and money of an export, recorded and live kept apart, each token counted once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from onward.entry import Entry
from onward.protocols.recorded import response_of
from onward.protocols.turns import FORMS

__all__ = ["Part", "agent_result", "final_metrics"]


@dataclass(frozen=True, slots=True)
class Part:
    """What some exchanges used. `usd` None: nobody knows."""

    calls: int = 0
    input: int = 0
    output: int = 0
    cached: int = 0
    written: int = 0
    tools: int = 0
    usd: float | None = None

    @classmethod
    def of(cls, pairs: Iterable[tuple[Entry, Entry]]) -> Part:
        """Of exchanges: the entry that asks, and the one that holds the answer."""
        calls = given = output = cached = written = tools = 0
        costs: list[float] = []
        for intent, result in pairs:
            usage: Mapping[str, Any] = result.value.get("usage") or {}
            response = response_of(intent.data["protocol"], result.value)
            form = FORMS[intent.data["protocol"]]
            counts = response.get("usage")
            calls += 1
            given += int(usage.get("input", 0))
            output += int(usage.get("output", 0))
            cached += int(usage.get("cached", 0))
            written += int(counts.get("cache_creation_input_tokens") or 0) if isinstance(counts, Mapping) else 0
            tools += len(form.said(form.turn(response)).calls) if response else 0
            if result.usd is not None:
                costs.append(result.usd)
        return cls(calls, given, output, cached, written, tools, sum(costs) if costs or not calls else None)

    def costing(self, usd: float | None) -> Part:
        """The same with another cost."""
        return replace(self, usd=usd)

    def to_json(self) -> dict[str, Any]:
        """As `usage_details` has it."""
        return {
            "calls": self.calls, "n_input_tokens": self.input, "n_output_tokens": self.output,
            "n_cache_read_tokens": self.cached, "total_tokens": self.input + self.output, "cost_usd": self.usd,
        }  # fmt: skip


def _usd(recorded: Part, live: Part) -> float | None:
    return None if recorded.usd is None or live.usd is None else round(recorded.usd + live.usd, 9)


def agent_result(recorded: Part, live: Part) -> dict[str, Any]:
    """BenchFlow's own field. The input holds what touched the cache, which is not added once more."""
    given, output = recorded.input + live.input, recorded.output + live.output
    tools = recorded.tools + live.tools
    return {
        "n_tool_calls": tools, "n_skill_invocations": 0, "n_prompts": 1, "n_input_tokens": given,
        "n_output_tokens": output, "n_cache_read_tokens": recorded.cached + live.cached,
        "n_cache_creation_tokens": recorded.written + live.written, "total_tokens": given + output,
        "cost_usd": _usd(recorded, live), "usage_source": "provider_response", "price_source": "onward",
        "usage_details": {
            "source": "captured_from_stitched_llm_trajectory",
            "recorded_total_tokens": recorded.input + recorded.output, "live_total_tokens": live.input + live.output,
            "recorded": recorded.to_json(), "live": live.to_json(),
        },
    }  # fmt: skip


def final_metrics(recorded: Part, live: Part) -> dict[str, Any]:
    """BenchFlow's other count of the same."""
    return {
        "total_prompt_tokens": recorded.input + live.input, "total_completion_tokens": recorded.output + live.output,
        "total_cached_tokens": recorded.cached + live.cached, "total_cost_usd": _usd(recorded, live),
    }  # fmt: skip
