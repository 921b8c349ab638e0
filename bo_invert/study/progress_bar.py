"""Progress bar of a run."""

from __future__ import annotations

import sys
from typing import Any

from bo_invert.report.objective_view import Goal
from bo_invert.storage.journal_base import JournalBase
from bo_invert.types import printable


class RunProgressBar:
    """Progress bar of calls, with the best value in the units of the user, and the failures.

    Args:
        journal: Journal of the study.
        goal: Goal of the objective.
        budget: Calls of the whole study.
        label: Text before the bar; no bar without it.
    """

    def __init__(self, journal: JournalBase, goal: Goal, budget: int, label: str) -> None:
        self._journal = journal
        self._goal = goal
        self._bar: Any = None
        if label:
            from tqdm.auto import tqdm

            # Seconds between updates; a log file gets a line for each.
            pause = 0.1 if sys.stderr.isatty() else 10.0
            self._bar = tqdm(
                total=budget,
                desc=printable(label),
                unit="call",
                dynamic_ncols=True,
                mininterval=pause,
            )
            self.update()

    def update(self) -> None:
        if self._bar is None:
            return
        best, spent = self._journal.best, self._journal.ledger
        self._bar.n = min(self._journal.read().calls, self._bar.total)
        notes = [
            "nothing found yet"
            if best is None or best.loss is None
            else f"best {self._goal.text(best.loss)}"
        ]
        notes += [
            f"{count} {state}"
            for count, state in ((spent.failed, "failed"), (spent.infeasible, "infeasible"))
            if count
        ]
        self._bar.set_postfix_str(printable(", ".join(notes)), refresh=False)
        self._bar.update(0)

    def close(self) -> None:
        if self._bar is not None:
            self.update()
            self._bar.close()
