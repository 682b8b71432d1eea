"""What does not count when a live request is compared with a recorded one: rules as data, per agent and version."""

from onward.gateway.normalisers.agents import AGENTS, GENERIC, rules_for
from onward.gateway.normalisers.elsewhere import allowing
from onward.gateway.normalisers.paths import ABSENT, Difference, differences
from onward.gateway.normalisers.rules import Rule, Rules, normalised, rules_from
from onward.gateway.normalisers.uncovered import Uncovered, uncovered

__all__ = [
    "ABSENT", "AGENTS", "GENERIC", "Difference", "Rule", "Rules", "Uncovered", "allowing", "differences", "normalised",
    "rules_for", "rules_from", "uncovered",
]  # fmt: skip
