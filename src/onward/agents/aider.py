"""Aider: no tools, edits in what its model writes. It rewrites its history, so its requests never repeat it whole."""

from __future__ import annotations

from onward.agents import litellm
from onward.agents.contract import Go, Installed, Launch
from onward.agents.installing import Venv
from onward.agents.packaged import Packaged

__all__ = ["Aider"]


class Aider(Packaged):
    """One message, then it ends. A loop over tests is the experiment's to ask for, in `args`."""

    name = "aider"
    summary = "aider, in a Python of its own (0.7 GB)"
    protocols = litellm.PROTOCOLS
    version = "0.86.2"
    own = (".aider.chat.history.md", ".aider.input.history", ".aider.tags.cache.v4")
    package = Venv(("aider-chat=={version}",), "aider", ("3.12", "3.11", "3.10"))

    def started(self, installed: Installed, go: Go) -> Launch:
        """It says yes to all that it asks; what it writes down of the chat is in HOME."""
        command = (
            *installed.command, "--model", litellm.model_name(go), "--message-file", f"{go.home}/instruction",
            "--yes-always", "--no-git", "--no-check-update", "--no-show-model-warnings", "--no-show-release-notes",
            "--analytics-disable", "--no-pretty", "--no-detect-urls", "--timeout", "21600",
            "--chat-history-file", f"{go.home}/chat.md", "--input-history-file", f"{go.home}/input",
        )  # fmt: skip
        files = {f"{go.home}/instruction": go.instruction.encode()}
        # It tells the model of its files in the order of a set.
        return Launch(command, {**litellm.environment(go), "PYTHONHASHSEED": "0"}, files)
