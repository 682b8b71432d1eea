"""Performs episodes: a sandbox, an agent in it, the gateway in front of the model, and the task's own verdict.

A trial that was cut off starts in a fresh sandbox. The agent does again what it did, for real, while its model's
answers come from the record; where the record ends it is on its own again (SEMANTICS §7). No word of ours is added.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from uuid import NAMESPACE_URL, uuid5

from onward.agents import agent as agent_called
from onward.agents.contract import Agent, Go, Installed, Launch, Said
from onward.agents.verifying import lay_out_solution, verify
from onward.agents.workplace import Unplaceable, context_of, kind_for, spec_of, workspace
from onward.context import Context
from onward.episode import Episode
from onward.errors import OutOfReach, StepFailed, StepOwed, StepTimeout, Stopping
from onward.fingerprint import digest_of
from onward.gateway.guests import Guest, Miss
from onward.gateway.normalisers import rules_for
from onward.gateway.providers import Provider
from onward.gateway.proxy import Door
from onward.keys import Key
from onward.protocols import PROTOCOLS
from onward.sandbox import Place, Ran, Sandbox, SandboxFailed, open_sandbox, scratch
from onward.sandbox.container import Container

__all__ = ["Policy", "Stage"]

Reach = Callable[[str], AbstractAsyncContextManager[tuple[Provider, str]]]

_TAIL = 1500
"""Characters of an agent's last words that are kept where it failed."""
_PARTING = 10.0
"""Seconds that an agent has to end by itself when it gets no more answers."""
_PATIENCE = 600.0
"""Seconds that a replay may take beyond the trial's own limit before it is given up."""


@dataclass(frozen=True, slots=True)
class Policy:
    """How this invocation treats what is recorded."""

    miss: Miss = "warn"
    exact_only: frozenset[str] = frozenset()
    """Solvers that were something else when what was taken over was recorded: it answers equal requests alone."""
    cut: bool = False
    """Stop where the record ends: the work is judged as it stands there, and no model is asked."""
    live: str = ""
    """`provider/name` of the model that is asked where the record ends, if it is another than the recorded one."""
    trials: Collection[str] = ()
    """The trials that `cut` and `live` are about: those that are continued."""

    def of(self, key: Key) -> Policy:
        """The policy for one trial."""
        continued = "/".join(key.split("/")[:3]) in self.trials
        return self if continued else replace(self, cut=False, live="")


@dataclass(slots=True)
class Stage:
    """Where the episodes of one invocation are performed. One stage serves one event loop."""

    door: Door
    reach: Reach
    """Who answers a model, while it is asked."""
    cache: Path
    """Where agents are installed."""
    place: Path
    """Where sandboxes are kept while they live."""
    socket: Path
    """The door's, for sandboxes without a network."""
    run: str
    say: Said
    policy: Policy = Policy()
    at_once: int = 2
    """How many sandboxes may be open at a time."""
    _open: asyncio.Semaphore = field(init=False)
    _installing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _installed: dict[str, Installed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._open = asyncio.Semaphore(self.at_once)

    async def perform(self, ctx: Context, episode: Episode) -> Any:
        """See `onward.context.Performer`."""
        adapter = agent_called(episode.agent)
        adapter.check(episode.options)
        try:
            kind_for(episode)
        except Unplaceable as error:
            raise OutOfReach(error.reason) from error
        installed = await self._ready(adapter, episode.options)
        async with self._open:
            try:
                if not episode.model:
                    return await _Play(self, ctx, episode, adapter, installed).run()
                async with self.reach(self.policy.of(ctx.key).live or episode.model) as (provider, model):
                    return await _Play(self, ctx, episode, adapter, installed, provider, model).run()
            except SandboxFailed as error:
                raise StepOwed(str(error), kind="SandboxFailed") from error

    async def _ready(self, adapter: Agent, options: Mapping[str, Any]) -> Installed:
        """The agent, installed if it is not: once, whoever asks first."""
        known = digest_of([adapter.name, dict(options)])
        async with self._installing:
            if known not in self._installed:
                found = await asyncio.to_thread(adapter.find, self.cache, options)
                if found is None:
                    found = await asyncio.to_thread(adapter.install, self.cache, options, self.say)
                self._installed[known] = found
            return self._installed[known]


@dataclass(slots=True)
class _Play:
    """One attempt at one episode."""

    stage: Stage
    ctx: Context
    episode: Episode
    adapter: Agent
    installed: Installed
    provider: Provider | None = None
    live: str = ""
    """The model's name at its provider, where the record ends."""

    @property
    def policy(self) -> Policy:
        """How this trial treats what is recorded."""
        return self.stage.policy.of(self.ctx.key)

    @property
    def model(self) -> str:
        """The name by which the agent knows the model, whoever answers."""
        return self.episode.model.partition("/")[2] or self.episode.model

    async def run(self) -> Any:
        """The value of the step. Raises StepTimeout with one, StepFailed, StepOwed, and what ends the run."""
        door, policy, provider = self.stage.door, self.policy, self.provider
        spoken = {} if provider is None else {protocol: provider.speaking(protocol) for protocol in PROTOCOLS}
        token = door.admit(
            self.ctx, providers=spoken, rules=rules_for(self.adapter.name, self.installed.version),
            miss=policy.miss, live=self._renamed, exact_only=self.ctx.key.names[0] in policy.exact_only, cut=policy.cut,
        )  # fmt: skip
        guest, dismissed, cancelled = door.guest(token), False, False
        with scratch() as folder:
            try:
                async with await self._sandbox(folder) as sandbox:
                    await workspace(sandbox, self.episode, self.ctx.world.blob, kind_for(self.episode))
                    ran, timeout = await self._act(sandbox, token, guest)
                    dismissed = True
                    report = await door.dismiss(token)
                    return await self._judged(sandbox, guest, report, ran, timeout)
            except asyncio.CancelledError:  # the run stops at once: what is under way is left in doubt
                cancelled = True
                raise
            finally:
                if not dismissed:
                    await door.dismiss(token, drain=not (cancelled or isinstance(self.ctx.ended, Stopping)))

    @property
    def _renamed(self) -> dict[str, str]:
        return {self.model: self.live} if self.live not in ("", self.model) else {}

    async def _sandbox(self, folder: Path) -> Sandbox:
        built = kind_for(self.episode) == "container" and self.episode.folder is not None
        context = await asyncio.to_thread(context_of, self.episode, self.ctx.world.blob, folder) if built else None
        spec = spec_of(self.episode, self.installed, self.stage.socket, context)
        return open_sandbox(spec, Place(self.stage.place, self.stage.run, self._named))

    async def _named(self, id: str) -> None:
        await self.ctx.note(sandbox=id)

    # ------------------------------------------------------------------------------------------ the agent

    async def _act(self, sandbox: Sandbox, token: str, guest: Guest) -> tuple[Ran | None, StepTimeout | None]:
        """Let it work: how it ended by itself, or which limit ended it."""
        launch = await self._launch(sandbox, token)
        for path, content in launch.files.items():
            await sandbox.put(content, path)
        meter = self.ctx.meter
        held = meter is not None and guest.replaying
        if meter is not None and held:
            meter.hold()
            guest.on_live = meter.release
        working = asyncio.ensure_future(
            sandbox.run(launch.command, env=launch.env, stdin=launch.stdin, cwd=sandbox.workdir, sweep=True)
        )
        try:
            return await self.ctx.timed(self._watched(working, guest)), None
        except StepTimeout as timeout:
            return None, timeout
        finally:
            if meter is not None and held and guest.on_live is not None:
                guest.on_live = None
                meter.release()
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _launch(self, sandbox: Sandbox, token: str) -> Launch:
        options, protocol = self.episode.options, ""
        if not self.adapter.asks and self.episode.folder is not None:
            solved = await lay_out_solution(sandbox, self.episode, self.ctx.world.blob)
            options = {**options, "command": solved.command, "env": {**solved.env, **options.get("env", {})}}
        if self.provider is not None and self.provider.protocol in self.adapter.protocols:
            protocol = self.provider.protocol
        session = str(uuid5(NAMESPACE_URL, f"onward:{self.ctx.key}#{self.ctx.history.generation(self.ctx.key)}"))
        go = Go(
            self.episode.instruction, self.model, f"http://127.0.0.1:{sandbox.port}", token, sandbox.home,
            sandbox.workdir, session, options, protocol,
        )  # fmt: skip
        launch = self.adapter.launch(self.installed, go)
        return replace(launch, env={**self.installed.env, **launch.env})

    async def _watched(self, working: asyncio.Future[Ran], guest: Guest) -> Ran:
        """The agent's own end; or that of its trial, which it may not have understood."""
        over = asyncio.ensure_future(guest.over.wait())
        stuck = asyncio.ensure_future(self._stuck(guest))
        try:
            first: set[asyncio.Future[Any]] = {working, over, stuck}
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            if not working.done() and stuck.done():
                raise StepOwed(stuck.result(), kind="ReplayStuck")
            if not working.done():
                # It was told that there will be no more answers, and why: most agents end by themselves then.
                with suppress(TimeoutError):
                    async with asyncio.timeout(_PARTING):
                        await asyncio.shield(working)
            if not working.done():
                working.cancel()
                return Ran(-9, "", "", 0.0, killed="ended")
            return working.result()
        finally:
            for waiting in (over, stuck):
                waiting.cancel()
            await asyncio.gather(over, stuck, return_exceptions=True)

    async def _stuck(self, guest: Guest) -> str:
        """Returns when a replay has taken longer than the whole episode may: nothing else limits it."""
        most = _PATIENCE + ((self.ctx.meter.limit or 0.0) if self.ctx.meter else 0.0)
        await self.ctx.world.recorder.clock.sleep(most)
        if not guest.replaying:
            await asyncio.Event().wait()
        return f"the replay did not come to the end of its record within {most:,.0f} s"

    # ------------------------------------------------------------------------------------------ what it came to

    async def _judged(
        self, sandbox: Sandbox, guest: Guest, report: Mapping[str, Any], ran: Ran | None, timeout: StepTimeout | None
    ) -> Any:
        """The step's value, where the agent came to an end of its own or its time was up."""
        ended = self.ctx.ended
        if isinstance(ended, StepTimeout):
            timeout = timeout or ended
        elif self.policy.cut and isinstance(ended, StepOwed) and ended.kind == "CutPoint":
            timeout = StepTimeout("the record ends here", kind="CutPoint")
        elif ended is not None:
            raise ended
        if timeout is None:
            self._ended_well(ran, guest, report)
        workspace = await self._workspace(sandbox)  # before the verifier leaves its own traces in it
        value = {
            **await self._worth(sandbox, ran),
            "agent": {"name": self.adapter.name, "version": self.installed.version},
            **({"image": sandbox.image.digest} if isinstance(sandbox, Container) else {}),
            "exchanges": dict(report),
            "workspace": workspace,
            "left": list(ran.left) if ran else [],
        }
        if timeout is None:
            return value
        self.ctx.ended = None  # it is told by what is raised here, with what the work was worth
        raise StepTimeout(timeout.reason, kind=timeout.kind, value=value)

    def _ended_well(self, ran: Ran | None, guest: Guest, report: Mapping[str, Any]) -> None:
        """Raises what an agent's end comes to that is no answer."""
        assert ran is not None
        words = (ran.err.strip() or ran.out.strip())[-_TAIL:]
        if ran.killed == "gone":
            raise SandboxFailed(f"the sandbox ended under the agent: {words}")
        if guest.trouble is not None:
            raise StepOwed(f"its last call came to nothing: {guest.trouble}", kind=type(guest.trouble).__name__)
        if self.adapter.asks and not report["paid"] and not report["served"]:
            self._went_past(ran, words)
        if ran.code:
            why = f"killed: {ran.killed}" if ran.killed else f"exit code {ran.code}"
            raise StepFailed(f"{self.adapter.name} ended with {why}: {words}", kind="AgentFailed")

    def _went_past(self, ran: Ran, words: str) -> NoReturn:
        raise StepOwed(
            f"{self.adapter.name} made no model call through the gateway (exit code {ran.code}): it does not know the "
            f"address it was given, or asked elsewhere. It said: {words or 'nothing'}",
            kind="NoCalls",
        )

    async def _worth(self, sandbox: Sandbox, ran: Ran | None) -> dict[str, Any]:
        """What it said last, and what the task's own verifier makes of its work."""
        final, folder = self.adapter.final(ran) if ran is not None else "", self.episode.folder
        if folder is None or folder.verifier is None:
            return {"output": final}
        verdict = await verify(sandbox, self.episode, self.ctx.world.blob)
        output = {"final": final, "reward": verdict.reward, "rewards": dict(verdict.rewards)}
        noted = {"note": verdict.note} if verdict.note else {}
        return {"output": {**output, **noted}, "verifier": verdict.to_json()}

    async def _workspace(self, sandbox: Sandbox) -> str:
        """A digest of what the working folder holds, names and modes and contents: equal work has equal ones."""
        try:
            found = await sandbox.snapshot("", without=self.adapter.own)
        except SandboxFailed as error:
            raise StepOwed(f"the workspace cannot be read: {error}", kind="SandboxFailed") from error
        return digest_of(sorted([path, *what] for path, what in found.items()))
