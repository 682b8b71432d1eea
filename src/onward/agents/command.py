"""Any program: told by its environment where the model is, and given the instruction as it likes to have it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onward.agents.contract import Agent, Go, Installed, Launch, Said
from onward.agents.pointing import pointed
from onward.errors import UsageError
from onward.sandbox import Bind

__all__ = ["Command", "words"]

_WAYS = ("argument", "stdin", "environment")


def words(command: Any) -> tuple[str, ...]:
    """The arguments of a command: a list as it is, a text for the shell. Raises UsageError for anything else."""
    if isinstance(command, str) and command.strip():
        return ("/bin/sh", "-c", command, "sh")
    if isinstance(command, list | tuple) and command and all(isinstance(word, str) for word in command):
        return tuple(command)
    raise UsageError(f"command is a list of arguments or a text for the shell, not {command!r}")


class Command(Agent):
    """`command`: a list of arguments, or a text for the shell.

    `instruction` says how it is told what to do: `argument` (its last; `$1` in a text), `stdin` or `environment`
    (`ONWARD_INSTRUCTION` alone, which is always set). `binds` are folders of the host that it needs to be there.
    """

    name = "command"
    summary = "any program, told its base URLs by environment"
    protocols = ("chat", "responses", "messages", "gemini")
    takes = ("command", "instruction", "binds", "env", "version")

    def check(self, options: Mapping[str, Any]) -> None:
        """As every agent; it cannot do without a command."""
        super().check(options)
        words(options.get("command"))
        if options.get("instruction", "argument") not in _WAYS:
            raise UsageError(f"command: instruction is one of {', '.join(_WAYS)}, not {options['instruction']!r}")
        _binds(options)

    def find(self, cache: Path, options: Mapping[str, Any]) -> Installed | None:
        """It is where it is: `version` is the user's own word for what it is."""
        return Installed(self.wanted(options), words(options.get("command")), _binds(options))

    def install(self, cache: Path, options: Mapping[str, Any], say: Said) -> Installed:
        """There is nothing to install."""
        return Installed(self.wanted(options), words(options.get("command")), _binds(options))

    def launch(self, installed: Installed, go: Go) -> Launch:
        """Raises UsageError for an instruction that is too long for the way it is to be given."""
        way = go.options.get("instruction", "argument")
        try:
            told = {"ONWARD_INSTRUCTION": go.argument}
        except UsageError as error:
            if way != "stdin":
                raise UsageError(f"{error}; with `instruction: stdin` it may be of any length") from None
            told = {}
        env = {
            **pointed(go.url, go.token), "ONWARD_URL": go.url, "ONWARD_MODEL": go.model, "ONWARD_SESSION": go.session,
            "LLM_MODEL": go.model, **told, **go.options.get("env", {}),
        }  # fmt: skip
        last = (go.instruction,) if way == "argument" else ()
        stdin = go.instruction.encode() if way == "stdin" else b""
        return Launch((*words(go.options.get("command")), *last), env, stdin=stdin)

    def identity(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Where on this machine its files are is no part of what it is."""
        return {name: value for name, value in super().identity(options).items() if name != "binds"}


def _binds(options: Mapping[str, Any]) -> tuple[Bind, ...]:
    binds = options.get("binds", ())
    if not isinstance(binds, list | tuple) or not all(isinstance(one, str) and one.startswith("/") for one in binds):
        raise UsageError(f"command: binds is a list of absolute paths, not {binds!r}")
    missing = [one for one in binds if not Path(one).exists()]
    if missing:
        raise UsageError(f"command: {', '.join(missing)} is not there to be bound")
    return tuple(Bind(Path(one)) for one in binds)
