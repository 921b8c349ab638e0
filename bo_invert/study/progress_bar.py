"""A progress bar."""

from __future__ import annotations

import sys
from typing import Any

from bo_invert.report.objective_view import Goal
from bo_invert.storage.journal_base import JournalBase
from bo_invert.types import printable


class ProgressBar:
    """A progress bar of calls, with what was found in the user's own quantity, and the failures."""

    def __init__(self, journal: JournalBase, goal: Goal, budget: int, label: str) -> None:
        self._journal = journal
        self._goal = goal
        self._bar: Any = None
        if label:
            from tqdm.auto import tqdm

            pause = 0.1 if sys.stderr.isatty() else 10.0  # a log file wants lines, not an animation
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
        self._bar.n = min(self._journal.calls, self._bar.total)
        notes = [
            "nothing found yet"
            if best is None or best.loss is None
            else f"best {self._goal.text(best.loss)}"
        ]
        notes += [
            f"{count} {fate}"
            for count, fate in ((spent.failed, "failed"), (spent.infeasible, "infeasible"))
            if count
        ]
        self._bar.set_postfix_str(printable(", ".join(notes)), refresh=False)
        self._bar.update(0)

    def close(self) -> None:
        if self._bar is not None:
            self.update()
            self._bar.close()
