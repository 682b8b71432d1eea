"""A process that drives a run whose model answers once a file is there: `python -m tests.driver FOLDER`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.house import House, Oracle, right

from onward.errors import OnwardError


def waiting_house(folder: Path) -> House:
    """The experiment of these tests; both sides of them make it alike."""

    async def answer(text: str, params: Mapping[str, Any]) -> str:
        with (folder / "asked").open("a") as log:
            log.write(f"{text}\n")
        while not (folder / "go").exists():
            await asyncio.sleep(0.01)
        return right(text, params)

    return House(folder, model=Oracle(answer), spec={"limits": {"concurrency": 2}})


def main(folder: Path) -> int:
    try:
        ending = waiting_house(folder).run()
    except OnwardError as error:
        sys.stdout.write(f"{type(error).__name__}\n")
        return error.exit_code
    sys.stdout.write(f"{ending.stopped}\n")
    return ending.code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
