"""What the settings of a task folder say: Harbor's schema (`task.toml`), which BenchFlow's front matter shares.

Every field is honoured, or told (the task runs, and this is not done), or refused (it would be another task without).
"""

from __future__ import annotations

import datetime
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onward.errors import OnwardError
from onward.fingerprint import canonical
from onward.tasks.section import Section

__all__ = ["Settings", "read"]

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG])B?\s*", re.IGNORECASE)
_PER_MEGABYTE = {"K": 1 / 1024, "M": 1.0, "G": 1024.0}
_ONE_USER = "everything in a sandbox is done by one user"
_ONE_NETWORK = "agent and verifier share one sandbox, and so one network"


@dataclass(slots=True)
class Settings:
    """What was read."""

    metadata: dict[str, Any] = field(default_factory=dict)
    image: str = ""
    workdir: str = ""
    env: dict[str, str] = field(default_factory=dict)
    cpus: float | None = None
    memory: int | None = None
    storage: int | None = None
    network: bool = False
    build_seconds: float = 600.0
    setup: tuple[str, ...] = ()
    agent_seconds: float | None = None
    prompt_prefix: str = ""
    verifier_seconds: float = 600.0
    verifier_env: dict[str, str] = field(default_factory=dict)
    least: float | None = None
    most: float | None = None
    solution_env: dict[str, str] = field(default_factory=dict)


def read(top: Section, environment: str = "environment", solution: str = "solution") -> Settings:
    """The settings, all remarks noted. `environment` and `solution` are what these sections are called here."""
    found = Settings()
    _version(top)
    _describe(top, found)
    top.refuse("a task of several steps cannot be run: make each a task folder of its own", "steps")
    top.tell("there is one step", "multi_step_reward_strategy")
    top.tell("nothing is collected: what the verifier found is in the result", "artifacts")
    top.tell("the verifier's own reward is the reward", "reward")
    modes = {
        environment: _environment(top.inner(environment), found),
        "agent": _agent(top.inner("agent"), found),
        "verifier": _verifier(top.inner("verifier"), found),
    }
    _network(top, found, environment, {name: mode for name, mode in modes.items() if mode})
    oracle = top.inner(solution)
    found.solution_env = oracle.texts("env")
    oracle.tell("the solution has the agent's time", "timeout_sec")
    oracle.rest()
    top.rest()
    return found


def _version(top: Section) -> None:
    for name in ("schema_version", "version"):
        value = top.take(name)
        if value is not None and str(value).partition(".")[0] != "1":
            top.wrong(name, f"this schema is not known: {value!r}. Known: 1.x")


def _describe(top: Section, found: Settings) -> None:
    package = top.inner("task")
    for name in ("name", "description"):
        if said := package.text(name):
            found.metadata[name] = said
    keywords = package.take("keywords")
    if keywords:
        found.metadata["keywords"] = plain(keywords)
    package.ignore("version", "authors")
    package.rest()
    if source := top.text("source"):
        found.metadata["source"] = source
    metadata = top.take("metadata")
    if metadata is not None and not isinstance(metadata, Mapping):
        top.wrong("metadata", f"expected fields, not {metadata!r}")
    elif metadata:
        if "folder" in metadata:
            top.wrong("metadata.folder", "Onward itself keeps something under this name: choose another")
        found.metadata |= plain(metadata)
    try:
        canonical(found.metadata)
    except OnwardError as error:
        top.wrong("metadata", str(error))


def plain(value: Any) -> Any:
    """As JSON: dates become text."""
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.isoformat() if isinstance(value, datetime.date | datetime.time) else value


def _environment(given: Section, found: Settings) -> str:
    found.image = given.text("docker_image") or given.text("image")
    given.ignore("image")
    found.workdir = given.text("workdir").rstrip("/")
    if found.workdir and not found.workdir.startswith("/"):
        given.wrong("workdir", f"expected an absolute path other than /, not {found.workdir!r}")
    found.env = given.texts("env")
    found.cpus = given.number("cpus")
    found.memory = _megabytes(given, "memory_mb", "memory")
    found.storage = _megabytes(given, "storage_mb", "storage")
    if found.storage is not None:
        given.told("storage_mb", "kept, and limits nothing: `disk` of an experiment's sandbox does")
    found.build_seconds = given.number("build_timeout_sec") or found.build_seconds
    found.setup = _setup(given)
    given.refuse("there are no accelerators in a sandbox", "gpus", "gpu_types", "tpu")
    given.refuse("an agent is started with its own tools alone", "mcp_servers", "skills_dir")
    given.refuse("nothing waits for a service to be ready", "healthcheck")
    given.refuse("sandboxes are Linux", "os", harmless=("linux", "Linux", "LINUX"))
    given.refuse("images of BugSwarm are not fetched", "bugswarm_image_tag")
    mode = _mode(given)
    given.rest()
    return mode


def _megabytes(given: Section, name: str, older: str) -> int | None:
    value, said = given.number(name), given.take(older)
    if value is not None or said is None:
        return None if value is None else int(value)
    size = _SIZE.fullmatch(said) if isinstance(said, str) else None
    if size is None:
        given.wrong(older, f"expected a size such as 512M or 2G, not {said!r}")
        return None
    return int(float(size[1]) * _PER_MEGABYTE[size[2].upper()])


def _setup(given: Section) -> tuple[str, ...]:
    items = given.take("setup_commands")
    if items is not None and not isinstance(items, list):
        given.wrong("setup_commands", f"expected a list, not {items!r}")
    commands = []
    for number, item in enumerate(items if isinstance(items, list) else []):
        path = f"{given.path}.setup_commands[{number}]"
        one = Section({"command": item} if isinstance(item, str) else item, given.remarks, given.file, path)
        command, cwd, env = one.text("command"), one.text("cwd"), one.texts("env")
        if not command:
            one.wrong("command", "there is none")
        one.tell("all of them share the environment's build_timeout_sec", "timeout_sec")
        one.tell(_ONE_USER, "user")
        one.refuse("there is one container", "service", harmless=("main",))
        one.refuse("nothing of a sandbox is kept on the host", "host_lock", "capture_dir", "capture_dir_b64_env",
                   "capture_dir_b64_env_file_var")  # fmt: skip
        one.rest()
        before = "".join(f"export {name}={shlex.quote(value)}; " for name, value in env.items())
        before += f"cd {shlex.quote(cwd)} && " if cwd else ""
        commands.append(f"{before}{command}")
    return tuple(commands)


def _agent(given: Section, found: Settings) -> str:
    found.agent_seconds = given.number("timeout_sec")
    found.prompt_prefix = given.text("prompt_prefix")
    given.tell(_ONE_USER, "user")
    mode = _mode(given)
    given.rest()
    return mode


def _verifier(given: Section, found: Settings) -> str:
    if given.text("type") not in ("", "test-script"):
        given.wrong("type", "only a program can be the verifier here: test-script. A model grades in `judge:`")
    found.verifier_seconds = given.number("timeout_sec") or found.verifier_seconds
    found.verifier_env = given.texts("env")
    bounds = given.take("reward_range")
    if bounds is not None:
        pair = bounds if isinstance(bounds, list) else []
        if len(pair) != 2 or not all(isinstance(one, int | float) and not isinstance(one, bool) for one in pair):
            given.wrong("reward_range", f"expected two numbers, not {bounds!r}")
        else:
            found.least, found.most = float(pair[0]), float(pair[1])
    apart = "the verifier runs where the agent ran, when it has ended: one of its own is not made"
    given.refuse(apart, "environment", "sandbox")
    given.refuse(apart, "environment_mode", "sandbox_mode", harmless=("shared",))
    given.refuse("there is one container", "service", harmless=("main",))
    given.refuse("nothing is run between the agent and the verifier", "collect")
    memory = given.inner("memory")
    memory.refuse("skills are not scored", "expected_skills")
    memory.rest()
    given.tell(_ONE_USER, "user")
    given.tell("no model judges here", "judge")
    given.tell("the places of tests and rewards are made afresh; all else is as the agent left it", "hardening")
    given.tell("pytest loads what it finds", "pytest_plugins")
    mode = _mode(given)
    given.rest()
    return mode


def _mode(given: Section) -> str:
    """`public`, `no-network`, or "" where nothing is said."""
    mode, internet = given.text("network_mode"), given.truth("allow_internet")
    hosts = "a network is all or nothing here, not by host: public or no-network"
    given.refuse(hosts, "allowed_hosts", "blocked_hosts", "blocked_urls")
    if mode in ("allowlist", "denylist"):
        given.wrong("network_mode", hosts)
        return ""
    if mode not in ("", "public", "no-network"):
        given.wrong("network_mode", f"expected public or no-network, not {mode!r}")
        return ""
    return mode or ("" if internet is None else "public" if internet else "no-network")


def _network(top: Section, found: Settings, environment: str, modes: Mapping[str, str]) -> None:
    if len(set(modes.values())) > 1:
        first, *others = modes
        other = next(name for name in others if modes[name] != modes[first])
        top.wrong(f"{other}.network_mode", f"is {modes[other]} where {first} has {modes[first]}: {_ONE_NETWORK}")
    found.network = "public" in modes.values()
    if not modes:
        top.told(f"{environment}.network_mode", "not said, so there is no network but the gateway. `public` gives one")
