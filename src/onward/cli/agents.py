"""`onward agents`: which there are, and installing them."""

from __future__ import annotations

import json as to_json
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from onward.cli.voice import Voice
from onward.config import settings

__all__ = ["program"]

program = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]},
    help="The agents that can be run, and installing them.",
)  # fmt: skip


@program.command("list", epilog="[cyan]onward agents list[/cyan]")
def _list(
    ctx: typer.Context, json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False
) -> int:  # fmt: skip
    """Every agent, the version that is meant where none is named, and whether it is installed."""
    from onward.agents import AGENTS, agent

    voice, cache = cast("Voice", ctx.obj), settings().cache
    rows = []
    for name in AGENTS:
        adapter = agent(name)
        there = not adapter.version or adapter.find(cache, {}) is not None
        rows.append({
            "agent": name, "version": adapter.version, "installed": there, "formats": list(adapter.protocols),
            "summary": adapter.summary,
        })  # fmt: skip
    if json or voice.json:
        print(to_json.dumps(rows, indent=2))
        return 0
    grid = Table.grid(padding=(0, 2))
    for row in rows:
        mark = "[green]✓[/green]" if row["installed"] else "[yellow]·[/yellow]"
        grid.add_row(mark, str(row["agent"]), str(row["version"]), f"[dim]{escape(str(row['summary']))}[/dim]")
    Console(highlight=False, soft_wrap=True).print(grid)
    if not voice.quiet and not all(row["installed"] for row in rows):
        print("install one: onward agents install NAME[@VERSION]")
    return 0


@program.command("install", epilog="[cyan]onward agents install claude-code codex@0.169.0[/cyan]")
def _install(
    ctx: typer.Context, names: Annotated[list[str], typer.Argument(metavar="NAME[@VERSION]", show_default=False)]
) -> int:
    """Install agents, once per version for all runs of this machine. A run installs what it needs by itself."""
    from onward.agents import agent
    from onward.doctor import split

    voice = cast("Voice", ctx.obj)
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    for adapter, options in [(agent(name), options) for name, options in map(split, names)]:
        adapter.check(options)
        installed = adapter.install(settings().cache, options, say)
        if not voice.quiet:
            print(" ".join(filter(None, (adapter.name, installed.version, "is installed"))))
    return 0
