"""What a person sees while a run goes: what was found, a live line, what came of it. Nothing before it is so."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from onward.cli import outcome as outcomes
from onward.cli.outcome import Outcome
from onward.cli.streaming import Stream
from onward.cli.voice import Voice
from onward.cli.words import count, joined, moment, money, percent, span
from onward.clock import SystemClock, iso
from onward.episode import Told
from onward.keys import Key
from onward.progress import Event, Progress
from onward.runs import open_run

__all__ = ["Board", "opening", "status"]

_EVERY = 10.0
"""Seconds between two plain lines."""
_OFTEN = 1.0
"""… where a tenth of the way was made in between."""
_WINDOW = 30.0
"""Seconds over which the rate is taken."""


def opening(progress: Progress, facts: Mapping[str, Any], now: float, written: str = "") -> str:
    """The first line: what was found, and what will be done about it. `written`: when it last recorded anything."""
    done, total, wanted = progress.before, progress.total, progress.wanted
    doubt = int(facts.get("doubt", 0))
    if done == total and not wanted and not doubt:
        when = f"{moment(written, now)}, " if written else ""
        again = "" if facts.get("verb") == "continue" else ". New measurement: --new"
        return f"{progress.run}: already complete ({when}0 calls){again}"
    left = total - done
    todo = f"{left:,} to do" if wanted == left else f"{left:,} owed, {wanted:,} of them now"
    if not done and not doubt and not progress.spent_before:
        return f"{progress.run}: {count(total, 'trial')}, {todo}." if wanted != total else f"{progress.run}: {todo}."
    words = f"{progress.run}: {done:,} of {total:,} done ({money(progress.spent_before)})."
    if written and (facts.get("died") or facts["sums"].spent[2] or doubt):
        words += f" {'Died' if facts.get('died') else 'Stopped'} {moment(written, now)}."
    if doubt:
        again = "will be asked again" if facts.get("in_doubt", "resend") == "resend" else "stand in the way"
        todo += f", {doubt:,} in doubt {again} (at most {money(float(facts.get('doubt_usd', 0.0)))})"
    return f"{words} {todo}."


class Rate:
    """Trials settled a second, over the last half minute."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque()

    def __call__(self, now: float, settled: int) -> float:
        """Take a mark and return the rate up to it."""
        self._marks.append((now, settled))
        while len(self._marks) > 2 and now - self._marks[0][0] > _WINDOW:
            self._marks.popleft()
        (then, before), elapsed = self._marks[0], now - self._marks[0][0]
        return (settled - before) / elapsed if elapsed > 0 and now > then else 0.0


def status(progress: Progress, rate: float) -> str:
    """The live line: where it stands, in words."""
    left = progress.wanted - progress.settled
    pace = ""
    if rate > 0:
        pace = f"{rate:.1f}/s" if rate >= 1 else f"{60 * rate:.1f}/min"
        pace += f" · ETA {span(left / rate)}" if left > 0 else ""
    mean = progress.mean
    return joined((
        f"[{progress.done}/{progress.total}]",
        pace,
        _at_work(progress),
        f"{progress.asking()} in flight" if progress.asking() else "",
        f"{progress.failed} failed" if progress.failed else "",
        count(progress.errors, "error") if progress.errors else "",
        count(progress.retries, "retry", "retries") if progress.retries else "",
        f"{progress.primary} {percent(mean)}{_of_new(progress)}" if mean is not None else "",
        f"{money(progress.spent_before + progress.usd)} spent"
        + (f", {count(progress.unpriced, 'call')} of unknown price" if progress.unpriced else ""),
        f"{money(progress.reused_usd)} reused" if progress.reused_usd else "",
        progress.note,
    ))  # fmt: skip


def _of_new(progress: Progress) -> str:
    """What a mean is of, where earlier invocations have scored too: the result at the end is of all."""
    return f" of {progress.scored:,} new" if progress.before else ""


def _at_work(progress: Progress) -> str:
    """What moves while agents work, for minutes each: how long the longest has had, what was asked, what was told."""
    working = [meter.active for meter in progress.working.values() if meter.running]
    if not progress.working:
        return ""
    asked = f"{count(progress.calls, 'exchange')}, {progress.tokens:,} tokens" if progress.calls else ""
    served = f"{progress.served:,} served" if progress.served else ""
    longest = span(max(working, default=0.0))
    at_work = f"at work {longest}" if len(working) == 1 else f"{len(working):,} at work, longest {longest}"
    return joined((at_work if working else "", served, asked))


class Board:
    """A Watch for people. A live line on a terminal; without one, a plain line now and then."""

    def __init__(self, voice: Voice, console: Console, *, stream: bool = False, store: Path | None = None) -> None:
        self._voice, self._console, self._store = voice, console, store
        self._stream = Stream(console) if stream else None
        self._clock, self._rate = SystemClock(), Rate()
        self._progress: Progress | None = None
        self._live: Live | None = None
        self._shown, self._tenths = 0.0, 0

    # what is told

    def say(self, line: str) -> None:
        """One line."""
        if self._stream is not None:
            self._stream.pause()
        if not self._voice.quiet:
            self._console.print(escape(line), highlight=False)
        if line.startswith("stopping") and self._progress is not None:
            self._console.print(f"resume: {self._command(self._progress.run)}", highlight=False)

    def begin(self, progress: Progress, facts: Mapping[str, Any]) -> None:
        """The opening line, then the live one."""
        self._progress = progress
        if not self._voice.quiet:
            found = progress.before or facts.get("doubt") or progress.spent_before
            written = _last_write(Path(facts["folder"])) if found else ""
            line = opening(progress, facts, self._clock.now(), written)
            self._console.print(f"[b]{escape(line)}[/b]", highlight=False)
        self._shown = self._clock.ticks()
        self._rate(self._shown, 0)
        if self._console.is_terminal and progress.wanted and not self._voice.quiet and self._stream is None:
            self._live = Live(self, console=self._console, refresh_per_second=4, transient=True)
            self._live.start()

    def event(self, event: Event) -> None:
        """Trouble is told as it comes where it was asked for; a streamed call is closed."""
        if self._stream is not None and event.type != "step.reused":
            (self._stream.asked if self._by_agent(event.key) else self._stream.ended)(event)
        if self._voice.verbose and event.type in ("step.retried", "step.failed") and event.detail:
            wait = event.detail.get("wait")
            again = f" · again in {wait:g} s" if wait else ""
            self._line(f"  {event.key} {event.detail.get('reason', event.outcome)}{again}", "yellow")
        self._plain()

    def text(self, key: Key, text: str) -> None:
        """A piece of an answer."""
        if self._stream is not None:
            self._stream.text(key, text)

    def exchange(self, told: Told) -> None:
        """An agent has an answer."""
        if self._stream is not None:
            self._stream.exchange(told)

    def trial(self, key: Key, outcome: str, scores: Mapping[str, Any], output: Any) -> None:
        """One line for each trial, where it was asked for."""
        if self._voice.verbose or self._stream is not None:
            values = ", ".join(f"{name} {score['value']:g}" for name, score in scores.items())
            final = output["final"] if isinstance(output, Mapping) and "final" in output else output  # of an agent
            said = " ".join(str(final).split())
            shown = said if len(said) <= 60 else f"…{said[-59:]}"
            where = f"[{self._progress.done}/{self._progress.total}] " if self._progress else ""
            self._line(f"{where}{key} {outcome}{' · ' + values if values else ''} · {shown}", _COLOURS.get(outcome, ""))
        if self._stream is not None:
            self._stream.settled(key)
        self._plain()

    def end(self, facts: Mapping[str, Any]) -> None:
        """The live line goes away; `over` says what came of it."""
        if self._stream is not None:
            self._stream.close()
        if self._live is not None:
            self._live.stop()
            self._live = None

    def over(self, outcome: Outcome) -> None:
        """The last lines."""
        if outcome.ending is None or outcome.summary is None:
            if self._progress is not None:
                self._console.print(f"resume: {self._command(self._progress.run)}", highlight=False)
            return
        ending = outcome.ending
        if ending.settled and not self._voice.quiet and not self._console.is_terminal and self._progress is not None:
            self._console.print(escape(status(self._progress, 0.0)), highlight=False)
        self._console.print(drawn(outcome))
        if ending.unpriced:
            self._console.print(escape(outcomes.unpriced(ending)), highlight=False)
        for line in outcomes.owed(ending, self._command(ending.run)):
            self._console.print(escape(line), highlight=False)
        if outcome.below:
            self._console.print(f"[red]{escape(outcome.below)}[/red]", highlight=False)

    # drawing

    def __rich__(self) -> RenderableType:
        progress = self._progress
        if progress is None:
            return Text("")
        rate = self._rate(self._clock.ticks(), progress.settled)
        bar = ProgressBar(
            total=max(1, progress.total), completed=progress.done, width=min(40, self._console.width // 3)
        )
        return _beside(bar, Text(status(progress, rate)))

    def _line(self, text: str, style: str) -> None:
        line = Text(text, style=style)
        if self._stream is not None:
            self._stream.line(line)
        else:
            self._console.print(line, highlight=False)

    def _by_agent(self, key: Key) -> bool:
        """Whether this is an exchange of an agent that is at work."""
        parts = key.split("/", 5)
        return len(parts) > 5 and self._progress is not None and "/".join(parts[:3]) in self._progress.working

    def _plain(self) -> None:
        """Without a terminal: a line at every tenth of the way, or after ten seconds."""
        progress = self._progress
        if progress is None or self._console.is_terminal or self._voice.quiet or self._stream is not None:
            return
        now, tenths = self._clock.ticks(), 10 * progress.settled // max(1, progress.wanted)
        passed = now - self._shown
        if (self._tenths < tenths < 10 and passed >= _OFTEN) or passed >= _EVERY:
            self._tenths, self._shown = max(tenths, self._tenths), now
            self._console.print(escape(status(progress, self._rate(now, progress.settled))), highlight=False)

    def _command(self, run: str) -> str:
        return f"onward resume {run}" + (f" --store {self._store}" if self._store else "")


_COLOURS = {"ok": "green", "failed": "yellow", "timeout": "yellow", "error": "red"}


def _beside(*parts: RenderableType) -> Table:
    grid = Table.grid(padding=(0, 1))
    grid.add_row(*parts)
    return grid


def _last_write(folder: Path) -> str:
    run = open_run(folder)
    try:
        last = run.journal.head().seq
        return next((row.at for _, row in run.journal.rows("", after=max(0, last - 1))), iso(0))
    finally:
        run.close()


def drawn(outcome: Outcome) -> RenderableType:
    """The result table and the bill."""
    assert outcome.summary is not None
    heads, rows = outcomes.table(outcome.summary)
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for index, head in enumerate(heads):
        grid.add_column(head, justify="left" if index == 0 else "right", no_wrap=True)
    for row in rows:
        grid.add_row(*map(escape, row))
    return Group(grid, Text(outcomes.bill(outcome.summary)))
