"""The work that Inspect AI is given: a model that answers at once without leaving the process, and tasks for it.

Imported by the `inspect_*.py` scripts, and loaded again by Inspect itself when it retries a log. Runs in a virtual
environment of its own (`inspect-ai==0.3.285`); see `bench/run.py`. The model is our own ModelAPI, since Inspect's mock
model counts tokens with a table that it downloads.

Environment: BENCH_LATENCY seconds a call; BENCH_CALLS a file to which each call adds a line when it leaves (`>`) and
one when it is answered (`<`); BENCH_FAIL raise for every task whose number is a multiple of this.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageUser, ModelAPI, ModelOutput, modelapi
from inspect_ai.scorer import exact
from inspect_ai.solver import Generate, TaskState, generate, solver

LATENCY = float(os.environ.get("BENCH_LATENCY", "0"))
FAIL = int(os.environ.get("BENCH_FAIL", "0"))
CALLS = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) if (path := os.environ.get("BENCH_CALLS")) else None


def since_start() -> float:
    """Seconds since this process was started, by the kernel's own clock."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def note(mark: str, what: str) -> None:
    """Add a line to the file of calls. One write of a short line in append mode is not torn by others."""
    if CALLS is not None:
        os.write(CALLS, f"{mark} {since_start():.3f} {what}\n".encode())


@modelapi("bench")
class Bench(ModelAPI):
    """Answers `say X` with X."""

    async def generate(self, input: list[Any], tools: Any, tool_choice: Any, config: Any) -> ModelOutput:
        asked = input[-1].text
        note(">", asked)
        if FAIL and asked.startswith("say ") and int(asked[4:]) % FAIL == 0:
            raise RuntimeError("made to fail")
        if LATENCY:
            await asyncio.sleep(LATENCY)
        note("<", asked)
        return ModelOutput.from_content(self.model_name, asked.removeprefix("say "))

    def should_retry(self, ex: Exception) -> bool:
        return False

    def max_connections(self) -> int:
        return 10


@task
def one_call(n: int) -> Task:
    """N tasks of one call each, exact match."""
    return Task(
        dataset=MemoryDataset([Sample(id=f"t{i}", input=f"say {i}", target=str(i)) for i in range(1, n + 1)]),
        solver=generate(),
        scorer=exact(),
    )


@solver
def several(calls: int) -> Any:
    """So many calls one after the other, the conversation growing."""

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        for number in range(calls):
            if number:
                state.messages.append(ChatMessageUser(content=f"say {state.sample_id} {number}"))
            state = await generate(state)
        return state

    return solve


@task
def many_calls(n: int, calls: int) -> Task:
    """N tasks of several sequential calls, exact match on the last answer."""
    samples = [Sample(id=f"t{i}", input=f"say t{i} 0", target=f"t{i} {calls - 1}") for i in range(1, n + 1)]
    return Task(dataset=MemoryDataset(samples), solver=several(calls), scorer=exact())
