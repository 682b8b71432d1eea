"""A recording of somebody else's that is gone on with: its task and its agent as they are here, and what differs.

Nothing that a recording does not say is guessed in silence: what cannot be compared is said, what differs is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onward.adoption import adopt, agent_of, standing
from onward.agents import AGENTS, agent
from onward.config import Settings
from onward.errors import OnwardError, UsageError
from onward.formats.benchflow import Recording
from onward.progress import Watch
from onward.runs import Run
from onward.tasks import Task, open_source
from onward.views.prospects import Finding

__all__ = ["Original", "adopted_before", "found_here", "is_recording", "lacking"]

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


def lacking(recording: Recording, *, tasks_dir: Path | None, version: str) -> Iterator[Finding]:
    """Why it could not go on here as things are, or only when told to."""
    for check in (_check_agent, _check_prompts):
        try:
            check(recording)
        except UsageError as error:
            yield Finding("not here", "damage", str(error), "nobody can be served it here")
    try:
        place = _place_of(recording, tasks_dir)
    except UsageError as error:
        yield Finding("no task", "loss", str(error), "needed when it goes on")
        return
    for one in _mismatches(recording, place, version):
        yield Finding("mismatch", "damage", one, "refused, unless --accept-mismatch is given: then the result says so")


def found_here(
    recording: Recording, settings: Settings, watch: Watch, *, tasks_dir: Path | None, version: str
) -> Original:  # fmt: skip
    """The recording with its task from where that is now. `version`: of the agent, where it is not to be the recorded.

    Raises UsageError where task or agent are not to be had, and says what to do.
    """
    name, recorded = _check_agent(recording), _recorded_version(recording)
    _check_prompts(recording)
    place = _place_of(recording, tasks_dir)
    task = _task_of(recording, place)
    if not recorded:
        watch.say(
            f"the recording does not say which {name} it was made with: {version or agent(name).version} goes on "
            "with it" + ("" if version else " (--agent-version names another)")
        )
    adopted = adopt(recording, settings.store, task=task, options=_options(recording, version))
    return Original(recording, adopted.folder, tuple(_mismatches(recording, place, version)))


def adopted_before(
    recording: Recording, store: Path, *, tasks_dir: Path | None, version: str
) -> Iterator[Run]:  # fmt: skip
    """The runs, open, that this recording has been made before to go on with: with its task as that is now, where it
    is to be had."""
    try:
        task: Task | None = _task_of(recording, _place_of(recording, tasks_dir))
    except OnwardError:
        task = None
    yield from standing(recording, store, task=task, options=_options(recording, version))


def _task_of(recording: Recording, place: Path) -> Task:
    task = next(iter(open_source(str(place.resolve())).tasks()))
    return replace(task, input=recording.prompts[0]) if recording.prompts else task  # the words that the agent was told


def _options(recording: Recording, version: str) -> dict[str, Any]:
    wanted = version or _recorded_version(recording)
    return {"version": wanted} if wanted else {}


def _check_agent(recording: Recording) -> str:
    """Its name here. Raises UsageError where it has none."""
    name = agent_of(recording)
    if name not in AGENTS or name in _NO_RECORD:
        raise UsageError(
            f"{recording.folder.name} was made with {recording.agent!r}, which is no agent here (onward agents list): "
            "nobody could be served its record. --plan and `onward import` read it all the same"
        )
    return name


def _check_prompts(recording: Recording) -> None:
    if len(recording.prompts) > 1:
        raise UsageError(
            f"{recording.folder.name} was told {len(recording.prompts)} prompts, one after the other: only episodes of "
            "one prompt are gone on with"
        )


def _recorded_version(recording: Recording) -> str:
    """BenchFlow itself does not keep it; our own exports do."""
    return str(recording.config.get("agent_version") or "")


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


def _mismatches(recording: Recording, place: Path, version: str) -> Iterator[str]:
    """What is not as it was."""
    recorded = _recorded_version(recording)
    if recorded and version and version != recorded:
        yield f"it was made with {agent_of(recording)} {recorded}, not {version}"
    source = recording.config.get("source")
    hashes: Any = source.get("file_hashes") if isinstance(source, Mapping) else None
    stated: Mapping[str, Any] = hashes if isinstance(hashes, Mapping) else {}
    changed = [path for path, digest in sorted(stated.items()) if _digest(place / str(path)) != str(digest)]
    if changed:
        some = ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")
        yield f"the task's {some} changed since it was recorded"
    skills = recording.config.get("effective_skills_dir") or recording.config.get("skills_sandbox_dir")
    if skills:
        yield f"the agent was given the skills in {skills}, which are not given to it here"


def _digest(file: Path) -> str:
    return f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" if file.is_file() else ""
