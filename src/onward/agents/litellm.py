"""How agents that call models through LiteLLM are pointed at the gateway: by the model's prefix and by variables."""

from __future__ import annotations

from onward.agents.contract import Go
from onward.agents.pointing import pointed

__all__ = ["PROTOCOLS", "environment", "model_name"]

_PREFIXES = {"chat": "openai", "messages": "anthropic"}
PROTOCOLS = tuple(_PREFIXES)
"""The wire formats that it writes as we need them: those whose base URL it takes from its environment."""


def model_name(go: Go) -> str:
    """The model as LiteLLM wants it: its prefix says in which format it is asked."""
    return f"{_PREFIXES[go.protocol or PROTOCOLS[0]]}/{go.model}"


def environment(go: Go) -> dict[str, str]:
    """The gateway's address and key; and prices from its own package rather than from the network."""
    return {**pointed(go.url, go.token), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
