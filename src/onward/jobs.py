"""A folder with run folders of BenchFlow's in it, a job's say: all that timed out are continued, each as if it were
named itself, one after the other.

Each is a run of its own, as it is when it is named alone: they differ in task, agent and model, and what one came to
must not depend on who lay beside it. So the same command again finds what is done, and goes on with what was cut off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from onward import continuing
from onward.amounts import money
from onward.config import Settings
from onward.continuations import Earlier, continuations
from onward.continuing import Continued, Terms, is_recording
from onward.errors import NotThere, OnwardError, UsageError
from onward.formats.benchflow import find_folders
from onward.formats.benchflow.rows import object_of
from onward.progress import Watch
from onward.runs import JOURNAL, open_run
from onward.views.continued import BothScores, continuation, together
from onward.views.prospects import Prospect

__all__ = ["Member", "Went", "carry_on", "is_job", "less", "members", "scores"]

_CONTINUED = "__continued"


@dataclass(frozen=True, slots=True)
class Member:
    """One of its run folders, and what continuing it would come to. It is named by its place in the job."""

    folder: Path
    prospect: Prospect
    refused: bool = False
    """Whether it timed out, and is left out because it cannot go on here as things are."""


@dataclass(frozen=True, slots=True)
class Went:
    """What became of one of them: it was continued, or something stood in the way."""

    member: Member
    found: Continued | None
    refused: str = ""


def is_job(address: str) -> bool:
    """Whether this is a folder with run folders somewhere in it."""
    root = Path(address)
    if not root.is_dir() or is_recording(address) or (root / JOURNAL).exists():
        return False
    return next(_folders(root), None) is not None


def _folders(root: Path) -> Iterator[Path]:
    """All run folders, by path; of one whose host died while it was set up there is its `config.json` alone."""
    whole = set(find_folders(root))
    for path in sorted(root.rglob("config.json")):
        folder = path.parent
        if folder in whole or (not whole.intersection(folder.parents) and _is_begun(folder)):
            yield folder


def _is_begun(folder: Path) -> bool:
    config, _ = object_of((folder / "config.json").read_bytes())
    return config is not None and {"agent", "task_path"} <= set(config)


def members(address: str, settings: Settings, terms: Terms) -> list[Member]:
    """All of them; needs neither agent nor key. Those that did not time out, or cannot go on here, are left out."""
    root, terms = Path(address), replace(terms, require_timeout=True)
    folders = list(_folders(root))
    names = {folder.name for folder in folders}
    with ExitStack() as stack:
        every = continuations(settings.store, stack)
        return [_member(folder, root, names, settings, terms, every) for folder in folders]


def _member(
    folder: Path, root: Path, names: set[str], settings: Settings, terms: Terms, every: Sequence[Earlier]
) -> Member:  # fmt: skip
    name, original = folder.relative_to(root).as_posix(), folder.name.removesuffix(_CONTINUED)
    if original != folder.name and original in names:
        return Member(folder, Prospect(name, f"it is what {original} was continued to"))
    try:
        found = replace(continuing.of_folder(folder, settings, terms, every), name=name)
    except UsageError as error:
        return Member(folder, Prospect(name, str(error)))
    refused = ("not here",) if terms.accept_mismatch else ("not here", "mismatch")
    against = next((one.what for one in found.findings if one.kind in refused), "")
    if found.left_out or not against:
        return Member(folder, found)
    return Member(folder, replace(found, left_out=against, earlier=""), refused=True)


def carry_on(
    every: Sequence[Member], settings: Settings, watch: Watch, terms: Terms, output: Path | None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Iterator[Went]:  # fmt: skip
    """Continue those that are not left out, one after the other. What one of them is refused for holds up no other;
    what stops a run (Ctrl-C, a refused key, the budget) stops here too, but not a strict policy. `interrupted`: whether
    a Ctrl-C came while what became of one was told.

    A budget is that of all of them over all invocations.
    """
    todo = [one for one in every if not one.prospect.left_out or _is_unwritten(one, settings, output)]
    spent = {one.folder: _spent(settings.store / one.prospect.earlier) for one in every if one.prospect.earlier}
    stopped = ""
    for number, one in enumerate(todo, 1):
        stopped = stopped or ("Ctrl-C" if interrupted() else "")
        if stopped:
            yield Went(one, None, f"not begun: {stopped}")
            continue
        watch.say(f"{number} of {len(todo)}: {one.prospect.name}")
        others = [sums for folder, sums in spent.items() if folder != one.folder]
        try:
            within = less(settings, sum(usd for usd, _ in others), sum(tokens for _, tokens in others))
            found = continuing.carry_on(str(one.folder), within, watch, replace(terms, require_timeout=True))
        except OnwardError as error:
            yield Went(one, None, str(error))
            continue
        spent[one.folder] = _spent(found.ending.folder)
        stopped = (found.ending.stopped or "") if terms.on_divergence != "strict" else ""
        yield Went(one, found)


def _is_unwritten(one: Member, settings: Settings, output: Path | None) -> bool:
    """Whether it is continued, but was killed before its folder was there."""
    earlier = one.prospect.earlier
    return bool(earlier) and not continuing.folder_for(settings.store / earlier, one.folder, output).exists()


def _spent(run: Path) -> tuple[float, int]:
    """USD and tokens, with what is in doubt."""
    opened = open_run(run)
    try:
        sums = opened.journal.sums()
    finally:
        opened.close()
    return sums.spent[0] + sums.doubt[0], sums.spent[1] + sums.doubt[1]


def less(settings: Settings, usd: float, tokens: int) -> Settings:
    """With what the others have left of a budget. Raises UsageError where that is nothing."""
    limits = dict(settings.flags.limits)
    for name, used, told in (("budget_usd", usd, money(usd)), ("budget_tokens", tokens, f"{tokens:,} tokens")):
        stated = limits.get(name)
        if stated is None:
            continue
        if used >= stated:
            raise UsageError(f"the budget is used up: the others have spent {told}")
        limits[name] = stated - used
    return settings.having(limits=limits)


def scores(every: Sequence[Member], gone: Sequence[Went], store: Path) -> list[BothScores]:
    """Both scores over all that were continued, now or before. Raises NotThere where there was nobody to continue."""
    runs = {one.folder: store / one.prospect.earlier for one in every if one.prospect.earlier}
    runs |= {one.member.folder: one.found.ending.folder for one in gone if one.found is not None}
    if not runs and not gone and not any(one.refused for one in every):
        raise NotThere("no run folder there timed out: there is nothing to continue")
    return together(_continued(runs))


def _continued(runs: Mapping[Path, Path]) -> Iterator[tuple[str, list[BothScores]]]:
    for folder, place in runs.items():
        run = open_run(place)
        try:
            found = continuation(run)
        finally:
            run.close()
        if found is not None:
            yield str(folder), found.scores
