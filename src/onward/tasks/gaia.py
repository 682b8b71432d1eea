"""GAIA: general assistant questions, with files (Mialon et al. 2023, arXiv 2311.12983).

The data set is gated and asks not to be passed on, so none of it is here: it is a local folder in its layout, or is
fetched from the hub with a token (extra `hub`). Layout: `metadata.jsonl` or `metadata.parquet` in the folder itself, in
`SPLIT/` or in `2023/SPLIT/`, with the attachments beside it. Fields: `task_id`, `Question`, `Level`, `Final answer`,
`file_name`, `Annotator Metadata`. An answer of `?` or nothing (the test split) is not known, and not scored.

Categories (a task may have several; whole words of the question, in any case):

- `files`: it has an attachment.
- `code`: calculate, compute, code, program, equation, formula, algorithm and their forms (computation, coding, …; not
  decode, computer); or an arithmetic expression: `12+5`, `3 * 4`, `10 - 4`, `10 / 4` (not 2020-2021, 1/2 or a date).
- `search`: search, find, article, website, url, arxiv, wikipedia, published, journal and their forms (not finding,
  research, journalist).
- `browser`: browser, navigate, click, screenshot, webpage, web page and their forms.
- `reasoning`: none of these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from onward.errors import SpecError, UsageError
from onward.tasks.hub import explain
from onward.tasks.jsonl import JsonlSource
from onward.tasks.parquet import json_value, parquet_rows
from onward.tasks.source import Columns, UniqueIds, row_to_task
from onward.tasks.task import Task

__all__ = ["CATEGORIES", "GaiaSource", "categories"]

CATEGORIES = ("files", "code", "search", "browser", "reasoning")
DATASET = "gaia-benchmark/GAIA"

_WORDS = {
    "code": r"calculat(?:e|es|ed|ing|ions?|ors?)|comput(?:e|es|ed|ing|ations?|ational)|codes?|coded|coding"
    r"|programs?|programm(?:ed|ing|ers?)|equations?|formula[es]?|algorithms?|algorithmic",
    "search": r"search(?:es|ed|ing)?|finds?|articles?|websites?|urls?|arxiv|wikipedia|published|journals?",
    "browser": r"browsers?|navigat(?:e|es|ed|ing|ion)|click(?:s|ed|ing)?|screenshots?|webpages?|web pages?",
}
_RULES = {name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for name, words in _WORDS.items()}
_NUMBER = r"\d+(?:[.,]\d+)*"
_EXPRESSION = re.compile(
    rf"(?<![\w./-])(?:{_NUMBER}\s*[+*×÷^]\s*{_NUMBER}|(?P<a>{_NUMBER})\s+[-−/]\s+(?P<b>{_NUMBER}))(?![\w/-])"
)
_YEAR = re.compile(r"(?:1[0-9]|20)[0-9]{2}")


def categories(question: str, *, has_files: bool = False) -> list[str]:
    """The categories of a question by the rules of the module, in the order of `CATEGORIES`."""
    found = {name for name, rule in _RULES.items() if rule.search(question)}
    if any(not _is_span(match) for match in _EXPRESSION.finditer(question)):
        found.add("code")
    if has_files:
        found.add("files")
    return [name for name in CATEGORIES if name in found] or ["reasoning"]


def _is_span(match: re.Match[str]) -> bool:
    """Whether it is a span of years ("2010 - 2020") and no subtraction."""
    return bool(match["a"] and _YEAR.fullmatch(match["a"]) and _YEAR.fullmatch(match["b"]))


Fetch = Callable[..., str]


class GaiaSource:
    """One split (`validation` or `test`) from a local folder, or with `folder=None` from the hub.

    `fetch` takes the place of `huggingface_hub.snapshot_download`, for tests. Neither folder nor token is part of its
    identity: the same questions are the same source.
    """

    name = "gaia"

    def __init__(
        self,
        folder: Path | None = None,
        *,
        split: str = "validation",
        token: str | None = None,
        revision: str | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        if split not in ("validation", "test"):
            raise SpecError(f'split is "validation" or "test", not "{split}"', field="tasks.split")
        self.folder, self.split, self.revision = folder, split, revision
        self._token, self._fetch = token, fetch

    @property
    def identity(self) -> Mapping[str, Any]:
        """Split, and revision where one was asked for."""
        return {"source": "gaia", "split": self.split} | ({"revision": self.revision} if self.revision else {})

    def tasks(self) -> Iterator[Task]:
        """See `Source.tasks`. Also raises UsageError for a level that is no number, and an attachment not there."""
        metadata = self._metadata(self.folder if self.folder is not None else self._download())
        unique, none = UniqueIds(), True
        for number, row in _rows(metadata):
            where = f"{metadata}:{number}"
            task = _task(row, where, metadata.parent)
            unique.admit(task.id, number, where)
            yield task
            none = False
        if none:
            raise UsageError(f"{metadata} holds no task")

    def _metadata(self, folder: Path) -> Path:
        places = [folder, folder / self.split, folder / "2023" / self.split]
        for place in places:
            for name in ("metadata.jsonl", "metadata.parquet"):
                if (place / name).is_file():
                    return place / name
        looked = f"there is no metadata.jsonl or metadata.parquet in {', '.join(map(str, places))}"
        if folder != self.folder:
            raise UsageError(f"no GAIA data: {looked}")
        raise UsageError(
            f"{folder} holds no tasks: neither task folders (a task.toml or task.md in each; `onward tasks init NAME` "
            f"writes one) nor GAIA's data ({looked})"
        )

    def _download(self) -> Path:
        fetch = self._fetch or _snapshot_download()
        if not self._token:
            raise UsageError(
                f"{DATASET} is gated: accept its terms on its page and set HF_TOKEN, or give a local folder: "
                "tasks: {gaia: {path: FOLDER}}"
            )
        try:
            found = fetch(
                DATASET,
                repo_type="dataset",
                revision=self.revision,
                token=self._token,
                allow_patterns=[f"2023/{self.split}/*"],
            )
            return Path(found)
        except Exception as error:
            raise explain(error, DATASET, has_token=True) from error


def _snapshot_download() -> Fetch:
    try:
        from huggingface_hub import (  # type: ignore[import-not-found, unused-ignore]
            snapshot_download,
        )
    except ImportError:
        raise UsageError(
            "fetching GAIA needs the package huggingface_hub: pip install 'onward[hub]', or give a local folder: "
            "tasks: {gaia: {path: FOLDER}}"
        ) from None
    found: Fetch = snapshot_download
    return found


def _rows(metadata: Path) -> Iterator[tuple[int, Any]]:
    if metadata.suffix == ".jsonl":
        yield from JsonlSource(metadata).rows()
        return
    for number, row in enumerate(parquet_rows(metadata), 1):
        yield number, json_value(row, f"{metadata}, row {number}")


_COLUMNS = Columns(id="task_id", input="Question", files="file_name")


def _task(row: Any, where: str, folder: Path) -> Task:
    if isinstance(row, Mapping):
        row = {"file_name": "", **row}
    task = row_to_task(row, _COLUMNS, where, folder)
    if not isinstance(task.input, str):
        raise UsageError(f"{where}: the Question is not text")
    left = dict(task.metadata)
    answer, annotator = left.pop("Final answer", None), left.pop("Annotator Metadata", None)
    level = _level(left.pop("Level", None), where)
    left.pop("file_path", None)
    metadata = {**left, "level": level, "category": categories(task.input, has_files=bool(task.files))}
    if annotator:
        metadata["annotator"] = annotator
    known = isinstance(answer, str) and answer.strip() not in ("", "?")
    return replace(task, target=answer if known else _other(answer, where), metadata=metadata)


def _other(answer: Any, where: str) -> Any:
    """An answer that is not text: none, or a number that a converter made of one."""
    if answer is None or isinstance(answer, str):
        return None
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise UsageError(f"{where}: the Final answer is not text: {answer!r}")
    return str(answer)


def _level(value: Any, where: str) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise UsageError(f"{where}: the Level is not a whole number: {value!r}") from None
