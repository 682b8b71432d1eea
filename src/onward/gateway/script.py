"""A script for agents: what a provider says, turn by turn, to a real agent of any of the four wire formats.

    ProviderServer(Script(EPISODE))      # each command is run by the agent's own shell tool, then it is done

Which turn it is, is read off the request: the model's turns in it. So a request that comes again gets the same step,
and conversations in parallel each have their own. A request that offers no tools is a side request, of a title maybe.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from onward.ask import Answer
from onward.gateway.scripted import Request
from onward.protocols.turns import FORMS

__all__ = ["EPISODE", "EQUAL_EPISODE", "Script", "Step"]

EPISODE: tuple[str, ...] = (
    "printf 'alpha\\nbeta\\n' > notes.txt",
    "cat notes.txt; date +%s.%N",
    "sed -i s/beta/gamma/ notes.txt",
    'python3 -c \'import json; json.dump(open("notes.txt").read().split(), open("out.json", "w"))\'',
)
"""Four commands that leave `notes.txt` and `out.json`; the second one's output is never the same twice."""

EQUAL_EPISODE: tuple[str, ...] = (EPISODE[0], "cat notes.txt", *EPISODE[2:])
"""The same work, with output that is always the same."""

_EDITS = 'notes.txt\n```\nalpha\ngamma\n```\n\nout.json\n```\n["alpha", "gamma"]\n```\n'
"""The same files, for an agent that has no tools and edits by what its model writes."""
_BY_TEXT = "*file listing*"
"""How aider asks for that."""

_SHELLS = {
    "Bash": "command", "bash": "command", "run_shell_command": "command", "terminal": "command", "exec_command": "cmd",
    "shell": "command", "execute_bash": "command",
}  # fmt: skip
"""The shell tools of agents that we have met, each with the argument that holds the command."""
_SUBMIT = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
"""How mini-swe-agent is told, in its prompt, to say that it is done."""


Step = str | Mapping[str, Any]
"""A command for the shell tool, or a call of another: `{"name": tool, "arguments": {…}}`."""


class Script:
    """`steps`: a command each (or a call), or several that are run in parallel. Then it says `final`, as agents want to
    hear it. `side` is the answer to requests without tools. Calls have new ids each time, as providers mint them;
    with `ids` they begin with this and are always the same."""

    def __init__(
        self, steps: Sequence[Step | Sequence[Step]] = EPISODE, *, final: str = "All done.", side: str = "A small task",
        ids: str = "",
    ) -> None:  # fmt: skip
        self.steps, self.final, self.side, self.ids = steps, final, side, ids

    @property
    def calls(self) -> int:
        """How many requests of the conversation itself one whole episode makes."""
        return len(self.steps) + 1

    def __call__(self, request: Request) -> Answer:
        """The next step. Raises LookupError for an agent that has no shell tool that is known here."""
        form = FORMS[request.protocol]
        tools = _tools(request)
        if not tools:
            return Answer(_EDITS if _BY_TEXT in str(request.body) else self.side)
        turn = len(form.runs(form.messages(request.body)))
        if turn >= len(self.steps):
            return self._end(request, tools, turn)
        step = self.steps[turn]
        together = [step] if isinstance(step, str | Mapping) else step
        calls = [_made(tools, one, self._id(turn, at)) for at, one in enumerate(together)]
        return Answer(f"Step {turn + 1}.", "tool", calls)

    def _end(self, request: Request, tools: Mapping[str, Mapping[str, Any]], turn: int) -> Answer:
        if "finish" in tools:
            return Answer("", "tool", [_call("finish", {"message": self.final}, tools["finish"], self._id(turn))])
        if len(tools) == 1 and _SUBMIT in str(request.body):
            return Answer(self.final, "tool", [_shell(tools, f"echo {_SUBMIT}", self._id(turn))])
        return Answer(self.final)

    def _id(self, turn: int, at: int = 0) -> str:
        return f"{self.ids}_{turn}_{at}" if self.ids else f"call_{secrets.token_hex(12)}"


def _tools(request: Request) -> dict[str, Mapping[str, Any]]:
    """What the agent offers: {name: JSON schema of its arguments}."""
    found: dict[str, Mapping[str, Any]] = {}
    for tool in FORMS[request.protocol].tools(request.body):
        for one in tool.get("functionDeclarations") or [tool.get("function") or tool]:
            schema = one.get("input_schema") or one.get("parametersJsonSchema") or one.get("parameters") or {}
            found[str(one.get("name"))] = schema
    return found


def _made(tools: Mapping[str, Mapping[str, Any]], step: Step, id: str) -> Mapping[str, Any]:
    if isinstance(step, str):
        return _shell(tools, step, id)
    return _call(step["name"], step["arguments"], tools.get(step["name"], {}), id)


def _shell(tools: Mapping[str, Mapping[str, Any]], command: str, id: str) -> Mapping[str, Any]:
    name = next((name for name in _SHELLS if name in tools), None)
    if name is None:
        raise LookupError(f"none of these tools is a shell that the script knows: {', '.join(sorted(tools))}")
    return _call(name, {_SHELLS[name]: command}, tools[name], id)


def _call(name: str, arguments: Mapping[str, Any], schema: Mapping[str, Any], id: str) -> Mapping[str, Any]:
    """A call; what else the tool requires is filled in."""
    known = schema.get("properties") or {}
    missing = [field for field in schema.get("required") or () if field not in arguments]
    filled = {field: (known.get(field, {}).get("enum") or ["as the script says"])[0] for field in missing}
    return {"id": id, "name": name, "arguments": {**filled, **arguments}}
