"""How an answer is judged: `fn(answer, task, **options) -> Score | float | bool`.

A new scorer is one function under `@scorer(version=…)`. It must have an opinion on every JSON answer: an exception is
an error of ours, owed again, never a wrong answer. Tasks without a target are not scored at all (the stage sees to it).
Where an answer is one value and the target is a list, the list holds alternatives: the best of them counts.
"""

from onward.scorers import exact, gaia, includes, numeric, overlap, reward  # noqa: F401 - they register themselves
from onward.scorers.score import Score, as_score, score, scorer

__all__ = ["Score", "as_score", "score", "scorer"]
