"""Building blocks of what people read: amounts in words, and tables as plain text or Markdown. Nothing here prints."""

from onward.report.amounts import age, clip, count, interval, mean, moment, money, percent, seconds
from onward.report.tables import Table

__all__ = ["Table", "age", "clip", "count", "interval", "mean", "moment", "money", "percent", "seconds"]
