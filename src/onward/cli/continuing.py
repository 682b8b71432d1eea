"""`onward continue`: what is given becomes terms and settings; what came of it is said, both scores last."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from onward import continuing, jobs
from onward.amounts import count
from onward.cli import outcome as outcomes
from onward.cli.benchflow import export_folders
from onward.cli.display import Board
from onward.cli.events import Lines
from onward.cli.outcome import Outcome
from onward.cli.running import Given, settings_of, spoken, unhurried
from onward.cli.voice import Voice
from onward.config import Settings
from onward.continuing import Continued, Terms
from onward.errors import UsageError
from onward.jobs import Member, Went
from onward.report.continued import both_scores
from onward.report.prospects import left_out_lines, prospects_page
from onward.views.prospects import Prospect

__all__ = ["carry_on"]


@spoken
def carry_on(voice: Voice, given: Given, board: Board | Lines) -> int:
    """`onward continue`."""
    stated = given["on_divergence"]
    if given["strict_divergence"] and stated not in (None, "strict"):
        raise UsageError(f"--strict-divergence and --on-divergence {stated} exclude each other")
    address = given["address"]
    several = jobs.is_job(address)
    for flag in ("tasks_dir", "output", "agent_version"):
        if given[flag] and not several and not continuing.is_recording(address):
            raise UsageError(f"--{flag.replace('_', '-')} is about a run folder of BenchFlow's, which {address} is not")
    terms = continuing.Terms(
        tasks_dir=given["tasks_dir"], model=given["model"] or "", timeout=given["timeout"],
        on_divergence="strict" if given["strict_divergence"] else stated or "", replay_only=given["replay_only"],
        require_timeout=given["require_timeout"], accept_mismatch=given["accept_mismatch"],
        version=given["agent_version"] or "",
    )  # fmt: skip
    settings = settings_of(given)
    if several:
        return _every(voice, given, board, settings, terms)
    if given["plan"]:
        alone = continuing.is_recording(address)
        return _planned(continuing.prospects(address, settings, terms), given, voice, alone=alone)
    found = continuing.carry_on(address, settings, board, terms)
    with unhurried():
        outcome, form = _told(found, given, board, settings)
        if given["json"]:
            print(json.dumps(form, ensure_ascii=False, indent=2))
    return outcome.code


def _told(found: Continued, given: Given, board: Board | Lines, settings: Settings) -> tuple[Outcome, dict[str, Any]]:
    """Say what came of it, and write what goes on from a folder as a folder again."""
    written = None
    for line in found.scores:
        board.say(line)
    if found.again:
        name = found.ending.folder.name
        board.say(f"{count(len(found.again), 'trial')} at the limit again: onward continue {name} gives more time")
    if found.recording is not None and found.ending.done == found.ending.total:
        written = continuing.folder_for(found.ending.folder, found.recording.folder, given["output"])
        made = str(found.ending.folder.resolve())
        export_folders(settings.store, made, written, settings.keys, force=True, say=board.say)
    outcome = outcomes.of(found.ending, None, given["threshold"])
    board.over(outcome)
    told = {"scores": list(found.scores), "again": list(found.again), "written": str(written) if written else None}
    return outcome, {**outcome.to_json(), **told}


def _planned(found: list[Prospect], given: Given, voice: Voice, *, alone: bool) -> int:
    if given["json"] or voice.json:
        print(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=2))
    else:
        print(prospects_page(found, "recording" if alone else "timeout", alone=alone))
    return 0


# ---------------------------------------------------------------- all run folders of a job


def _every(voice: Voice, given: Given, board: Board | Lines, settings: Settings, terms: Terms) -> int:
    """All that timed out below a folder; 3 while one of them has not come to its end."""
    if given["threshold"] is not None:
        raise UsageError("--threshold is about one run, and each folder is continued in a run of its own")
    every = jobs.members(given["address"], settings, terms)
    prospects = [one.prospect for one in every]
    if given["plan"]:
        return _planned(prospects, given, voice, alone=False)
    for line in left_out_lines(prospects):
        board.say(line)
    gone, forms, late = list[Went](), list[dict[str, Any]](), list[int]()
    for one in jobs.carry_on(every, settings, board, terms, given["output"], lambda: bool(late)):
        gone.append(one)
        if one.found is not None:
            with unhurried() as late:
                forms.append({"folder": one.member.prospect.name, **_told(one.found, given, board, settings)[1]})
    scores = list(both_scores(jobs.scores(every, gone, settings.store), replay_only=terms.replay_only))
    with unhurried():
        return _told_of_all(given, board, every, gone, forms, scores)


def _told_of_all(
    given: Given, board: Board | Lines, every: list[Member], gone: list[Went], forms: list[dict[str, Any]],
    scores: list[str],
) -> int:  # fmt: skip
    """What came of all together."""
    for went in gone:
        if went.found is None:
            board.say(f"not continued: {went.member.prospect.name}: {went.refused}")
    wanted = [one for one in every if one.refused or one.prospect.earlier or not one.prospect.left_out]
    owed = sum(one.refused for one in every) + sum(one.found is None or one.found.ending.code != 0 for one in gone)
    board.say(f"{len(wanted) - owed:,} of {count(len(wanted), 'timeout')} continued to an end")
    for line in scores:
        board.say(line)
    if given["json"]:
        left = {one.prospect.name: one.prospect.left_out for one in every if one.prospect.left_out}
        left |= {one.member.prospect.name: one.refused for one in gone if one.found is None}
        print(json.dumps({"continued": forms, "left_out": left, "scores": scores}, ensure_ascii=False, indent=2))
    return 3 if owed else 0
