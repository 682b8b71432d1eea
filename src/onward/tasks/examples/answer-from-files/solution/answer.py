"""Works the answers out of the files."""

import csv
import json
import re
from collections import Counter
from datetime import datetime, timedelta

with open("shifts.csv", encoding="utf-8", newline="") as stream:
    shifts = [(row["worker"], datetime.fromisoformat(row["start"]), datetime.fromisoformat(row["end"]))
              for row in csv.DictReader(stream)]  # fmt: skip
with open("parts.json", encoding="utf-8") as stream:
    parts = json.load(stream)
with open("notes.md", encoding="utf-8") as stream:
    tests = set(re.findall(r"I-\d+", stream.read()))

incidents = []
with open("incidents.log", encoding="utf-8") as stream:
    for line in stream:
        time, name, rest = line.split(maxsplit=2)
        if not rest.startswith("note:") and name not in tests:
            used = Counter({part: int(count) for count, part in re.findall(r"(\d+)x (P-\d+)", rest)})
            incidents.append((time, re.match(r"severity=(\w+)", rest)[1], used))


def on_duty(time):
    at = datetime.fromisoformat(time)
    return {worker for worker, start, end in shifts if start <= at < end}


minutes = Counter()
for worker, start, end in shifts:
    minutes[worker] += (end - start) // timedelta(minutes=1)
total = sum((used for _, _, used in incidents), Counter())
answers = {
    "busiest": minutes.most_common(1)[0][0],
    "noor": sum("Noor" in on_duty(time) for time, _, _ in incidents),
    "unattended": next(time for time, _, _ in incidents if not on_duty(time)),
    "high_cost": sum(parts[part]["price_cents"] * count
                     for _, severity, used in incidents if severity == "high" for part, count in used.items()),
    "short": sorted(part for part, count in total.items() if count > parts[part]["stock"]),
}  # fmt: skip
with open("answers.json", "w", encoding="utf-8") as stream:
    json.dump(answers, stream, indent=2)
