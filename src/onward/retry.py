"""How often, and after how long, a call that gave no answer is tried again. Pure: the caller brings time and chance."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ONCE", "Retry"]


@dataclass(frozen=True, slots=True)
class Retry:
    """Bounds for one call in one invocation. Waits grow by doubling, with full jitter from the second half."""

    attempts: int = 5
    first: float = 1.0
    """Seconds before the second attempt."""
    most: float = 60.0
    """Longest wait of our own choosing, in seconds."""
    max_wait: float = 6 * 3600.0
    """Longest wait that a provider may ask for; beyond it the call is owed at once."""

    def wait(self, failed: int, asked: float | None, chance: float) -> float | None:
        """Seconds to wait after the `failed`-th failure, or None: give up.

        `asked` is the provider's Retry-After in seconds, `chance` a number in [0, 1).
        """
        if failed >= self.attempts or (asked is not None and asked > self.max_wait):
            return None
        own = min(self.most, self.first * 2.0 ** (failed - 1)) * (0.5 + chance / 2)
        return asked or own


ONCE = Retry(attempts=1)
"""No second attempt."""
