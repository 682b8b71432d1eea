"""`onward continue`: what is given becomes terms and settings; what came of it is said, both scores last."""

from __future__ import annotations

import json
from dataclasses import asdict

from onward import continuing
from onward.cli import outcome as outcomes
from onward.cli.benchflow import export_folders
from onward.cli.display import Board
from onward.cli.events import Lines
from onward.cli.running import Given, settings_of, spoken
from onward.cli.voice import Voice
from onward.errors import UsageError
from onward.report import count
from onward.report.prospects import prospects_page
from onward.views.prospects import Prospect

__all__ = ["carry_on"]


@spoken
def carry_on(voice: Voice, given: Given, board: Board | Lines) -> int:
    """`onward continue`."""
    stated = given["on_divergence"]
    if given["strict_divergence"] and stated not in (None, "strict"):
        raise UsageError(f"--strict-divergence and --on-divergence {stated} exclude each other")
    address = given["address"]
    for flag in ("tasks_dir", "output", "agent_version"):
        if given[flag] and not continuing.is_recording(address):
            raise UsageError(f"--{flag.replace('_', '-')} is about a run folder of BenchFlow's, which {address} is not")
    terms = continuing.Terms(
        tasks_dir=given["tasks_dir"], model=given["model"] or "", timeout=given["timeout"],
        on_divergence="strict" if given["strict_divergence"] else stated or "", replay_only=given["replay_only"],
        require_timeout=given["require_timeout"], accept_mismatch=given["accept_mismatch"],
        version=given["agent_version"] or "",
    )  # fmt: skip
    settings = settings_of(given)
    if given["plan"]:
        return _planned(continuing.prospects(address, settings, terms), given, voice, address)
    found, written = continuing.carry_on(address, settings, board, terms), None
    for line in found.scores:
        board.say(line)
    if found.again:
        name = found.ending.folder.name
        board.say(f"{count(len(found.again), 'trial')} at the limit again: onward continue {name} gives more time")
    if found.recording is not None and found.ending.done == found.ending.total:
        written = continuing.folder_for(found, given["output"])
        made = str(found.ending.folder.resolve())
        export_folders(settings.store, made, written, settings.keys, force=True, say=board.say)
    outcome = outcomes.of(found.ending, None, given["threshold"])
    board.over(outcome)
    if given["json"]:
        told = {"scores": list(found.scores), "again": list(found.again), "written": str(written) if written else None}
        print(json.dumps({**outcome.to_json(), **told}, ensure_ascii=False, indent=2))
    return outcome.code


def _planned(found: list[Prospect], given: Given, voice: Voice, address: str) -> int:
    alone = continuing.is_recording(address)
    if given["json"] or voice.json:
        print(json.dumps([asdict(one) for one in found], ensure_ascii=False, indent=2))
    else:
        print(prospects_page(found, "recording" if alone else "timeout", alone=alone))
    return 0
