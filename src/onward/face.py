"""The Python door: an experiment as an object, and its results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onward import launch
from onward.config import Flags, Settings, settings
from onward.drive import Ending
from onward.errors import SpecError
from onward.progress import Quiet, Watch
from onward.runs import find, open_run
from onward.tasks import FunctionSource
from onward.written import specified

if TYPE_CHECKING:
    from onward import views

__all__ = ["Experiment", "Results", "open_results"]


class Results:
    """What a run came to. `ending` is None for a run that was only opened."""

    def __init__(self, folder: Path, ending: Ending | None = None, lines: list[str] | None = None) -> None:
        self.folder, self.ending = folder, ending
        self.lines = lines or []
        """What was said while it ran: which run, what it takes over, what it owes."""

    @property
    def summary(self) -> views.Summary:
        """The run at a glance."""
        from onward import views

        run = open_run(self.folder)
        try:
            return views.summary(run)
        finally:
            run.close()

    @property
    def complete(self) -> bool:
        """Whether nothing planned is owed."""
        return self.ending.done >= self.ending.total if self.ending else self.summary.owed == 0

    def __iter__(self) -> Iterator[views.Trial]:
        """All planned trials, in the plan's order."""
        from onward import views

        run = open_run(self.folder)
        try:
            yield from views.trials(run)
        finally:
            run.close()

    def __repr__(self) -> str:
        return f"Results({self.folder.name!r}, complete={self.complete})"


class Experiment:
    """Solvers × tasks × trials × stages. The fields are those of an experiment file (`onward.experiment.Spec`).

    `tasks` may also be a list of dicts or Tasks; `solver`, `parse`, `score`, `reduce` may be Python functions;
    `models={"name": function}` answers as `python/name`. Paths start at `folder`, runs are kept in `store`.
    Raises SpecError for a field that does not exist or does not fit.
    """

    def __init__(
        self, *, store: str | Path | None = None, folder: str | Path = ".", models: Mapping[str, Any] | None = None,
        existing_run_policy: str = "auto", **fields: Any,
    ) -> None:  # fmt: skip
        if existing_run_policy not in ("auto", "error", "rerun"):
            raise SpecError('is "auto", "error" or "rerun"', field="existing_run_policy")
        tasks = fields.get("tasks")
        self._source = None
        if isinstance(tasks, list | tuple):
            self._source = FunctionSource(lambda: list(tasks), name="list")
            fields = {**fields, "tasks": "a list in Python"}
        self.spec = specified(fields)
        self.folder, self.models = Path(folder), models
        self.settings: Settings = settings(
            store=Path(store) if store else None, flags=Flags(if_exists=existing_run_policy), folder=self.folder
        )

    def run(self, *, until_stage: str | None = None, watch: Watch | None = None, **flags: Any) -> Results:
        """Find or make the run of this experiment and go on with it; `flags` as in `onward.config.Flags`.

        A complete run is returned as it is. Raises Held, Drifted, Damaged, UsageError.
        """
        heard = watch or Quiet()
        wanted = self.settings.having(until=until_stage, **flags)
        ending = launch.run(self.spec, self.folder, wanted, heard, models=self.models, source=self._source)
        return Results(ending.folder, ending, getattr(heard, "lines", None))

    async def run_async(self, *, until_stage: str | None = None, watch: Watch | None = None, **flags: Any) -> Results:
        """`run`, inside an event loop that runs already."""
        heard = watch or Quiet()
        wanted = self.settings.having(until=until_stage, **flags)
        ending = await launch.run_async(self.spec, self.folder, wanted, heard, models=self.models, source=self._source)
        return Results(ending.folder, ending, getattr(heard, "lines", None))

    def replay(self, *, stage: str, run: str = "latest", watch: Watch | None = None) -> Results:
        """Do `stage` and all below it again over the recorded answers of a run (default: the newest)."""
        heard = watch or Quiet()
        ending = launch.replay(run, stage, self.settings, heard, spec=self.spec, folder=self.folder, models=self.models)
        return Results(ending.folder, ending, getattr(heard, "lines", None))

    def changed(self, **fields: Any) -> Experiment:
        """The same experiment with other fields."""
        other = Experiment.__new__(Experiment)
        other.__dict__.update(self.__dict__)
        other.spec = specified({**dict(self.spec), **fields})
        other.settings = replace(self.settings)
        return other


def open_results(name: str, *, store: str | Path | None = None) -> Results:
    """The results of a stored run, by name, unique prefix, folder or `latest`. Raises NotThere."""
    return Results(find(settings(store=Path(store) if store else None).store, name))
