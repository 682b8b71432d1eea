"""Means, intervals and tests. Pure, and of the standard library alone."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist

__all__ = ["mcnemar", "mean_with_error", "paired", "pass_at_k", "pass_hat_k", "wilson"]


def mean_with_error(pairs: Iterable[tuple[str, float]]) -> tuple[float, float]:
    """The mean of (cluster, value) pairs and its standard error, clustered: trials of one task are not independent.

    sqrt(Σ_c (Σ_i (x_ci − x̄))²) / n, Miller 2024 (arXiv 2411.00640) eq. 4, with C/(C−1) for few clusters.
    """
    values = list(pairs)
    count = len(values)
    if not count:
        return 0.0, 0.0
    mean = math.fsum(value for _, value in values) / count
    sums: dict[str, float] = {}
    for cluster, value in values:
        sums[cluster] = sums.get(cluster, 0.0) + value - mean
    clusters = len(sums)
    if clusters < 2:
        return mean, 0.0
    variance = math.fsum(total * total for total in sums.values()) * clusters / (clusters - 1)
    return mean, math.sqrt(variance) / count


def wilson(successes: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """An interval for a rate (Wilson 1927): sensible at 0, at 1 and for few trials."""
    if count == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    rate, spread = successes / count, z * z / count
    centre = (rate + spread / 2) / (1 + spread)
    half = z * math.sqrt(rate * (1 - rate) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def paired(differences: Sequence[tuple[str, float]], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of paired differences (task, b − a) and its interval: (mean, low, high), normal, clustered by task."""
    mean, error = mean_with_error(differences)
    half = NormalDist().inv_cdf((1 + confidence) / 2) * error
    return mean, mean - half, mean + half


def mcnemar(only_a: int, only_b: int) -> float:
    """Exact two-sided p of McNemar's test (1947): `only_a` right in A alone, `only_b` in B alone; binomial with ½."""
    count = only_a + only_b
    if count == 0:
        return 1.0
    tail = sum(math.comb(count, k) for k in range(min(only_a, only_b) + 1)) / 2**count
    return float(min(1.0, 2 * tail))


def pass_at_k(count: int, correct: int, k: int) -> float:
    """Unbiased chance that at least one of k of `count` trials is right: 1 − C(n−c, k)/C(n, k) (arXiv 2107.03374)."""
    if not 0 <= correct <= count or not 1 <= k <= count:
        raise ValueError("0 <= correct <= count and 1 <= k <= count")
    return 1.0 - math.comb(count - correct, k) / math.comb(count, k)


def pass_hat_k(count: int, correct: int, k: int) -> float:
    """Unbiased chance that all of k of `count` trials are right: C(c, k)/C(n, k) (arXiv 2406.12045)."""
    if not 0 <= correct <= count or not 1 <= k <= count:
        raise ValueError("0 <= correct <= count and 1 <= k <= count")
    return math.comb(correct, k) / math.comb(count, k)
