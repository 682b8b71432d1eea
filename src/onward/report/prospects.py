"""What continuing would come to, in words: one line for all, then what of each recording is worth knowing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from onward.amounts import count, money
from onward.views.prospects import Prospect, Sum, summed

__all__ = ["estimate_line", "left_out_lines", "length", "prospects_page"]


def length(seconds: float) -> str:
    """`40 s`, `6 min`, `1.5 h`."""
    if seconds < 90:
        return f"{round(seconds)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f}".removesuffix(".0") + " h"


def estimate_line(found: Sum, noun: str = "timeout") -> str:
    """`12 timeouts: served again ≈ 6 min, live ≤ 6 h, ≈ $9`."""
    if not found.continued:
        return f"no {noun} to continue"
    live = "live without a known limit" if found.live is None else f"live ≤ {length(found.live)}"
    words = [f"{count(found.continued, noun)}: served again ≈ {length(found.replay)}", live]
    if found.unpriced < found.continued:
        words.append(f"≈ {_rounded(found.usd)}")
    if found.unpriced:
        words.append("cost unknown" if found.unpriced == found.continued else f"{found.unpriced} of unknown cost")
    return ", ".join(words)


def _rounded(usd: float) -> str:
    return f"${round(usd):,}" if usd >= 5 else money(usd)


def prospects_page(prospects: Sequence[Prospect], noun: str = "timeout", *, alone: bool = False) -> str:
    """The sum, each that is continued with what was found in it, and who is left out and why. `alone`: one recording
    was named, so that its findings are not cut short."""
    lines = [estimate_line(summed(prospects), noun)]
    for one in prospects:
        if not one.left_out:
            lines += _told(one, whole=alone)
    lines += left_out_lines(prospects)
    return "\n".join(lines)


def left_out_lines(prospects: Iterable[Prospect]) -> Iterator[str]:
    """Who is left out, and why: all of them by name, a line for each reason."""
    left = sorted((one for one in prospects if one.left_out), key=lambda one: one.left_out)
    for reason, group in groupby(left, key=lambda one: one.left_out):
        yield f"left out: {', '.join(one.name for one in group)}: {reason}"


def _told(one: Prospect, *, whole: bool) -> Iterator[str]:
    live = "?" if one.live is None else length(one.live)
    cost = "cost unknown" if one.usd is None else f"≈ {money(one.usd)}"
    yield f"{one.name}: {count(one.exchanges, 'exchange')} in {length(one.replay)}, then live ≤ {live}, {cost}"
    for finding in one.findings:
        if whole or finding.gravity != "note":
            yield f"    {finding.gravity}: {finding.what}"
            yield f"        {finding.then}"
    if not whole:
        notes = sum(finding.gravity == "note" for finding in one.findings)
        if notes:
            yield f"    {count(notes, 'note')}: name the folder alone to read them"
