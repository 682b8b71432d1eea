"""`continue`: timed-out trials go on from where their record ends, as if their limit had been larger.

A derivation (SEMANTICS §4): of the trials that are continued the recorded exchanges are taken over, of all others
everything, so that the derived run is a complete result. The parent keeps its own scores beside the new ones.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from onward import launch, views
from onward.amounts import moment
from onward.choice import derive_continuation
from onward.config import Settings
from onward.continuations import Earlier, Known, as_continuation, continuations, generation_of, original_of
from onward.drive import Ending, gateway_of
from onward.errors import Drifted, NotThere, UsageError
from onward.experiment import Assembled
from onward.formats.benchflow import Recording, prospect, read
from onward.keys import Key
from onward.originals import Original, adopted_before, found_here, is_recording, lacking
from onward.progress import Watch
from onward.report.continued import both_scores
from onward.runs import Run, open_run
from onward.views.continued import continuation
from onward.views.lineage import changes
from onward.views.prospects import Prospect, of_run

__all__ = ["Continued", "Terms", "carry_on", "folder_for", "is_recording", "of_folder", "prospects"]

_NAMED = 20
"""How many of those that are left out are named."""


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms it goes on. None of these is part of what was recorded."""

    tasks_dir: Path | None = None
    """Where the task of a recording is, which has only its name."""
    version: str = ""
    """Of a recording's agent, which seldom says it."""
    model: str = ""
    """`provider/name` for the live part; by default the original's."""
    timeout: float | None = None
    """Active seconds of its own; by default the original's. What is served is not charged."""
    on_divergence: str = ""
    """By default `warn`."""
    replay_only: bool = False
    """Stop where the record ends."""
    require_timeout: bool = False
    """Refuse what did not time out."""
    accept_mismatch: bool = False
    """Go on although agent, image or task are not the original's; it is marked."""

    @property
    def arguments(self) -> dict[str, Any]:
        """What of it makes it this derivation and no other."""
        stated = {"model": self.model, "timeout": self.timeout, "on_divergence": self.on_divergence}
        found: dict[str, Any] = {name: value for name, value in stated.items() if value}
        if found.get("on_divergence") == "warn":
            del found["on_divergence"]
        return {**found, "replay_only": True} if self.replay_only else found

    def over(self, run: Run) -> Terms:
        """The terms for this run: one that is a continuation itself is continued as it was, where nothing else is
        said; a model that is the recorded one is none of its own."""
        before = as_continuation(run)
        found = self
        if before is not None:
            inherited = before.arguments
            found = replace(
                self, model=self.model or inherited.get("model", ""), timeout=self.timeout or inherited.get("timeout"),
                on_divergence=self.on_divergence or inherited.get("on_divergence", ""),
            )  # fmt: skip
        recorded = {one.get("model") for one in run.config["spec"].get("solver") or []}
        return replace(found, model="") if recorded == {found.model} else found


@dataclass(frozen=True, slots=True)
class Continued:
    """What came of it."""

    ending: Ending
    scores: tuple[str, ...] = ()
    """`at the limit 41.2 %, continued 44.8 %`, a line for each solver and score."""
    again: tuple[str, ...] = ()
    """Trials that came to their limit once more."""
    recording: Recording | None = None


# ---------------------------------------------------------------- what would be done


def prospects(address: str, settings: Settings, terms: Terms) -> list[Prospect]:
    """What would be continued, and what is left out and why; needs neither agent nor key. Raises NotThere."""
    with ExitStack() as stack:
        if is_recording(address):
            return [of_folder(Path(address), settings, terms, continuations(settings.store, stack))]
        run, within = _opened(address, settings, stack)
        terms = terms.over(run)
        found = _looked_at(run, within, terms)
        known = Known(continuations(settings.store, stack), terms.arguments)
        return [_unless_done(one, known.furthest(run, one.name), terms, one.name) for one in found]


def of_folder(folder: Path, settings: Settings, terms: Terms, every: Sequence[Earlier]) -> Prospect:
    """Of a recording. `every`: the continuations that there are."""
    recording = read(folder)
    found = prospect(recording, timeout=terms.timeout, require_timeout=terms.require_timeout)
    more = lacking(recording, tasks_dir=terms.tasks_dir, version=terms.version)
    found = replace(found, findings=(*more, *found.findings))
    for run in adopted_before(recording, settings.store, tasks_dir=terms.tasks_dir, version=terms.version):
        try:
            own = terms.over(run)
            [trial] = (str(key) for _, _, key in _planned(run))
            found = _unless_done(found, Known(every, own.arguments).furthest(run, trial), own, trial)
        finally:
            run.close()
    return found


def _opened(address: str, settings: Settings, stack: ExitStack) -> tuple[Run, set[str] | None]:
    """The run, and the keys of the trials that are meant; None: all of them."""
    try:
        folder, rest = views.locate(settings.store, address)
    except UsageError:
        name, _, rest = address.partition("/")
        original = original_of(settings.store, name)
        if original is None:
            raise
        folder = original
    except NotThere:
        if Path(address).is_dir():
            lacks = "neither it nor a folder in it is a run folder of BenchFlow's, with a config.json"
            raise NotThere(f"{address} is a folder, but no run, and {lacks}") from None
        raise
    run = open_run(folder)
    stack.callback(run.close)
    return run, {str(key) for key in views.within(run, rest).trials} if rest else None


def _looked_at(run: Run, within: set[str] | None, terms: Terms) -> list[Prospect]:
    """Every trial that is meant. Who names a task means it, as long as its agent came to some end."""
    found = [one for one in of_run(run, timeout=terms.timeout) if within is None or one.name in within]
    if within is None or terms.require_timeout:
        return found
    return [replace(one, left_out="") if one.left_out and _came_to_an_end(run, one.name) else one for one in found]


def _came_to_an_end(run: Run, trial: str) -> bool:
    key = Key(trial)
    return key.names[0] in run.plan.shape.agents and views.trial(run, key).outcome in ("ok", "failed")


def _unless_done(one: Prospect, found: Earlier | None, terms: Terms, trial: str) -> Prospect:
    if one.left_out or found is None:
        return one
    reached = found.reached(trial)
    same = found.arguments == terms.arguments
    if reached == "open" or (reached == "limit" and not same):
        return replace(one, earlier=found.run.name if same else "")
    when = moment(found.run.facts["run"]["created"])
    words = f"already continued in {found.run.name} ({when}, 0 calls)"
    if reached == "limit":
        words += f", to its limit again: onward continue {found.run.name} gives it more time"
    return replace(one, left_out=words, earlier=found.run.name)


# ---------------------------------------------------------------- doing it


def carry_on(address: str, settings: Settings, watch: Watch, terms: Terms) -> Continued:
    """Continue all timed-out trials of a run, those of one task, or a recording.

    Raises NotThere where nothing is to be continued, Drifted where agent, image or task are not the original's.
    """
    original = _original(address, settings, watch, terms) if is_recording(address) else None
    with ExitStack() as stack:
        run, within = _opened(str(original.run) if original else address, settings, stack)
        terms = terms.over(run)
        assembled = launch.stored(run)
        cut = _cut_off(run, within, terms)
        if cut:
            _accept(_other_agent(run, assembled), terms, watch)
            watch.say(f"{run.name} is a continuation that was cut off: it goes on")
            folder, chosen = run.folder, set(cut)
        else:
            sought = _sought(run, within, terms, watch, alone=original is not None)
            chosen = set(sought)
            mismatches = list(original.mismatches) if original else _other_agent(run, assembled)
            _accept(mismatches, terms, watch)
            folder = _place(run, assembled, settings, watch, terms, sought, mismatches, stack)
    tasks = {Key(key).names[1] for key in chosen}
    ending = launch.go(folder, assembled, settings, watch, "continue", tasks.__contains__)
    return _told(ending, original)


def _original(address: str, settings: Settings, watch: Watch, terms: Terms) -> Original:
    recording = read(Path(address))
    wanted = prospect(recording, timeout=terms.timeout, require_timeout=terms.require_timeout)
    if wanted.left_out:
        raise NotThere(f"{wanted.name} is not continued: {wanted.left_out}")
    if not recording.timed_out:
        watch.say(f"{wanted.name} did not time out: it goes on all the same (--require-timeout refuses it)")
    for finding in wanted.findings:
        if finding.gravity == "damage":
            watch.say(f"damage: {finding.what}: {finding.then}")
    return found_here(recording, settings, watch, tasks_dir=terms.tasks_dir, version=terms.version)


def _cut_off(run: Run, within: set[str] | None, terms: Terms) -> list[str]:
    """The owed trials of a continuation that is named itself, with no other terms than its own."""
    found = as_continuation(run)
    if found is None or terms.arguments != found.arguments:
        return []
    return [one for one in found.unfinished if within is None or one in within]


def _sought(run: Run, within: set[str] | None, terms: Terms, watch: Watch, *, alone: bool) -> dict[str, int]:
    """The trials to continue with their generations; who is left out is named, with the reason."""
    if alone:
        agents = set(run.plan.shape.agents)
        return {str(key): generation_of(run, key) for _, _, key in _planned(run) if Key(key).names[0] in agents}
    found = _looked_at(run, within, terms)
    left = [one for one in found if one.left_out]
    for one in left[:_NAMED]:
        watch.say(f"left out: {one.name}: {one.left_out}")
    if len(left) > _NAMED:
        watch.say(f"left out: {len(left) - _NAMED:,} more (--plan names all)")
    if len(left) == len(found):
        raise NotThere(f"{run.name} has no timed-out trial to continue")
    return {str(one.name): generation_of(run, one.name) for one in found if not one.left_out}


def _planned(run: Run) -> Iterator[tuple[str, str, Key]]:
    for chunk in run.plan.chunks:
        yield from run.plan.trial_keys(chunk)


def _other_agent(run: Run, assembled: Assembled) -> list[str]:
    """What of the experiment is no longer what was recorded: agents and images as they are on this machine."""
    recorded = run.facts["identity"]
    return changes(recorded, {**assembled.identity, "tasks": recorded["tasks"]})


def _accept(mismatches: list[str], terms: Terms, watch: Watch) -> None:
    if mismatches and not terms.accept_mismatch:
        raise Drifted(
            f"{'; '.join(mismatches)}: what is done again would not be what was done. --accept-mismatch goes on all "
            "the same, and marks the result"
        )
    for one in mismatches:
        watch.say(f"not what was recorded: {one}")


def _place(
    run: Run, assembled: Assembled, settings: Settings, watch: Watch, terms: Terms, sought: Mapping[str, int],
    mismatches: list[str], stack: ExitStack,
) -> Path:  # fmt: skip
    """The run in which these trials go on: an earlier one of the very same terms, or one that begins where all earlier
    ones ended."""
    known = Known(continuations(settings.store, stack), terms.arguments)
    standing = [one for one in known.of(run) if one.holds(sought)]
    for one in standing:
        if one.arguments == terms.arguments:
            _say_known(one, sought, watch)
            return one.run.folder
    furthest, again = dict[str, Run](), set[str]()
    for key in sought:
        found = known.furthest(run, key)
        furthest[key] = found.run if found else run
        if found is None or found.reached(key) != "done":
            again.add(key)
    if not again and standing:
        _say_known(standing[0], sought, watch)
        return standing[0].run.folder
    if not terms.replay_only:
        _check_askable(assembled, settings, terms.model)
    derivation = {"verb": "continue", "trials": dict(sorted(sought.items())), **terms.arguments}
    if mismatches:
        derivation["mismatches"] = mismatches
    return launch.wait(derive_continuation(run, assembled, settings, watch, derivation, furthest, again))


def _check_askable(assembled: Assembled, settings: Settings, live: str) -> None:
    """Raise UsageError where the live part could not be had, before minutes are spent on being served."""
    gateway = gateway_of(assembled, settings)
    for model in {live} if live else {one.model for one in assembled.spec.solvers if one.agent and one.model}:
        gateway.prepare(model, [{"role": "user", "content": ""}], {})


def _say_known(found: Earlier, sought: Mapping[str, int], watch: Watch) -> None:
    done = [one for one in sought if found.reached(one) != "open"]
    if done:
        some = f"{done[0]} is" if len(done) == 1 else f"{len(done):,} of {len(sought):,} are"
        when = moment(found.run.facts["run"]["created"])
        watch.say(f"{some} already continued in {found.run.name} ({when}, 0 calls)")


# ---------------------------------------------------------------- what came of it


def _told(ending: Ending, original: Original | None) -> Continued:
    run = open_run(ending.folder)
    try:
        found = continuation(run)
    finally:
        run.close()
    recording = original.recording if original else None
    if found is None:
        return Continued(ending, recording=recording)
    again = () if found.replay_only else found.again
    return Continued(ending, tuple(both_scores(found.scores, replay_only=found.replay_only)), again, recording)


def folder_for(continuation: Path, original: Path, output: Path | None) -> Path:
    """Where the continuation of a recording goes: `OUTPUT/TIME/NAME__continued`, the time being the derived run's, so
    that a continuation that is resumed is written where it was."""
    run = open_run(continuation)
    try:
        made = datetime.fromisoformat(run.facts["run"]["created"])
    finally:
        run.close()
    place, name = output or original.resolve().parent / "continued", original.resolve().name
    return place / made.strftime("%Y-%m-%d__%H-%M-%S") / f"{name}__continued"
