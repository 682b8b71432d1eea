"""Values as JSON: what `--json` prints."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

__all__ = ["as_json", "plain"]


def plain(value: Any) -> Any:
    """A value of views as plain JSON: a dataclass is an object, what is not finite is null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, str | Path) else value


def as_json(value: Any) -> str:
    """JSON text of a value of views, indented."""
    return json.dumps(plain(value), ensure_ascii=False, indent=2, allow_nan=False)
