"""When this process began, by the kernel's own account: so that imports count too."""

from __future__ import annotations

import os
import time
from pathlib import Path


def since_start() -> float:
    """Seconds since this process was started."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
