"""Progress bar of a run."""

from __future__ import annotations

from typing import Any

from bo_invert.errors import bar_options, printable, visible
from bo_invert.history import History
from bo_invert.objectives.pareto import Pareto
from bo_invert.problems.problem import Problem
from bo_invert.report.objective_view import Goal
from bo_invert.report.table import counted
from bo_invert.storage.journal_base import JournalBase
from bo_invert.study.front import pareto_front


class RunProgressBar:
    """Progress bar of calls, with the best value in the units of the user, and the failures.

    Args:
        journal: Journal of the study.
        problem: Problem of the study.
        budget: Calls of the whole study; None if it is unlimited.
        label: Text before the bar; no bar without it.
    """

    def __init__(
        self, journal: JournalBase, problem: Problem, budget: int | None, label: str
    ) -> None:
        self._journal, self._objective = journal, problem.objective
        self._goal = Goal(problem.objective.to_json(), problem.outputs)
        self._bar: Any = None
        if visible(bool(label)):
            from tqdm.auto import tqdm

            self._bar = tqdm(
                total=budget,
                desc=printable(label),
                unit="call",
                dynamic_ncols=True,
                miniters=1,  # each update counts; otherwise tqdm guesses a number of calls
                **bar_options(True),
            )
            self.update()

    def update(self) -> None:
        if self._bar is None:
            return
        best, spent = self._journal.best, self._journal.ledger
        calls = self._journal.read().calls
        self._bar.n = calls if self._bar.total is None else min(calls, self._bar.total)
        loss = None if best is None else best.loss
        if loss is None:
            notes = ["nothing found yet"]
        elif isinstance(self._objective, Pareto):
            found = pareto_front(self._objective, History(self._journal.trials))
            notes = [
                f"hypervolume {found.hypervolume:.4g}, front of {counted(len(found), 'trial')}"
            ]
        else:
            notes = [f"best {self._goal.text(loss)}"]
        counts = {"failed": spent.failed, "infeasible": spent.infeasible}
        notes += [f"{count} {state}" for state, count in counts.items() if count]
        self._bar.set_postfix_str(printable(", ".join(notes)), refresh=False)
        self._bar.update(0)

    def close(self) -> None:
        if self._bar is not None:
            self.update()
            self._bar.close()
