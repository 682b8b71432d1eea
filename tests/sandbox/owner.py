"""A process that has a sandbox, to be killed: says how far it is, a line each, and then waits for ever."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from onward.sandbox import Engine, Place, Spec, open_sandbox


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main(kind: str, root: str, engine: str, image: str, token: str) -> None:
    async def mark(id: str) -> None:
        say(f"mark {id}")

    spec = Spec(kind="container" if image else kind, image=image, files={"file": b"content"}, memory=256 << 20)
    box = open_sandbox(spec, Place(Path(root), "owner", mark), Engine(*json.loads(engine)) if image else None)
    await box.start()
    say("started")
    await box.run(f"setsid sleep {token} & setsid env -i sleep {token} &")
    say("daemons")
    command = asyncio.create_task(box.run(f"trap '' TERM; mkdir locked; chmod 0 locked; sleep {token}; sleep {token}"))
    say("running")
    await command


asyncio.run(main(*sys.argv[1:]))
