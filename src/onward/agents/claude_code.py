"""Claude Code, by its command line. Its instruction goes to its stdin; what it says at the end is one JSON object."""

from __future__ import annotations

import json
from hashlib import sha256

from onward.agents.contract import Go, Installed, Launch
from onward.agents.installing import Npm
from onward.agents.packaged import Packaged
from onward.sandbox import Ran

__all__ = ["ClaudeCode"]

_PATIENCE = 6 * 3600 * 1000
"""Milliseconds. The gateway may wait for a provider that is busy; the agent must not give up before."""

_QUIET = {
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1", "DISABLE_TELEMETRY": "1", "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_AUTOUPDATER": "1",
}  # fmt: skip


class ClaudeCode(Packaged):
    """Session and user id are pinned, so that two attempts send the same bytes."""

    name = "claude-code"
    summary = "Anthropic's Claude Code"
    protocols = ("messages",)
    version = "2.1.197"
    package = Npm(
        "@anthropic-ai/claude-code",
        ("node_modules/@anthropic-ai/claude-code-*/claude",),
    )

    def started(self, installed: Installed, go: Go) -> Launch:
        """Without asking for permissions: the sandbox is what holds it (`IS_SANDBOX`)."""
        env = {
            **_QUIET, "ANTHROPIC_BASE_URL": go.url, "ANTHROPIC_API_KEY": go.token, "API_TIMEOUT_MS": str(_PATIENCE),
            "IS_SANDBOX": "1",
        }  # fmt: skip
        if not go.model.startswith("claude"):
            # Sub-agents and side requests ask for a model by its size: there is only this one.
            for size in ("HAIKU", "SONNET", "OPUS"):
                env[f"ANTHROPIC_DEFAULT_{size}_MODEL"] = go.model
        command = (
            *installed.command, "--print", "--model", go.model, "--output-format", "json",
            "--dangerously-skip-permissions", "--session-id", go.session,
        )  # fmt: skip
        user = {"userID": sha256(go.session.encode()).hexdigest(), "hasCompletedOnboarding": True}
        files = {f"{go.home}/.claude.json": json.dumps(user).encode()}
        return Launch(command, env, files, go.instruction.encode())

    def final(self, ran: Ran) -> str:
        """Its result."""
        try:
            said = json.loads(ran.out.strip().rpartition("\n")[2])
            return str(said["result"])
        except (ValueError, KeyError, TypeError):
            return super().final(ran)
