"""opencode, with the gateway as a provider of its own: its built-in ones would not be pointed elsewhere."""

from __future__ import annotations

import json

from onward.agents.contract import Go, Installed, Launch
from onward.agents.installing import Npm
from onward.agents.packaged import Packaged
from onward.sandbox import Ran

__all__ = ["OpenCode"]


class OpenCode(Packaged):
    """By itself it asks for a title beside its first request: one call more. It has its title from us instead, unless
    the experiment says `title: true`."""

    name = "opencode"
    summary = "opencode, through its OpenAI-compatible provider"
    protocols = ("chat",)
    version = "1.18.33"
    takes = (*Packaged.takes, "title")
    package = Npm(
        "opencode-ai", ("node_modules/opencode-linux-*-baseline/bin/opencode", "node_modules/opencode-*/bin/opencode")
    )

    def started(self, installed: Installed, go: Go) -> Launch:
        """Its instruction goes to its stdin; it keeps its state in HOME."""
        path = f"{go.home}/.config/opencode/opencode.json"
        provider = {
            "npm": "@ai-sdk/openai-compatible",
            "name": "onward",
            "options": {"baseURL": f"{go.url}/v1", "apiKey": go.token, "timeout": False},
            "models": {go.model: {"name": go.model}},
        }
        config = {
            "$schema": "https://opencode.ai/config.json", "provider": {"onward": provider}, "autoupdate": False,
            "share": "disabled", "model": f"onward/{go.model}", "small_model": f"onward/{go.model}",
            "permission": {"edit": "allow", "bash": "allow", "webfetch": "allow", "external_directory": "allow"},
        }  # fmt: skip
        env = {
            "OPENCODE_CONFIG": path, "OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
        }  # fmt: skip
        title = () if go.options.get("title") else ("--title", go.session)
        command = (*installed.command, "run", "--model", f"onward/{go.model}", "--format", "json", *title)
        return Launch(command, env, {path: json.dumps(config).encode()}, go.instruction.encode())

    def final(self, ran: Ran) -> str:
        """The last text among its events."""
        for line in reversed(ran.out.splitlines()):
            try:
                event = json.loads(line)
                if event["type"] == "text":
                    return str(event["part"]["text"])
            except (ValueError, KeyError, TypeError):
                continue
        return super().final(ran)
