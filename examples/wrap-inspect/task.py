"""Sums in two turns, for Inspect AI: the model answers, is asked whether it is sure, and is scored.

onward wrap -- inspect eval task.py --model openai/gpt-4o-mini
"""

from inspect_ai import Task, task
from inspect_ai.dataset import Sample
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, user_message


@task
def sums(size: int = 40) -> Task:
    """`size` samples, two calls each."""
    samples = [Sample(id=f"sum-{n}", input=f"What is {n} plus {n + 7}?", target=str(2 * n + 7)) for n in range(size)]
    return Task(dataset=samples, solver=[generate(), user_message("Are you sure?"), generate()], scorer=includes())
