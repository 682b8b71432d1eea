"""Memory: rows in, rows out, durable when acknowledged. One contract, several stores, one suite of tests for all."""

from onward.journal.contract import Head, Holder, Journal, Newest, Problem, Stored, Sums
from onward.journal.memory import MemoryJournal
from onward.journal.salvage import Salvaged, salvage
from onward.journal.sqlite import SqliteJournal

__all__ = [
    "Head", "Holder", "Journal", "MemoryJournal", "Newest", "Problem", "Salvaged", "SqliteJournal", "Stored", "Sums",
    "salvage",
]  # fmt: skip
