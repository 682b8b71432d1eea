"""Every test that the page of guarantees names is one that pytest would collect."""

from __future__ import annotations

import re
from importlib import import_module

from tests.docs import pages


def _named() -> set[str]:
    return set(re.findall(r"`(tests/[\w/]+\.py::[\w:]+)`", (pages.DOCS / "guarantees.md").read_text()))


def _there(name: str) -> bool:
    """Whether pytest collects this: it has imported the file under the same name, if this is not the only one run."""
    file, *path = name.split("::")
    found = import_module(file.removesuffix(".py").replace("/", "."))
    for part in path:
        found = getattr(found, part, None)
    return callable(found) and path[-1].startswith("test_")


def test_every_test_that_is_named_exists():
    assert not [name for name in sorted(_named()) if not (pages.ROOT / name.partition("::")[0]).is_file()]
    assert not [name for name in sorted(_named()) if not _there(name)]


def test_every_promise_names_a_test():
    rows = [line for line in (pages.DOCS / "guarantees.md").read_text().splitlines() if line.startswith("| ")]
    promises = [line for line in rows if not line.startswith("| promise ")]
    assert len(promises) >= 40
    assert not [line for line in promises if "::test_" not in line]
