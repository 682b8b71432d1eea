"""The journal in memory keeps every promise but to outlive its process."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.journal.contract import JournalContract

from onward.journal import Journal, MemoryJournal


class TestMemory(JournalContract):
    @pytest.fixture
    def empty(self) -> Iterator[Callable[[], Journal]]:
        made: list[Journal] = []

        def make() -> Journal:
            made.append(MemoryJournal())
            return made[-1]

        yield make
        for journal in made:
            journal.close()
