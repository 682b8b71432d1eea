"""`--plan`: what would be done, why, and for how much. It spends nothing, takes no lease and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from onward import forecast
from onward.cli.voice import Voice
from onward.cli.words import count, joined, money, span
from onward.config import Settings
from onward.experiment import Spec
from onward.forecast import CUT, Forecast
from onward.report.prospects import length

__all__ = ["lines", "planned_resume", "planned_run"]

_PLURALS = {"generate": "answer", "reduce": "reduction", "parse": "parse", "score": "score", "judge": "judgement"}


def planned_run(voice: Voice, given: Mapping[str, Any], spec: Spec, folder: Path, settings: Settings) -> int:
    """`onward run … --plan`."""
    return _shown(forecast.of_run(spec, folder, settings), as_json=bool(given["json"] or voice.json))


def planned_resume(voice: Voice, given: Mapping[str, Any], name: str | None, settings: Settings) -> int:
    """`onward resume --plan`."""
    return _shown(forecast.of_resume(name, settings), as_json=bool(given["json"] or voice.json))


def lines(found: Forecast) -> list[tuple[str, str]]:
    """What to show: a word and what it means, a line each."""
    kept = joined(count(number, _PLURALS[stage]) for stage, number in found.kept.items())
    rows = [("kept", kept or "nothing")]
    rows += [
        ("owed", f"{count(one.count, _PLURALS[one.stage])}: {one.why}")
        for one in found.owed
        if one.why not in ("new", CUT)
    ]
    rows += _in_the_middle(found)
    if found.in_doubt:
        rows.append(
            ("in doubt", f"{count(found.in_doubt, 'call')} will be asked again (at most {money(found.in_doubt_usd)})")
        )
    if found.new:
        rows.append(("new", count(found.new, "trial")))
    if found.gone:
        rows.append(("gone", f"{count(found.gone, 'task')} of {', '.join(found.parents)}: not wanted any more"))
    if found.calls is None:
        decides = "agents ask as often as they see fit" if found.basis == "agents" else "the solver's own code decides"
        rows.append(("calls", f"unknown: {decides}, and nothing is recorded to go by"))
        return [*rows, *_money_unknown(found), *_time(found)]
    rows.append(("calls", f"about {found.calls:,}" if found.bounded and found.calls else f"{found.calls:,}"))
    if found.basis == "averages" and found.usd is not None:
        rows.append(("cost", f"about {money(found.usd)}, by what the recorded calls cost"))
    elif found.usd is not None:
        rows.append(("cost", money(found.usd) if not found.calls else f"at most {money(found.usd)}, at list price"))
    else:
        rows.append(("cost", "unknown: no list price, or no max_tokens. --price MODEL=IN/OUT says it"))
    return [*rows, *_time(found)]


def _in_the_middle(found: Forecast) -> Iterator[tuple[str, str]]:
    """Agents' trials that were cut off: what is served of them, or given up."""
    for word, one in (("goes on", found.going_on), ("given up", found.given_up)):
        if one is not None:
            what = f"{count(one.trials, 'trial')} in mid-episode"
            exchanges, paid = count(one.exchanges, "exchange"), "cost unknown" if one.usd is None else money(one.usd)
            if word == "goes on":
                yield (
                    word,
                    f"{what}: {exchanges} ({paid}) served from the record in about {length(one.seconds)}, then live",
                )
            else:
                yield word, f"{what}: {exchanges} ({paid}), by --in-flight restart; begun again"


def _money_unknown(found: Forecast) -> list[tuple[str, str]]:
    if found.basis != "agents":
        return []
    return [("cost", "unknown too: --limit 1 finds out what a trial costs, --budget-usd bounds all of them")]


def _time(found: Forecast) -> list[tuple[str, str]]:
    if found.seconds is None:
        return []
    if found.bounded:
        return [("time", f"at most {span(found.seconds)} by the agents' limits; installing and verifying besides")]
    return [("time", f"about {span(found.seconds)}" if found.seconds >= 1 else "less than a second")]


def _shown(found: Forecast, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(found.to_json(), ensure_ascii=False, indent=2))
        return 0
    console = Console(soft_wrap=True, highlight=False)
    state = (
        f"{found.done:,} of {found.trials:,} trials done"
        if found.exists
        else f"would be made, with {count(found.trials, 'trial')}"
    )
    console.print(f"[b]{escape(found.run)}[/b]: {state}, {found.now:,} to do now")
    for note in found.notes:
        console.print(f"  {escape(note)}")
    grid = Table.grid(padding=(0, 2))
    for word, meaning in lines(found):
        grid.add_row(f"  [dim]{word}[/dim]", escape(meaning))
    console.print(grid)
    console.print("[dim]a plan: nothing was spent or written[/dim]")
    return 0
