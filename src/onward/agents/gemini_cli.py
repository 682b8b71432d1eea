"""gemini-cli, which writes Gemini's own format. It starts nowhere without settings that say how it is known."""

from __future__ import annotations

import json

from onward.agents.contract import Go, Installed, Launch
from onward.agents.installing import Npm
from onward.agents.packaged import Packaged
from onward.sandbox import Ran

__all__ = ["GeminiCli"]

_SETTINGS = {
    "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
    "telemetry": {"enabled": False},
    "privacy": {"usageStatisticsEnabled": False},
    "general": {"disableAutoUpdate": True, "disableUpdateNag": True},
}


class GeminiCli(Packaged):
    """Its call ids and process groups are its own each time: its normaliser takes them out."""

    name = "gemini-cli"
    summary = "Google's gemini-cli; needs Node 20"
    protocols = ("gemini",)
    version = "0.61.0"
    package = Npm("@google/gemini-cli", ("node_modules/@google/gemini-cli/bundle/gemini.js",), node=20)

    def started(self, installed: Installed, go: Go) -> Launch:
        """In a folder that it trusts, without asking for approval: the sandbox is what holds it. It waits half a second
        for its stdin, and on a busy machine does without: what can be an argument is one."""
        env = {
            "GEMINI_API_KEY": go.token, "GOOGLE_GEMINI_BASE_URL": go.url, "GEMINI_CLI_TRUST_WORKSPACE": "true",
            "GEMINI_TELEMETRY_ENABLED": "false",
        }  # fmt: skip
        command = (*installed.command, "--model", go.model, "--yolo", "--output-format", "json")
        files = {f"{go.home}/.gemini/settings.json": json.dumps(_SETTINGS).encode()}
        if go.fits:
            return Launch((*command, f"--prompt={go.instruction}"), env, files)
        return Launch(command, env, files, go.instruction.encode())

    def final(self, ran: Ran) -> str:
        """The response in its one JSON object."""
        try:
            return str(json.loads(ran.out[ran.out.index("{") :])["response"])
        except (ValueError, KeyError, TypeError):
            return super().final(ran)
