"""`onward run` over a task folder whose image has a user other than root."""

from __future__ import annotations

import json

import pytest
from tests.cli.console import Shell
from tests.sandbox.rig import IMAGE, PYTHON

ASK = """
import os, socket, sys
_, _, place = os.environ["OPENAI_BASE_URL"].partition("//")
address, _, path = place.partition("/")
body = b'{"model": "m", "messages": [{"role": "user", "content": "Well?"}]}'
head = "POST /%s/chat/completions HTTP/1.1\\r\\nhost: x\\r\\nconnection: close\\r\\nauthorization: Bearer %s\\r\\n"
head += "content-type: application/json\\r\\ncontent-length: %d\\r\\n\\r\\n"
to = socket.create_connection((address.partition(":")[0], int(address.partition(":")[2])))
to.sendall((head % (path, os.environ["OPENAI_API_KEY"], len(body))).encode() + body)
said = b""
while more := to.recv(65536):
    said += more
sys.exit(b" 200 " not in said)
"""
WORK = "set -e\ncd /app\necho x > f\necho mine > ~/notes\nmkdir -p /logs/agent\necho worked > /logs/agent/log\nid -u\n"
VERDICT = """#!/bin/sh
[ $(id -u) = 1000 ] && [ -O /tests/test.sh ] && read said < /app/f && [ $said = x ] && read said < /logs/agent/log \
&& echo 1 > /logs/verifier/reward.txt
"""


def task(shell: Shell) -> None:
    """A task that an account without rights works on, in a folder of its own and nowhere else."""
    made = "RUN echo someone:x:1000:1000::/home/someone:/bin/sh >> /etc/passwd; mkdir -m 777 /app"
    for file, text in {
        "task.toml": 'version = "1.0"\n',
        "instruction.md": "Write x into the file f.\n",
        "environment/Dockerfile": f"FROM {IMAGE}\n{made}\nUSER someone\nWORKDIR /app\n",
        "solution/solve.sh": f"#!/bin/sh\n{WORK}",
        "tests/test.sh": VERDICT,
    }.items():
        shell.write(f"tasks/user/{file}", text).chmod(0o755)


@pytest.mark.parametrize("agent", ["oracle", "command"])
def test_a_task_whose_image_has_its_own_user_is_worked_on_by_it(engined: Shell, agent: str) -> None:
    task(engined)
    asking = ["/bin/sh", "-c", f'{WORK}exec "$@"', "sh", *PYTHON, ASK]
    solvers = {
        "oracle": {"agent": "oracle"},
        "command": {"agent": "command", "model": "openai/m", "options": {"command": asking}},
    }
    spec = {"tasks": "tasks", "solver": solvers[agent], "score": "reward"}
    engined.write("spec.yaml", json.dumps(spec))
    done = engined("run", "spec.yaml")
    assert done.code == 0 and "100.0 ± 0.0 %" in done.out, done.out + done.err
