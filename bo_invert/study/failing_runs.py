"""Warnings and early end of runs without success."""

from __future__ import annotations

from collections.abc import Sequence

from bo_invert.errors import warn_user
from bo_invert.history import History
from bo_invert.models.outliers import too_large
from bo_invert.oracles.base import MISMATCHES
from bo_invert.oracles.raw_outputs import RANGE_HINT
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
MEASURED_ANSWERS = 4
"""Number of answers of a run after which it checks the magnitude of the outputs.

Engineering choice: a single answer may be an outlier.
"""
FREE_ANSWER_LIMIT = 200
"""Smallest number of free answers in a row after which a run ends.

Engineering choice: free answers use no budget, so a run with nothing else would never end.
"""


def failure_reasons(journal: JournalBase) -> list[str] | None:
    """Return the reasons of all failed trials; None if the oracle ever gave outputs."""
    history = History(() if journal.best is not None else journal.trials)
    if journal.best is not None or history.completed:
        return None
    return [trial.reason for trial in history.failed]


def is_hopeless(journal: JournalBase) -> bool:
    """Return True if the answers of the oracle do not fit the problem and never did."""
    reasons = failure_reasons(journal) or []
    return _is_mistake([reason for reason in reasons if reason.startswith(MISMATCHES)])


def _is_mistake(mismatches: list[str]) -> bool:
    """Return True if answers that do not fit are a mistake in the problem."""
    several = len(mismatches) >= MISMATCH_LIMIT
    return several or any(RANGE_HINT in reason for reason in mismatches)


class Watchdog:
    """Monitor of a run. It warns once if nothing worked from the start, or outputs are too large.

    Attributes:
        why: Reason for which the run must end, because more calls cannot help; empty otherwise.

    Args:
        journal: Journal of the study.
        budget: Calls of the whole study.
        outputs: Names of the outputs.
    """

    def __init__(self, journal: JournalBase, budget: int, outputs: Sequence[str] = ()) -> None:
        self._journal = journal
        self._outputs, self._rounds = outputs, 0
        self._silent = False
        self._patience = max(FREE_ANSWER_LIMIT, 2 * budget)
        self._paid, self._reused = journal.ledger.calls, journal.ledger.reused
        self.why = ""

    def check(self) -> None:
        """Warn or set ``why`` after new outcomes."""
        self._check_news()
        self._rounds += 1
        if self._rounds == MEASURED_ANSWERS:
            self._check_magnitudes()
        reasons = None if self._silent else failure_reasons(self._journal)
        mismatches = [reason for reason in reasons or () if reason.startswith(MISMATCHES)]
        if reasons is None:
            self._silent = True
        elif _is_mistake(mismatches):
            self.why = f"the answers do not fit the problem: {mismatches[-1]}"
            advice = "The run ends here, because more calls cannot help. Correct the problem."
            first = f"first {len(reasons)} trials" if len(reasons) > 1 else "first trial"
            self._warn(f"the {first} failed", mismatches[-1], advice)
        elif len(reasons) >= FAILURE_LIMIT:
            advice = "The run continues; stop it if the oracle is broken."
            self._warn(f"the first {len(reasons)} trials failed", reasons[-1], advice)

    def conclude(self) -> None:
        """Warn at the end of a run that was too short for ``check``."""
        if 0 < self._rounds < MEASURED_ANSWERS:
            self._check_magnitudes()
        reasons = None if self._silent else failure_reasons(self._journal)
        if reasons:
            self._warn(f"none of {counted(len(reasons), 'trial')} gave outputs", reasons[-1])

    def _warn(self, fact: str, last: str, advice: str = "") -> None:
        self._silent = True
        text = f"study {self._journal.name!r}: {fact}. Last error: {last.rstrip('.')}. {advice}"
        warn_user(text.rstrip())

    def _check_magnitudes(self) -> None:
        """Warn about outputs that no surrogate can model."""
        history = History(self._journal.trials)
        if self._outputs and history.completed and (huge := too_large(history.y, self._outputs)):
            warn_user(
                f"study {self._journal.name!r}: {huge}. Surrogates cannot tell such values apart"
            )

    def _check_news(self) -> None:
        """End a run that gets free answers only."""
        spent = self._journal.ledger
        if spent.calls != self._paid:
            self._paid, self._reused = spent.calls, spent.reused
        elif spent.reused - self._reused >= self._patience and not self.why:
            self.why = f"the last {self._patience} answers came from a cache"
            warn_user(
                f"study {self._journal.name!r}: the last {self._patience} answers came from a "
                "cache, so the run ends here. Run it again to continue",
            )
