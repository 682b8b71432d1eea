"""OpenHands, by its command line without a screen. It needs Python 3.12 and no other."""

from __future__ import annotations

import json

from onward.agents import litellm
from onward.agents.contract import Go, Installed, Launch
from onward.agents.installing import Venv
from onward.agents.packaged import Packaged
from onward.sandbox import Ran

__all__ = ["OpenHands"]


class OpenHands(Packaged):
    """Its conversation id and the time in its prompt are new at every start: its normaliser leaves them out."""

    name = "openhands"
    summary = "OpenHands CLI, in a Python 3.12 of its own (0.8 GB)"
    protocols = litellm.PROTOCOLS
    version = "1.16.0"
    package = Venv(("openhands=={version}",), "openhands", ("3.12",))

    def started(self, installed: Installed, go: Go) -> Launch:
        """Its variables count only with `--override-with-envs`; the base URL has a version in OpenAI's format alone."""
        command = (
            *installed.command, "--headless", "--json", "--override-with-envs", "--always-approve",
            f"--task={go.argument}",
        )  # fmt: skip
        chat = go.protocol in ("", "chat")
        env = {
            **litellm.environment(go), "LLM_BASE_URL": f"{go.url}/v1" if chat else go.url,
            "LLM_MODEL": litellm.model_name(go), "OPENHANDS_SUPPRESS_BANNER": "1",
        }  # fmt: skip
        return Launch(command, env)

    def final(self, ran: Ran) -> str:
        """What it said when it called `finish`, or its last message: its events are JSON between other lines."""
        said = ""
        for event in _events(ran.out):
            action, message = event.get("action"), event.get("llm_message")
            if isinstance(action, dict) and isinstance(action.get("message"), str):
                said = action["message"]
            elif isinstance(message, dict) and event.get("source") == "agent":
                said = "".join(str(part.get("text", "")) for part in message.get("content") or ()) or said
        return said or super().final(ran)


def _events(text: str) -> list[dict[str, object]]:
    """Every JSON object in a text that holds other things too."""
    found, at, decoder = [], 0, json.JSONDecoder()
    while (at := text.find("{", at)) >= 0:
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError:
            at += 1
            continue
        found.append(value)
    return found
