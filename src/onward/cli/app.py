"""The verbs, in the groups that `--help` shows, and what becomes of errors: one line, and an exit code."""

# ruff: noqa: PLR0913 - an option is a parameter here

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from onward.cli import agents, look, share, tasks
from onward.cli import options as o
from onward.cli import wrap_options as w
from onward.cli.supervise import counted
from onward.cli.voice import Voice, heard
from onward.cli.words import trouble
from onward.errors import OnwardError

__all__ = ["app", "program"]

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Click's: typer carries its own copy of it in some versions."""
_RUN, _LOOK, _SHARE, _SET_UP = "Run", "Look", "Share", "Set up"

app = typer.Typer(
    name="onward", no_args_is_help=True, add_completion=False, rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Evaluations of language models that never lose work and never pay twice. Kill it anywhere; `onward resume`.",
    epilog="Every verb also takes -q, -v, --log-level debug|info|warning|error and --log-format pretty|json.",
)  # fmt: skip


def _verb(name: str, group: str, *examples: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a verb. Each example is a line below its help."""
    lines = [f"[cyan]{example}[/cyan]" for example in examples]
    return app.command(name, rich_help_panel=group, epilog="\n\n".join(["[b]Examples[/b]", *lines]) if lines else None)


@app.callback()
def _main(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        from importlib.metadata import version as known

        typer.echo(f"onward {known('onward')}")
        raise typer.Exit


# ---------------------------------------------------------------- run


@_verb(
    "run", _RUN, "onward run nightly.yaml", "onward run arithmetic --model local/smollm2 --limit 20",
    "onward run gaia --split validation --level 2 --category code --limit 20 --resume --stream --verbose",
    "onward run nightly.yaml --plan", "onward run nightly.yaml --new --budget-usd 5",
    "onward run tasks/ --agent claude-code --model anthropic/NAME", "onward run tasks/ --agent oracle",
)  # fmt: skip
def _run(
    ctx: typer.Context,
    what: Annotated[str | None, typer.Argument(metavar="SPEC|BENCHMARK", show_default=False)] = None,
    model: o.Models = None, agent: o.Agents = None, sandbox: o.Sandbox = None, image: o.Image = None,
    split: o.Split = None, name: o.Name = None, samples: o.Samples = None,
    trials: o.Trials = None, pass_mark: o.PassMark = None, price: o.Prices = None,
    level: o.Levels = None, category: o.Categories = None, where: o.Where = None, task_id: o.TaskIds = None,
    random: o.Random = False, seed: o.Seed = None, tasks_from: o.TasksFrom = None, limit: o.Limit = None,
    resume_from: o.ResumeFrom = None, max_new: o.MaxNew = None,
    resume: o.Resume = False, new: o.New = False, if_exists: o.IfExists = None, parent: o.Parents = None,
    retry_errors: o.RetryErrors = None, until_stage: o.Until = None, budget_usd: o.Usd = None,
    budget_tokens: o.Tokens = None, concurrency: o.Concurrency = None, max_errors: o.MaxErrors = None,
    max_wait: o.MaxWait = None, attempts: o.Attempts = None, time: o.TrialTime = None,
    sandboxes: o.Sandboxes = None, threshold: o.Threshold = None,
    in_doubt: o.InDoubt = None, in_flight: o.InFlight = None, on_divergence: o.OnDivergence = None,
    take_over: o.TakeOver = False, strict: o.Strict = False,
    auto_resume: o.AutoResume = None, checkpoint_file: o.Checkpoint = None, store: o.Store = None,
    plan: o.Plan = False, stream: o.Stream = False, json: o.Json = False,
) -> int:  # fmt: skip
    """Start a run, or go on with the run of exactly this experiment.

    SPEC is a YAML or TOML file (see `onward init`), or a folder of task folders; BENCHMARK is arithmetic, examples or
    gaia.
    """
    from onward.cli.running import run

    return run(ctx.obj, ctx.params)


@_verb("resume", _RUN, "onward resume", "onward resume nightly-3f9a1c --budget-usd 10", "onward resume latest --plan")
def _resume(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="RUN", show_default=False)] = None,
    limit: o.Limit = None, resume_from: o.ResumeFrom = None, max_new: o.MaxNew = None,
    rerun_failed: o.RerunFailed = False, until_stage: o.Until = None, budget_usd: o.Usd = None,
    budget_tokens: o.Tokens = None, concurrency: o.Concurrency = None, max_errors: o.MaxErrors = None,
    max_wait: o.MaxWait = None, attempts: o.Attempts = None, sandboxes: o.Sandboxes = None,
    price: o.Prices = None, threshold: o.Threshold = None,
    in_doubt: o.InDoubt = None, in_flight: o.InFlight = None, on_divergence: o.OnDivergence = None,
    take_over: o.TakeOver = False, strict: o.Strict = False,
    auto_resume: o.AutoResume = None, checkpoint_file: o.Checkpoint = None, store: o.Store = None,
    plan: o.Plan = False, stream: o.Stream = False, json: o.Json = False,
) -> int:  # fmt: skip
    """Finish a run from its own folder: what is done is never done again. Without RUN, the latest unfinished one."""
    from onward.cli.running import resume

    return resume(ctx.obj, ctx.params)


Run = Annotated[str, typer.Argument(metavar="RUN", show_default=False)]


@_verb("stop", _RUN, "onward stop nightly", "onward stop latest --now")
def _stop(
    ctx: typer.Context, name: Run, store: o.Store = None,
    now: Annotated[bool, typer.Option("--now", help="Do not wait for what is in flight.")] = False,
) -> int:  # fmt: skip
    """Ask whoever drives a run to stop: what is in flight finishes, nothing more starts."""
    from onward.cli.running import stop

    return stop(ctx.obj, ctx.params)


@_verb(
    "continue", _RUN, "onward continue nightly", "onward continue nightly/task-17 --timeout 3600",
    "onward continue nightly --plan", "onward continue jobs/2026-11-20/fix-tests__1a2b3c4d --tasks-dir tasks",
)  # fmt: skip
def _continue(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(metavar="RUN[/TASK]|FOLDER|ROOT", show_default=False)],
    tasks_dir: o.TasksDir = None, model: o.LiveModel = None, timeout: o.LiveTime = None,
    output: o.ContinuedOutput = None, agent_version: o.AgentVersion = None,
    require_timeout: o.RequireTimeout = False, strict_divergence: o.StrictDivergence = False,
    replay_only: o.ReplayOnly = False, on_divergence: o.OnDivergence = None, accept_mismatch: o.AcceptMismatch = False,
    budget_usd: o.Usd = None, budget_tokens: o.Tokens = None, concurrency: o.Concurrency = None,
    max_errors: o.MaxErrors = None, max_wait: o.MaxWait = None, attempts: o.Attempts = None,
    sandboxes: o.Sandboxes = None, price: o.Prices = None, threshold: o.Threshold = None,
    take_over: o.TakeOver = False, store: o.OnlyStore = None, plan: o.Plan = False, stream: o.Stream = False,
    json: o.Json = False,
) -> int:  # fmt: skip
    """Give timed-out trials of agents more time: served what they had recorded, then live. No prompt is added.

    FOLDER is a run folder of BenchFlow's, ROOT any folder with such in it: all that timed out. What is served from the
    record costs neither money nor time of the limit.
    """
    from onward.cli.continuing import carry_on

    return carry_on(ctx.obj, ctx.params)


@_verb("replay", _RUN, "onward replay nightly --stage score", "onward replay nightly --stage parse --spec changed.yaml")
def _replay(
    ctx: typer.Context, name: Run,
    stage: Annotated[str, typer.Option("--stage", help="reduce, parse, score or judge; all below it follow.")],
    spec: Annotated[Path | None, typer.Option("--spec", show_default=False, help="Stages from this file.")] = None,
    concurrency: o.Concurrency = None, budget_usd: o.Usd = None, threshold: o.Threshold = None,
    take_over: o.TakeOver = False, store: o.Store = None, stream: o.Stream = False, json: o.Json = False,
) -> int:  # fmt: skip
    """Do a stage and all below it again over the recorded answers, and show old against new."""
    from onward.cli.running import replay

    return replay(ctx.obj, ctx.params)


@_verb("redo", _RUN, "onward redo nightly/task-17", "onward redo nightly/task-17/score")
def _redo(
    ctx: typer.Context,
    address: Annotated[str, typer.Argument(metavar="RUN[/TASK[/STAGE]]", show_default=False)],
    concurrency: o.Concurrency = None, budget_usd: o.Usd = None, threshold: o.Threshold = None,
    take_over: o.TakeOver = False, store: o.Store = None, stream: o.Stream = False, json: o.Json = False,
) -> int:  # fmt: skip
    """Do a part of a run again on purpose. What it was is kept, out of account."""
    from onward.cli.running import redo

    return redo(ctx.obj, ctx.params)


@_verb("init", _RUN, "onward init", "onward init nightly")
def _init(
    ctx: typer.Context, name: Annotated[str, typer.Argument(metavar="[NAME]", show_default=False)] = "experiment"
) -> int:  # fmt: skip
    """Write a small experiment and its tasks, ready to run."""
    from onward.cli.setup import init

    return init(ctx.obj, ctx.params)


@_verb("demo", _RUN, "onward demo", "onward demo --real")
def _demo(
    ctx: typer.Context,
    real: Annotated[bool, typer.Option("--real", help="With a real small model on this machine.")] = False,
) -> int:
    """Watch a run die half-way, go on, and pay for nothing twice. Needs no key."""
    from onward.cli.demo import demo

    return demo(ctx.obj, ctx.params)


@_verb(
    "wrap", _RUN, "onward wrap -- inspect eval task.py --model openai/gpt-4o-mini",
    "onward wrap --name sweep -- ./sweep.sh", "onward wrap --upstream http://127.0.0.1:8000 -- python agent.py",
)  # fmt: skip
def _wrap(
    ctx: typer.Context, command: w.Command, name: w.Name = None, resume: w.Resume = False, new: w.New = False,
    upstream: w.Upstream = None, key_name: w.KeyName = None, agent: w.Agent = None, miss: w.Miss = None,
    on_divergence: w.OnDivergence = None, price: o.Prices = None, budget_usd: o.Usd = None,
    budget_tokens: o.Tokens = None, concurrency: o.Concurrency = None, max_wait: o.MaxWait = None,
    attempts: o.Attempts = None, in_doubt: o.InDoubt = None, take_over: o.TakeOver = False, store: o.Store = None,
) -> int:  # fmt: skip
    """Run any program with its model calls recorded: killed and started again, it is served what it was told before.

    The program is pointed at us by the usual variables (OPENAI_BASE_URL, ANTHROPIC_BASE_URL, …); keys stay here.
    """
    from onward.cli.wrap import wrap

    return wrap(ctx.obj, ctx.params)


# ---------------------------------------------------------------- look, share, set up


_verb("runs", _LOOK, "onward runs")(look.runs)


@_verb(
    "show", _LOOK, "onward show latest", "onward show nightly/task-17 --why", "onward show nightly --wrong",
    "onward show nightly/task-17 --trajectory --lane 1 --turn 3 --full",
)  # fmt: skip
def _show(
    address: Annotated[str, typer.Argument(metavar="RUN[/TASK[/STAGE[/EXCHANGE]]]", show_default=False)],
    wrong: look.WrongBook = False, errors: look.Errors = False, in_flight: look.InFlight = False,
    why: look.Why = False, follow: look.Follow = False, trajectory: look.Trajectory = False, full: look.Full = False,
    lane: look.LaneNumber = None, turn: look.TurnNumber = None, store: look.Store = None, json: look.Json = False,
) -> None:  # fmt: skip
    """Look at a run, a task, a stage, one exchange with a model, or an agent's whole episode."""
    asked = {"--wrong": wrong, "--errors": errors, "--in-flight": in_flight}
    narrow = look.Narrow(full, lane, turn)
    what = look.Asked(tuple(name for name, on in asked.items() if on), why, follow, trajectory, narrow)
    look.show(address, what, store, json=json)


_verb("compare", _LOOK, "onward compare nightly", "onward compare nightly weekly --flips")(look.compare)
_verb("export", _SHARE, "onward export nightly --format csv", "onward export nightly --format folder")(share.export)
_verb("import", _SHARE, "onward import answers.jsonl --spec nightly.yaml")(share.import_)
_verb("verify", _SHARE, "onward verify nightly", "onward verify nightly --salvage recovered")(share.verify)


app.add_typer(tasks.program, name="tasks", rich_help_panel=_SET_UP)
app.add_typer(agents.program, name="agents", rich_help_panel=_SET_UP)


@_verb(
    "doctor", _SET_UP, "onward doctor", "onward doctor --agent claude-code", "onward doctor --clean --store /data/runs"
)
def _doctor(
    ctx: typer.Context,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME[@VERSION]", help="Have it play a small episode twice: what differs?")
    ] = None,
    clean: Annotated[bool, typer.Option("--clean", help="Remove what killed runs left of their sandboxes.")] = False,
    store: o.Store = None, json: o.Json = False,
) -> int:  # fmt: skip
    """Look at what this machine has: Python, store, disk, keys (by name), the local model, sandboxes and agents."""
    from onward.cli.setup import doctor

    return doctor(ctx.obj, ctx.params)


# ---------------------------------------------------------------- what is said when it goes wrong


def program(arguments: Sequence[str]) -> int:
    """Run one command line; returns the exit code (SEMANTICS §8)."""
    voice = Voice()
    try:
        words, voice = heard(counted(arguments))
        command = typer.main.get_command(app)
        # Not `main`, which some versions of typer leave with 130 at a Ctrl-C: it is 3, as everywhere (SEMANTICS §8).
        with command.make_context("onward", list(words), obj=voice) as context:
            found = command.invoke(context)
        return found if isinstance(found, int) else 0
    except typer.Exit as ending:
        return ending.exit_code
    except _UsageError as error:
        said: Any = error
        if not said.format_message():
            return 2  # no word was given at all: the help has been shown
        where = said.ctx.command_path if getattr(said, "ctx", None) else "onward"
        return _complain(f"{said.format_message()}\nsee: {where} --help", error, voice, 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has no reader
        return 0
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - whatever it is, it has one line and an exit code
        if not isinstance(error, OnwardError | OSError | KeyboardInterrupt | typer.Abort) and not voice.verbose:
            traceback.print_exc()
        message, code = trouble(KeyboardInterrupt() if isinstance(error, typer.Abort) else error)
        return _complain(message, error, voice, code)


def _complain(message: str, error: BaseException, voice: Voice, code: int) -> int:
    if voice.verbose and error.__traceback__ is not None:
        traceback.print_exception(error)
    print(f"error: {message}", file=sys.stderr)
    return code
