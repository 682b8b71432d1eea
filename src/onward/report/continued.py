"""What a continuation came to, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onward.amounts import count, percent
from onward.report.prospects import length
from onward.views.continued import BothScores, Continuation

__all__ = ["both_scores", "continuation_lines"]


def both_scores(scores: Sequence[BothScores], *, replay_only: bool = False) -> Iterator[str]:
    """`at the limit 41.2 %, continued 44.8 %`, a line for each solver and score."""
    many = len(scores) > 1
    for one in scores:
        head = f"{one.solver} {one.score}: " if many else ""
        before = "not scored" if one.at_limit is None else _value(one.at_limit)
        after = "at the end of the record" if replay_only else "continued"
        yield f"{head}at the limit {before}, {after} {_value(one.continued)}"


def _value(value: float) -> str:
    return percent(value) if -1.0 <= value <= 1.0 else f"{value:.3g}"


def continuation_lines(found: Continuation) -> Iterator[str]:
    """Both scores, then what was continued and on what terms."""
    yield from both_scores(found.scores, replay_only=found.replay_only)
    words = [f"continues {count(len(found.trials), 'trial')} of {found.of}"]
    words += [f"live ≤ {length(found.timeout)} each"] if found.timeout else []
    words += ["stops where the record ends"] if found.replay_only else []
    words += [f"{found.policy} where an agent leaves what it did before"] if found.policy != "warn" else []
    words += [f"{len(found.again):,} at the limit again"] if found.again and not found.replay_only else []
    yield ", ".join(words)
    if found.models:
        yield f"models: {found.models}"
    for one in found.mismatches:
        yield f"not what was recorded: {one}"
