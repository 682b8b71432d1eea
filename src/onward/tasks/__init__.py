"""Where tasks come from. A source gives tasks in a fixed order; what it gave is frozen into the run."""

from onward.tasks.task import Attachment, Task

__all__ = ["Attachment", "Task"]
