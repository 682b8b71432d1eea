"""The options of the verbs that drive a run, each once: its name, its type, what it does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

_WHAT, _WHICH, _HOW, _SEEN = "What it is", "Which tasks", "This invocation", "What is shown"


def _option(panel: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, rich_help_panel=panel, show_default=False, **more)


Text: TypeAlias = str | None
Texts: TypeAlias = list[str] | None
Whole: TypeAlias = int | None
Real: TypeAlias = float | None
Yes: TypeAlias = bool

# what it is: these make another run
Models = Annotated[Texts, _option(_WHAT, "--model", metavar="PROVIDER/NAME", help="Model to ask; repeat for several.")]
Agents = Annotated[
    Texts,
    _option(_WHAT, "--agent", metavar="NAME[@VERSION]", help="Agent that works on the tasks (see doctor); repeatable."),
]
Sandbox = Annotated[
    Text, _option(_WHAT, "--sandbox", metavar="KIND", help="Its sandbox: bubblewrap (default), container or process.")
]
Image = Annotated[Text, _option(_WHAT, "--image", metavar="NAME", help="Image of its containers.")]
Samples = Annotated[
    Whole, _option(_WHAT, "--samples", min=1, help="Candidates per trial; needs a reducer, or takes the majority.")
]
Trials = Annotated[Whole, _option(_WHAT, "--trials", min=1, help="Independent goes at every task.")]
PassMark = Annotated[
    Real, _option(_WHAT, "--pass-mark", help="Primary score from which a trial has passed (default 1).")
]
Split = Annotated[Text, _option(_WHAT, "--split", help="Split of the data set (validation, test).")]
Name = Annotated[Text, _option(_WHAT, "--name", help="Name of the run (default: the file's).")]
Prices = Annotated[
    Texts,
    _option(_WHAT, "--price", metavar="MODEL=IN/OUT", help="USD per million tokens, where no list price is known."),
]

# which tasks: filters make another run, the rest narrows this invocation
Levels = Annotated[Texts, _option(_WHICH, "--level", help="Only tasks of this level; repeatable.")]
Categories = Annotated[Texts, _option(_WHICH, "--category", help="Only tasks of this category; repeatable.")]
Where = Annotated[
    Texts, _option(_WHICH, "--where", metavar="KEY=VALUE", help="Only tasks whose metadata says so; repeatable.")
]
TaskIds = Annotated[Texts, _option(_WHICH, "--task-id", help="Only this task; repeatable.")]
Random = Annotated[Yes, _option(_WHICH, "--random", help="Draw one task (--limit for more); a run of its own.")]
Seed = Annotated[Whole, _option(_WHICH, "--seed", help="Seed of the draw (with --random), else of all sampling.")]
TasksFrom = Annotated[
    Text, _option(_WHICH, "--tasks-from", metavar="wrong:RUN", help="Only what was wrong in another run.")
]
Limit = Annotated[
    Whole, _option(_WHICH, "--limit", min=1, help="So many tasks: more than recorded extends, fewer narrows.")
]
ResumeFrom = Annotated[
    Text, _option(_WHICH, "--resume-from", metavar="TASK", help="Start at this task; what is before stays owed.")
]
MaxNew = Annotated[Whole, _option(_WHICH, "--max-new", min=1, help="At most so many tasks now; the rest stays owed.")]

# this invocation
Resume = Annotated[
    Yes, _option(_HOW, "--resume", help="Go on with the run of these filters, or the newest that contains them.")
]
New = Annotated[Yes, _option(_HOW, "--new", help="Measure anew: the next replicate, taking over nothing.")]
IfExists = Annotated[
    Text,
    _option(
        _HOW, "--if-exists", metavar="auto|error|rerun", help="If this very run exists: go on, refuse, do it again."
    ),
]
Parents = Annotated[
    Texts, _option(_HOW, "--parent", metavar="RUN", help="Take over what stands from this run; repeatable.")
]
RetryErrors = Annotated[
    Text,
    _option(
        _HOW, "--retry-errors", metavar="RUN", help="A derived run that does only RUN's errors and what is missing."
    ),
]
RerunFailed = Annotated[Yes, _option(_HOW, "--rerun-failed", help="Do every trial below the pass mark again.")]
Until = Annotated[
    Text, _option(_HOW, "--until-stage", metavar="STAGE", help="Stop after generate, reduce, parse, score or judge.")
]
Usd = Annotated[Real, _option(_HOW, "--budget-usd", min=0, help="The run's budget over all its invocations.")]
Tokens = Annotated[Whole, _option(_HOW, "--budget-tokens", min=0, help="The same in tokens.")]
Concurrency = Annotated[Whole, _option(_HOW, "--concurrency", min=1, help="Calls in flight at most (default 10).")]
MaxErrors = Annotated[
    Whole, _option(_HOW, "--max-errors", min=1, help="Stop after so many errors in a row (default 20).")
]
MaxWait = Annotated[
    Real, _option(_HOW, "--max-wait", min=0, help="Longest Retry-After to wait for, in seconds (default 6 h).")
]
Attempts = Annotated[Whole, _option(_HOW, "--attempts", min=1, help="Attempts per call (default 5).")]
Threshold = Annotated[Real, _option(_HOW, "--threshold", help="Exit 1 if the mean of the primary score is below.")]
InDoubt = Annotated[
    Text, _option(_HOW, "--in-doubt", metavar="resend|stop", help="What to do about calls that may have been answered.")
]
OnDivergence = Annotated[
    Text,
    _option(
        _HOW, "--on-divergence", metavar="warn|strict|fork", help="Where an agent leaves what it did before (warn)."
    ),
]
InFlight = Annotated[
    Text,
    _option(_HOW, "--in-flight", metavar="resume|restart", help="Trials cut off in the middle: go on, or begin again."),
]
TrialTime = Annotated[Real, _option(_HOW, "--time", min=0, metavar="SEC", help="Active seconds that a trial may take.")]
Sandboxes = Annotated[
    Whole, _option(_HOW, "--sandboxes", min=1, help="Sandboxes open at a time (default: one a processor).")
]
TasksDir = Annotated[
    Path | None,
    _option(_HOW, "--tasks-dir", metavar="DIR", help="Folder of the task of a FOLDER (default: where it was)."),
]
LiveModel = Annotated[
    Text, _option(_HOW, "--model", metavar="PROVIDER/NAME", help="Model of the live part (default: the original's).")
]
LiveTime = Annotated[
    Real, _option(_HOW, "--timeout", min=1, metavar="SEC", help="Live budget of a trial (default: the original's).")
]
ContinuedOutput = Annotated[
    Path | None,
    _option(
        _HOW, "--output", metavar="DIR", help="Where a FOLDER's continuation goes (default: continued, beside it)."
    ),
]
RequireTimeout = Annotated[Yes, _option(_HOW, "--require-timeout", help="Refuse what did not time out.")]
StrictDivergence = Annotated[
    Yes, _option(_HOW, "--strict-divergence", help="The same as --on-divergence strict: stop, and leave it unscored.")
]
ReplayOnly = Annotated[
    Yes, _option(_HOW, "--replay-only", help="Stop where the record ends, and verify; needs no model and no key.")
]
AgentVersion = Annotated[
    Text,
    _option(_HOW, "--agent-version", metavar="VERSION", help="Agent's version for a FOLDER, which does not say it."),
]
AcceptMismatch = Annotated[
    Yes, _option(_HOW, "--accept-mismatch", help="Go on although agent, image or task changed; the result says so.")
]
OnlyStore = Annotated[
    Path | None, _option(_HOW, "--store", metavar="DIR", help="Folder of the runs (default ./runs, or ONWARD_STORE).")
]
TakeOver = Annotated[Yes, _option(_HOW, "--take-over", help="Take the run from a holder you know is gone.")]
Strict = Annotated[Yes, _option(_HOW, "--strict", help="Exit 5 where what is recorded changed, instead of deriving.")]
AutoResume = Annotated[
    Whole, _option(_HOW, "--auto-resume", min=0, metavar="[N]", help="Start again after a crash, up to N times (3).")
]
Checkpoint = Annotated[
    Path | None, _option(_HOW, "--checkpoint-file", metavar="PATH", help="Keep a JSON of all results up to date.")
]
Store = Annotated[
    Path | None,
    _option(_HOW, "--store", "--output", metavar="DIR", help="Folder of the runs (default ./runs, or ONWARD_STORE)."),
]

# what is shown
Plan = Annotated[Yes, _option(_SEEN, "--plan", help="Show what is kept and owed, calls, cost and time; spend nothing.")]
Stream = Annotated[Yes, _option(_SEEN, "--stream", help="Show text and calls as they arrive.")]
Json = Annotated[Yes, _option(_SEEN, "--json", help="End with the result as JSON.")]
