"""BenchFlow's run folders: read as they are, whatever is wrong with them, and written as BenchFlow writes them."""

from onward.formats.benchflow.export import Exported, export
from onward.formats.benchflow.findings import findings
from onward.formats.benchflow.prospect import prospect
from onward.formats.benchflow.recording import Recording, find_folders, is_folder, read
from onward.formats.benchflow.rows import Row
from onward.formats.benchflow.standing import Exchange

__all__ = [
    "Exchange", "Exported", "Recording", "Row", "export", "find_folders", "findings", "is_folder", "prospect", "read",
]  # fmt: skip
