"""A recording of somebody else's that is gone on with: its task and its agent as they are here, and what differs.

Nothing that a recording does not say is guessed in silence: what cannot be compared is said, what differs is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onward.adoption import adopt, agent_of
from onward.agents import AGENTS, agent
from onward.config import Settings
from onward.errors import UsageError
from onward.formats.benchflow import Recording
from onward.progress import Watch
from onward.tasks import Task, open_source

__all__ = ["Original", "found_here", "is_recording"]

_NO_RECORD = ("command", "oracle")
"""Adapters that are no agent by themselves."""


@dataclass(frozen=True, slots=True)
class Original:
    """A recording, made a run of ours."""

    recording: Recording
    run: Path
    mismatches: tuple[str, ...]


def is_recording(address: str) -> bool:
    """Whether this is a run folder of BenchFlow's."""
    return (Path(address) / "config.json").is_file()


def found_here(
    recording: Recording, settings: Settings, watch: Watch, *, tasks_dir: Path | None, version: str
) -> Original:
    """The recording with its task from where that is now. `version`: of the agent, which recordings do not say.

    Raises UsageError where task or agent are not to be had, and says what to do.
    """
    name = agent_of(recording)
    if name not in AGENTS or name in _NO_RECORD:
        raise UsageError(
            f"{recording.folder.name} was made with {recording.agent!r}, which is no agent here (onward agents list): "
            "nobody could be served its record. --plan and `onward import` read it all the same"
        )
    task, mismatches = _task_of(recording, tasks_dir)
    wanted = version or agent(name).version
    watch.say(
        f"the recording does not say which {name} it was made with: {wanted} goes on with it"
        + ("" if version else " (--agent-version names another)")
    )
    options = {"version": version} if version else {}
    adopted = adopt(recording, settings.store, task=task, options=options)
    return Original(recording, adopted.folder, (*mismatches, *_not_carried_over(recording)))


def _task_of(recording: Recording, tasks_dir: Path | None) -> tuple[Task, list[str]]:
    """The task with the very words that the agent was told, and what of its files is no longer as it was."""
    if len(recording.prompts) > 1:
        raise UsageError(
            f"{recording.folder.name} was told {len(recording.prompts)} prompts, one after the other: only episodes of "
            "one prompt are gone on with"
        )
    place = _place_of(recording, tasks_dir)
    task = next(iter(open_source(str(place.resolve())).tasks()))
    mismatches = _other_files(recording, task)
    if recording.prompts:
        task = replace(task, input=recording.prompts[0])
    return task, mismatches


def _place_of(recording: Recording, tasks_dir: Path | None) -> Path:
    stated = recording.config.get("task_path")
    place = tasks_dir / recording.task if tasks_dir else Path(str(stated)) if stated else None
    if place is not None and place.is_dir():
        return place
    looked = f"{place} is not there" if place else "the recording does not say where it was"
    raise UsageError(
        f"the task {recording.task!r} is needed to verify the work, and {looked}: "
        "--tasks-dir DIR says in which folder of tasks it is"
    )


def _other_files(recording: Recording, task: Task) -> list[str]:
    """Files of the task that are not what the recording says they were."""
    source = recording.config.get("source")
    hashes: Any = source.get("file_hashes") if isinstance(source, Mapping) else None
    if not isinstance(hashes, Mapping):
        return []
    files = {file.name: file for file in task.files}
    changed = [path for path, stated in sorted(hashes.items()) if _digest(files.get(str(path))) != str(stated)]
    some = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
    return [f"the task's {some} changed since it was recorded"] if changed else []


def _digest(file: Any) -> str:
    content = file.read() if file is not None else None
    return f"sha256:{hashlib.sha256(content).hexdigest()}" if content is not None else ""


def _not_carried_over(recording: Recording) -> list[str]:
    """What the agent was given that no sandbox of ours gives it."""
    config = recording.config
    skills = config.get("effective_skills_dir") or config.get("skills_sandbox_dir")
    return [f"the agent was given the skills in {skills}, which are not given to it here"] if skills else []
