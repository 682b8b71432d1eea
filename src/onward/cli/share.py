"""Sharing: `export`, `import`, `verify`."""

from __future__ import annotations

import json as text
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from onward import views, written
from onward.amounts import count
from onward.config import settings
from onward.errors import Damaged, UsageError
from onward.formats import checkpoint, files, lines
from onward.formats.answers import Fields
from onward.report.plain import as_json, plain
from onward.runs import Run, find, open_run

__all__ = ["export", "import_", "verify"]

_ENDINGS = {
    "gaia-checkpoint": ".json", "gaia-submission": ".jsonl", "events-jsonl": ".events.jsonl",
    "results-jsonl": ".results.jsonl", "csv": ".csv", "folder": "", "benchflow": "",
}  # fmt: skip

Store = Annotated[Path | None, typer.Option("--store", metavar="DIR", help="Folder of the runs.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


def export(
    run: Annotated[str, typer.Argument(metavar="RUN[/TASK]", show_default=False)],
    format_: Annotated[str, typer.Option("--format", help=f"One of {', '.join(_ENDINGS)}.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="PATH", help="Where to; - is standard output.", show_default=False),
    ] = None,
    solver: Annotated[str | None, typer.Option("--solver", help="Whose answers to submit.", show_default=False)] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
    store: Store = None,
) -> None:
    """Write a run in a form that others read, or as a copy of its folder. Keys never appear.

    A part of it, RUN/TASK, is written as run folders of BenchFlow's alone.
    """
    if format_ not in _ENDINGS:
        raise UsageError(f"--format is one of {', '.join(_ENDINGS)}, not {format_!r}")
    known = settings(store=store)
    if format_ == "benchflow":
        from onward.cli.benchflow import export_folders

        export_folders(known.store, run, output, known.keys, force=force)
        return
    folder = find(known.store, run)
    path = output or Path(f"{folder.name}-copy" if format_ == "folder" else f"{folder.name}{_ENDINGS[format_]}")
    if format_ == "folder":
        if str(path) == "-":
            raise UsageError("a folder cannot go to standard output: say -o PATH")
        typer.echo(f"{path}: {count(files.write_folder(folder, path, force=force), 'entry', 'entries')}")
        return
    opened = open_run(folder)
    try:
        pieces = files.redacted(_pieces(opened, format_, solver), known.keys)
        if str(path) == "-":
            sys.stdout.writelines(pieces)
        else:
            files.write_text(path, pieces, force=force)
            typer.echo(f"{path}")
    finally:
        opened.close()


def _pieces(run: Run, format_: str, solver: str | None) -> Iterable[str]:
    if solver is not None and solver not in run.plan.solvers:
        raise UsageError(f"{run.name} has no solver {solver!r}; there are {', '.join(run.plan.solvers)}")
    if format_ == "gaia-submission":
        return lines.submission(run, solver)
    if format_ == "gaia-checkpoint":
        return _document(run)
    return {"events-jsonl": lines.events, "results-jsonl": lines.results, "csv": lines.csv_rows}[format_](run)


def _document(run: Run) -> Iterator[str]:
    yield text.dumps(checkpoint.document(run), ensure_ascii=False, indent=2) + "\n"


# ---------------------------------------------------------------- in


def import_(
    path: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", show_default=False)],
    spec: Annotated[
        Path | None, typer.Option("--spec", help="The experiment whose tasks these answer.", show_default=False)
    ] = None,
    solver: Annotated[
        list[str] | None,
        typer.Option(
            "--solver",
            metavar="NAME[=FIELD]",
            help="A solver, and the field with its answer; repeatable.",
            show_default=False,
        ),
    ] = None,
    id_field: Annotated[
        str | None, typer.Option("--id-field", help="Field with the task's id.", show_default=False)
    ] = None,
    input_field: Annotated[
        str | None,
        typer.Option("--input-field", help="Field with the question, where there is no id.", show_default=False),
    ] = None,
    output_field: Annotated[
        str | None, typer.Option("--output-field", help="Field with the answer; dots go inside.", show_default=False)
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Make answers from elsewhere a run's generate stage, so that scoring them costs nothing.

    FOLDER: run folders of BenchFlow's, each made a run with its exchanges; it takes none of the options but the last.
    """
    if path.is_dir():
        from onward.cli.benchflow import import_folders

        import_folders(path, settings(store=store).store, json=json)
        return
    if spec is None:
        raise UsageError(f"{path} holds answers: --spec FILE says to which experiment's tasks")
    from onward import importing

    known = settings(store=store)
    experiment, folder = written.load(spec)
    fields = Fields(id_field, input_field, _solvers(solver or [], output_field))
    found = importing.import_outputs(experiment, folder, path, known, fields)
    if json:
        typer.echo(as_json(found))
        return
    typer.echo(f"{found.run}: " + ("made" if found.created else "already imported, nothing changed"))
    for name, number in found.answers.items():
        words = [f"{number:,} of {found.tasks:,} answered"]
        if found.empty.get(name):
            words.append(f"{count(found.empty[name], 'row')} without an answer")
        if found.missing.get(name):
            words.append(f"{found.missing[name]:,} missing (they stay owed)")
        typer.echo(f"    {name}: {', '.join(words)}")
    if found.unknown:
        some = ", ".join(found.unknown_ids) + (", …" if found.unknown > len(found.unknown_ids) else "")
        typer.echo(f"    {count(found.unknown, 'id')} in the file that no selected task has: {some}")
    typer.echo(f"score them: onward resume {found.run}")


def _solvers(named: list[str], output_field: str | None) -> dict[str, str | None] | None:
    found: dict[str, str | None] = {}
    for item in named:
        name, _, field = item.partition("=")
        if not name or name in found:
            raise UsageError(f"--solver {item}: give each solver once, as NAME or NAME=FIELD")
        found[name] = field or output_field
    return found or ({"recorded": output_field} if output_field else None)


# ---------------------------------------------------------------- whole?


def verify(
    run: Annotated[str, typer.Argument(metavar="RUN", show_default=False)],
    salvage: Annotated[
        Path | None,
        typer.Option(
            "--salvage", metavar="DIR", help="Recover what is intact into a new run folder.", show_default=False
        ),
    ] = None,
    store: Store = None,
    json: Json = False,
) -> None:
    """Read all of a run: is everything there, and is it what was written? Exit 6 where it is damaged."""
    folder = find(settings(store=store).store, run)
    found = views.integrity(folder)
    recovered = None
    if salvage is not None:
        from onward import importing

        recovered = importing.recover(folder, salvage)
    if json:
        problems = [{"entry": problem.seq or None, "what": problem.what} for problem in found.problems]
        told = {
            "run": folder.name,
            "whole": found.whole,
            "entries": found.entries,
            "kinds": found.kinds,
            "problems": problems,
        }
        typer.echo(as_json({**told, "salvaged": plain(recovered)} if recovered else told))
    elif found.whole:
        kinds = ", ".join(count(number, kind) for kind, number in sorted(found.kinds.items()))
        typer.echo(f"{folder.name}: {count(found.entries, 'entry', 'entries')}, all as written ({kinds})")
    else:
        for problem in found.problems:
            typer.echo(f"{f'entry {problem.seq}: ' if problem.seq else ''}{problem.what}")
    if recovered is not None and not json:
        typer.echo(_recovered(recovered.folder, recovered.recovered, recovered.lost, usable=recovered.usable))
    if not found.whole:
        raise Damaged(
            f"{folder.name} is damaged: {count(len(found.problems), 'problem')}"
            + ("" if salvage else f". Recover what is intact: onward verify {run} --salvage DIR")
        )


def _recovered(folder: Path, number: int, lost: list[int], *, usable: bool) -> str:
    words = f"{folder}: {count(number, 'entry', 'entries')} recovered"
    if lost:
        some = ", ".join(map(str, lost[:20])) + (", …" if len(lost) > 20 else "")
        words += f", {len(lost):,} lost (number {some}): what they recorded is owed again"
    return words if usable else f"{words}. The plan is among what is lost: the run cannot be resumed, only looked into"
