"""Episodes for reading: an agent of a few lines speaks over real HTTP through a real gateway, and what it did is kept
in a run's own journal."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.gateway.street import Street, path_of, shown, street
from tests.gateway.test_proxy_serving import read
from tests.lab import Lab

from onward import lease
from onward.ask import Answer, Usage
from onward.clock import SystemClock
from onward.context import Context, trial_context
from onward.entry import Entry, Outcome, pack
from onward.errors import Stopping
from onward.fingerprint import Fingerprint, digest_of
from onward.journal import SqliteJournal
from onward.keys import Key
from onward.protocols.pieces import pieces
from onward.protocols.turns import FORMS
from onward.runs import stored_runs
from onward.testing import ProviderServer, Request

FORMATS = ("chat", "responses", "messages", "gemini")
SOLVER, TASK = "coder", "set/t2"
Acts = Callable[[Street, str], Awaitable[Any]]


def bare_run(folder: Path) -> Path:
    """A run of two tasks whose second has not begun."""
    lab = Lab(folder, 2)
    lab.run(lab.spec(solver={"name": SOLVER, "model": "python/echo"}), max_new=1)
    return stored_runs(lab.store)[0]


async def attempt(run: Path, server: ProviderServer, acts: Acts, *, killed: bool = False, **terms: Any) -> None:
    """One attempt at the open trial; `killed` before it came to anything."""
    journal = SqliteJournal(run)
    try:
        async with street(server, journal) as at:
            sample = at.context(Key.of(SOLVER, TASK, "1", "generate", "0"))
            trial = trial_context(sample.world, Key.of(SOLVER, TASK, "1"), sample.history, {"time": 600})
            child = trial.child_path("generate/0")
            try:
                body = partial(_body, at, child, acts, killed, terms)
                await trial.run(child, Fingerprint.of(agent="scripted"), body, timed=True)
            except Stopping:
                assert killed
    finally:
        journal.close()


async def _body(at: Street, child: Context, acts: Acts, killed: bool, terms: Mapping[str, Any]) -> Any:
    await child.note(sandbox="box-1")
    token = at.door.admit(child, **terms)
    await acts(at, token)
    report = await at.door.dismiss(token, drain=not killed)
    if killed:
        raise Stopping("killed")
    return {"output": "2", "agent": {"name": "scripted", "version": "1.0"}, "exchanges": report}


def working(turns: int = 3, **answers: Answer) -> Callable[[Request], Answer]:
    """A model that calls two tools at once until it has been told enough; `answers` by a word of the request."""

    def say(request: Request) -> Answer:
        for word, answer in answers.items():
            if word in str(request.body):
                return answer
        done = str(request.body).count("result of bash")
        usage = Usage(100 + done, 20, cached=40 if done else 0)
        if done >= turns - 1:
            return Answer("All tests pass now.", "stop", (), usage)
        calls = [
            {"id": f"bash_{done}", "name": "bash", "arguments": {"command": f"pytest -q test_{done}.py"}},
            {"id": f"read_{done}", "name": "read", "arguments": {"path": f"a{done}.py", "limit": 20}},
        ]
        return Answer(f"Let me look at part {done}.", "tool", calls, usage)

    return say


class Agent:
    """Asks, runs the tools that it is told to run, tells what they said, until none is called."""

    def __init__(
        self, protocol: str, stream: bool = False, task: str = "Fix the failing test.", differs: int = -1
    ) -> None:
        self.protocol, self.stream, self.task, self.differs = protocol, stream, task, differs
        self.statuses: list[int] = []

    def told(self, text: str) -> dict[str, Any]:
        if self.protocol == "gemini":
            return {"role": "user", "parts": [{"text": text}]}
        return {"role": "user", "content": text}

    async def live(self, at: Street, token: str, turns: int = 99) -> None:
        history: list[Any] = [self.told(self.task)]
        for number in range(turns):
            got = await self.ask(at, token, history)
            turn = list(FORMS[self.protocol].turn(got)) if got is not None else []
            calls = [one for message in turn for one in pieces(self.protocol, message) if one.kind == "call"]
            if not calls:
                return
            today = " today" if number == self.differs else ""
            answers = [
                (one.call, one.tool, f"result of {one.tool} {number}{today}\nexit code: {int(one.tool == 'bash')}")
                for one in calls
            ]
            history = [*history, *turn, *results(self.protocol, answers)]

    async def ask(self, at: Street, token: str, history: Sequence[Any]) -> Any:
        name = {"responses": "input", "gemini": "contents"}.get(self.protocol, "messages")
        body: dict[str, Any] = {name: history}
        if self.protocol != "gemini":
            body = {"model": "m", "max_tokens": 99, **body, **({"stream": True} if self.stream else {})}
        url = at.door.url + path_of(self.protocol, self.stream)
        async with at.http.post(url, json=body, headers=shown(self.protocol, token)) as reply:
            raw = await reply.read()
            self.statuses.append(reply.status)
            return read(self.protocol, raw, self.stream) if reply.status == 200 else None


def results(protocol: str, answers: Sequence[tuple[str, str, str]]) -> list[Any]:
    """(call id, tool, text) as the messages that tell them."""
    if protocol == "chat":
        return [{"role": "tool", "tool_call_id": id_, "content": text} for id_, _, text in answers]
    if protocol == "responses":
        return [{"type": "function_call_output", "call_id": id_, "output": text} for id_, _, text in answers]
    if protocol == "messages":
        blocks = [{"type": "tool_result", "tool_use_id": id_, "content": text} for id_, _, text in answers]
        return [{"role": "user", "content": blocks}]
    parts = [
        {"functionResponse": {"id": id_, "name": tool, "response": {"output": text}}} for id_, tool, text in answers
    ]
    return [{"role": "user", "parts": parts}]


def recorded(
    run: Path, exchanges: Sequence[tuple[Mapping[str, Any], Mapping[str, Any] | None]],
    origin: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Exchanges in the Messages format put into the open trial: request, and response; or none, where it came to an
    error. `origin`: where they were taken over from."""
    journal = SqliteJournal(run)
    try:
        lease.claim(journal, SystemClock(), force=True)
        for number, (request, response) in enumerate(exchanges, 1):
            name, at = digest_of(request)[:12], f"2026-11-21T12:{number:02d}:00.000Z"
            key = Key.of(SOLVER, TASK, "1", "generate", "0", f"llm:{name}#1")
            more = {"origin": origin} if origin else {}
            asked = {"provider": "anthropic", "protocol": "messages", "model": request["model"], "request": request}
            value = {"status": 200, "headers": {}, "body": json.dumps(response)}
            data = {"value": value} if response is not None else {"error": {"reason": "down", "status": 500}}
            outcome: Outcome = "ok" if response is not None else "error"
            for entry in (
                Entry("intent", key, at, {**asked, **more}, tokens=1),
                Entry("result", key, at, {**data, **more}, outcome, tokens=1),
            ):
                row, blobs = pack(entry)
                journal.commit([row], blobs)
    finally:
        journal.close()
