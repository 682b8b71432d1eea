"""Codex, by `codex exec`. Where the model is stands in its configuration: its environment does not reach that."""

from __future__ import annotations

import json

from onward.agents.contract import Go, Installed, Launch
from onward.agents.installing import Npm
from onward.agents.packaged import Packaged
from onward.sandbox import Ran

__all__ = ["Codex"]

# Retries are the gateway's, and so is waiting for a provider that is busy: six hours at most.
_CONFIG = """\
model = {model}
model_provider = "onward"
check_for_update_on_startup = false

[model_providers.onward]
name = "onward"
base_url = {url}
env_key = "OPENAI_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
stream_idle_timeout_ms = 21600000

[analytics]
enabled = false

[features]
plugins = false
apps = false
"""


class Codex(Packaged):
    """Its ids are new at every start, and their order too: its normaliser leaves them out."""

    name = "codex"
    summary = "OpenAI's Codex"
    protocols = ("responses",)
    version = "0.169.0"
    package = Npm("@openai/codex", ("node_modules/@openai/codex-*/vendor/*/bin/codex",))

    def started(self, installed: Installed, go: Go) -> Launch:
        """Without its own sandbox and without asking for approval: it is in one of ours."""
        config = _CONFIG.format(model=json.dumps(go.model), url=json.dumps(f"{go.url}/v1"))
        command = (
            *installed.command, "exec", "--json", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox",
            "-",
        )  # fmt: skip
        env = {"OPENAI_API_KEY": go.token, "CODEX_HOME": f"{go.home}/.codex"}
        return Launch(command, env, {f"{go.home}/.codex/config.toml": config.encode()}, go.instruction.encode())

    def final(self, ran: Ran) -> str:
        """The last message among its events."""
        for line in reversed(ran.out.splitlines()):
            try:
                item = json.loads(line)["item"]
                if item["type"] == "agent_message":
                    return str(item["text"])
            except (ValueError, KeyError, TypeError):
                continue
        return super().final(ran)
