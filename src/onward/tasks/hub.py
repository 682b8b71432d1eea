"""Tasks from the Hugging Face hub, streamed. Needs the extra `hub`; a gated set needs a token, which is handed in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from onward.errors import UsageError
from onward.tasks.parquet import rows_to_tasks
from onward.tasks.source import Columns
from onward.tasks.task import Task

__all__ = ["HubSource", "explain"]

Load = Callable[..., Iterable[Mapping[str, Any]]]


class HubSource:
    """A data set `owner/name`: its `config` and `split` (default `test`), at a `revision` (default: the newest).

    `load` takes the place of `datasets.load_dataset`, for tests. The token is no part of the identity.
    """

    def __init__(
        self,
        dataset: str,
        *,
        config: str | None = None,
        split: str = "test",
        revision: str | None = None,
        columns: Columns | None = None,
        token: str | None = None,
        load: Load | None = None,
    ) -> None:
        if dataset.count("/") > 1 or not all(dataset.split("/")):
            raise UsageError(f'a data set of the hub is "owner/name", not "{dataset}"')
        self.dataset, self.config, self.split, self.revision = dataset, config, split, revision
        self.columns = columns or Columns()
        self._token, self._load = token, load

    @property
    def name(self) -> str:
        """The data set's own name."""
        return self.dataset.rpartition("/")[2]

    @property
    def identity(self) -> Mapping[str, Any]:
        """Data set, config, split, revision, columns."""
        asked = {"config": self.config, "split": self.split, "revision": self.revision}
        return {"source": "hub", "dataset": self.dataset, "columns": self.columns.to_json()} | {
            name: value for name, value in asked.items() if value is not None
        }

    def tasks(self) -> Iterator[Task]:
        """See `Source.tasks`."""
        yield from rows_to_tasks(self._rows(), self.columns, f"{self.dataset} ({self.split})", None)

    def _rows(self) -> Iterator[Mapping[str, Any]]:
        load = self._load or _datasets()
        try:
            yield from load(
                self.dataset, self.config, split=self.split, revision=self.revision, token=self._token, streaming=True
            )
        except Exception as error:
            raise explain(error, self.dataset, has_token=bool(self._token)) from error


def _datasets() -> Load:
    try:
        from datasets import (  # type: ignore[import-not-found, import-untyped, unused-ignore]
            load_dataset,
        )
    except ImportError:
        raise UsageError("data sets of the hub need the package datasets: pip install 'onward[hub]'") from None
    found: Load = load_dataset
    return found


def explain(error: Exception, dataset: str, *, has_token: bool) -> UsageError:
    """What the hub's own error means for whoever asked for the data set. Read by name: its packages are optional."""
    kinds = {kind.__name__ for part in _causes(error) for kind in type(part).__mro__}
    said = str(error).strip().splitlines()
    words = str(error).lower()
    if "GatedRepoError" in kinds or "gated" in words:
        step = "The token has no access yet" if has_token else "No token was given (HF_TOKEN)"
        return UsageError(f"{dataset} is gated. {step}: accept its terms on its page, with the token's own account")
    if kinds & {"RepositoryNotFoundError", "DatasetNotFoundError"} or "401" in words:
        hint = "" if has_token else ", or it is private and needs a token (HF_TOKEN)"
        return UsageError(f"the hub has no data set {dataset}{hint}")
    return UsageError(f"{dataset} could not be read: {type(error).__name__}: {said[0] if said else ''}")


def _causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    while found is not None:
        yield found
        found = found.__cause__ or found.__context__
