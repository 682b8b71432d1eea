"""`onward tasks`: making task folders, and looking whether they are what they should be."""

from __future__ import annotations

import json as to_json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from onward.cli.voice import Voice
from onward.config import settings
from onward.errors import UsageError
from onward.tasks.folders import EXAMPLES, Found, folders, look

if TYPE_CHECKING:  # what opens sandboxes is read when one is to be opened
    from onward.checking import Tried

__all__ = ["program"]

program = typer.Typer(
    no_args_is_help=True, rich_markup_mode="rich", context_settings={"help_option_names": ["-h", "--help"]},
    help="Make task folders, and check them.",
)  # fmt: skip

_TOML = """\
schema_version = "1.3"

[metadata]
difficulty = "easy"
category = "programming"

[agent]
timeout_sec = 600               # active seconds that an agent has

[verifier]
timeout_sec = 60

[environment]
network_mode = "no-network"     # or "public"
"""
_FILES = {
    "task.toml": _TOML,
    "instruction.md": """\
In `/app/words.txt` there are words, one a line. Write those that are there more than once to `/app/twice.txt`, each of
them once, one a line, in alphabetical order.
""",
    # A Dockerfile that only copies needs no container. RUN makes one necessary.
    "environment/Dockerfile": "FROM python:3.12-slim\nWORKDIR /app\nCOPY words.txt .\n",
    "environment/words.txt": "plum\nfig\npear\nplum\napple\nfig\nplum\nquince\n",
    "tests/test.sh": """\
#!/bin/sh
# Run when the agent has ended. It writes a number to /logs/verifier/reward.txt, 1 for work that is right.
printf 'fig\\nplum\\n' > /tmp/expected
if cmp /app/twice.txt /tmp/expected; then reward=1; else reward=0; fi
echo $reward > /logs/verifier/reward.txt
""",
    "solution/solve.sh": """\
#!/bin/sh
# What `--agent oracle` runs: it shows that the task can be solved.
cd /app && sort words.txt | uniq -d > twice.txt
""",
}


@program.command(
    "init", epilog="[b]Examples[/b]\n\n[cyan]onward tasks init tasks/greet[/cyan]\n\n"
    "[cyan]onward tasks init --examples tasks[/cyan]",
)  # fmt: skip
def _init(
    ctx: typer.Context,
    name: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where; its last part is the task's id.")],
    examples: Annotated[bool, typer.Option("--examples", help="Our five task folders, into this folder.")] = False,
) -> int:
    """Write a small task folder that can be run as it is, with a solution."""
    written = _copied(name) if examples else _written(name)
    voice: Voice = ctx.obj
    if not voice.quiet:
        listed = ", ".join(str(path) for path in written)
        typer.echo(
            f"made {listed}\ncheck it: onward tasks check {name} --run\nrun it: onward run {name} --agent oracle"
        )
    return 0


def _written(folder: Path) -> list[Path]:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", folder.resolve().name):
        raise UsageError(f"{folder.name!r} is not a name: use letters, digits and . _ -")
    if folder.exists():
        raise UsageError(f"{folder} is there already: choose another name")
    for name, text in _FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if path.suffix == ".sh":
            path.chmod(0o755)
    return [folder]


def _copied(folder: Path) -> list[Path]:
    wanted = [folder / one.name for one in folders(EXAMPLES)]
    for path in wanted:
        if path.exists():
            raise UsageError(f"{path} is there already: choose another folder")
    for path in wanted:
        shutil.copytree(EXAMPLES / path.name, path, ignore=shutil.ignore_patterns("__pycache__"))
    return wanted


@program.command(
    "check", epilog="[b]Examples[/b]\n\n[cyan]onward tasks check tasks[/cyan]\n\n"
    "[cyan]onward tasks check tasks/greet --run[/cyan]\n\n[cyan]onward tasks check examples --run --json[/cyan]",
)  # fmt: skip
def _check(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="FOLDER", help="Task folders, or folders of them.")],
    run: Annotated[
        bool, typer.Option("--run", help="Also do each: its solution must get the reward, an empty attempt must not.")
    ] = False,
    sandbox: Annotated[
        str | None, typer.Option("--sandbox", metavar="KIND", help="With --run: bubblewrap, container or process.")
    ] = None,
    image: Annotated[
        str | None, typer.Option("--image", metavar="NAME", help="With --run: a container's image.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> int:  # fmt: skip
    """Say what is wrong, unknown or not done in task folders, by file and field. 1 if any of them cannot be run."""
    from onward.checking import found_in, tried

    voice: Voice = ctx.obj
    as_json = json or voice.json
    stated = {name: value for name, value in {"kind": sandbox, "image": image}.items() if value}
    where, rows = settings().cache / "checks", list[dict[str, Any]]()
    screen = Console(highlight=False, soft_wrap=True)
    for found in map(look, [one for path in paths for one in found_in(path)]):
        result = tried(found.path, stated, where) if run and found.task is not None else None
        rows.append(_row(found, result))
        if not as_json:
            for line in _lines(found, result, quiet=voice.quiet):
                screen.print(line)
    bad = sum(not row["ok"] for row in rows)
    if as_json:
        print(to_json.dumps({"ok": not bad, "tasks": rows}, indent=2))
    elif not voice.quiet:
        screen.print(f"{len(rows) - bad} of {len(rows)} {'are as they should be' if run else 'can be run'}")
    return 1 if bad else 0


def _row(found: Found, result: Tried | None) -> dict[str, Any]:
    wrong = [*found.wrong, *(result.wrong if result else ())]
    row: dict[str, Any] = {
        "path": str(found.path), "ok": not wrong, "wrong": wrong, "told": list(found.told),
        "container": _obstacle(found),
    }  # fmt: skip
    if result is not None:
        row["tried"] = {
            "sandbox": result.kind, "solution": result.solved, "untouched": result.untouched,
            "seconds": round(result.seconds, 2),
        }  # fmt: skip
    return row


def _obstacle(found: Found) -> str:
    """Why it needs a container; empty where it does not."""
    folder: Mapping[str, Any] = found.task.metadata["folder"] if found.task else {}
    return str(folder.get("environment", {}).get("obstacle", ""))


def _lines(found: Found, result: Tried | None, *, quiet: bool) -> Iterator[str]:
    wrong = [*found.wrong, *(result.wrong if result else ())]
    if quiet and not wrong:
        return
    done = ""
    if result is not None and result.solved is not None and result.untouched is not None:
        done = f"solution {result.solved:g} in {result.seconds:.1f} s, untouched {result.untouched:g} ({result.kind})"
    mark = "[red]✗[/red]" if wrong else "[green]✓[/green]"
    yield f"{mark} {escape(str(found.path))}{'  ' + done if done else ''}"
    for said in wrong:
        yield f"  [red]wrong[/red] {escape(said)}"
    for said in found.told:
        yield f"  [yellow]note[/yellow]  [dim]{escape(said)}[/dim]"
    if why := _obstacle(found):
        yield f"  [yellow]note[/yellow]  [dim]needs a container: {escape(why)}[/dim]"
