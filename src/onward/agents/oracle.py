"""The task's own solution, run in the place of an agent: it shows that the task can be solved, and asks no model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onward.agents.command import words
from onward.agents.contract import Agent, Go, Installed, Launch, Said

__all__ = ["Oracle"]


class Oracle(Agent):
    """`command` is the task's: whoever starts it puts it there."""

    name = "oracle"
    summary = "the task's own solution; asks no model"
    protocols = ()
    asks = False
    takes = ("command", "env")

    def find(self, cache: Path, options: Mapping[str, Any]) -> Installed | None:
        """It comes with the task."""
        return Installed("", ())

    def install(self, cache: Path, options: Mapping[str, Any], say: Said) -> Installed:
        """There is nothing to install."""
        return Installed("", ())

    def launch(self, installed: Installed, go: Go) -> Launch:
        """Raises UsageError without a command."""
        return Launch(words(go.options.get("command")), dict(go.options.get("env", {})))

    def identity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The solution is part of the task, and counts there."""
        return {}
