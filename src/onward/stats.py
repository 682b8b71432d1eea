"""Means, intervals and tests. Pure, and of the standard library alone.

Values are grouped by task where a task has several trials, because trials of one task are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import NamedTuple

__all__ = ["Paired", "mcnemar", "mean_with_error", "paired", "paired_by_task", "pass_at_k", "pass_hat_k", "t_quantile",
           "wilson"]  # fmt: skip


def mean_with_error(pairs: Iterable[tuple[str, float]]) -> tuple[float, float]:
    """The mean of (task, value) pairs and its standard error, clustered by task.

    Standard error: sqrt(C/(C-1) * sum over tasks of (sum of x - mean)^2) / n, with C tasks and n values. Source: Miller
    2024, arXiv 2411.00640, section 2.2, with the usual correction for few clusters; with one trial per task it is the
    plain s/sqrt(n). (0, 0) for no values; an error of 0 where there is one task only.
    """
    values = list(pairs)
    count = len(values)
    if not count:
        return 0.0, 0.0
    mean = math.fsum(value for _, value in values) / count
    sums: dict[str, float] = {}
    for task, value in values:
        sums[task] = sums.get(task, 0.0) + value - mean
    clusters = len(sums)
    if clusters < 2:
        return mean, 0.0
    variance = math.fsum(total * total for total in sums.values()) * clusters / (clusters - 1)
    return mean, math.sqrt(variance) / count


def wilson(successes: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """An interval for a rate of independent trials that makes sense at 0, at 1 and for few of them.

    Source: Wilson 1927, J. Am. Stat. Assoc. 22, 209-212. (0, 1) for no trials. Raises ValueError outside 0..count.
    """
    if not 0 <= successes <= count:
        raise ValueError(f"there cannot be {successes} successes among {count}")
    if count == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + _inside(confidence)) / 2)
    rate, spread = successes / count, z * z / count
    centre = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / count + spread / (4 * count)) / (1 + spread)
    return (max(0.0, centre - half) if successes else 0.0), (min(1.0, centre + half) if successes < count else 1.0)


class Paired(NamedTuple):
    """A paired difference: its mean, the ends of its interval, and over how many tasks it was taken."""

    mean: float
    low: float
    high: float
    tasks: int


def paired(differences: Iterable[tuple[str, float]], confidence: float = 0.95) -> Paired:
    """The mean of (task, b - a) and its interval, clustered by task, by Student's t with (tasks - 1) degrees.

    Source: Miller 2024, arXiv 2411.00640, section 3.2 (paired differences); t in place of the normal, for few tasks.
    One task has no spread: its interval is everything.
    """
    values = list(differences)
    mean, error = mean_with_error(values)
    tasks = len({task for task, _ in values})
    if tasks < 2:
        return Paired(mean, -math.inf, math.inf, tasks)
    half = t_quantile((1 + _inside(confidence)) / 2, tasks - 1) * error
    return Paired(mean, mean - half, mean + half, tasks)


def paired_by_task(a: Mapping[str, float], b: Mapping[str, float], confidence: float = 0.95) -> Paired:
    """`paired` for b - a over the tasks that both have (task → its mean score)."""
    return paired([(task, b[task] - value) for task, value in a.items() if task in b], confidence)


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p that two solvers are equally good, from the tasks that only one of them got right.

    Binomial with one half over the discordant pairs, twice the smaller tail, at most 1. Source: McNemar 1947,
    Psychometrika 12, 153-157, in its exact form. 1 where there is no such pair. Raises ValueError for negative counts.
    """
    if only_a < 0 or only_b < 0:
        raise ValueError("counts of pairs are not negative")
    count = only_a + only_b
    tail, term = 0, 1
    for k in range(min(only_a, only_b) + 1):
        tail += term
        term = term * (count - k) // (k + 1)
    return min(1.0, 2 * tail / 2**count) if count else 1.0


def pass_at_k(count: int, correct: int, k: int) -> float:
    """Unbiased chance that at least one of k trials is right: 1 - C(n-c, k)/C(n, k).

    Source: Chen et al. 2021, arXiv 2107.03374, section 2.1. Raises ValueError unless 0 <= c <= n and 1 <= k <= n.
    """
    _check_k(count, correct, k)
    draws = math.comb(count, k)
    return (draws - math.comb(count - correct, k)) / draws


def pass_hat_k(count: int, correct: int, k: int) -> float:
    """Unbiased chance that all of k trials are right (pass^k): C(c, k)/C(n, k).

    Source: Yao et al. 2024, arXiv 2406.12045 (tau-bench), section 3. Raises ValueError as `pass_at_k` does.
    """
    _check_k(count, correct, k)
    return math.comb(correct, k) / math.comb(count, k)


def _check_k(count: int, correct: int, k: int) -> None:
    if not 0 <= correct <= count or not 1 <= k <= count:
        raise ValueError(f"k is 1 to n and correct is 0 to n, not k={k}, correct={correct}, n={count}")


def _inside(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1, not at {confidence}")
    return confidence


# ---------------------------------------------------------------- Student's t


def t_quantile(p: float, degrees: int) -> float:
    """The t below which a share p of Student's distribution lies. Raises ValueError unless 0 < p < 1, degrees >= 1.

    Found by bisection on the distribution function, which is a regularised incomplete beta function:
    P(T > t) = I_x(degrees/2, 1/2) / 2 with x = degrees/(degrees + t^2). Source: DLMF 8.17, Abramowitz & Stegun 26.7.1.
    """
    _inside(p)
    if degrees < 1:
        raise ValueError(f"degrees of freedom are at least 1, not {degrees}")
    if p < 0.5:
        return -t_quantile(1 - p, degrees)
    low, high = 0.0, 1.0
    while _upper_tail(high, degrees) > 1 - p:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        if not low < middle < high:
            break
        low, high = (middle, high) if _upper_tail(middle, degrees) > 1 - p else (low, middle)
    return (low + high) / 2


def _upper_tail(t: float, degrees: int) -> float:
    return _incomplete_beta(degrees / (degrees + t * t), degrees / 2, 0.5) / 2


def _incomplete_beta(x: float, a: float, b: float) -> float:
    """I_x(a, b), by the continued fraction of DLMF 8.17.22 where it converges fast, else by 1 - I_{1-x}(b, a)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(1 - x, b, a)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    tiny = 1e-300
    c, d, fraction = 1.0, 0.0, 1.0
    for m in range(1000):
        if m % 2:
            k = (m - 1) // 2
            step = -(a + k) * (a + b + k) * x / ((a + 2 * k) * (a + 2 * k + 1))
        else:
            k = m // 2
            step = k * (b - k) * x / ((a + 2 * k - 1) * (a + 2 * k)) if m else 1.0
        d = 1 / ((1 + step * d) or tiny)
        c = (1 + step / c) or tiny
        fraction *= c * d
        if abs(1 - c * d) < 1e-15 and m > 1:
            break
    return front * (fraction - 1)
