"""The stage that agents of one invocation perform on: the gateway's door, and where their sandboxes are kept."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from onward.agents import agent
from onward.agents.contract import Said
from onward.agents.performing import Policy, Stage
from onward.agents.workplace import Unplaceable, check_sandbox, kind_for, no_bubblewrap, no_container
from onward.config import Settings
from onward.context import Performer
from onward.episode import AGENT_SECONDS, Episode, Folder
from onward.errors import UsageError
from onward.experiment import SolverSpec, Spec
from onward.gateway import Gateway
from onward.gateway.proxy import Door
from onward.history import History
from onward.keys import Key
from onward.runs import Run
from onward.sandbox import Engine, reap, scratch, sweep
from onward.sandbox.images import digest_of, engines
from onward.tasks import Task

__all__ = [
    "agents_of", "asked", "bounds_of", "check_agents", "check_reach", "identified", "place_of", "staged",
    "swept", "unplayable",
]  # fmt: skip

_UNKNOWN = ", of unknown content"
"""What stands after the name of an image instead of its digest."""


def place_of(store: Path) -> Path:
    """Where a store's sandboxes are kept while they live."""
    return store.absolute() / ".sandboxes"


def swept(store: Path, *, containers: bool) -> list[str]:
    """Remove what killed runs left of their sandboxes; a line for each. Those of living runs are not touched."""
    root = place_of(store)
    sweep()
    if not root.is_dir() and not containers:
        return []
    commands = [one.command for one in engines().values() if isinstance(one, Engine)] if containers else []
    said = []
    for left in reap(root, engines=commands):
        what = [*left.processes, *([f"{left.containers} containers"] if left.containers else [])]
        said.append(f"removed what a killed run left: sandbox {left.id}{' with ' + ', '.join(what) if what else ''}")
        said += left.failed
    return said


def agents_of(spec: Spec) -> list[SolverSpec]:
    """The solvers that are agents and can run."""
    return [solver for solver in spec.solvers if solver.agent and not solver.recorded]


def identified(spec: Spec) -> Spec:
    """The experiment with what its agents and images are on this machine, which is part of what it is.

    An image that cannot be looked up, for want of a container engine, is what the run recorded; where nothing is
    recorded it is one that nobody knows. Raises UsageError where all solvers are agents in such images.
    """
    solvers = [_identified(solver) for solver in spec.solver]
    if all(one.found.get("image", "").endswith(_UNKNOWN) for one in solvers):
        _refuse(no_container())
    return spec.model_copy(update={"solver": solvers})


def _identified(solver: SolverSpec) -> SolverSpec:
    if not solver.agent or solver.recorded:
        return solver
    adapter = agent(solver.agent)
    adapter.check(solver.options)
    sandbox, image = solver.sandboxed, ""
    if sandbox.get("image") and sandbox.get("kind", "container") == "container":
        name = str(sandbox["image"])
        image = solver.found.get("image") or name + _UNKNOWN if no_container() else digest_of(name)
    found = {"version": adapter.wanted(solver.options), "image": image}
    return solver.model_copy(update={"found": found})


def check_agents(spec: Spec) -> None:
    """Raise UsageError where an agent cannot be started as it is asked for."""
    for solver in agents_of(spec):
        adapter = agent(solver.agent)
        if adapter.asks and not solver.model and adapter.name != "command":
            raise UsageError(f"{adapter.name} needs a model: --model PROVIDER/NAME")
        check_sandbox(solver.sandboxed)
        with suppress(Unplaceable):  # another solver may do its part here, and another machine do this one's
            kind_for(Episode(solver.agent, solver.model, "", sandbox=solver.sandboxed))


def unplayable(solver: SolverSpec, task: Task) -> str:
    """Why this agent cannot be given this task on this machine; empty where it can."""
    folder = Folder.from_json(task.metadata["folder"]) if "folder" in task.metadata else None
    try:
        kind_for(Episode(solver.agent, solver.model, "", sandbox=solver.sandboxed, task=task.id, folder=folder))
    except Unplaceable as error:
        return str(error)
    return ""


def check_reach(spec: Spec, trials: Iterable[tuple[str, Task]]) -> None:
    """Raise UsageError where this machine has the sandbox for none of these trials: (who has to work, on what). Where
    it has it for some, the others are errors of their own, owed until it has."""
    agents = {solver.name: solver for solver in agents_of(spec)}
    why = ""
    for name, task in trials:
        why = unplayable(agents[name], task) if name in agents else ""
        if not why:
            return
    if why:
        _refuse(why)


def _refuse(why: str) -> NoReturn:
    raise UsageError(f"nothing of what is wanted can be done here: {why}")


def asked(run: Run, key: Key, solver: str) -> str:
    """Who has to work on a trial: its solver, or nobody where all that the agent did is recorded."""
    history = History.read(run.journal, key, run.voids)
    found = [history.newest(f"{key}/{step}") for step in run.plan.shape.steps("generate")]
    return "" if all(one is not None and one.row.outcome != "error" for one in found) else solver


def width_of(stated: int | None) -> int:
    """How many sandboxes may be open at a time: one for each processor, unless told."""
    return stated or max(2, os.cpu_count() or 2)


def seconds_of(task: Task, limits: Mapping[str, Any]) -> float:
    """The active seconds that an agent may take: the experiment's word, else the task's own, else half an hour."""
    return float(limits.get("time") or (task.metadata.get("folder") or {}).get("agent_seconds") or AGENT_SECONDS)


def bounds_of(run: Run, task: Task, limits: Mapping[str, Any]) -> dict[str, Any]:
    """What bounds an agent's trial: the experiment's word, else the task's own, else half an hour. A continuation has
    its own live budget, and what its parent used is not charged to it."""
    derivation = run.facts["run"].get("derivation") or {}
    seconds = seconds_of(task, limits)
    continued = {one.split("/")[1] for one in derivation.get("trials") or ()}
    if derivation.get("verb") != "continue" or Key.of(task.id) not in continued:
        return {**limits, "time": seconds}
    return {**limits, "time": derivation.get("timeout") or seconds, "fresh": True}


def _policy(run: Run, settings: Settings) -> Policy:
    facts = run.facts["run"]
    derivation = facts.get("derivation") or {}
    # Who continues has been told what is not the same, and has accepted it.
    changed = frozenset() if derivation.get("verb") == "continue" else frozenset(facts.get("changed", ()))
    stated: Any = settings.flags.on_divergence or derivation.get("on_divergence") or "warn"
    cut, live = bool(derivation.get("replay_only")), str(derivation.get("model") or "")
    return Policy(stated, exact_only=changed, cut=cut, live=live, trials=derivation.get("trials") or ())


@asynccontextmanager
async def staged(
    spec: Spec, run: Run, settings: Settings, gateway: Any, door: Door, say: Said, at_once: int | None
) -> AsyncIterator[Performer | None]:
    """The stage, while it is needed; None where no solver is an agent."""
    agents = agents_of(spec)
    if not agents or not isinstance(gateway, Gateway):
        yield None
        return
    for line in await asyncio.to_thread(swept, settings.store, containers=_in_containers(agents)):
        say(line)
    if no_bubblewrap() and not all(one.sandboxed.get("kind") for one in agents):
        say(
            f"bubblewrap does not work here ({no_bubblewrap()}): agents without a container are in a process sandbox, "
            "where this machine's files and network are open to them"
        )
    place = place_of(settings.store)
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    # A path of a unix socket has at most 107 bytes, so it cannot lie in the store.
    with scratch() as folder:
        socket = folder / "gateway.sock"
        await door.open(str(socket))
        for path, mode in ((folder, 0o755), (socket, 0o666)):
            os.chmod(path, mode)  # a container's user is not ours; what is asked needs a trial's token
        try:
            yield Stage(
                door, gateway.reach, settings.cache, place, socket, run.id[:12], say, _policy(run, settings),
                width_of(at_once),
            )  # fmt: skip
        finally:
            await door.close()


def _in_containers(agents: Iterable[SolverSpec]) -> bool:
    return any(one.sandboxed.get("kind") == "container" for one in agents)
