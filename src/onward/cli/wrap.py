"""`wrap`: any program, its model traffic through the gateway. Standard output is the program's; we speak on error."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from onward import wrapping
from onward.cli.running import settings_of
from onward.cli.voice import Voice, one_of
from onward.cli.words import count, moment, money
from onward.clock import SystemClock
from onward.errors import UsageError
from onward.gateway.normalisers import AGENTS, GENERIC, Rules, rules_for
from onward.wrapping import FORMATS, Child, Opening, Terms, Wrapped

__all__ = ["wrap"]

Given = Mapping[str, Any]
_POLICIES = ("warn", "strict", "fork")
_REGAINED = "To have them back stop it before its first answer, and give --resume"


def wrap(voice: Voice, given: Given) -> int:
    """`onward wrap`: the program's own exit code."""
    command = tuple(given["command"])
    if "--" not in voice.words:
        said = f"onward wrap [options] -- {shlex.join(command)}"
        raise UsageError(f"put -- before the command, so that its options stay its own: {said}")
    if voice.json:
        raise UsageError("standard output is the program's: --log-format json has no place to write to")
    if given["resume"] and given["new"]:
        raise UsageError("--resume and --new exclude each other")
    if shutil.which(command[0]) is None:
        raise UsageError(f"there is no program {command[0]!r} here. What follows -- is started as it is, by no shell")
    child = Child(command, Path.cwd(), given["name"] or "")
    speaker = _Speaker(voice)
    wrapped = wrapping.wrap(child, _terms(given), settings_of(given), speaker)
    if wrapped.silent:
        print(_silent(child, wrapped), file=sys.stderr)
    else:
        speaker.say(_closing(wrapped))
    return wrapped.code


def _terms(given: Given) -> Terms:
    miss = one_of("--miss", given["miss"] or "live", ("live", "fail"))
    policy: Any = one_of("--on-divergence", given["on_divergence"] or "warn", _POLICIES)
    if miss == "fail" and given["on_divergence"]:
        raise UsageError("--miss fail asks the model for nothing, so there is nothing for --on-divergence to decide")
    return Terms(
        given["resume"], given["new"], _rules(given["agent"]),
        "fail" if miss == "fail" else policy, _upstream(given["upstream"] or ()), given["key_name"] or "",
    )  # fmt: skip


def _rules(agent: str | None) -> Rules:
    return rules_for(one_of("--agent", agent, sorted({rules.agent for rules in AGENTS}))) if agent else GENERIC


def _upstream(stated: Sequence[str]) -> dict[str, str]:
    """`URL` is for all formats, `FORMAT=URL` for one."""
    found: dict[str, str] = {}
    for text in stated:
        before, equals, after = text.partition("=")
        named = bool(equals) and "/" not in before
        protocol, url = (
            (one_of("--upstream FORMAT=URL: FORMAT", before, tuple(FORMATS)), after) if named else ("", text)
        )
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise UsageError(f"--upstream {text}: give it as a URL, or as FORMAT=URL for one of {', '.join(FORMATS)}")
        if found.setdefault(protocol, url) != url:
            raise UsageError(f"--upstream {text}: {protocol or 'all formats'} is at {found[protocol]} already")
    return found


class _Speaker:
    """Our lines, on standard error."""

    def __init__(self, voice: Voice) -> None:
        self._voice = voice

    def say(self, line: str) -> None:
        """One line, unless we are to be quiet."""
        if not self._voice.quiet:
            print(line, file=sys.stderr, flush=True)

    def opened(self, opening: Opening) -> None:
        """The first line: which go this is. That answers which were paid for are left aside is said in any case."""
        if opening.how == "anew" and opening.recorded:
            print(_opening(opening), file=sys.stderr, flush=True)
        else:
            self.say(_opening(opening))


def _opening(opening: Opening) -> str:
    """What this go begins with, in one line."""
    if opening.how == "anew" and opening.recorded:
        return f"{_begun(opening)}. {_REGAINED}"
    if opening.aside:
        aside = f"{count(opening.aside, 'answer')} ({money(opening.aside_usd)})"
        return f"{_begun(opening)}. Left aside before: {aside}. {_REGAINED}"
    return _begun(opening)


def _begun(opening: Opening) -> str:
    run, answers = opening.run, f"{count(opening.recorded, 'answer')} ({money(opening.usd)})"
    at = f" {moment(opening.at, SystemClock().now())}" if opening.at else ""
    if opening.how == "new":
        return f"{run}: new. Every answer is recorded before it is passed on"
    recorded = f"Recorded: {answers}"
    if opening.doubt:
        recorded += f", {count(opening.doubt, 'call')} in doubt, to be asked again ({_most(opening.doubt_usd)})"
    ended = f"ended{at} " + ("without a call" if opening.exit is None else f"with exit code {opening.exit}")
    if opening.how == "on":
        return f"{run}: goes on where it was stopped{at}. {recorded}"
    if opening.how == "again":
        return f"{run}: {ended}, and is served its record. {recorded}"
    if opening.how == "back":
        return f"{run}: begun anew{at}, nothing recorded since. Had back: {answers}"
    if not opening.ended:
        return f"{run}: begins anew (--new). Left aside: {answers}"
    return f"{run}: {ended}, and begins anew. Left aside: {answers}"


def _most(usd: float) -> str:
    """The upper bound of what calls in doubt may have cost; there is none where a request names no largest output."""
    return f"at most {money(usd)}" if usd else "cost not known"


def _closing(wrapped: Wrapped) -> str:
    """What it came to, in one line."""
    paid = f"{money(wrapped.usd)}"
    if wrapped.unpriced:
        paid = "price not known" if wrapped.unpriced >= wrapped.paid else f"{paid} and {wrapped.unpriced} unpriced"
    line = f"{wrapped.run}: served {wrapped.served:,}, paid {wrapped.paid:,} ({paid})"
    if wrapped.doubt:
        line += f", in doubt {wrapped.doubt:,} ({_most(wrapped.doubt_usd)})"
    divergences = wrapped.report.get("divergences", 0)
    if divergences:
        line += f". {count(divergences, 'divergence')}, the first: {wrapped.report['first_divergence']}"
    if not wrapped.finished:
        return f"{line}. Not finished: {wrapped.stopped}. The same command goes on"
    if wrapped.exit:
        return f"{line}. Ended with exit code {wrapped.exit}: the same command begins anew, with --resume it goes on"
    return line


def _silent(child: Child, wrapped: Wrapped) -> str:
    """A program that made no call: where it was to make them, and what to do."""
    ended = f" (it ended with exit code {wrapped.exit})" if wrapped.exit else ""
    return (
        f"error: {child.program} made no model call through the gateway, so nothing was recorded{ended}.\n"
        f"It was told where to by {', '.join(wrapped.variables)}\n"
        f"with a key of its own as {', '.join(wrapped.keys)}.\n"
        "Where it has a setting of its own for address or key, an option or a file, give it these variables:\n"
        f'onward wrap -- sh -c \'{child.program} ... "$OPENAI_BASE_URL" ... "$OPENAI_API_KEY"\''
    )
