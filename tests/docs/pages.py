"""The documentation as data: pages, code blocks, links; and the tables that are made from the code.

`python -m tests.docs.pages` writes the made parts of docs/reference anew.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
OWN = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md")


def all_pages() -> list[Path]:
    return [*(ROOT / name for name in OWN if (ROOT / name).exists()), *sorted(DOCS.rglob("*.md"))]


@dataclass
class Block:
    """A fenced block with the comments that stand right above it."""

    kind: str
    text: str
    line: int
    notes: list[str] = field(default_factory=list)


_NOTE = re.compile(r"<!-- (.*?) -->\s*")


def blocks(path: Path) -> Iterator[Block]:
    notes: list[str] = []
    inside: Block | None = None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if inside is not None:
            if line.startswith("```"):
                yield inside
                inside, notes = None, []
            else:
                inside.text += line + "\n"
        elif line.startswith("```"):
            inside = Block(line[3:].strip(), "", number, notes)
        elif found := _NOTE.fullmatch(line):
            notes.append(found[1])
        elif line.strip():
            notes = []


def prose(path: Path) -> str:
    """The page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)


def links(path: Path) -> Iterator[str]:
    yield from re.findall(r"\]\(([^)\s]+)\)", prose(path))


def anchors(path: Path) -> set[str]:
    found = set()
    for heading in re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", words).strip().replace(" ", "-"))
    return found


# ---------------------------------------------------------------- what is made from the code


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def commands() -> Mapping[str, Any]:
    import typer

    from onward.cli.app import app

    known: Mapping[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    found = {name: command for name, command in known.items() if not hasattr(command, "commands")}
    for group in [name for name in known if name not in found]:
        found |= {f"{group} {name}": command for name, command in known[group].commands.items()}
    return found


def _flags(parameter: Any) -> str:
    names = [*parameter.opts, *parameter.secondary_opts]
    shown = " ".join(f"`{name}`" for name in names)
    is_flag = getattr(parameter, "is_flag", False)
    return shown if is_flag else f"{shown} `{parameter.metavar or _metavar(parameter)}`"


def _metavar(parameter: Any) -> str:
    """By the option's type, which typer keeps in one place or another by version."""
    described = getattr(parameter, "type_descriptor", None)
    kind = described.annotation.__name__ if described else parameter.type.name
    return {"int": "N", "integer": "N", "float": "X", "Path": "PATH", "path": "PATH"}.get(kind, "TEXT")


def _usage(name: str, command: Any) -> str:
    words = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            label = parameter.metavar or parameter.human_readable_name
            label += "…" if parameter.nargs == -1 and not label.startswith("-- ") else ""
            words.append(label if parameter.required or label.startswith("[") else f"[{label}]")
    last = [word for word in words if word.startswith("-- ")]  # what comes after it is no option any more
    return " ".join(["onward", name, *(word for word in words if word not in last), "[options]", *last])


def cli_reference() -> str:
    lines: list[str] = []
    panel = ""
    for name, command in commands().items():
        own = getattr(command, "rich_help_panel", "") or panel  # a verb of a group stands in the panel above it
        if own != panel:
            panel = own
            lines += [f"## {panel}", ""]
        lines += [f"### onward {name}", "", "```text", _usage(name, command), "```", ""]
        lines += [" ".join((command.help or "").split()), ""]
        options = [p for p in command.params if p.param_type_name == "option"]
        if options:
            lines += ["| option | |", "|---|---|"]
            lines += [f"| {_cell(_flags(p))} | {_cell(getattr(p, 'help', '') or '')} |" for p in options]
            lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def error_tree() -> str:
    import onward.errors

    tree = (onward.errors.__doc__ or "").split("\n\n")[1]
    return f"```text\n{tree}\n```\n"


def agents_table() -> str:
    """Agents with their pinned version, wire formats and rules."""
    from onward.agents import AGENTS, agent
    from onward.gateway.normalisers import rules_for

    lines = ["| agent | is | version | wire formats | rules |", "|---|---|---|---|---|"]
    for name in AGENTS:
        adapter = agent(name)
        rules = rules_for(name, adapter.version) if adapter.asks else None
        named = ", ".join(dict.fromkeys(f"`{rule.name}`" for rule in rules.rules)) if rules else ""
        cells = (
            f"`{name}`", _cell(adapter.summary), adapter.version, ", ".join(adapter.protocols),
            f"{rules.name}: {named}" if rules else "",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


MADE: Mapping[str, Callable[[], str]] = {
    "reference/agents.md": agents_table, "reference/cli.md": cli_reference, "reference/errors.md": error_tree,
}  # fmt: skip
_BETWEEN = re.compile(r"(<!-- made by tests/docs/pages.py -->\n).*?(<!-- /made -->)", re.DOTALL)


def with_made(text: str, made: str) -> str:
    """The page with its made part replaced."""
    assert _BETWEEN.search(text), "the page has lost its marks"
    return _BETWEEN.sub(lambda found: f"{found[1]}\n{made}\n{found[2]}", text)


if __name__ == "__main__":
    for page, make in MADE.items():
        path = DOCS / page
        path.write_text(with_made(path.read_text(), make()))
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
