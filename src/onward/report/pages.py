"""What `show` says of a run as a whole: plain text, made from views."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onward.amounts import age, clip, count, mean, moment, money, percent
from onward.entry import Entry
from onward.journal import Holder
from onward.keys import Key
from onward.plan import STAGES
from onward.report.continued import continuation_lines
from onward.report.tables import Table
from onward.runs import Run
from onward.views.continued import Continuation
from onward.views.lineage import Lineage
from onward.views.means import Mean
from onward.views.state import headline, state
from onward.views.summary import SolverSummary, Summary
from onward.views.troubles import Doubt, Trouble
from onward.views.wrong import Wrong

__all__ = [
    "doubt_page", "errors_page", "landed", "lineage_page", "run_facts", "run_page", "runs_row", "runs_table",
    "score_words", "wrong_page",
]  # fmt: skip

_SHOWN = 12
"""Trials or tasks that are listed where there may be thousands."""


def score_words(part: SolverSummary) -> str:
    """`numeric 41.2 ± 1.9 %`, or where trials were done again `numeric 41.2 % first go · 44.8 % after 6 reruns`."""
    words = []
    for name, now in part.scores.items():
        first = part.first_go.get(name)
        if first is not None and part.rerun:
            again = f"{_value(now)} after {count(part.rerun, 'rerun')}"
            words.append(f"{name} {_value(first)} first go · {again}")
        elif part.rerun:
            words.append(f"{name} {_value(now)} after {count(part.rerun, 'rerun')}")
        else:
            words.append(f"{name} {_value(now, error=True)}")
    return ", ".join(words)


def _value(found: Mean, *, error: bool = False) -> str:
    if not -1.0 <= found.value <= 1.0:
        return f"{found.value:.3g} ± {found.error:.2g}" if error else f"{found.value:.3g}"
    return mean(found.value, found.error) if error else percent(found.value)


def runs_row(found: Summary, driver: Holder | None) -> dict[str, Any]:
    """One run of `onward runs`, as JSON."""
    return {
        "run": found.run, "id": found.id, "state": state(found, driver), "done": found.done, "planned": found.planned,
        "owed": found.owed, "errors": found.errors, "completed_through_stage": found.completed_through,
        "scores": {solver: part.scores for solver, part in found.solvers.items()},
        "spent_usd": found.usd, "reused_usd": found.reused_usd, "last_write": found.last_write,
    }  # fmt: skip


def runs_table(rows: Sequence[tuple[str, Summary | str, Holder | None]], now: float) -> str:
    """The runs of a store: (name, summary or what is wrong with it, driver)."""
    table = Table("run", "state", ">done", "score", ">spent", ">reused", "last write")
    for name, found, driver in rows:
        if isinstance(found, str):
            table.add(name, f"damaged: {clip(found, 60)}", None, None, None, None, None)
            continue
        words = state(found, driver)
        if words == "interrupted":
            words += f" — {found.done} of {found.planned} done, {found.owed} owed"
        scores = "; ".join(
            f"{solver}: {score_words(part)}" if len(found.solvers) > 1 else score_words(part)
            for solver, part in found.solvers.items() if part.scores
        )  # fmt: skip
        reused = money(found.reused_usd) if found.reused else None
        done = f"{found.done}/{found.planned}"
        table.add(name, words, done, scores, money(found.usd), reused, age(found.last_write, now))
    return table.text()


def run_page(run: Run, found: Summary, driver: Holder | None, continued: Continuation | None = None) -> str:
    """The first line in words, each solver's part, what the run is; of a continuation, both scores and its terms."""
    table = Table("solver", "score", ">ok", ">failed", ">timeout", ">errors", ">missing", ">unscored")
    for solver, part in found.solvers.items():
        table.add(
            solver, score_words(part), part.ok, _some(part.failed), _some(part.timeout), _some(part.errors),
            _some(part.missing), _some(part.unscored),
        )  # fmt: skip
    staged = Table("solver", *(f">{stage}" for stage in STAGES if run.plan.shape.steps(stage)))
    for solver, part in found.solvers.items():
        cells = [part.stages.get(stage, 0) for stage in STAGES if run.plan.shape.steps(stage)]
        staged.add(solver, *(f"{done}/{part.planned}" for done in cells))
    facts = "\n".join(f"{name:<10} {value}" for name, value in run_facts(run, found).items())
    head = [headline(found, driver), *(continuation_lines(continued) if continued else ())]
    return "\n\n".join(["\n".join(head), table.text(), "through each stage\n" + staged.text(), facts])


def _some(number: int) -> str | None:
    return f"{number:,}" if number else None


def run_facts(run: Run, found: Summary) -> dict[str, str]:
    """What the run is, in words by field."""
    facts, shape = run.facts, run.plan.shape
    spec = run.config["spec"]
    stages = {
        "generate": f"generate × {shape.samples}" if shape.samples > 1 else "generate",
        "reduce": f"reduce: {_named(spec.get('reduce') or 'majority')}", "parse": f"parse: {_named(spec.get('parse'))}",
        "score": f"score: {', '.join(shape.scores)}", "judge": f"judge: {', '.join(shape.judges)}",
    }  # fmt: skip
    selection = {name: value for name, value in facts["selection"].items() if value}
    told = {
        "solvers": ", ".join(run.plan.solvers),
        "stages": " → ".join(stages[stage] for stage in STAGES if shape.steps(stage)),
        "tasks": f"{count(sum(1 for _ in run.plan.task_ids()), 'task')} of {facts['total']}, "
        + ", ".join(f"{name} {clip(value, 40)}" for name, value in facts["source"].items() if value),
        "selection": ", ".join(f"{name} {clip(value, 40)}" for name, value in selection.items()),
        "trials": str(run.plan.trials) if run.plan.trials > 1 else "",
        "parents": ", ".join(str(parent)[:12] for parent in facts["run"].get("parents", ())),
        "id": f"{found.id}" + (f", replicate {facts['run']['replicate']}" if facts["run"]["replicate"] else ""),
        "made": f"{moment(found.created)}, last write {moment(found.last_write)} (UTC)",
        "calls": f"{count(found.calls, 'call')}, {found.tokens:,} tokens",
    }
    return {name: value for name, value in told.items() if value}


def _named(reference: Any) -> str:
    return clip(next(iter(reference)) if isinstance(reference, Mapping) and reference else reference, 40)


def wrong_page(found: Sequence[Wrong], solvers: int) -> str:
    """The wrong-answer book."""
    if not found:
        return "nothing is wrong"
    table = Table("task", "solver", "level", "question", "expected", "answer", ">attempts", "first seen", "last seen")
    levels: dict[str, int] = {}
    for one in found:
        level = "" if one.level is None else str(one.level)
        levels[level] = levels.get(level, 0) + 1
        answer = clip(one.answer, 24) if one.answer is not None else clip(f"({one.reason or 'no answer'})", 24)
        table.add(
            one.task, one.solver if solvers > 1 else None, level, clip(one.question, 48), clip(one.expected, 24),
            answer, one.attempts, moment(one.first_seen), moment(one.last_seen),
        )  # fmt: skip
    by_level = ", ".join(f"level {level}: {number}" for level, number in sorted(levels.items()) if level)
    return f"{len(found):,} wrong{f' ({by_level})' if by_level else ''}\n\n{table.text()}"


def errors_page(groups: Sequence[Trouble], repaired: int) -> str:
    """What went wrong, by reason, with the attempts."""
    words = {"error": "owed again", "failed": "failed, scored 0", "timeout": "timed out"}
    lines: list[str] = []
    for group in groups:
        kind = f"{group.kind}: " if group.kind and group.kind not in group.reason else ""
        lines += ["", f"{len(group.trials):,} × {kind}{clip(group.reason, 160)}  [{words[group.outcome]}]"]
        shown = sorted(group.attempts, key=lambda attempt: (attempt.key, attempt.at))[:_SHOWN]
        lines += [f"    {moment(one.at)}  {one.key}  attempt {one.number}  {clip(one.reason, 80)}" for one in shown]
        if len(group.attempts) > len(shown):
            lines.append(f"    … and {count(len(group.attempts) - len(shown), 'more attempt')} (--json lists all)")
    told = f"{count(repaired, 'trial')} had an attempt that went wrong and came out well since" if repaired else ""
    return "\n".join([*lines[1:], *(["", told] if lines and told else [told] if told else [])]) or "no errors"


def doubt_page(found: Sequence[Doubt], driver: Holder | None) -> str:
    """Calls without an answer in the journal."""
    if not found:
        return "nothing is in flight or in doubt"
    table = Table("call", ">attempt", "since (UTC)", "model", ">at most", "then")
    for one in found:
        then = "asked again since" if one.again else "in flight" if driver else "will be asked again"
        at_most = money(one.usd) if one.usd is not None else "unknown"
        table.add(one.key, one.attempt, one.since[:19].replace("T", " "), one.model, at_most, then)
    total = sum(one.usd or 0.0 for one in found)
    return f"{count(len(found), 'call')} without an answer, at most {money(total)}\n\n{table.text()}"


def lineage_page(found: Lineage) -> str:
    """What the run depends on, and where it comes from."""
    lines = [
        f"run {found.id}, made {moment(found.created)}" + (f", replicate {found.replicate}" if found.replicate else "")
    ]
    if found.derivation:
        verb = found.derivation.get("verb", "derived") if isinstance(found.derivation, Mapping) else found.derivation
        lines.append(f"derived by {verb}")
    lines += ["", "depends on"]
    for solver, parts in found.identity["solvers"].items():
        lines.append(f"    solver {solver}: " + ", ".join(f"{name} {str(part)[:12]}" for name, part in parts.items()))
    for name, part in found.identity["stages"].items():
        lines.append(f"    {name}: {str(part)[:12]}")
    lines.append(f"    tasks in order: {found.order[:12]}")
    for parent in found.parents:
        name = parent.name or f"{parent.id[:12]} (not in this store; nothing here needs it)"
        took = ", ".join(f"{number} of {stage}" for stage, number in parent.took.items()) or "nothing"
        lines += ["", f"took over from {name}: {took}, worth {money(parent.usd)}"]
        lines += [f"    {change}" for change in parent.changes or ()]
    lines += [f"\nimported {count(number, 'answer')} from {name}" for name, number in found.imports.items()]
    for void in found.voids:
        scope = (
            "everything"
            if void.prefixes == 1 and not void.example
            else _scope(void.prefixes, void.trials, void.example)
        )
        lines += ["", f"{moment(void.at)}  put out of account: {scope}", f"    {void.why}"]
    return "\n".join(lines)


def _scope(prefixes: int, trials: int, example: str) -> str:
    return example if prefixes == 1 else f"{count(prefixes, 'part')} of {count(trials, 'trial')} ({example}, …)"


def landed(entries: Iterable[Entry]) -> list[str]:
    """One line for each result of a stage, for whoever follows a run."""
    lines = []
    for entry in entries:
        value = entry.value
        told = value.get("output", value.get("value", value)) if isinstance(value, Mapping) else value
        if entry.outcome != "ok":
            told = f"{entry.outcome}: {entry.data.get('error', {}).get('reason', '')}"
        taken = "  (reused)" if entry.reused else ""
        lines.append(f"{entry.at[11:19]}  {'/'.join(Key(entry.key).names)}  {clip(told, 80)}{taken}")
    return lines
