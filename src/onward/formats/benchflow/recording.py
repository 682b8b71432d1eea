"""A BenchFlow run folder as it is, and what is the matter with it. Reads; writes nothing, refuses little.

    config.json  result.json  prompts.json  timing.json  rewards.jsonl  trajectory/llm_trajectory.jsonl  verifier/…

A host that dies leaves only `config.json` and the trajectory; a line can be cut or damaged. None of it shifts the rest:
each line is an exchange or says why it is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson

from onward.errors import UsageError
from onward.formats.benchflow.answers import usage_of
from onward.formats.benchflow.rows import Row, object_of, row_of
from onward.formats.benchflow.standing import Exchange, stood

__all__ = ["LLM", "Recording", "find_folders", "is_folder", "read"]

LLM = "trajectory/llm_trajectory.jsonl"
_TIMEOUTS = ("timeout", "idle_timeout")
_LARGEST = 256 << 20
_QUARTER = 900
"""Seconds; time zones are whole numbers of them."""

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Recording:
    """One run folder, read."""

    folder: Path
    content: Mapping[str, bytes] = field(repr=False)
    """Every file, by its path in the folder."""
    config: Json
    result: Json
    timing: Json
    prompts: tuple[str, ...]
    rewards: Mapping[str, float] | None
    rows: tuple[Row, ...] = field(repr=False)
    """The lines of the trajectory, in the file's order."""
    exchanges: tuple[Exchange, ...] = field(repr=False)
    """The same in the order in which they were asked; unreadable ones last."""
    unreadable: Mapping[str, str]
    """Files that could not be read as what they should be, and why. A file that is not there is `missing`."""

    @property
    def agent(self) -> str:
        """Who worked: `openhands`, `claude-agent-acp`, …"""
        return str(self.config.get("agent") or self.result.get("agent") or "")

    @property
    def model(self) -> str:
        """The model, as BenchFlow was told it; else the one that was asked most."""
        told = self.config.get("model") or self.result.get("model")
        asked = [one.row.model for one in self.exchanges if one.row.model]
        return str(told or (max(asked, key=asked.count) if asked else ""))

    @property
    def task(self) -> str:
        """The task's name."""
        path = str(self.config.get("task_path") or "").rstrip("/")
        known = self.result.get("task_name") or path.rpartition("/")[2] or self.folder.name.partition("__")[0]
        return str(known or "task")

    @property
    def category(self) -> str:
        """Why it ended, if not by itself: `timeout`, `api_error`, …"""
        return str(self.result.get("error_category") or "")

    @property
    def error(self) -> str:
        """The same in words."""
        return str(self.result.get("error") or "")

    @property
    def finished(self) -> bool:
        """Whether it came to its end at all, and was not cut with its host."""
        return bool(self.result)

    @property
    def timed_out(self) -> bool:
        """Whether its time ended it."""
        return self.category in _TIMEOUTS or (not self.category and "timed out" in self.error.lower())

    @property
    def limit(self) -> float | None:
        """Seconds that the agent had."""
        found = _number(self.config.get("timeout_sec"))
        return found if found is not None and found > 0 else None

    @property
    def took(self) -> float | None:
        """Seconds that the agent worked."""
        return _number(self.timing.get("agent_execution"))

    @property
    def usd(self) -> float | None:
        """What it cost, as it was recorded."""
        found = self.result.get("agent_result")
        return _number(found.get("cost_usd")) if isinstance(found, dict) else None

    @property
    def tokens(self) -> tuple[int, int]:
        """Input and output of all answers, each counted once."""
        used = [usage_of(row.response) for row in self.rows if row.is_answer]
        return sum(one.input for one in used), sum(one.output for one in used)

    @property
    def served(self) -> list[Exchange]:
        """What an agent would be given again, in the order of asking."""
        return [one for one in self.exchanges if one.served]

    @property
    def missing(self) -> list[str]:
        """Files that a finished run has and this one has not."""
        wanted = ("config.json", "result.json", "prompts.json", "timing.json", LLM)
        return [name for name in wanted if name not in self.content]

    @property
    def zone(self) -> int:
        """Seconds by which the recorder's clock is ahead of UTC, by the providers' own times; 0 if there are none."""
        for row in self.rows:
            created = row.response.get("created")
            if row.answered is not None and isinstance(created, int) and created > 0:
                ahead = round((row.answered - created) / _QUARTER) * _QUARTER
                return ahead if abs(ahead) <= 14 * 3600 else 0
        return 0

    def digests(self) -> dict[str, str]:
        """SHA-256 of every file, by its path."""
        return {name: sha256(content).hexdigest() for name, content in sorted(self.content.items())}


def _number(value: Any) -> float | None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def is_folder(folder: Path) -> bool:
    """Whether this looks like a run folder of BenchFlow's."""
    return (folder / "config.json").is_file() and ((folder / "result.json").is_file() or (folder / LLM).is_file())


def find_folders(root: Path) -> Iterator[Path]:
    """All run folders at or below a place, by path."""
    if is_folder(root):
        yield root
        return
    yield from (path.parent for path in sorted(root.rglob("config.json")) if is_folder(path.parent))


def read(folder: Path) -> Recording:
    """The recording in a run folder. Raises UsageError where it is none, or nobody can say which agent worked."""
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder: name a run folder of BenchFlow's, with config.json in it")
    unreadable: dict[str, str] = {}
    content = dict(_files(folder, unreadable))
    config, result, timing = (
        _object(content, name, unreadable) for name in ("config.json", "result.json", "timing.json")
    )
    if LLM not in content and not config and not result:
        raise UsageError(
            f"{folder} is no run folder of BenchFlow's: it has neither config.json nor result.json nor {LLM}"
        )
    agent = str(config.get("agent") or result.get("agent") or "")
    if not agent:
        raise UsageError(
            f"{folder} does not say which agent worked: neither config.json nor result.json has an `agent`"
        )
    rows = tuple(_rows(content.get(LLM, b""), agent))
    return Recording(
        folder.resolve(), content, config, result, timing or _timing(result), _prompts(content, unreadable),
        _rewards(content, result, unreadable), rows, tuple(stood(rows)), unreadable,
    )  # fmt: skip


def _files(folder: Path, unreadable: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Every file, but for links, which may lead out of the folder, and what is too large to be kept in a run."""
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            unreadable[name] = "it is a link: links are not followed"
        elif path.is_file():
            if path.stat().st_size > _LARGEST and name != LLM:
                unreadable[name] = f"it is over {_LARGEST >> 20} MB, and no part of the import"
            else:
                yield name, path.read_bytes()


def _object(content: Mapping[str, bytes], name: str, unreadable: dict[str, str]) -> Json:
    if name not in content:
        return {}
    found, trouble = object_of(content[name])
    if found is None:
        unreadable[name] = trouble
    return found or {}


def _timing(result: Json) -> Json:
    found = result.get("timing")
    return found if isinstance(found, dict) else {}


def _rows(content: bytes, agent: str) -> Iterator[Row]:
    """Lines end with a line feed and nothing else; empty ones are no rows, but keep their number."""
    for number, line in enumerate(content.split(b"\n"), 1):
        if line.strip():
            yield row_of(number, line, agent)


def _prompts(content: Mapping[str, bytes], unreadable: dict[str, str]) -> tuple[str, ...]:
    if "prompts.json" not in content:
        return ()
    try:
        found = orjson.loads(content["prompts.json"])
    except ValueError as error:
        unreadable["prompts.json"] = f"it is not JSON: {error}"
        return ()
    given = found.get("prompts") if isinstance(found, dict) else found
    if not isinstance(given, list) or not all(isinstance(one, str) for one in given):
        unreadable["prompts.json"] = "it is no list of texts"
        return ()
    return tuple(given)


def _rewards(content: Mapping[str, bytes], result: Json, unreadable: dict[str, str]) -> Mapping[str, float] | None:
    """What the verifier gave: in the result, else in the verifier's own files, else in the reward events."""
    given = result.get("rewards")
    if isinstance(given, dict):
        return _numbers(given)
    if "verifier/reward.json" in content:
        return _numbers(_object(content, "verifier/reward.json", unreadable)) or None
    if "verifier/reward.txt" in content:
        try:
            return {"reward": float(content["verifier/reward.txt"].decode("ascii", "replace"))}
        except ValueError:
            unreadable["verifier/reward.txt"] = "it is no number"
    return _events(content.get("rewards.jsonl", b""))


def _events(content: bytes) -> Mapping[str, float] | None:
    found: dict[str, float] = {}
    for line in content.splitlines():
        event, _ = object_of(line) if line.strip() else (None, "")
        value = _number(event.get("value")) if event else None
        if event and value is not None and event.get("type") == "terminal":
            found[str(event.get("tag") or "reward")] = value
    return found or None


def _numbers(given: Json) -> dict[str, float]:
    return {str(name): number for name, value in given.items() if (number := _number(value)) is not None}
