"""A recording of somebody else's, made a run of ours: what was recorded is kept, and can be gone on with.

    made = adopt(read(Path("jobs/…/citation-check__1398f575")), store)

The run has one solver (the agent), one task, one trial. Each exchange that an agent would be served again is an entry
of the very form that the gateway writes; what the trial came to is its generate step and its score. All files of the
folder are in the run, so that nothing outside it is needed later, and the recorded rows can be given back as they were.
The same folder is the same run, wherever it lies.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onward import lineage
from onward.clock import Clock, SystemClock, iso
from onward.entry import BlobRef, Entry, Outcome, blob_digest, pack
from onward.entry import Row as Stored
from onward.errors import OnwardError, Refused, UsageError
from onward.experiment import Assembled, SolverSpec, Spec, assemble
from onward.fingerprint import Fingerprint, digest_of
from onward.formats.benchflow import Exchange, Recording, Row
from onward.formats.benchflow.answers import answer_in, usage_of
from onward.formats.benchflow.redaction import MARK
from onward.formats.benchflow.rows import message_of, seconds_of
from onward.gateway.exchanges import request_of, said_hash
from onward.gateway.normalisers import Rules, allowing, rules_for
from onward.gateway.providers import PROVIDERS
from onward.gateway.refusals import refusal
from onward.gateway.serving import PREFIX, target_of
from onward.keys import Key
from onward.plan import order_digest, seed_of
from onward.protocols.turns import FORMS
from onward.protocols.wire import compact
from onward.runs import Run, open_run, run_id, stored_runs
from onward.stages import sample_fingerprint
from onward.tasks import Selection, Task

__all__ = ["AGENTS", "Adopted", "adopt", "agent_of", "model_of", "standing"]

AGENTS: Mapping[str, str] = {
    "claude-agent-acp": "claude-code", "codex-acp": "codex", "gemini": "gemini-cli", "mini-swe": "mini-swe-agent",
}  # fmt: skip
"""BenchFlow's names of agents that have another one here."""

_PROVIDERS = {"chat": "openai", "responses": "openai", "messages": "anthropic", "gemini": "google"}
_OURS = frozenset({"acp_error", "pipe_closed", "other", ""})
"""Categories of an end that are the agent's own failure; all others are trouble of the world around it."""
_SCORER = "reward"


@dataclass(frozen=True, slots=True)
class Adopted:
    """What came of it."""

    folder: Path
    run: str
    created: bool
    """False: the run of exactly this recording was there already, and nothing changed."""
    exchanges: int
    """How many can be served again."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """What of the recording is kept but never served, by what became of it."""


def agent_of(recording: Recording) -> str:
    """The agent, by its name here."""
    return AGENTS.get(recording.agent, recording.agent)


def model_of(recording: Recording) -> str:
    """`provider/name` of the model that the recording was made with."""
    first, slash, _ = recording.model.partition("/")
    if slash and first in PROVIDERS:
        return recording.model
    spoken = Counter(one.row.protocol for one in recording.served)
    protocol = spoken.most_common(1)[0][0] if spoken else "chat"
    return f"{_PROVIDERS[protocol]}/{recording.model or 'unknown'}"


def adopt(
    recording: Recording, store: Path, *, task: Task | None = None, options: Mapping[str, Any] | None = None,
    sandbox: Any = None, clock: Clock | None = None,
) -> Adopted:  # fmt: skip
    """Make (or find) the run of this recording. `task`: the true one, with its environment and verifier; without it
    the task is the recorded instruction alone. `options`, `sandbox`: of the solver, should it go on.

    Raises UsageError where the recording has nothing to keep.
    """
    if not recording.rows and not recording.result:
        raise UsageError(f"{recording.folder} holds neither an exchange nor a result: there is nothing to import")
    agent, spec = agent_of(recording), _spec(recording, options or {}, sandbox)
    assembled = assemble(spec, recording.folder)
    digests = recording.digests()
    source = {"source": "benchflow", "recording": digest_of(digests), "task": recording.task}
    chosen = task or _bare_task(recording)
    made = lineage.wanted(assembled, source, Selection.of({}).to_json(), [chosen], None)
    kept = list(_kept(recording, rules_for(agent)))
    folder = lineage.existing(store, spec.name, run_id(made.identity, 0, None))
    created = folder is None
    if folder is None:
        ticking = clock or SystemClock()
        notes = {"recording": _facts(recording, digests, kept, made.blobs)}
        trial = _Trial(recording, assembled, chosen, iso(ticking.now()))
        rows = [_packed(entry, made.blobs) for entry in trial.entries(kept)]
        folder = asyncio.run(lineage.create(store, made, ticking, rows=rows, notes=notes))
    left = Counter(str(one.standing) for one in recording.exchanges if not one.served)
    left.update({"not to be kept": unkept} if (unkept := len(recording.served) - len(kept)) else {})
    return Adopted(folder, folder.name, created, len(kept), dict(left))


def standing(
    recording: Recording, store: Path, *, task: Task | None = None, options: Mapping[str, Any] | None = None
) -> Iterator[Run]:
    """The runs, open, that this very recording has been made already, with these options. `task`: with no other."""
    digest = digest_of(recording.digests())
    order = order_digest([(task.id, task.digest)]) if task else ""
    for folder in stored_runs(store):
        if not folder.name.startswith(f"{_name(recording.task)}-"):
            continue
        try:
            run = open_run(folder)
        except OnwardError:
            continue
        facts, [solver, *_] = run.facts, run.config["spec"]["solver"]
        mine = "recording" in facts and not facts["run"]["parents"] and facts["source"].get("recording") == digest
        if mine and solver.get("options", {}) == (options or {}) and order in ("", facts["order"]):
            yield run
        else:
            run.close()


def _spec(recording: Recording, options: Mapping[str, Any], sandbox: Any) -> Spec:
    agent = agent_of(recording)
    solver = SolverSpec(
        name=_name(agent), agent=agent, model=model_of(recording), options=dict(options), sandbox=sandbox
    )
    limits = {} if recording.limit is None else {"limits": {"time": recording.limit}}
    return Spec.model_validate({"name": _name(recording.task), "solver": [solver], "score": _SCORER, **limits})


def _name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.:@+-]", "-", text).lstrip("._:@+-") or "recording"


def _bare_task(recording: Recording) -> Task:
    """The task as far as a recording has it: what the agent was told."""
    return Task(recording.task, "\n\n".join(recording.prompts) or recording.task, 1)


def _facts(
    recording: Recording, digests: Mapping[str, str], kept: Sequence[_Kept], blobs: dict[bytes, bytes]
) -> dict[str, Any]:
    """What the run keeps of where it comes from, and every file of it."""
    files: dict[str, Any] = {}
    for path, content in sorted(recording.content.items()):
        name = blob_digest(content)
        blobs[name] = content
        files[path] = {"sha256": digests[path], "size": len(content), "content": BlobRef(name.hex())}
    return {
        "format": "benchflow", "path": str(recording.folder.absolute()), "files": files,
        "agent": recording.agent, "model": recording.model, "task": recording.task, "timeout": recording.limit,
        "active": recording.took, "category": recording.category or None, "error": recording.error or None,
        "usd": recording.usd, "zone": recording.zone, "asked_models": sorted({one.exchange.row.model for one in kept}),
        "lines": {one.name: one.exchange.row.line for one in kept},
    }  # fmt: skip


# ---------------------------------------------------------------- entries


@dataclass(frozen=True, slots=True)
class _Kept:
    """An exchange as the journal holds it."""

    exchange: Exchange
    name: str
    """`llm:HASH12#k`."""
    digest: str
    value: Mapping[str, Any]
    tokens: int
    usd: float | None
    """Its share of what the whole cost, by its tokens: what a call cost is not recorded."""


def _kept(recording: Recording, rules: Rules) -> Iterator[_Kept]:
    """What is served again, with the names that the gateway would give it."""
    told = [(exchange, value) for exchange in recording.served if (value := _value(exchange)) is not None]
    rules = allowing(rules, (_asked(exchange.row) for exchange, _ in told))
    equals: Counter[str] = Counter()
    order = _order([exchange for exchange, _ in told])
    used_in_all = sum(recording.tokens)
    for exchange, value in told:
        row = exchange.row
        target = target_of(row.protocol, row.model)
        digest = request_of(row.protocol, row.request, rules, target=target).whole.hex()
        equals[digest] += 1
        used = usage_of(row.response)
        if row.is_answer:
            counts = {"input": used.input, "output": used.output, "cached": used.cached, "reasoning": used.reasoning}
            value["usage"] = {name: count for name, count in counts.items() if count or name in ("input", "output")}
        value["order"] = order[row.line]
        share = recording.usd * used.total / used_in_all if recording.usd is not None and used_in_all else None
        yield _Kept(exchange, f"{PREFIX}{digest[:12]}#{equals[digest]}", digest, value, used.total, share)


def _asked(row: Row) -> dict[str, Any]:
    """What an intent holds of a request, and what the recorder did to it."""
    return {
        "provider": _PROVIDERS[row.protocol], "protocol": row.protocol, "model": row.model, "request": row.request,
        "recorder": {"partial": not row.whole, "mark": MARK if row.request_damage else ""},
    }  # fmt: skip


def _value(exchange: Exchange) -> dict[str, Any] | None:
    """The answer as the gateway keeps one that was not streamed; None where it cannot be said in its format."""
    row = exchange.row
    status, body = row.status, b""
    if row.is_error:
        status = row.said_status or row.status
        body = refusal(row.protocol, status, row.refusal)
    else:
        answer = answer_in(row, thinking=exchange.thinking)
        try:
            said_hash(row.protocol, FORMS[row.protocol].turn(answer or {}))
        except Refused:
            return None  # a number that no journal holds: nothing could be matched to what follows it
        if answer is None:
            return None
        body = compact(answer).encode()
    return {"status": status, "headers": {"content-type": "application/json"}, "body": body.decode()}


def _order(exchanges: Sequence[Exchange]) -> dict[int, list[int]]:
    """When each began and ended, counted over both, by line."""
    ends: list[tuple[float, int, int]] = []
    last = 0.0
    for one in exchanges:
        began = one.row.asked if one.row.asked is not None else last
        ends += [(began, 0, one.row.line), (max(one.row.answered or began, began), 1, one.row.line)]
        last = began
    found: dict[int, list[int]] = {}
    for number, (_, _, line) in enumerate(sorted(ends), 1):
        found.setdefault(line, []).append(number)
    return found


def _packed(entry: Entry, blobs: dict[bytes, bytes]) -> Stored:
    row, named = pack(entry)
    blobs.update(named)
    return row


@dataclass(frozen=True, slots=True)
class _Trial:
    """The one trial of an adopted run, as entries. They happened elsewhere: their money was spent there."""

    recording: Recording
    assembled: Assembled
    task: Task
    now: str

    @property
    def key(self) -> Key:
        """Its key."""
        return Key.of(self.assembled.solvers[0].name, self.task.id, "1")

    def entries(self, kept: Sequence[_Kept]) -> Iterator[Entry]:
        """Its exchanges, then what it came to: nothing, where the recording was cut before its end."""
        step = Key(f"{self.key}/generate/0")
        for one in kept:
            yield from self._exchange(step / one.name, one)
        if self.recording.finished:
            shared = sum(one.usd or 0.0 for one in kept)
            yield self._result(step, None if self.recording.usd is None else max(0.0, self.recording.usd - shared))
            if self.recording.rewards:
                yield self._score()

    def _origin(self, **more: Any) -> dict[str, Any]:
        return {"import": self.recording.folder.name, **more}

    def _at(self, seconds: float | None) -> str:
        return self.now if seconds is None else iso(seconds - self.recording.zone)

    @property
    def _ended(self) -> str:
        return self._at(seconds_of(self.recording.result.get("finished_at")))

    def _exchange(self, key: Key, one: _Kept) -> Iterator[Entry]:
        row, origin = one.exchange.row, self._origin(line=one.exchange.row.line)
        yield Entry("intent", key, self._at(row.asked), {**_asked(row), "origin": origin}, tokens=0)
        fingerprint = Fingerprint.of(model=f"{_PROVIDERS[row.protocol]}/{row.model}", request=one.digest)
        data = {"value": one.value, "origin": {**origin, "usd": one.usd}}
        at = self._at(row.answered or row.asked)
        yield Entry("result", key, at, data, "ok", fingerprint=fingerprint, usd=one.usd, tokens=one.tokens)

    def _output(self) -> dict[str, Any]:
        rewards = dict(self.recording.rewards or {})
        reward = rewards.get("reward", next(iter(rewards.values()), None))
        return {"final": self._final(), "reward": reward, "rewards": rewards}

    def _final(self) -> str:
        """What the model said last in the main conversation."""
        main = [one.row for one in self.recording.served if not one.lane and one.row.is_answer]
        content = message_of(main[-1].response).get("content") if main else None
        return content if isinstance(content, str) else ""

    def _result(self, key: Key, usd: float | None) -> Entry:
        """`usd`: what the recording cost beyond the exchanges that are kept."""
        solver, spec = self.assembled.solvers[0], self.assembled.spec
        fingerprint = sample_fingerprint(solver, self.task.digest, seed_of(spec.seed, self.task.id, "1", 0, 0))
        outcome = self._outcome()
        data: dict[str, Any] = {"origin": self._origin(usd=usd)}
        if outcome in ("ok", "timeout"):
            data["value"] = {"output": self._output(), "agent": {"name": agent_of(self.recording), "version": ""}}
        if outcome != "ok":
            reason = self.recording.error or f"it ended with {self.recording.category}"
            data["error"] = {"reason": reason, "kind": self.recording.category or "recorded"}
        if self.recording.took is not None:
            data["active"] = self.recording.took
        return Entry("result", key, self._ended, data, outcome, fingerprint=fingerprint, usd=usd)

    def _outcome(self) -> Outcome:
        if self.recording.timed_out:
            return "timeout"
        if not self.recording.error and not self.recording.category:
            return "ok"
        return "failed" if self.recording.category in _OURS else "error"

    def _score(self) -> Entry:
        step = f"score/{_SCORER}"
        output = self._output()
        parts = {"scorer": self.assembled.stages.digests[step], "answer": digest_of(output), "task": self.task.digest}
        data = {"value": {"value": float(output["reward"])}, "origin": self._origin()}
        return Entry("result", Key(f"{self.key}/{step}"), self._ended, data, "ok", fingerprint=Fingerprint.join(parts))
