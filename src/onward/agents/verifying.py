"""What a task's own verifier makes of the work, and the task's own solution: their files, put afresh, and commands.

An agent has had the whole sandbox for as long as it liked. So where tests stand and rewards are written, nothing is
believed: each place is cleared, without following what was left there, before the verifier's files are put. What goes
wrong here is an error of ours, to be done again, and never a score.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from onward.agents.workplace import write_out
from onward.episode import Episode, Folder, Verifier
from onward.errors import OnwardError, StepFailed, StepOwed
from onward.fingerprint import canonical
from onward.sandbox import Ran, Sandbox, SandboxFailed, scratch

__all__ = ["Solution", "Verdict", "lay_out_solution", "verify"]

Blob = Callable[[str], bytes]

LOGS = "/logs/verifier"
_MOST = 256 << 20
_MOST_REWARD = 1 << 20
_MOST_CTRF = 1 << 20
_SAID = 4000
_NAMED = 10
_ELSEWHERE = {"/verifier": "/tests", "/oracle": "/solution"}
"""BenchFlow's folders have Harbor's names too: scripts were written for either."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the work is worth."""

    reward: float
    rewards: Mapping[str, float]
    """All that the verifier gave, by name; where it gave one, it is called `reward`."""
    code: int = 0
    said: str = ""
    """The end of what the verifier said."""
    ctrf: Any = None
    """Its report of tests (`ctrf.json`), where it wrote one that can be read."""

    @property
    def note(self) -> str:
        """Which tests failed, in a line; empty where no report says so."""
        tests = _tests(self.ctrf)
        failed = [str(one.get("name", "?"))[:100] for one in tests if one.get("status") == "failed"]
        if not failed:
            return ""
        more = f" and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
        return f"{len(failed)} of {len(tests)} tests failed: {', '.join(failed[:_NAMED])}{more}"

    def to_json(self) -> dict[str, Any]:
        """The form in which it is journalled: without what is empty."""
        form = {"reward": self.reward, "rewards": dict(self.rewards), "code": self.code, "said": self.said}
        if self.ctrf is not None:
            form["ctrf"] = self.ctrf
        return form


@dataclass(frozen=True, slots=True)
class Solution:
    """How the oracle is started, when its files are there."""

    command: str
    env: Mapping[str, str] = field(default_factory=dict)


def _tests(ctrf: Any) -> list[Mapping[str, Any]]:
    results = ctrf.get("results") if isinstance(ctrf, Mapping) else None
    tests = results.get("tests") if isinstance(results, Mapping) else None
    return [one for one in tests if isinstance(one, Mapping)] if isinstance(tests, list) else []


# ---------------------------------------------------------------- files


async def lay_out_solution(sandbox: Sandbox, episode: Episode, blob: Blob) -> Solution:
    """Put the task's solution there. Raises StepFailed for a task that has none."""
    folder = episode.folder
    if folder is None or not folder.solution:
        raise StepFailed("this task has no solution: solution/solve.sh (or oracle/solve.sh)", kind="NoSolution")
    await _lay_out(sandbox, episode, blob, folder.solution_prefix, folder.solution_target)
    return Solution(folder.solution, folder.solution_env)


async def _lay_out(sandbox: Sandbox, episode: Episode, blob: Blob, prefix: str, target: str) -> None:
    """Put the task's files below `prefix` at `target`, and nothing else that is there."""
    with scratch() as folder:
        place = folder / "files"  # the folder itself is for us alone, and its mode would come along
        place.mkdir()
        await asyncio.to_thread(write_out, episode, blob, prefix, place)
        for inside in [target, *filter(None, [_ELSEWHERE.get(target)])]:
            await sandbox.clear(inside)
            await sandbox.put(place, inside)


# ---------------------------------------------------------------- the verdict


async def verify(sandbox: Sandbox, episode: Episode, blob: Blob) -> Verdict:
    """Judge the work as it stands. The agent, and all that it started, has ended.

    Raises StepOwed that says what to do, where the verifier gives no reward; SandboxFailed.
    """
    folder = episode.folder
    assert folder is not None and folder.verifier is not None
    verifier = folder.verifier
    await _lay_out(sandbox, episode, blob, verifier.prefix, verifier.target)
    await sandbox.clear(LOGS)
    ran = await sandbox.run(
        verifier.command, timeout=verifier.seconds, env=verifier.env, cwd=sandbox.workdir, sweep=True
    )
    if ran.killed == "gone":
        raise SandboxFailed("the sandbox ended under the verifier")
    case = _Case(folder, verifier, ran)
    if ran.timed_out:
        case.wrong(f"did not end within its {verifier.seconds:g} s: raise verifier.timeout_sec in the task")
    with scratch() as place:
        out = place / "verifier"
        try:
            await sandbox.get(LOGS, out, most=_MOST)
        except SandboxFailed as error:
            case.wrong(f"left something at {LOGS} that cannot be read: {error}")
        return await asyncio.to_thread(case.verdict, out)


@dataclass(frozen=True, slots=True)
class _Case:
    """A verifier that has ended."""

    folder: Folder
    verifier: Verifier
    ran: Ran

    @property
    def said(self) -> str:
        """The end of what it said, as text that a journal can hold."""
        both = "\n".join(part for part in (self.ran.out.strip(), self.ran.err.strip()) if part)
        return both[-_SAID:].replace("\0", "\ufffd")

    def wrong(self, what: str) -> NoReturn:
        """Raise it, with what there is to go by."""
        hint = (
            ""
            if self.folder.environment.network
            else ' It had no network: network_mode = "public" in the task gives one.'
        )
        said = f" It said: {self.said[-1000:]}" if self.said else " It said nothing."
        raise StepOwed(f"the task's verifier ({self.verifier.command}) {what}.{said}{hint}", kind="VerifierFailed")

    def verdict(self, out: Path) -> Verdict:
        """What the files that it left say."""
        as_json, as_text = self._file(out / "reward.json"), self._file(out / "reward.txt")
        if as_json is None and as_text is None:
            ended = f"was killed ({self.ran.killed})" if self.ran.killed else f"ended with exit code {self.ran.code}"
            self.wrong(f"{ended} and left neither {LOGS}/reward.txt nor reward.json, one of which it must write")
        rewards = self._text(as_text) if as_json is None else self._json(as_json)
        reward = rewards["reward"] if "reward" in rewards else sum(rewards.values()) / len(rewards)
        least, most = self.verifier.least, self.verifier.most
        if least is not None and most is not None and not least <= reward <= most:
            self.wrong(f"gave the reward {reward:g}, outside the task's reward_range [{least:g}, {most:g}]")
        return Verdict(reward, rewards, self.ran.code, self.said, _ctrf(out / "ctrf.json"))

    def _file(self, path: Path) -> str | None:
        if not path.is_file() or path.is_symlink():
            return None
        if path.stat().st_size > _MOST_REWARD:
            self.wrong(f"wrote a {path.name} of more than {_MOST_REWARD >> 20} MB")
        return path.read_text(encoding="utf-8", errors="replace").strip()

    def _text(self, said: str | None) -> dict[str, float]:
        try:
            value = float(said or "")
        except ValueError:
            self.wrong(f"wrote {(said or '')[:100]!r} to reward.txt, which is no number")
        return {"reward": self._finite("reward.txt", value)}

    def _json(self, said: str) -> dict[str, float]:
        try:
            found = json.loads(said)
        except (ValueError, RecursionError) as error:
            self.wrong(f"wrote a reward.json that is not JSON: {error}")
        if isinstance(found, int | float):
            return {"reward": self._finite("reward.json", found)}
        if not isinstance(found, dict) or not found:
            self.wrong("wrote a reward.json that is neither a number nor an object of numbers")
        numbers = {name: value for name, value in found.items() if isinstance(value, int | float)}
        others = [name for name in found if name not in numbers]
        if others and "reward" not in numbers:
            self.wrong(f"wrote a reward.json whose {others[0]!r} is no number, and that has no `reward`")
        return {name: self._finite(f"reward.json: {name}", value) for name, value in numbers.items()}

    def _finite(self, where: str, value: float) -> float:
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            self.wrong(f"wrote {number} to {where}, which is no reward")
        return number


def _ctrf(path: Path) -> Any:
    """The report, if it is one that a journal can hold: it is an explanation, and no reason to fail."""
    try:
        if path.is_symlink() or path.stat().st_size > _MOST_CTRF:
            return None
        report = json.loads(path.read_text(encoding="utf-8"))
        canonical(report)
    except (OSError, ValueError, RecursionError, OnwardError):
        return None
    return report
