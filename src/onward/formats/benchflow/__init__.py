"""BenchFlow's run folders: read as they are, whatever is wrong with them, and written as BenchFlow writes them."""

from onward.formats.benchflow.export import Exported, export
from onward.formats.benchflow.findings import Finding, findings
from onward.formats.benchflow.recording import Recording, find_folders, is_folder, read
from onward.formats.benchflow.rows import Row
from onward.formats.benchflow.standing import Exchange

__all__ = [
    "Exchange", "Exported", "Finding", "Recording", "Row", "export", "find_folders", "findings", "is_folder", "read",
]  # fmt: skip
