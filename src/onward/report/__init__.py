"""Building blocks of what people read: pages, and tables as plain text or Markdown. Nothing here prints."""

from onward.report.tables import Table

__all__ = ["Table"]
