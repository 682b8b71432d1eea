"""Onward: evaluations of language models and agents that never lose work and never pay twice.

    from onward import Experiment

    experiment = Experiment(tasks="data/gsm8k.jsonl", solver="openai/MODEL", parse="last_number", score="numeric")
    print(experiment.run().summary)

Kill it anywhere, run it again: it goes on from there.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onward.context import Answer as Answer
    from onward.context import BlockingContext as BlockingContext
    from onward.context import Context as Context
    from onward.context import Usage as Usage
    from onward.errors import Damaged as Damaged
    from onward.errors import Drifted as Drifted
    from onward.errors import Held as Held
    from onward.errors import NotThere as NotThere
    from onward.errors import OnwardError as OnwardError
    from onward.errors import StepFailed as StepFailed
    from onward.errors import StepOwed as StepOwed
    from onward.errors import StepTimeout as StepTimeout
    from onward.errors import UsageError as UsageError
    from onward.face import Experiment as Experiment
    from onward.face import Results as Results
    from onward.face import open_results as open_results
    from onward.parsers import parser as parser
    from onward.reducers import reducer as reducer
    from onward.scorers import Score as Score
    from onward.scorers import scorer as scorer
    from onward.tasks import Task as Task

_FROM = {
    "Answer": "context", "BlockingContext": "context", "Context": "context", "Damaged": "errors", "Drifted": "errors",
    "Experiment": "face", "Held": "errors", "NotThere": "errors", "OnwardError": "errors", "Results": "face",
    "Score": "scorers", "StepFailed": "errors", "StepOwed": "errors", "StepTimeout": "errors", "Task": "tasks",
    "Usage": "context", "UsageError": "errors", "open_results": "face", "parser": "parsers", "reducer": "reducers",
    "scorer": "scorers",
}  # fmt: skip

__all__ = [*sorted(_FROM), "__version__"]  # noqa: PLE0604
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Names are fetched when first used, so that `import onward` costs nothing."""
    if name not in _FROM:
        raise AttributeError(f"module 'onward' has no attribute {name!r}")
    return getattr(import_module(f"onward.{_FROM[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
