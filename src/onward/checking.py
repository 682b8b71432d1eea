"""Whether task folders are what they should be: read, and done by their own solution and by nobody."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onward.agents.contract import Installed
from onward.agents.verifying import Verdict, lay_out_solution, verify
from onward.agents.workplace import context_of, kind_for, spec_of, workspace
from onward.episode import AGENT_SECONDS, Episode, File, Folder
from onward.errors import NotThere, OnwardError, UsageError
from onward.sandbox import Place, Ran, Sandbox, open_sandbox, reap, scratch, sweep
from onward.tasks import Task
from onward.tasks.folders import EXAMPLES, Found, folders, look

__all__ = ["Tried", "found_in", "tried"]

FULL = 1.0
"""The reward of a task that is solved: the default pass mark."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a task whose solution was run, and of one that nobody touched."""

    wrong: tuple[str, ...] = ()
    solved: float | None = None
    untouched: float | None = None
    seconds: float = 0.0
    """How long the solution took."""
    kind: str = ""
    """Of the sandbox."""


def found_in(path: Path) -> list[Path]:
    """The task folders that are meant: a folder's, or our own by the name `examples`. Raises NotThere for none."""
    if path == Path("examples") and not folders(path):
        path = EXAMPLES
    if not path.is_dir():
        raise NotThere(f"there is no folder {path}")
    found = folders(path)
    if not found:
        raise NotThere(f"{path} holds no task folder: one has a task.toml or a task.md. `onward tasks init` makes one")
    return found


def tried(path: Path, sandbox: Mapping[str, Any], place: Path) -> Tried:
    """Do a task folder that can be read: untouched, and by its solution, each in a sandbox of its own, kept in `place`
    while it lives. Raises UsageError for one that cannot be read."""
    found: Found = look(path)
    if found.task is None:
        raise UsageError(f"{path} cannot be run: {'; '.join(found.wrong)}")
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    reap(place)  # what a check that was killed left
    sweep()
    return asyncio.run(_Trial(found.task, sandbox, place).tried())


class _Trial:
    """One task folder, to be done."""

    def __init__(self, task: Task, sandbox: Mapping[str, Any], place: Path) -> None:
        self._task, self._place = task, place
        self._folder = Folder.from_json(task.metadata["folder"])
        self._contents = {file.digest: file for file in task.files}
        files = tuple(File(one.name, one.digest, self._folder.modes.get(one.name, 0o644)) for one in task.files)
        self._episode = Episode(
            "oracle", "", str(task.input), sandbox=sandbox, task=task.id, files=files, folder=self._folder
        )

    def _blob(self, digest: str) -> bytes:
        return self._contents[digest].read()

    async def tried(self) -> Tried:
        """Both attempts, and what is wrong with what came of them."""
        try:
            kind = kind_for(self._episode)
            untouched, _ = await self._attempt(kind, solving=False)
            if not self._folder.solution:
                return Tried(("there is no solution to try it with",), None, untouched.reward, 0.0, kind)
            solved, ran = await self._attempt(kind, solving=True)
        except (OnwardError, OSError) as error:
            return Tried((str(error),))
        assert ran is not None
        wrong = [*self._wrong(solved, ran)]
        if untouched.reward >= FULL:
            wrong.append(f"an empty attempt gets the reward {untouched.reward:g}: its verifier lets everything pass")
        return Tried(tuple(wrong), solved.reward, untouched.reward, ran.seconds, kind)

    async def _attempt(self, kind: str, *, solving: bool) -> tuple[Verdict, Ran | None]:
        with scratch() as built:
            context = context_of(self._episode, self._blob, built) if kind == "container" else None
            spec = replace(spec_of(self._episode, Installed("", ()), Path(), context), socket=None)
            async with open_sandbox(spec, Place(self._place, "check")) as sandbox:
                await workspace(sandbox, self._episode, self._blob, kind)
                ran = await self._solve(sandbox) if solving else None
                return await verify(sandbox, self._episode, self._blob), ran

    async def _solve(self, sandbox: Sandbox) -> Ran:
        solution = await lay_out_solution(sandbox, self._episode, self._blob)
        return await sandbox.run(
            solution.command, timeout=self._most, env=solution.env, cwd=sandbox.workdir, sweep=True
        )

    @property
    def _seconds(self) -> float:
        return self._folder.agent_seconds or AGENT_SECONDS

    @property
    def _must_time_out(self) -> bool:
        """Whether its metadata says that its time is too short on purpose. The solution has as long as it takes."""
        return bool(self._task.metadata.get("must_time_out"))

    @property
    def _most(self) -> float:
        return AGENT_SECONDS if self._must_time_out else self._seconds

    def _wrong(self, verdict: Verdict, ran: Ran) -> list[str]:
        if ran.timed_out:
            return [f"its solution did not end within {self._most:g} s: raise agent.timeout_sec"]
        wrong = []
        if self._must_time_out and ran.seconds <= self._seconds:
            wrong.append(f"it must time out, and its solution ended after {ran.seconds:.1f} of {self._seconds:g} s")
        if verdict.reward < FULL:
            said = (ran.err.strip() or ran.out.strip())[-500:]
            ended = f" The solution ended with exit code {ran.code}{': ' + said if said else ''}" if ran.code else ""
            note = f" ({verdict.note})" if verdict.note else ""
            wrong.append(f"its solution gets the reward {verdict.reward:g}, not {FULL:g}{note}.{ended}")
        return wrong
