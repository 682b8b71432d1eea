"""Where tasks come from. A source gives tasks in a fixed order; what it gave is frozen into the run."""

from onward.tasks.find import open_source
from onward.tasks.function import FunctionSource
from onward.tasks.selection import Selection
from onward.tasks.source import Source, attachment
from onward.tasks.task import Attachment, Task

__all__ = ["Attachment", "FunctionSource", "Selection", "Source", "Task", "attachment", "open_source"]
