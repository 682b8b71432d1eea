"""What `show` says of a part of a run (a task, a step, an exchange), and of one side against another."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from onward.amounts import clip, count, interval, moment, money, percent, seconds
from onward.report.tables import Table
from onward.tasks import Task
from onward.views.comparison import Comparison, Rescored
from onward.views.lineage import StepWhy
from onward.views.steps import Exchange, Tried, request_messages, text_of
from onward.views.trials import Trial

__all__ = ["comparison_page", "exchange_page", "rescored_lines", "step_page", "task_page", "trial_part", "why_page"]


def task_page(task: Task) -> str:
    """The task itself."""
    expected = clip(task.target, 200) if task.target is not None else "not known"
    rows = [("task", task.id), ("question", clip(task.input, 400)), ("expected", expected)]
    rows += [(name, clip(value, 200)) for name, value in task.metadata.items()]
    rows += [("file", f"{file.name} ({file.size:,} bytes)") for file in task.files]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)


def trial_part(trial: Trial, steps: Sequence[Tried]) -> str:
    """One trial: its steps with attempts, values, money."""
    took = seconds(trial.started, trial.ended)
    words = [trial.outcome, f"{count(trial.calls, 'call')}", f"{money(trial.usd)}", f"{trial.tokens:,} tokens"]
    if trial.reused:
        words.append(f"{count(trial.reused, 'result')} reused ({money(trial.reused_usd)})")
    if trial.started:
        words.append(f"{moment(trial.started)}" + (f", {took:.1f} s" if took is not None else ""))
    if trial.generation:
        words.append(f"done again {count(trial.generation, 'time')}")
    if any(_is_marked(step.value) for step in steps):
        words.append("not reproducible (see --trajectory)")
    table = Table("step", "outcome", ">attempts", ">calls", ">spent", "value")
    for step in steps:
        told = clip(_shown(step.value), 90) if step.outcome == "ok" else clip(step.reason, 90)
        table.add(
            step.name,
            step.outcome,
            step.attempts or None,
            step.calls or None,
            money(step.usd) if step.calls else None,
            told,
        )
    return f"{trial.solver}, trial {trial.number}: {', '.join(words)}\n{table.text()}"


def _is_marked(value: Any) -> bool:
    """Whether it is an episode's, whose lanes ran in the background."""
    report = value.get("exchanges") if isinstance(value, Mapping) else None
    return isinstance(report, Mapping) and report.get("reproducible") is False


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping) and set(value) <= {"value", "note", "details"} and "value" in value:
        return f"{value['value']:g}" + (f" ({value['note']})" if value.get("note") else "")
    return value["output"] if isinstance(value, Mapping) and set(value) == {"output"} else value


def step_page(step: Tried, calls: Sequence[Exchange]) -> str:
    """One step: its whole value, what it depends on, the calls under it."""
    lines = [f"{'/'.join(step.key.names)}: {step.outcome}" + (f", {moment(step.at)}" if step.at else "")]
    if step.reason:
        lines.append(f"    {step.reason}")
    if step.origin is not None:
        lines.append(f"    {_origin(step.origin)}")
    if step.digest:
        parts = ", ".join(f"{name} {part}" for name, part in step.parts.items())
        lines.append(f"    fingerprint {step.digest}: {parts}")
    if step.outcome == "ok":
        value = _shown(step.value)
        lines += ["", value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)]
    if calls:
        table = Table(">", "exchange", "outcome", ">attempts", "model", ">spent", ">tokens")
        start = len(step.key) + 1
        for place, one in enumerate(calls, 1):
            spent = money(one.usd) if one.usd is not None else None
            table.add(place, one.key[start:], one.outcome, one.attempts, one.model, spent, one.tokens)
        lines += ["", table.text()]
    return "\n".join(lines)


def _origin(origin: Mapping[str, Any]) -> str:
    if "import" in origin:
        return f"imported from {origin['import']}"
    return f"taken over from run {str(origin.get('run', ''))[:12]}, entry {origin.get('seq')}"


def exchange_page(found: Exchange) -> str:
    """One exchange: what was asked and what was said, as text."""
    lines = [f"{'/'.join(found.key.names)}: {found.outcome}"]
    facts = [
        found.model,
        f"{found.tokens:,} tokens" if found.tokens else "",
        money(found.usd) if found.usd is not None else "",
    ]
    took = seconds(found.sent, found.ended)
    facts += [
        f"sent {found.sent[:19].replace('T', ' ')}" if found.sent else "",
        f"{took:.1f} s" if took is not None else "",
    ]
    lines.append("    " + ", ".join(fact for fact in facts if fact))
    if found.origin is not None:
        lines.append(f"    {_origin(found.origin)}" + ("" if found.request else "; its request is there"))
    for role, text in request_messages(found.request) if found.request else ():
        lines += ["", f"── {role}", text]
    if found.answer is not None:
        lines += ["", "── answer", text_of(found.answer.get("text", ""))]
        lines += [json.dumps(call, ensure_ascii=False) for call in found.answer.get("tool_calls", ())]
    if found.reason:
        lines += ["", f"── {found.outcome}", found.reason]
    return "\n".join(lines)


def why_page(found: Sequence[StepWhy]) -> str:
    """Every result of some steps, with what had changed since the one before."""
    table = Table("step", "at (UTC)", "outcome", ">generation", ">attempt", "counts", "fingerprint", "changed", "from")
    for one in found:
        table.add(
            "/".join(one.key.names), moment(one.at), one.outcome, one.generation, one.attempt,
            "yes" if one.counts else "no", one.digest[:12], ", ".join(one.changed),
            _origin(one.origin) if one.origin else None,
        )  # fmt: skip
    parts = [
        f"{'/'.join(one.key.names)} depends on " + ", ".join(f"{name} {part}" for name, part in one.parts.items())
        for one in found if one.counts
    ]  # fmt: skip
    return "\n\n".join([table.text(), "\n".join(parts)])


def comparison_page(found: Sequence[Comparison], *, flips: bool, first_go: bool) -> str:
    """Pairs side by side."""
    table = Table("a", "b", "score", ">tasks", ">a", ">b", ">b - a", "95 % interval", ">b better", ">b worse", ">p")
    for one in found:
        within = interval(one.low, one.high) if math.isfinite(one.low) else "one task says nothing"
        p = "" if one.p is None else "< 0.001" if one.p < 0.001 else f"{one.p:.3f}"
        table.add(
            one.a, one.b, one.score, one.n, percent(one.a_mean), percent(one.b_mean), f"{100 * one.difference:+.1f}",
            within, one.better, one.worse, p,
        )  # fmt: skip
    go = "first go" if first_go else "after reruns"
    lines = [f"b against a on the tasks that both have, {go}; p: exact McNemar", "", table.text()]
    for one in found:
        if one.only_a or one.only_b:
            lines += ["", f"not compared: {one.only_a} only in {one.a}, {one.only_b} only in {one.b}"]
        if flips and one.flips:
            rows = Table("task", ">a", ">b")
            for flip in one.flips:
                rows.add(flip.task, f"{flip.a:g}", f"{flip.b:g}")
            lines += ["", f"{one.a} → {one.b}: {count(len(one.flips), 'flip')}", rows.text()]
    return "\n".join(lines)


def rescored_lines(found: Sequence[Rescored]) -> list[str]:
    """`165 re-scored, 0 calls, 41.2 → 44.8 %, 9 changed`: one line for each solver and score."""
    solvers, scores = {one.solver for one in found}, {one.score for one in found}
    lines = []
    for one in found:
        name = " ".join([one.solver] * (len(solvers) > 1) + [one.score] * (len(scores) > 1))
        share = f"{100 * one.old:.1f} → {100 * one.new:.1f} %"
        words = f"{one.n:,} re-scored, {count(one.calls, 'call')}, {share}, {one.changed:,} changed"
        lines.append(f"{name}: {words}" if name else words)
    return lines
