"""Agents: programs in sandboxes, pointed at the gateway. The only room that knows both.

`agent("claude-code")` is an adapter: what it needs to be installed, started and understood. See `contract`.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from onward.agents.contract import Agent, Go, Installed, Launch, Said
from onward.errors import UsageError, did_you_mean

__all__ = ["AGENTS", "Agent", "Go", "Installed", "Launch", "Said", "agent"]

AGENTS: Mapping[str, str] = {
    "claude-code": "onward.agents.claude_code:ClaudeCode",
    "codex": "onward.agents.codex:Codex",
    "gemini-cli": "onward.agents.gemini_cli:GeminiCli",
    "opencode": "onward.agents.opencode:OpenCode",
    "mini-swe-agent": "onward.agents.mini_swe_agent:MiniSweAgent",
    "openhands": "onward.agents.openhands:OpenHands",
    "aider": "onward.agents.aider:Aider",
    "command": "onward.agents.command:Command",
    "oracle": "onward.agents.oracle:Oracle",
}
"""Every agent by its name, and where its adapter is."""


def agent(name: str) -> Agent:
    """The adapter of this name. Raises UsageError."""
    if name not in AGENTS:
        raise UsageError(f"there is no agent called {name!r}.{did_you_mean(name, AGENTS)}")
    module, _, adapter = AGENTS[name].partition(":")
    made: Agent = getattr(import_module(module), adapter)()
    return made
