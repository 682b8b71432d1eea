"""The verbs that drive a run. Each turns what was given into a spec and settings, calls `launch`, says what came."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from rich.console import Console

from onward import config, launch, written
from onward.cli import outcome as outcomes
from onward.cli.checkpoint import Checkpoint
from onward.cli.display import Board
from onward.cli.events import Lines
from onward.cli.supervise import supervise
from onward.cli.voice import Voice, one_of
from onward.cli.words import count, joined, percent
from onward.config import Flags, Settings
from onward.drive import Ending
from onward.errors import SpecError, UsageError
from onward.functions import did_you_mean
from onward.plan import STAGES
from onward.progress import Watch
from onward.runs import find, open_run

__all__ = ["Given", "redo", "replay", "resume", "run", "settings_of", "spoken", "stop", "unhurried"]

Given = Mapping[str, Any]
Go = Callable[[Watch], Ending]
Verb = Callable[[Voice, Given, "Board | Lines"], int]
_LIMITS = ("concurrency", "budget_usd", "budget_tokens", "max_errors", "max_wait", "attempts", "time", "sandboxes")


# ---------------------------------------------------------------- verbs


def spoken(verb: Verb) -> Callable[[Voice, Given], int]:
    """Give a verb the board it speaks on; whatever ends it, the board has the last word."""

    @wraps(verb)
    def spoken(voice: Voice, given: Given) -> int:
        if voice.json and given.get("json"):
            raise UsageError("--json and --log-format json both write to standard output: choose one")
        board: Board | Lines = Lines(voice)
        if not voice.json:
            console = Console(stderr=bool(given["json"]), soft_wrap=True)
            board = Board(voice, console, stream=given["stream"], store=given["store"])
        try:
            return verb(voice, given, board)
        except BaseException as error:
            board.over(outcomes.failed(error))
            raise

    return spoken


@spoken
def run(voice: Voice, given: Given, board: Board | Lines) -> int:
    """`onward run`."""
    _refuse(given, "new", "resume", "parent")
    _refuse(given, "plan", "auto_resume")
    _refuse(given, "retry_errors", "what", "resume", "new", "parent", "limit", "model", "plan")
    for other in ("new", "resume"):
        if given["if_exists"] not in (None, "auto"):
            _refuse(given, "if_exists", other)
    if given["auto_resume"]:
        return supervise(voice.words, "run", given["auto_resume"])
    settings = settings_of(given)
    if given["retry_errors"]:
        return _driven(board, given, lambda watch: launch.retry_errors(given["retry_errors"], settings, watch))
    path = _file(given["what"])
    try:
        spec, folder = _experiment(given, path, settings)
        if given["plan"]:
            from onward.cli.planning import planned_run

            return planned_run(voice, given, spec, folder, settings)
        return _driven(board, given, lambda watch: launch.run(spec, folder, settings, watch), spec.threshold)
    except SpecError as error:
        raise (written.placed(error, path) if path else error) from None


@spoken
def resume(voice: Voice, given: Given, board: Board | Lines) -> int:
    """`onward resume`."""
    _refuse(given, "plan", "auto_resume", "rerun_failed")
    _refuse(given, "rerun_failed", "limit")
    if given["auto_resume"]:
        return supervise(voice.words, "resume", given["auto_resume"])
    settings, name = settings_of(given), given["name"]
    if given["plan"]:
        from onward.cli.planning import planned_resume

        return planned_resume(voice, given, name, settings)
    if given["rerun_failed"]:
        return _driven(board, given, lambda watch: launch.rerun_failed(name, settings, watch))
    only = _first_tasks(find(settings.store, name), given["limit"]) if name and given["limit"] else None
    if given["limit"] and not name:
        raise UsageError("--limit narrows a resume of the run that is named: onward resume RUN --limit N")
    return _driven(board, given, lambda watch: launch.resume(name, settings, watch, only=only))


def stop(_: Voice, given: Given) -> int:
    """`onward stop`."""
    said = launch.stop(given["name"], settings_of(given), now=given["now"])
    print(said)
    return 0


@spoken
def replay(_: Voice, given: Given, board: Board | Lines) -> int:
    """`onward replay`."""
    settings, path, stage = settings_of(given), given["spec"], one_of("--stage", given["stage"], STAGES[1:])
    spec, folder = written.load(path) if path else (None, Path())
    parent = find(settings.store, given["name"])

    def go(watch: Watch) -> Ending:
        return launch.replay(given["name"], stage, settings, watch, spec=spec, folder=folder)

    return _driven(board, given, go, after=lambda ending: _compared(ending, parent))


@spoken
def redo(_: Voice, given: Given, board: Board | Lines) -> int:
    """`onward redo`."""
    settings = settings_of(given)
    return _driven(board, given, lambda watch: launch.redo(given["address"], settings, watch))


def _compared(ending: Ending, parent: Path) -> list[str]:
    """Old against new: `165 re-scored, 0 calls, 41.2 → 44.8 %, 9 changed`, for each solver and score."""
    from onward.views import rescored

    now, before = open_run(ending.folder), open_run(parent)
    try:
        found = rescored(now, before if parent.resolve() != ending.folder.resolve() else None)
    finally:
        now.close()
        before.close()
    many = len({(one.solver, one.score) for one in found}) > 1
    return [
        joined((f"{one.solver} {one.score}:" if many else "",)) + " " * many
        + f"{one.n:,} re-scored, {count(one.calls, 'call')}, {percent(one.old).removesuffix(' %')} → "
        f"{percent(one.new)}, {one.changed:,} changed"
        for one in found
    ]  # fmt: skip


# ---------------------------------------------------------------- driving


def _driven(
    board: Board | Lines, given: Given, go: Go, threshold: float | None = None,
    after: Callable[[Ending], list[str]] | None = None,
) -> int:  # fmt: skip
    """Drive it, watched; say what came of it; give the exit code, the same however the run got there."""
    watch: Watch = board
    if given.get("checkpoint_file"):
        watch = Checkpoint(board, given["checkpoint_file"])
    stated = given["threshold"] if given["threshold"] is not None else threshold
    ending = go(watch)
    with unhurried():
        found = outcomes.of(ending, given.get("until_stage"), stated)
        for line in after(ending) if after else []:
            board.say(line)
        board.over(found)
        if given["json"]:
            print(json.dumps(found.to_json(), ensure_ascii=False, indent=2))
    return found.code


@contextmanager
def unhurried() -> Iterator[list[int]]:
    """The run is over: a Ctrl-C that comes late would cut its last words off, and hide how it ended. Those that came
    are in the list, for whoever was to go on with something else."""
    late = list[int]()
    before = signal.signal(signal.SIGINT, lambda number, _: late.append(number))
    try:
        yield late
    finally:
        signal.signal(signal.SIGINT, before)


def _first_tasks(folder: Path, limit: int) -> Callable[[str], bool]:
    opened = open_run(folder)
    ids = [task for _, task in zip(range(limit), opened.plan.task_ids(), strict=False)]
    opened.close()
    return set(ids).__contains__


# ---------------------------------------------------------------- what was given


def _refuse(given: Given, first: str, *others: str) -> None:
    """Raise UsageError where one option was given together with another that means the opposite."""
    for other in others:
        if given[first] and given[other]:
            names = [f"--{name.replace('_', '-')}" if name != "what" else "SPEC" for name in (first, other)]
            raise UsageError(f"{names[0]} and {names[1]} exclude each other")


def settings_of(given: Given) -> Settings:
    """One frozen value out of environment, `.env` and flags."""
    for flag, known in (
        ("if_exists", ("auto", "error", "rerun")),
        ("in_doubt", ("resend", "stop")),
        ("until_stage", STAGES),
        ("on_divergence", ("warn", "strict", "fork")),
        ("in_flight", ("resume", "restart")),
        ("sandbox", ("bubblewrap", "container", "process")),
    ):
        if given.get(flag) is not None:
            one_of(f"--{flag.replace('_', '-')}", given[flag], known)
    flags = Flags(
        limit=given.get("limit"), until=given.get("until_stage"), resume=bool(given.get("resume")),
        resume_from=given.get("resume_from"), max_new=given.get("max_new"), new=bool(given.get("new")),
        if_exists=given.get("if_exists") or "auto", parents=tuple(given.get("parent") or ()),
        take_over=bool(given.get("take_over")), in_doubt=given.get("in_doubt") or "resend",
        strict=bool(given.get("strict")), stream=bool(given.get("stream")),
        on_divergence=given.get("on_divergence"), restart=given.get("in_flight") == "restart",
        limits={name: given[name] for name in _LIMITS if given.get(name) is not None},
    )  # fmt: skip
    prices = {}
    for text in given.get("price") or ():
        model, equals, price = text.rpartition("=")
        if not equals or not model:
            raise UsageError(
                f"--price {text}: give it as MODEL=IN/OUT in USD per million tokens, such as my-model=0.5/1.5"
            )
        prices[model] = price
    return config.settings(store=given.get("store"), flags=flags, prices=prices)


def _file(what: str | None) -> Path | None:
    """The experiment file that is meant, or None for a benchmark. Raises UsageError for neither."""
    known = ", ".join(written.BENCHMARKS)
    if not what:
        raise UsageError(f"say what to run: an experiment file (onward init makes one), or a benchmark: {known}")
    path = Path(what)
    if path.is_dir():
        return None
    if path.suffix in (".yaml", ".yml", ".toml") or path.is_file():
        return path
    if what in written.BENCHMARKS:
        return None
    raise UsageError(f"there is no file {what} and no benchmark of that name.{did_you_mean(what, written.BENCHMARKS)}")


def _experiment(given: Given, path: Path | None, settings: Settings) -> tuple[Any, Path]:
    """The experiment, with what the command line says over it."""
    stated = {
        name: given[name] for name in ("name", "samples", "trials", "pass_mark", "threshold") if given[name] is not None
    }
    if given["model"]:
        stated["models"] = given["model"]
    if settings.prices:
        stated["prices"] = dict(settings.prices)  # a resume knows them too
    if given["agent"]:
        stated["agents"] = given["agent"]
    if given["sandbox"] or given["image"]:
        kind = given["sandbox"] or "container"
        stated["sandbox"] = {"kind": kind, **({"image": given["image"]} if given["image"] else {})}
    if given["split"]:
        stated["tasks"] = {"split": given["split"]}
    select = _select(given, settings)
    if select:
        stated["select"] = select
    if given["seed"] is not None and not given["random"]:
        stated["seed"] = given["seed"]
    if path is None and Path(given["what"]).is_dir():
        return written.folder(Path(given["what"]), stated)
    return written.load(path, stated) if path else written.benchmark(given["what"], stated)


def _select(given: Given, settings: Settings) -> dict[str, Any]:
    """The filters. Random draws are made of what they leave."""
    found: dict[str, Any] = {}
    for field, name in (("level", "level"), ("category", "category"), ("task_id", "task_id")):
        if given[field]:
            found[name] = list(given[field])
    pairs: dict[str, str] = {}
    for text in given["where"] or ():
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--where {text}: give it as KEY=VALUE")
        if pairs.setdefault(name, value) != value:
            raise UsageError(f"--where {name}={pairs[name]} and --where {text} exclude each other")
    if pairs:
        found["where"] = pairs
    if given["tasks_from"]:
        found["task_id"] = [*found.get("task_id", ()), *_wrong_of(given["tasks_from"], settings)]
    if given["random"]:
        stated = given["seed"] is not None
        seed = given["seed"] if stated else int.from_bytes(os.urandom(4), "big") >> 1
        found |= {"random": True, "draw": given["limit"] or 1, "seed": seed, "seed_stated": stated}
    return found


def _wrong_of(text: str, settings: Settings) -> list[str]:
    from onward.views import wrong

    kind, _, name = text.partition(":")
    if kind != "wrong" or not name:
        raise UsageError(f"--tasks-from {text}: give it as wrong:RUN")
    opened = open_run(find(settings.store, name))
    try:
        tasks = {entry.task for entry in wrong(opened)}
        found = [task for task in opened.plan.task_ids() if task in tasks]
    finally:
        opened.close()
    if not found:
        raise UsageError(f"--tasks-from {text}: nothing is wrong in {opened.name}")
    return found
