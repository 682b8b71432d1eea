"""What can go wrong, as one tree.

OnwardError
├── UsageError             the words are off: a flag, a field, a file that is not there        exit 2
│   └── SpecError          … in an experiment file: knows the field, the file and the line
├── NotThere               what was named does not exist                                       exit 1
├── Held                   another process drives this run                                     exit 4
├── Drifted                what the run depends on is no longer what it was                    exit 5
├── Damaged                the journal is torn, edited, foreign or from a newer Onward          exit 6
├── Fenced                 this process lost its lease and must not write any more              exit 4
├── Refused                a step was called in a way that cannot be recorded                  (a bug in user code)
├── StepError              a step did not end well; it was recorded
│   ├── StepFailed         the thing under test failed: data, scored 0
│   ├── StepTimeout        the trial's own limit ended it
│   └── StepOwed           our side or the provider's failed: owed again by every resume
│       └── OutOfReach     … since this machine has not what it takes
└── CallError              a model call did not give an answer
    ├── CallRejected       … and never will: context length, content refused                    failed
    ├── CallTransient      … this time: 408, 409, 429, 5xx, network, stall                      error, retried
    ├── ProviderStopped    … nor will any other to this provider: 401, 402, 403, 404, quota     error, stops it
    └── BudgetReached      … because it was not sent: it would not fit the budget               owed

Failures of the thing under test are data; failures of ours are exceptions. Every message says what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "BudgetReached", "CallError", "CallRejected", "CallTransient", "Damaged", "Drifted", "Fenced", "Held", "NotThere",
    "OnwardError", "OutOfReach", "ProviderStopped", "Refused", "SpecError", "StepError", "StepFailed", "StepOwed",
    "StepTimeout", "Stopping", "UsageError",
]  # fmt: skip


class OnwardError(Exception):
    """Base of all that Onward raises on purpose. `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(OnwardError):
    """The request itself is wrong: an unknown flag, a missing file, a field that does not exist."""

    exit_code = 2


class SpecError(UsageError):
    """An experiment file is wrong. `where` is `file:line`, `field` the dotted path of the field."""

    def __init__(self, message: str, *, field: str = "", where: str = "") -> None:
        super().__init__(": ".join(part for part in (where, field, message) if part))
        self.field, self.where = field, where


class NotThere(OnwardError):
    """What was named (a run, a task, a stage) does not exist."""


class Held(OnwardError):
    """Another process drives this run; the message names it."""

    exit_code = 4


class Fenced(Held):
    """This process held the run and lost it (it slept past its lease). Nothing was written after that."""


class Drifted(OnwardError):
    """User code, an agent or a source is no longer what the run recorded."""

    exit_code = 5


class Damaged(OnwardError):
    """The journal cannot be trusted as it stands. `onward verify --salvage` recovers what is intact."""

    exit_code = 6


class Refused(OnwardError):
    """A step was called in a way that cannot be recorded: a value that is not JSON, a name used twice."""


class Stopping(OnwardError):
    """The run is stopping: nothing new starts. Not an outcome; it writes no result."""

    exit_code = 3


class StepError(OnwardError):
    """A recorded step that did not end well. `key` names it, `reason` is one line, `kind` the class of error."""

    outcome = "error"

    def __init__(self, reason: str, *, key: str = "", kind: str = "", value: Any = None) -> None:
        super().__init__(f"{key}: {reason}" if key else reason)
        self.reason, self.key, self.kind = reason, key, kind
        self.value = value
        """What it had come to all the same: an agent's work as it stood when its time was up."""


class StepFailed(StepError):
    """The thing under test failed. Recorded; raised again from the record; never run again by `resume`."""

    outcome = "failed"


class StepTimeout(StepError):
    """The trial's own time or token limit ended this step. `resume` keeps it; `continue` goes on with it."""

    outcome = "timeout"


class StepOwed(StepError):
    """Something on our side, or the provider's, went wrong within bounds: owed again by every resume."""

    exit_code = 3


class OutOfReach(StepOwed):
    """This machine has not what the step takes. It says nothing of the steps beside it, and another machine may."""


class CallError(OnwardError):
    """A model call gave no answer.

    `status` is the HTTP status (0: none was received).
    """

    outcome = "error"

    def __init__(
        self, reason: str, *, provider: str = "", status: int = 0, retry_after: float | None = None,
        sent_whole: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(f"{provider}: {reason}" if provider else reason)
        self.reason, self.provider, self.status = reason, provider, status
        self.retry_after = retry_after
        """Seconds the provider asked us to wait, where it did."""
        self.sent_whole = sent_whole
        """Whether the request left whole and no refusal came back: it may have been billed, so it is charged."""
        self.recorded = False
        """Whether the journal holds this very failure as the result of a call."""


class CallRejected(CallError):
    """The provider will never answer this request: it is too long, or its content is refused."""

    outcome = "failed"


class CallTransient(CallError):
    """The provider did not answer this time (408, 409, 429, 5xx, network, cut stream, stall)."""


class ProviderStopped(CallError):
    """The provider will answer nothing until somebody acts (401, 402, 403, 404, exhausted quota)."""

    exit_code = 3


class BudgetReached(CallError):
    """The call was not sent: its reservation does not fit what is left of the budget."""

    exit_code = 3


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """` Did you mean "x"?` for the nearest known word, else ` Known: a, b, c.`; made to stand after a message."""
    names = sorted(known)
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f' Did you mean "{close[0]}"?'
    return f" Known: {', '.join(names)}." if names else ""
