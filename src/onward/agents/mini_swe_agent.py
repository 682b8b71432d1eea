"""mini-swe-agent: one tool, a shell. Nothing in its requests changes from one start to the next."""

from __future__ import annotations

from onward.agents import litellm
from onward.agents.contract import Go, Installed, Launch
from onward.agents.installing import Venv
from onward.agents.packaged import Packaged

__all__ = ["MiniSweAgent"]


class MiniSweAgent(Packaged):
    """Its step and cost limits are off: the trial's own hold."""

    name = "mini-swe-agent"
    summary = "mini-swe-agent, in a Python of its own (0.7 GB)"
    protocols = litellm.PROTOCOLS
    version = "2.4.6"
    # Its LiteLLM fails every call without `mcp`, and does not ask for it.
    package = Venv(("mini-swe-agent=={version}", "mcp"), "mini", ("3.12", "3.11", "3.13", "3.10"))

    def started(self, installed: Installed, go: Go) -> Launch:
        """Without asking for confirmation; what it keeps of its trajectory is in HOME."""
        command = (
            *installed.command, f"--model={litellm.model_name(go)}", f"--task={go.argument}", "--yolo",
            "--exit-immediately", "--cost-limit=0", f"--output={go.home}/trajectory.json",
        )  # fmt: skip
        env = {
            **litellm.environment(go), "MSWEA_CONFIGURED": "true", "MSWEA_COST_TRACKING": "ignore_errors",
            "MSWEA_SILENT_STARTUP": "1", "MSWEA_GLOBAL_CONFIG_DIR": f"{go.home}/.config/mini-swe-agent",
        }  # fmt: skip
        return Launch(command, env)
