"""Whether anything works at all: a warning when nothing does from the start, and an end where nothing can."""

from __future__ import annotations

import warnings

from bo_invert.history import History
from bo_invert.oracles.base import MISMATCH
from bo_invert.report.table import counted
from bo_invert.storage.journal_base import JournalBase

#: Failures in a row, from the first call on, after which the user is told that something is probably wrong.
SUSPICIOUS = 10
#: The same, of answers that do not fit the problem: a mistake in the problem, which no further call can mend.
HOPELESS = 3
#: Answers at no cost in a row, at least, after which a run ends: they use up no budget.
FREE = 200


def is_hopeless(journal: JournalBase) -> bool:
    """Whether answers do not fit the problem, and never did."""
    history = History(() if journal.best is not None else journal.trials)
    reasons = [trial.outcome.reason for trial in history.failed if trial.outcome is not None]
    return (
        not history.completed and sum(reason.startswith(MISMATCH) for reason in reasons) >= HOPELESS
    )


class Watchdog:
    """Warns once when nothing has worked from the very start, and knows when nothing can or nothing new is asked."""

    def __init__(self, journal: JournalBase, budget: int) -> None:
        self._journal = journal
        self._silent = False
        self._patience = max(FREE, 2 * budget)
        self._paid, self._reused = journal.ledger.calls, journal.ledger.reused
        self.hopeless = False

    def check(self) -> None:
        self._check_news()
        if self._silent:
            return
        if self._journal.best is not None:
            self._silent = True
            return
        history = History(self._journal.trials)
        reasons = [trial.outcome.reason for trial in history.failed if trial.outcome is not None]
        misfits = [reason for reason in reasons if reason.startswith(MISMATCH)]
        if history.completed:
            self._silent = True
        elif len(misfits) >= HOPELESS:
            self._silent = self.hopeless = True
            said = misfits[-1]
            advice = "The run ends here, because more calls cannot change that; mend the problem."
        elif len(reasons) >= SUSPICIOUS:
            self._silent = True
            said = reasons[-1]
            advice = "The search goes on; stop it if the oracle is broken."
        if self._silent and not history.completed:
            warnings.warn(
                f"study {self._journal.name!r}: the first {len(reasons)} trials all failed, with words like: {said}. "
                f"{advice}",
                stacklevel=2,
            )

    def conclude(self) -> None:
        """At the end of a run that was too short for ``check`` to speak up."""
        history = History(
            () if self._silent or self._journal.best is not None else self._journal.trials
        )
        reasons = [trial.outcome.reason for trial in history.failed if trial.outcome is not None]
        if reasons and not history.completed:
            self._silent = True
            warnings.warn(
                f"study {self._journal.name!r}: no trial gave outputs yet, of {counted(len(reasons), 'trial')}; "
                f"the last one said: {reasons[-1]}",
                stacklevel=4,
            )

    def _check_news(self) -> None:
        """Answers at no cost use up no budget: a search that gets nothing else would never end."""
        spent = self._journal.ledger
        if spent.calls != self._paid:
            self._paid, self._reused = spent.calls, spent.reused
        elif spent.reused - self._reused >= self._patience and not self.hopeless:
            self.hopeless = True
            warnings.warn(
                f"study {self._journal.name!r}: the last {self._patience} answers all came from a cache, so the run "
                "ends here; it goes on if you run it again",
                stacklevel=2,
            )
