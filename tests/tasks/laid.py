"""Task folders as the tests lay them out, in both layouts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

TOML = """\
version = "1.0"

[metadata]
author_name = "Ada"
difficulty = "easy"
category = "programming"
tags = ["files", "shell"]

[verifier]
timeout_sec = 60.0

[agent]
timeout_sec = 120.0

[environment]
cpus = 1
memory_mb = 512
network_mode = "no-network"
"""
DOCKERFILE = "FROM debian:bookworm-slim\nWORKDIR /app\nCOPY data.txt .\n"
TEST = """\
#!/bin/sh
cd /app && [ "$(cat result.txt)" = "SOME WORDS" ] && reward=1
echo ${reward:-0} > /logs/verifier/reward.txt
"""
SOLVE = "#!/bin/sh\ntr a-z A-Z < data.txt > result.txt\n"

HARBOR = {
    "task.toml": TOML,
    "instruction.md": "Write /app/data.txt in capitals to /app/result.txt.\n",
    "environment/Dockerfile": DOCKERFILE,
    "environment/data.txt": "some words\n",
    "tests/test.sh": TEST,
    "solution/solve.sh": SOLVE,
}

TASK_MD = """\
---
schema_version: "1.3"
task:
  name: tests/capitals
  description: words in capitals
metadata:
  difficulty: easy
  category: programming
  tags: [files, shell]
agent:
  timeout_sec: 120
verifier:
  type: test-script
  timeout_sec: 60
sandbox:
  cpus: 1
  memory_mb: 512
  network_mode: no-network
---

## prompt

Write /app/data.txt in capitals to /app/result.txt.
"""
BENCHFLOW = {
    "task.md": TASK_MD,
    "environment/Dockerfile": DOCKERFILE,
    "environment/data.txt": "some words\n",
    "verifier/test.sh": TEST,
    "oracle/solve.sh": SOLVE,
}


def laid(folder: Path, files: Mapping[str, str | bytes | None]) -> Path:
    """A folder of these files; None leaves one out."""
    for name, content in files.items():
        if content is None:
            continue
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
