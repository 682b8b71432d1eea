"""Run folders of BenchFlow's: `export --format benchflow` writes them, `import FOLDER` makes runs of them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import typer

from onward import adoption, views
from onward.amounts import count
from onward.errors import NotThere, UsageError
from onward.formats import files
from onward.formats.benchflow import Exported, export, find_folders, is_folder, read
from onward.keys import Key
from onward.report.plain import as_json
from onward.runs import Run, open_run

__all__ = ["export_folders", "import_folders"]


def export_folders(
    store: Path, address: str, output: Path | None, keys: Mapping[str, str], *, force: bool,
    say: Callable[[str], None] = typer.echo,
) -> None:  # fmt: skip
    """One trial into the folder that is named; several, each into a folder in it."""
    if str(output) == "-":
        raise UsageError("a folder cannot go to standard output: say -o DIR")
    folder, inside = views.locate(store, address)
    run = open_run(folder)
    try:
        chosen = list(_chosen(run, inside))
        target = output or Path(f"{folder.name}-benchflow")
        places = [target] if len(chosen) == 1 else [target / name for name in _names(run, chosen)]
        for key, place in zip(chosen, places, strict=True):
            made = export(run, key, keys)
            _write(made, place, force=force)
            say(f"{place}: {_told(made)}")
    finally:
        run.close()


def _chosen(run: Run, inside: str) -> Iterator[Key]:
    """The trials of agents that have come to anything. Raises NotThere where there is none."""
    wanted = set(views.within(run, inside).trials) if inside else None
    agents, begun = set(run.plan.shape.agents), 0
    for trial in views.trials(run):
        if trial.solver in agents and (wanted is None or trial.key in wanted) and trial.started:
            begun += 1
            yield trial.key
    if not begun:
        where = f"{run.name}/{inside}" if inside else run.name
        raise NotThere(f"no agent has begun a trial in {where}: BenchFlow's folders hold an agent's episode")


def _names(run: Run, keys: list[Key]) -> Iterator[str]:
    """`citation-check__6bfd032d`, as BenchFlow names them; told apart where that is not enough."""
    taken: Counter[str] = Counter()
    for key in keys:
        name = f"{re.sub(r'[^A-Za-z0-9._-]', '-', key.names[1]).lstrip('.') or 'task'}__{run.id[:8]}"
        taken[name] += 1
        yield name if taken[name] == 1 else f"{name}-{taken[name]}"


def _write(made: Exported, place: Path, *, force: bool) -> None:
    if force and place.is_dir() and any(place.iterdir()) and not is_folder(place):
        raise UsageError(f"{place} is a folder with other things in it, and --force would replace it: name another")
    files.write_tree(place, made.files, force=force)


def _told(made: Exported) -> str:
    words = [f"{count(made.recorded, 'line')} recorded, {made.live:,} live"]
    if made.left_out:
        some = ", ".join(map(str, made.left_out[:8])) + (", …" if len(made.left_out) > 8 else "")
        words.append(f"left out as never served: {'line' if len(made.left_out) == 1 else 'lines'} {some}")
    if made.blotted:
        names = ", ".join(f"{name} in {count(number, 'text')}" for name, number in sorted(made.blotted.items()))
        words.append(f"blotted out: {names}")
    return "; ".join(words)


# ---------------------------------------------------------------- in


def import_folders(root: Path, store: Path, *, json: bool) -> None:
    """Every run folder at or below a place, each a run of its own; one that cannot be read is named, and holds up no
    other. Raises NotThere where there is none, UsageError where none can be read."""
    made: list[adoption.Adopted] = []
    refused: dict[str, str] = {}
    for folder in find_folders(root):
        try:
            made.append(adoption.adopt(read(folder), store))
        except UsageError as error:
            refused[str(folder)] = str(error)
    if not made and not refused:
        raise NotThere(f"there is no run folder of BenchFlow's in {root}: none has a config.json beside a trajectory")
    if not made:
        raise UsageError("; ".join(refused.values()))
    if json:
        typer.echo(as_json({"runs": made, "refused": refused}))
        return
    for one in made:
        typer.echo(f"{one.run}: {_came(one)}")
    for place, why in refused.items():
        typer.echo(f"left out: {place}: {why}")


def _came(one: adoption.Adopted) -> str:
    words = ["made" if one.created else "already imported, nothing changed", count(one.exchanges, "exchange")]
    words += [f"{number} never served again ({what})" for what, number in sorted(one.left_out.items())]
    return ", ".join(words)
