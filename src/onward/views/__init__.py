"""What a run shows: folds over its entries. Rebuildable at any moment; nothing here writes.

Error is not failure is not missing. A failed trial counts 0; errors and missing are counted beside the mean, never in
it. Scores say what they are: the first go, and after reruns.
"""

from onward.views.address import Address, locate, within
from onward.views.comparison import Comparison, Flip, Rescored, Side, compare, pairs_of, rescored, sides
from onward.views.continued import BothScores, Continuation, continuation
from onward.views.integrity import Integrity, integrity
from onward.views.lineage import Lineage, Parent, StepWhy, VoidNote, lineage, step_why
from onward.views.means import Mean
from onward.views.state import headline, state
from onward.views.steps import Exchange, Tried, exchange, exchanges, request_messages, steps
from onward.views.summary import SolverSummary, Summary, below_mark, completed_through, summary
from onward.views.trajectory import Episode, Lane, episodes, narrowed
from onward.views.trials import Trial, follow, trial, trials
from onward.views.troubles import Doubt, Trouble, in_doubt, troubles
from onward.views.wrong import Wrong, wrong

__all__ = [
    "Address", "BothScores", "Comparison", "Continuation", "Doubt", "Episode", "Exchange", "Flip", "Integrity", "Lane",
    "Lineage", "Mean", "Parent", "Rescored", "Side", "SolverSummary", "StepWhy", "Summary", "Trial", "Tried",
    "Trouble", "VoidNote", "Wrong", "below_mark", "compare", "completed_through", "continuation", "episodes",
    "exchange", "exchanges", "follow", "headline", "in_doubt", "integrity", "lineage", "locate", "narrowed",
    "pairs_of", "request_messages", "rescored", "sides", "state", "step_why", "steps", "summary", "trial", "trials",
    "troubles", "within", "wrong",
]  # fmt: skip
