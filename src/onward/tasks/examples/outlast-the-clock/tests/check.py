"""Reads the diary and writes the reward. Its times must be later than this sandbox's start, and not in the future."""

import json
import os
import re
import time
from pathlib import Path

LINES = 30


def began():
    """When the first process in here was started."""
    ticks = int(Path("/proc/1/stat").read_text().rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.time() - age


def wrong(lines):
    """What is wrong with these lines; nothing where they are right, as many as they are."""
    if any(not re.fullmatch("[0-9]{9,11}", line) for line in lines):
        return "a line that is no time"
    times = [int(line) for line in lines]
    if any(later <= earlier for earlier, later in zip(times, times[1:])):
        return "two lines within one second, or out of order"
    if len(times) > LINES:
        return f"{len(times)} lines"
    if times and times[0] < int(began()):
        return "a time before any of this began"
    if times and times[-1] > time.time():
        return "a time that has not come yet"
    return ""


def main():
    own = Path("/app/diary.txt")
    lines = own.read_text(errors="replace").splitlines() if own.is_file() else []
    problem = wrong(lines)
    share = 0 if problem else len(lines) / LINES
    print(problem or f"{len(lines)} of {LINES} lines")
    Path("/logs/verifier/reward.json").write_text(json.dumps({"reward": round(share, 4)}))


main()
