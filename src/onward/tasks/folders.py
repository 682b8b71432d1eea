"""Tasks as folders, in Harbor's layout (`task.toml`) or BenchFlow's (`task.md`, which wins where both are there).

`look` reads one folder and says all that is wrong with it; a source of them raises where anything is.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onward.episode import Environment, Folder, Verifier
from onward.errors import UsageError
from onward.tasks import benchflow, harbor
from onward.tasks.dockerfile import Workspace, reserved, workspace
from onward.tasks.section import Remarks, Section
from onward.tasks.source import attachment, storable
from onward.tasks.task import Attachment, Task

__all__ = ["EXAMPLES", "FolderSource", "Found", "folders", "look"]

EXAMPLES = Path(__file__).with_name("examples")
"""Task folders of our own, each with a solution."""
MARKS = ("task.md", "task.toml")
MOST_FILES = 10_000
MOST_BYTES = 256 << 20
_MOST_TEXT = 1 << 20
_LITTER = {"__pycache__", ".DS_Store", ".pytest_cache"}
_COMPOSE = {"docker-compose.yaml", "docker-compose.yml", "compose.yaml", "compose.yml"}
_SIGNS = ("instruction.md", "tests", "verifier", "environment", "solution", "oracle")


@dataclass(frozen=True, slots=True)
class Found:
    """One task folder, read. `wrong` and `told` name file and field; `task` is there where nothing is wrong."""

    path: Path
    task: Task | None
    wrong: tuple[str, ...] = ()
    """Why it cannot be run."""
    told: tuple[str, ...] = ()
    """What of it is not done, or done in another way."""


def folders(path: Path) -> list[Path]:
    """The task folders that are meant by a path: itself, or those in it, by name. One that only looks like a task
    folder is among them where others are."""
    if _marked(path):
        return [path]
    try:
        inner = sorted(one for one in path.iterdir() if one.is_dir() and not one.name.startswith("."))
    except OSError:
        return []
    if not any(map(_marked, inner)):
        return []
    return [one for one in inner if _marked(one) or any((one / sign).exists() for sign in _SIGNS)]


def _marked(path: Path) -> bool:
    return any((path / mark).is_file() for mark in MARKS)


class FolderSource:
    """A task folder, or a folder of them. `asked` is the path as the experiment has it: that is its identity."""

    def __init__(self, path: Path, *, asked: str | None = None) -> None:
        self.path, self._asked = path, asked or str(path)
        self.told: dict[str, tuple[str, ...]] = {}
        """{task: what of it is not done}, for those that `tasks` has given."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.resolve().name

    @property
    def identity(self) -> Mapping[str, Any]:
        """Path as asked for."""
        return {"source": "folders", "path": self._asked}

    def tasks(self) -> Iterator[Task]:
        """See `Source.tasks`."""
        places = folders(self.path)
        if not places:
            raise UsageError(f"{self.path} holds no task folder: one has a {' or a '.join(reversed(MARKS))}")
        for place in places:
            found = look(place)
            if found.task is None:
                said = "\n  ".join(found.wrong)
                raise UsageError(
                    f"{place} cannot be run:\n  {said}\nsee all there is to say: onward tasks check {self.path}"
                )
            self.told[found.task.id] = found.told
            yield found.task


def look(path: Path) -> Found:
    """Read a task folder, all of it, and say what is wrong with it. Raises nothing."""
    remarks = Remarks()
    try:
        task = _task(path, remarks)
        if not remarks.wrong:
            storable(task.to_json(), str(path))
            return Found(path, task, (), tuple(remarks.told))
    except OSError as error:
        remarks.wrong.append(f"{error.filename or path} cannot be read: {error.strerror}")
    except UsageError as error:
        remarks.wrong.append(str(error))
    return Found(path, None, tuple(remarks.wrong), tuple(remarks.told))


def _task(path: Path, remarks: Remarks) -> Task:
    files = _files(path, remarks)
    own = path.resolve().name
    named = {file.name: file for file in files}
    if "task.md" in named:
        text = _text(named, "task.md", remarks)
        instruction, settings = benchflow.read(text, remarks, "task.md", set(named))
        layout, place = "benchflow", "task.md"
        if "task.toml" in named:
            remarks.told.append("task.toml: not read, for there is a task.md")
    else:
        settings = harbor.read(Section(_toml(named, remarks), remarks, "task.toml"))
        layout, place = "harbor", "instruction.md"
        instruction = _text(named, "instruction.md", remarks).strip()
    if not instruction:
        remarks.wrong.append(f"{place}: there is no instruction")
    if settings.prompt_prefix:
        instruction = f"{settings.prompt_prefix}\n\n{instruction}"
    _refuse_parts(named, remarks)
    verifier, script = _verifier(named, settings, layout, remarks)
    solution, solve = _solution(named, layout, remarks)
    folder = Folder(
        layout=layout,
        environment=_environment(named, settings, layout, remarks),
        verifier=verifier,
        solution=f"{_TARGETS[solution]}/solve.sh" if solve else "",
        solution_prefix=f"{solution}/" if solve else "",
        solution_target=_TARGETS[solution],
        solution_env=settings.solution_env,
        agent_seconds=settings.agent_seconds,
        modes={name: 0o755 for name, file in named.items() if name in (script, solve) or _runs(file)},
    )
    return Task(own, instruction, 1, {**settings.metadata, "folder": folder.to_json()}, tuple(files))


def _runs(file: Attachment) -> bool:
    """Whether it is a program. No more of its permissions counts: the rest differs between two checkouts."""
    return file.path is not None and bool(file.path.stat().st_mode & stat.S_IXUSR)


# ---------------------------------------------------------------- files


def _files(path: Path, remarks: Remarks) -> list[Attachment]:
    """Every file below a folder, named by its path in it, in order. What cannot be taken is noted."""
    top = os.path.realpath(path)
    found: list[Attachment] = []
    left, ahead = MOST_BYTES, [""]
    while ahead:
        folder = ahead.pop()
        inner = []
        for entry in sorted(os.scandir(os.path.join(top, folder)), key=lambda one: one.name):
            name = posixpath.join(folder, entry.name)
            if entry.name in _LITTER or name == ".git":
                continue
            if entry.is_dir(follow_symlinks=False):
                inner.append(name)
            elif problem := _untakable(entry, top):
                remarks.wrong.append(f"{name.encode(errors='replace').decode()}: {problem}")
            else:
                file = attachment(Path(os.path.realpath(entry.path)), name)
                found.append(file)
                left -= file.size
            if left < 0 or len(found) > MOST_FILES:
                raise UsageError(
                    f"{path} holds more than {MOST_BYTES >> 20} MB or {MOST_FILES} files (at {name}), and all of it "
                    "would be copied into each run: fetch what is large when the image is built"
                )
        ahead += reversed(inner)
    return sorted(found, key=lambda file: file.name)


def _untakable(entry: os.DirEntry[str], top: str) -> str:
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if not entry.is_symlink():
        return "" if entry.is_file() else "neither a file nor a folder"
    target = os.path.realpath(entry.path)
    if not target.startswith(top + os.sep):
        return f"a link that leads out of the folder, to {os.readlink(entry.path)}: copy what is meant"
    return "" if os.path.isfile(target) else "a link to no file: links to folders are not followed"


def _text(named: Mapping[str, Attachment], name: str, remarks: Remarks) -> str:
    file = named.get(name)
    if file is None:
        remarks.wrong.append(f"{name}: there is none")
        return ""
    if file.size > _MOST_TEXT:
        remarks.wrong.append(f"{name}: larger than {_MOST_TEXT >> 20} MB")
        return ""
    try:
        return file.read().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        remarks.wrong.append(f"{name}: not UTF-8 (byte {error.start})")
        return ""


def _toml(named: Mapping[str, Attachment], remarks: Remarks) -> dict[str, Any]:
    try:
        return tomllib.loads(_text(named, "task.toml", remarks))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        remarks.wrong.append(f"task.toml: not TOML: {error}")
        return {}


# ---------------------------------------------------------------- parts

_TARGETS = {"tests": "/tests", "verifier": "/verifier", "solution": "/solution", "oracle": "/oracle"}


def _refuse_parts(named: Mapping[str, Attachment], remarks: Remarks) -> None:
    for name in sorted(named):
        folder, _, file = name.rpartition("/")
        if folder == "environment" and file in _COMPOSE:
            remarks.wrong.append(f"{name}: a task has one container: services beside it are not started")
        if name == "trajectory.json":
            remarks.wrong.append(f"{name}: an agent begins without a past")
        if file == ".harborignore":
            remarks.told.append(f"{name}: not applied: all files of the folder are part of the task")


def _part(named: Mapping[str, Attachment], layout: str, native: str, usual: str) -> str:
    """Which of two folders holds a part of the task: each layout has its own first."""
    first, second = (native, usual) if layout == "benchflow" else (usual, native)
    there = [one for one in (first, second) if any(name.startswith(f"{one}/") for name in named)]
    return there[0] if there else first


def _verifier(
    named: Mapping[str, Attachment], settings: harbor.Settings, layout: str, remarks: Remarks
) -> tuple[Verifier, str]:
    """The verifier, and the path of its script."""
    part = _part(named, layout, "verifier", "tests")
    target, script = _TARGETS[part], f"{part}/test.sh"
    command = f"{target}/test.sh"
    document = f"{part}/verifier.md"
    if part == "verifier" and document in named:
        said = benchflow.verifier_command(_text(named, document, remarks), remarks, document)
        if said:
            command = f"cd {target} && {said}"
            script = posixpath.normpath(posixpath.join(part, said.split()[0]))
    elif script not in named:
        remarks.wrong.append(f"{script}: there is none, so nothing would judge the work")
    return Verifier(
        prefix=f"{part}/", target=target, command=command, seconds=settings.verifier_seconds,
        env=settings.verifier_env, least=settings.least, most=settings.most,
    ), script  # fmt: skip


def _solution(named: Mapping[str, Attachment], layout: str, remarks: Remarks) -> tuple[str, str]:
    """The folder of the oracle's files, and the path of its script, if there is one."""
    part = _part(named, layout, "oracle", "solution")
    script = f"{part}/solve.sh"
    if script not in named:
        remarks.told.append(f"{script}: there is none, so the oracle cannot solve it")
        return part, ""
    return part, script


def _environment(
    named: Mapping[str, Attachment], settings: harbor.Settings, layout: str, remarks: Remarks
) -> Environment:
    prefix = "environment/"
    context = {name.removeprefix(prefix) for name in named if name.startswith(prefix)}
    stated = "task.md" if layout == "benchflow" else "task.toml"
    dockerfile = f"{prefix}Dockerfile" if "Dockerfile" in context else ""
    if dockerfile:
        made = _built(named, context, remarks)
        if settings.image:
            remarks.told.append(f"{stated}: docker_image: a container is of this image, not of {dockerfile}")
    elif settings.image:
        made = Workspace(obstacle=f"{stated}: the image {settings.image}")
    else:
        inside = settings.workdir or "/work"
        made = Workspace(workdir=inside, files={posixpath.join(inside, name): name for name in context})
    if settings.workdir and reserved(settings.workdir) and not made.obstacle:
        made = Workspace(obstacle=f"{stated}: the working folder {settings.workdir} is among the system's files")
    is_whole = not made.obstacle
    return Environment(
        prefix=prefix if context else "",
        dockerfile=dockerfile,
        obstacle=made.obstacle,
        files={inside: prefix + name for inside, name in sorted(made.files.items())} if is_whole else {},
        image=settings.image,
        workdir=settings.workdir or (made.workdir if is_whole else ""),
        env={**(made.env if is_whole else {}), **settings.env},
        cpus=settings.cpus,
        memory=settings.memory,
        storage=settings.storage,
        network=settings.network,
        build_seconds=settings.build_seconds,
        setup=settings.setup,
    )


def _built(named: Mapping[str, Attachment], context: set[str], remarks: Remarks) -> Workspace:
    name = "environment/Dockerfile"
    ignored = next((one for one in (f"{name}.dockerignore", "environment/.dockerignore") if one in named), "")
    try:
        made = workspace(_text(named, name, remarks), context, _text(named, ignored, remarks) if ignored else "")
    except ValueError as error:
        remarks.wrong.append(f"{name}: {error}")
        return Workspace()
    return Workspace(made.base, made.workdir, made.env, made.files, made.obstacle and f"{name}, {made.obstacle}")
