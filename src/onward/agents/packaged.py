"""Agents that are published as packages: installed into our own cache, and found there alone.

A copy that the user has elsewhere is not used: most of these agents renew themselves, also in the middle of a run.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onward.agents.contract import Agent, Go, Installed, Launch, Said
from onward.agents.installing import Npm, Package, Venv, exact, found, node, provided
from onward.errors import UsageError
from onward.sandbox import Bind

__all__ = ["Packaged"]

_EVERYWHERE = Path("/usr")
"""What every sandbox but a container has of the host."""


class Packaged(Agent):
    """`package` says how it is installed, `version` which one our tests run."""

    package: Package

    def check(self, options: Mapping[str, Any]) -> None:
        """Nor for a version that does not stay the same."""
        super().check(options)
        exact(self.name, self.wanted(options))

    def find(self, cache: Path, options: Mapping[str, Any]) -> Installed | None:
        """What the cache holds of the version that is meant, if all is there that it runs on."""
        there = found(cache, self.name, self.wanted(options))
        try:
            return self._installed(*there) if there else None
        except UsageError:  # `install` says what is missing
            return None

    def install(self, cache: Path, options: Mapping[str, Any], say: Said) -> Installed:
        """Once per version."""
        return self._installed(*provided(cache, self.name, self.wanted(options), self.package, say))

    def lacking(self) -> str:
        """npm, Node or a Python."""
        try:
            self.package.check()
        except UsageError as error:
            return str(error)
        return ""

    def _installed(self, folder: Path, note: Mapping[str, Any]) -> Installed:
        program, binds = str(folder / note["program"]), [Bind(folder)]
        if isinstance(self.package, Venv):
            # By its interpreter, not by the script's first line: that names the folder in which it was made.
            command: tuple[str, ...] = (str(folder / note["python"]), program)
            binds += _needed(Path(note["base"]))
        elif isinstance(self.package, Npm) and self.package.node:
            runner = node(self.package.node).program
            command = (str(runner), program)
            binds += _needed(runner)
        else:
            command = (program,)
        return Installed(str(note["version"]), command, tuple(binds))

    def launch(self, installed: Installed, go: Go) -> Launch:
        """As the adapter says, with the experiment's own arguments and environment on top."""
        made = self.started(installed, go)
        args = tuple(go.options.get("args", ()))
        return Launch((*made.command, *args), {**made.env, **go.options.get("env", {})}, made.files, made.stdin)

    @abstractmethod
    def started(self, installed: Installed, go: Go) -> Launch:
        """How it is started, but for what the experiment adds at the end of its arguments."""


def _needed(path: Path) -> list[Bind]:
    return [] if _EVERYWHERE in path.parents or path == _EVERYWHERE else [Bind(path)]
