"""What `show --trajectory` says of an episode: one line, what stands out, then the lanes with their turns."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from onward.amounts import count, money
from onward.report.tables import width_of
from onward.views.trajectory import Episode, GivenUp, Lane, is_added
from onward.views.trajectory_turns import ToolCall, Turn

__all__ = ["Paint", "exchange_line", "trajectory_page"]

Paint = Callable[[str, str], str]
"""(style, text) as a terminal shows it. Styles: `head`, `live`, `served`, `recorded`, `odd`, `bad`, `tool`, `quiet`."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a model or a tool must not do to a terminal."""
_MARGIN = "       "
_EDITS = (("old_string", "new_string"), ("old_str", "new_str"))
_LINES = 3
"""Lines of an edit that are shown of what goes and of what comes."""
_STYLES = {"live": "live", "served": "served", "recorded": "recorded"}


def trajectory_page(
    found: Sequence[Episode], *, full: bool = False, width: int = 100, paint: Paint = lambda style, text: text
) -> str:
    """Episodes, one after the other. Texts are cut to a line each, unless `full`."""
    return "\n\n".join("\n".join(_Page(full, width, paint).episode(one)) for one in found)


def exchange_line(name: str, place: tuple[int, int], turn: Turn, width: int = 100) -> str:
    """An exchange of an episode that is under way, on one line: its lane and turn, how the agent came by it, the tools
    that the model called, and what it said first."""
    head = f"{name} · lane {place[0]}, turn {place[1]} · {_mark(turn, origin=False)[1]}"
    called = f"→ {', '.join(call.tool for call in turn.calls)}" if turn.calls else ""
    said = f"no answer: {turn.refused}" if turn.refused else turn.text
    told = " · ".join(one for one in (_tokens(turn), _usd(turn), called, said) if one)
    return f"{head} · {_cut(told, max(width - width_of(head) - 3, 40))}" if told else head


def _clean(text: str) -> str:
    return _CONTROL.sub("�", text.replace("\r\n", "\n"))


def _cut(text: str, width: int) -> str:
    """On one line, of so many columns."""
    line = " ".join(_clean(text[: 50 * width]).split())
    if width_of(line) <= width:
        return line
    while line and width_of(line) >= width:
        line = line[: max(0, len(line) - max(1, (width_of(line) - width) // 2))]
    return f"{line}…"


def _span(seconds: float) -> str:
    """`1.2 s`, `2:05`."""
    whole = round(seconds)
    return f"{seconds:.1f} s" if seconds < 60 else f"{whole // 60}:{whole % 60:02d}"


class _Page:
    """How an episode is written."""

    def __init__(self, full: bool, width: int, paint: Paint) -> None:
        self.full, self.width, self.paint = full, width, paint
        self.origin = False
        """Whether each turn says where it was paid: one origin for all is said once."""

    def episode(self, found: Episode) -> Iterator[str]:
        """All of it."""
        name = "/".join(found.key.names)
        yield from self._wrapped([f"{self.paint('head', name)}: {_outcome(found)}", *_facts(found)])
        if found.agent or found.models:
            yield from self._wrapped([one for one in (found.agent, ", ".join(found.models)) if one])
        if found.reason:
            yield self.paint("bad", _cut(found.reason, self.width))
        for style, text in _standing_out(found):
            yield self.paint(style, _cut(text, self.width))
        if not found.exchanges:
            yield "no model was asked"
        origins = {_origin(turn) for lane in found.lanes for turn in lane.turns} - {""}
        self.origin = len(origins) > 1
        if len(origins) == 1:
            yield f"what was recorded elsewhere was {origins.pop()}"
        for lane in found.lanes:
            yield ""
            yield from self._lane(lane)

    def _wrapped(self, words: Sequence[str]) -> Iterator[str]:
        """Words with dots between, on as many lines as they need."""
        line = ""
        for word in words:
            longer = f"{line} · {word}" if line else word
            if line and width_of(re.sub("\x1b\\[[0-9;]*m", "", longer)) > self.width:
                yield line
                longer = f"    {word}"
            line = longer
        yield line

    def _lane(self, lane: Lane) -> Iterator[str]:
        kind = lane.kind
        if lane.after is not None:
            kind += f" of lane {lane.after[0]}, turn {lane.after[1]}"
        head = f"lane {lane.number} · {kind} · {count(len(lane.turns), 'turn')} · "
        yield self.paint("head", head + _cut(lane.name, max(self.width - len(head), 20)))
        known = ""
        for turn in lane.turns:
            yield from self._turn(turn, known)
            known = turn.difference or known

    def _turn(self, turn: Turn, known: str) -> Iterator[str]:
        """`known`: the difference that this lane told last: it stays in its history, and is not told again."""
        style, mark = _mark(turn, origin=self.origin and turn.origin is not None)
        took = _span(turn.seconds) if turn.seconds is not None else ""
        head = f"{turn.number:>4}  {turn.at[11:19]:<8}  {took:>6}  "
        spent = "  ".join(one for one in (_tokens(turn), _usd(turn)) if one)
        told = _cut(mark, self.width - len(head))
        fits = len(head) + width_of(told) + 2 + len(spent) <= self.width
        tail = f"  {self.paint('quiet', spent)}" if fits and spent else ""
        yield f"{head}{self.paint(style, told)}{tail}"
        if not fits:
            yield from self._said("", spent, "quiet")
        for one in turn.tries:
            status = f" {one.status}" if one.status else ""
            yield from self._said(f"attempt {one.attempt}: {one.outcome}{status}", one.reason, "bad")
        if turn.difference == known != "":
            yield from self._said("≠", "as before", "odd")
        elif turn.difference:
            before, now, after = turn.difference.rpartition(", now ")
            yield from self._said("≠", before or after, "odd")
            yield from self._said("  now", after, "odd") if now else ()
        if self.full and turn.system:
            yield from self._said("system:", turn.system, "quiet")
        for text in turn.told if self.full else _new(turn):
            yield from self._said("told:", text, "quiet")
        if turn.thinking is not None:
            yield from self._said("thinking:" if turn.thinking else "thinking, not told", turn.thinking, "quiet")
        if turn.refused:
            yield from self._said("no answer:", turn.refused, "bad")
        if turn.text:
            yield from self._said("", turn.text, "")
        for call in turn.calls:
            yield from self._call(call)

    def _call(self, call: ToolCall) -> Iterator[str]:
        edit = _edit(call.arguments)
        text = edit[0] if edit else _arguments(call.arguments)
        yield from self._said(f"→ {call.tool}", text, "tool")
        if edit:
            yield from self._edited("-", edit[1])
            yield from self._edited("+", edit[2])
        if call.result is None:
            yield f"{_MARGIN}{self.paint('quiet', '← nothing recorded')}"
            return
        lines, bad = call.result.strip().count("\n") + 1, call.failed or bool(call.exit_code)
        facts = [
            *(["failed"] if call.failed else []), *([] if call.exit_code is None else [f"exit {call.exit_code}"]),
            *([f"{lines} lines"] if lines > 1 and not self.full else []),
        ]  # fmt: skip
        head = f"← {', '.join(facts)}:" if facts else "←"
        yield from self._said(head, call.result, "bad" if bad else "quiet")

    def _edited(self, sign: str, text: str) -> Iterator[str]:
        lines = _clean(text).rstrip("\n").split("\n") if text else []
        shown = lines if self.full else lines[:_LINES]
        for line in shown:
            told = line if self.full else _cut_right(line, self.width - len(_MARGIN) - 4)
            yield f"{_MARGIN}  {self.paint('bad' if sign == '-' else 'live', f'{sign} {told}'.rstrip())}"
        if len(lines) > len(shown):
            yield f"{_MARGIN}  {sign} {self.paint('quiet', f'… {len(lines) - len(shown)} more lines')}"

    def _said(self, head: str, text: str, style: str) -> Iterator[str]:
        """A head and a text: on one line, or with the whole text below it."""
        start = f"{head} " if head else ""
        whole = _clean(text).strip("\n")
        if not self.full or "\n" not in whole:
            room = self.width - len(_MARGIN) - width_of(start)
            told = " ".join(whole.split()) if self.full else _cut(whole, max(room, 20))
            yield _MARGIN + (self.paint(style, f"{start}{told}".rstrip()) if style else f"{start}{told}")
            return
        if head:
            yield _MARGIN + self.paint(style, head)
        for line in whole.split("\n"):
            yield f"{_MARGIN}{'  ' if head else ''}{line}".rstrip()


def _cut_right(line: str, width: int) -> str:
    """A line with its indentation, cut."""
    plain = line.replace("\t", "    ")
    while width_of(plain) > width:
        plain = f"{plain[:-2]}…"
    return plain


def _outcome(found: Episode) -> str:
    """`ok, numeric 1`, or what is still owed."""
    if found.outcome == "missing":
        return f"{found.sample}, not scored yet" if found.sample else "not finished" if found.exchanges else "missing"
    told = [
        f", {name} {one['value']:g}" for name, one in found.scores.items() if isinstance(one.get("value"), int | float)
    ]
    return found.outcome + "".join(told)


def _facts(found: Episode) -> Iterator[str]:
    if found.attempts > 1:
        yield count(found.attempts, "attempt")
    if found.generation:
        yield f"done again {count(found.generation, 'time')}"
    levels = ", ".join(f"{many} {level}" for level, many in found.levels.items())
    marks = (f"{many} {mark}" + (f" ({levels})" if mark == "served" else "") for mark, many in found.marks.items())
    yield count(found.exchanges, "exchange") + (f": {', '.join(marks)}" if found.marks else "")
    unknown = f" ({found.unpriced} without a known price)" if found.unpriced else ""
    yield f"{money(found.usd)}{unknown}, {found.tokens:,} tokens"
    if found.reused_tokens:
        priced = f"{money(found.reused_usd)}, " if found.reused_usd else ""
        yield f"{priced}{found.reused_tokens:,} tokens paid elsewhere"
    if found.active is not None:
        yield f"active {_span(found.active)}"


def _standing_out(found: Episode) -> Iterator[tuple[str, str]]:
    """What a reader must not miss: (style, line) each."""
    if not found.reproducible:
        yield "odd", "≠ not reproducible: it had tools work in the background, and no record brings back their timing"
    turns = [(lane, turn) for lane in found.lanes for turn in lane.turns]
    differing = [(lane, turn) for lane, turn in turns if turn.difference]
    if differing:
        lane, turn = differing[0]
        policy = f", policy {found.policy}" if found.policy else ""
        words = f"≠ {count(len(differing), 'answer')} served to a request that differed{policy}"
        yield "odd", f"{words}; first: lane {lane.number}, turn {turn.number}"
    if found.divergences > len(differing):
        yield (
            "odd",
            f"≠ {count(found.divergences, 'divergence')} in the newest attempt; first: {found.first_divergence}",
        )
    left = [turn for _, turn in turns if turn.mark == "recorded" and not turn.origin]
    if left:
        words = f"{count(len(left), 'recorded exchange')} not asked for again"
        yield "odd", f"≠ {words} ({money(sum(turn.usd or 0.0 for turn in left))} stay spent)"
    for one in found.given_up:
        yield "odd", f"≠ {_given_up(one)} ({money(one.usd)} stay spent): {one.why}"
    doubt = [one for _, turn in turns for one in turn.tries if one.outcome == "in doubt"]
    if doubt:
        yield "bad", f"! {count(len(doubt), 'call')} in doubt, at most {money(found.doubt_usd)}"


def _given_up(one: GivenUp) -> str:
    if not one.attempts:
        return f"{count(one.exchanges, 'answer')} given up"
    which = "attempt 1" if one.attempts == 1 else f"attempts 1 to {one.attempts}"
    return f"{which} {'done again' if one.ended else 'given up'} after {count(one.exchanges, 'exchange')}"


def _origin(turn: Turn) -> str:
    """Where it was paid, if not here."""
    if turn.origin is None:
        return ""
    imported = turn.origin.get("import")
    return f"imported from {imported}" if imported else f"paid in run {str(turn.origin.get('run') or '')[:6]}"


def _mark(turn: Turn, *, origin: bool) -> tuple[str, str]:
    """(style, words). `origin`: with where it was paid."""
    words: str = turn.mark
    if turn.mark == "served":
        words += f" {turn.level}"
    if turn.mark == "live" and turn.served:
        words += ", given again"
    if turn.mark == "recorded":
        words += " elsewhere" if turn.origin else ", not asked for again"
    if origin:
        words += f" ({_origin(turn)})"
    style = _STYLES.get(turn.mark, "bad")
    if turn.mark in ("live", "recorded", "served"):
        for one in turn.tries:
            status = f" {one.status}" if one.status else ""
            words += f", {one.outcome}{status} → retried"
            style = "odd"
    if turn.status is not None and not 200 <= turn.status < 300:
        words, style = f"{words}, refused {turn.status}", "bad"
    return ("odd" if turn.difference else style), words


def _tokens(turn: Turn) -> str:
    used = turn.tokens
    if not used.input and not used.output:
        return ""
    cached = f" ({used.cached:,} cached)" if used.cached else ""
    about = "about " if used.estimated else ""
    return f"{about}{used.input:,} in{cached}, {used.output:,} out"


def _usd(turn: Turn) -> str:
    return money(turn.usd) if turn.usd is not None else ""


def _new(turn: Turn) -> Iterator[str]:
    """What was told besides tools' answers; the lane's name says the first of it, and agents' own additions are left
    out."""
    if turn.number > 1:
        yield from (text for text in turn.told if text.strip() and not is_added(text))


def _edit(arguments: Any) -> tuple[str, str, str] | None:
    """Where, what goes, what comes: of a call that replaces one text by another."""
    for old, new in _EDITS if isinstance(arguments, Mapping) else ():
        if isinstance(arguments.get(old), str) and isinstance(arguments.get(new), str):
            rest = {name: value for name, value in arguments.items() if name not in (old, new)}
            return _arguments(rest), arguments[old], arguments[new]
    return None


def _arguments(arguments: Any) -> str:
    """A call's arguments in words: the only one alone, else each with its name."""
    if not isinstance(arguments, Mapping):
        return "" if arguments is None else _shown(arguments)
    if len(arguments) == 1:
        return _shown(next(iter(arguments.values())))
    return ", ".join(f"{name}={_shown(value)}" for name, value in arguments.items())


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
