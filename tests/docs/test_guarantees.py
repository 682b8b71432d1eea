"""Every test that the page of guarantees names is one that pytest would collect."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.docs import pages


def _named() -> set[str]:
    return set(re.findall(r"`(tests/[\w/]+\.py::[\w:]+)`", (pages.DOCS / "guarantees.md").read_text()))


def test_every_test_that_is_named_exists():
    files = sorted({name.partition("::")[0] for name in _named()})
    gone = [file for file in files if not (pages.ROOT / file).is_file()]
    assert not gone
    words = ["--collect-only", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, *files],
        cwd=pages.ROOT, text=True, capture_output=True, check=False,
    )  # fmt: skip
    known = {line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line}
    assert known, done.stdout + done.stderr
    assert not sorted(_named() - known)


def test_every_promise_names_a_test():
    rows = [line for line in (pages.DOCS / "guarantees.md").read_text().splitlines() if line.startswith("| ")]
    promises = [line for line in rows if not line.startswith("| promise ")]
    assert len(promises) >= 40
    assert not [line for line in promises if "::test_" not in line]
