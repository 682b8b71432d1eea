"""What is the matter with a recording, as data: what was found, where, and what is done about it or can be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from onward.formats.benchflow.recording import LLM, Recording
from onward.formats.benchflow.rows import Row
from onward.formats.benchflow.standing import Exchange, Standing, inversions, ties
from onward.views.prospects import Finding, Gravity

__all__ = ["findings"]

_DROPPED: dict[Standing, tuple[str, Gravity, str, str]] = {
    "unparsable": (
        "unreadable line", "loss", "cannot be read",
        "left out; the others keep their places, since they are found by content",
    ),
    "in flight": (
        "in flight", "note", "came to no answer", "asked again: an exchange without an answer is never served",
    ),
    "late": (
        "late answer", "note", "came after the agent had asked again, and the other answer was used",
        "left out: the agent never went by it",
    ),
    "tail error": (
        "error at the tail", "note", "was refused, and nothing was answered after it",
        "left out: it is what the run ended with, and the model is asked again there",
    ),
}  # fmt: skip


def findings(recording: Recording) -> list[Finding]:
    """All of them, gravest first."""
    order = ("damage", "loss", "note")
    found = [*_files(recording), *_order(recording), *_standings(recording), *_bodies(recording), *_lanes(recording)]
    return sorted(found, key=lambda one: order.index(one.gravity))


def _lines(exchanges: Iterable[Exchange]) -> tuple[int, ...]:
    return tuple(sorted(one.row.line for one in exchanges))


def _files(recording: Recording) -> Iterator[Finding]:
    for name in recording.missing:
        then = {
            "result.json": "the run was cut before its end: how it ended, its reward and its cost are not known",
            "prompts.json": "the task's own instruction is used",
            "timing.json": "how long the agent worked is taken from the trajectory",
            "config.json": "its time limit and settings are not known: say --timeout",
            LLM: "nothing was recorded of the model's answers, so nothing can be served again",
        }[name]
        yield Finding("missing file", "loss", f"{name} is not there", then)
    for name, why in recording.unreadable.items():
        yield Finding("unreadable file", "loss", f"{name}: {why}", "taken as if it were not there")
    if LLM in recording.content and not recording.rows:
        then = "nothing can be served again: the agent logged in by itself, or never asked"
        yield Finding("no exchanges", "loss", f"{LLM} is empty", then)


def _order(recording: Recording) -> Iterator[Finding]:
    crossed = inversions(recording.rows)
    if crossed:
        pairs = ", ".join(f"{one.line} and {two.line}" for one, two in crossed)
        what = f"{_pairs(len(crossed))} of neighbours stand in the order in which they were answered: lines {pairs}"
        then = "put in the order in which they were asked"
        yield Finding("out of order", "note", what, then, tuple(row.line for pair in crossed for row in pair))
    for equal in ties(recording.rows):
        what = f"lines {_listed(row.line for row in equal)} were asked at the same moment"
        then = "kept in the file's order; they are found by content, so it does not matter which is first"
        yield Finding("equal times", "note", what, then, tuple(row.line for row in equal))
    timeless = [row for row in recording.rows if not row.trouble and row.asked is None]
    if timeless:
        what = f"lines {_listed(row.line for row in timeless)} do not say when they were asked"
        yield Finding("no time", "note", what, "kept behind the line before", tuple(row.line for row in timeless))


def _pairs(number: int) -> str:
    return "one pair" if number == 1 else f"{number} pairs"


def _standings(recording: Recording) -> Iterator[Finding]:
    by_standing = sorted(recording.exchanges, key=lambda one: one.standing)
    for standing, group in groupby(by_standing, key=lambda one: one.standing):
        for one in group:
            line = (one.row.line,)
            if standing in _DROPPED:
                kind, gravity, what, then = _DROPPED[standing]
                why = one.row.trouble or one.row.refusal
                yield Finding(kind, gravity, f"line {line[0]} {what}{f': {_short(why)}' if why else ''}", then, line)
            elif standing == "error":
                yield _error(one.row)
            elif standing == "unseen":
                then = "served, but the agent may have rewritten its history or never have had it"
                yield Finding("unseen answer", "note", f"the answer of line {line[0]} is in no later request", then,
                              line)  # fmt: skip


def _error(row: Row) -> Finding:
    what = f"line {row.line} was refused with status {row.status}: {_short(row.refusal)}"
    then = "served again as it was: the agent went on after it"
    if row.said_status and row.said_status != row.status:
        what += f" (the text says {row.said_status}; the recorded status is a guess)"
        then = f"served again with status {row.said_status}: the agent went on after it"
    return Finding("error in the middle", "note", what, then, (row.line,))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 160 else f"{line[:160]}…"


def _bodies(recording: Recording) -> Iterator[Finding]:
    known = [one for one in recording.exchanges if not one.row.trouble]
    partial = [one for one in known if one.served and not one.row.whole]
    if partial:
        what = f"{_of(partial, known)} hold a part of the request alone: model, messages, tools and a few more"
        then = "what was not recorded (temperature, limits, a system prompt of its own field) is not compared"
        yield Finding("partial request", "loss", what, then, _lines(partial))
    broken = [one for one in known if one.row.request_damage]
    if broken:
        excerpts = Counter(damage.excerpt for one in broken for damage in one.row.request_damage)
        what = f"{_of(broken, known)} hold text that was replaced as secret, in {len(excerpts)} places: "
        what += "; ".join(f"“{_short(text)}”" for text in list(excerpts)[:3])
        then = "an agent that asks with the true text there is still recognised"
        yield Finding("redacted request", "note", what, then, _lines(broken))
    yield from _answers([one for one in known if one.row.response_damage])


def _answers(broken: Sequence[Exchange]) -> Iterator[Finding]:
    for one in broken:
        for damage in one.row.response_damage:
            calls = "tool_calls" in damage.path
            where = "what a tool was told to do" if calls else "what the model said"
            shown = _short(damage.excerpt)
            what = f"line {one.row.line}: text was replaced as secret in {where}, at {damage.path}: “{shown}”"
            then = "it is served so: the tool does something that the model never asked for" if calls else "served so"
            yield Finding("redacted answer", "damage" if calls else "note", what, then, (one.row.line,))


def _of(some: Sequence[Exchange], every: Sequence[Exchange]) -> str:
    if len(some) == len(every):
        return f"all {len(every)} lines" if len(every) != 1 else "the one line there is"
    return f"{len(some)} of {len(every)} lines" if len(some) > 1 else f"line {some[0].row.line}"


def _listed(lines: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(lines)))


def _lanes(recording: Recording) -> Iterator[Finding]:
    side = [one for one in recording.exchanges if one.lane]
    if side:
        lanes, together = len({one.lane for one in side}), _together(side)
        what = f"{len(side)} exchanges in {lanes} conversations beside the main one"
        what += f", up to {together} of them at a time" if together > 1 else ""
        yield Finding("side calls", "note", what, "each is found by its own content", _lines(side))


def _together(exchanges: Sequence[Exchange]) -> int:
    """How many were under way at once, at the most."""
    ends: list[tuple[float, int]] = []
    for one in exchanges:
        if one.row.asked is not None and one.row.answered is not None:
            ends += [(one.row.asked, 1), (one.row.answered, -1)]
    most = now = 0
    for _, change in sorted(ends):
        now += change
        most = max(most, now)
    return most
