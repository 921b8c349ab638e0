"""Warnings and early end of runs without success."""

from __future__ import annotations

import warnings

from bo_invert.history import History
from bo_invert.oracles.base import MISMATCHES
from bo_invert.report.table import counted
from bo_invert.storage.journal_base import JournalBase

FAILURE_LIMIT = 10
"""Number of failures from the first call on after which the user gets a warning.

Engineering choice: if half of all designs fail, ten failures in a row have a probability of 0.1 %.
"""
MISMATCH_LIMIT = 3
"""Number of answers that do not fit the problem after which a run ends.

Engineering choice: such answers are a mistake in the problem; three exclude a single bad design.
"""
FREE_ANSWER_LIMIT = 200
"""Smallest number of free answers in a row after which a run ends.

Engineering choice: free answers use no budget, so a run with nothing else would never end.
"""


def is_hopeless(journal: JournalBase) -> bool:
    """Return True if the answers of the oracle do not fit the problem and never did."""
    history = History(() if journal.best is not None else journal.trials)
    reasons = [trial.outcome.reason for trial in history.failed if trial.outcome is not None]
    return (
        not history.completed
        and sum(reason.startswith(MISMATCHES) for reason in reasons) >= MISMATCH_LIMIT
    )


class Watchdog:
    """Monitor of a run. It warns once if nothing worked from the start.

    Attributes:
        hopeless: True if more calls cannot help, so the run must end.

    Args:
        journal: Journal of the study.
        budget: Calls of the whole study.
    """

    def __init__(self, journal: JournalBase, budget: int) -> None:
        self._journal = journal
        self._silent = False
        self._patience = max(FREE_ANSWER_LIMIT, 2 * budget)
        self._paid, self._reused = journal.ledger.calls, journal.ledger.reused
        self.hopeless = False

    def check(self) -> None:
        """Warn or set ``hopeless`` after new outcomes."""
        self._check_news()
        if self._silent:
            return
        if self._journal.best is not None:
            self._silent = True
            return
        history = History(self._journal.trials)
        reasons = [trial.outcome.reason for trial in history.failed if trial.outcome is not None]
        mismatches = [reason for reason in reasons if reason.startswith(MISMATCHES)]
        if history.completed:
            self._silent = True
        elif len(mismatches) >= MISMATCH_LIMIT:
            self._silent = self.hopeless = True
            last = mismatches[-1]
            advice = "The run ends here, because more calls cannot help. Correct the problem."
        elif len(reasons) >= FAILURE_LIMIT:
            self._silent = True
            last = reasons[-1]
            advice = "The run continues; stop it if the oracle is broken."
        if self._silent and not history.completed:
            warnings.warn(
                f"study {self._journal.name!r}: the first {len(reasons)} trials failed. "
                f"Last error: {last}. {advice}",
                stacklevel=2,
            )

    def conclude(self) -> None:
        """Warn at the end of a run that was too short for ``check``."""
        history = History(
            () if self._silent or self._journal.best is not None else self._journal.trials
        )
        reasons = [trial.outcome.reason for trial in history.failed if trial.outcome is not None]
        if reasons and not history.completed:
            self._silent = True
            warnings.warn(
                f"study {self._journal.name!r}: none of {counted(len(reasons), 'trial')} gave "
                f"outputs. Last error: {reasons[-1]}",
                stacklevel=4,
            )

    def _check_news(self) -> None:
        """End a run that gets free answers only."""
        spent = self._journal.ledger
        if spent.calls != self._paid:
            self._paid, self._reused = spent.calls, spent.reused
        elif spent.reused - self._reused >= self._patience and not self.hopeless:
            self.hopeless = True
            warnings.warn(
                f"study {self._journal.name!r}: the last {self._patience} answers came from a "
                "cache, so the run ends here. Run it again to continue",
                stacklevel=2,
            )
