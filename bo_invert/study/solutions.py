"""Solutions of a study: different designs with verdicts of a judge and plausibility."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import overload

import numpy as np

from bo_invert.errors import InvalidInputError, printable, require
from bo_invert.history import History
from bo_invert.objectives.pareto import Pareto
from bo_invert.problems.problem import Problem
from bo_invert.report.feasibility import why_infeasible
from bo_invert.report.objective_view import Goal
from bo_invert.report.pictures import image_tag
from bo_invert.report.ranking import LEAST_PLAUSIBLE
from bo_invert.report.runs import Picture
from bo_invert.report.study_view import design_text, vector_text
from bo_invert.report.table import Table, counted
from bo_invert.report.templating import render
from bo_invert.study.design_pictures import design_picture
from bo_invert.study.front import pareto_front
from bo_invert.study.solution_choice import ChosenTrials, choose_trials
from bo_invert.study.tolerances import Tolerances
from bo_invert.types import Array, Design, Outcome, Trial
from bo_invert.user_data import real_array


@dataclass(frozen=True, eq=False, repr=False)
class Solution:
    """One design with its claimed loss, the verdict of the judge and its plausibility.

    Args:
        trial: First trial at its point; ``y`` and ``loss`` are those of the oracle.
        opinion: Outcome of the design under the judge; None without a judge.
        plausibility: Plausibility of the design in [0, 1]; None without a measure.
        picture: Picture of the design, bytes ``(height, width[, 3])``; None if it has none.
        broken: Outcome constraints that the outputs of the judge violate, each with its violation.
        branch: Branch of the solutions of the target, numbered by falling mass; None if the trial
            misses the target, or for other objectives.
        study_tolerances: ``Study.tolerances`` of its study; None without one.
    """

    trial: Trial
    opinion: Outcome | None
    plausibility: float | None
    picture: Picture | None
    broken: tuple[str, ...] = ()
    branch: int | None = None
    study_tolerances: Callable[..., Tolerances] | None = None

    def tolerances(self, probability: float = 0.95, calls: int = 20) -> Tolerances:
        """Return the moves of its parameters within the target; see ``Study.tolerances``.

        Raises:
            InvalidInputError: It belongs to no study, or see ``Study.tolerances``.
        """
        if self.study_tolerances is None:
            raise InvalidInputError(
                "tolerances: the solution must be one of study.solutions(). Use "
                "study.tolerances(trial)"
            )
        return self.study_tolerances(self.trial, probability, calls)

    def __repr__(self) -> str:
        judged = "" if self.opinion is None else f", judged={self.judged!r}, upheld={self.upheld}"
        return (
            f"Solution(trial={self.trial.number}, loss={self.loss!r}{judged}, "
            f"plausibility={self.plausibility!r})"
        )

    @property
    def design(self) -> Design:
        """Design, the input of the oracle."""
        return self.trial.design

    @property
    def y(self) -> Array:
        """Observed raw outputs, shape ``(m,)``."""
        assert self.trial.y is not None
        return self.trial.y

    @property
    def loss(self) -> float:
        """Loss under the oracle of the search."""
        assert self.trial.loss is not None
        return self.trial.loss

    @property
    def judged(self) -> float | None:
        """Loss under the judge; None without a judge, or if it failed."""
        return None if self.opinion is None else self.opinion.loss

    @property
    def upheld(self) -> bool | None:
        """True if the outputs of the judge satisfy the constraints; None without outputs."""
        return (
            None if self.judged is None or self.opinion is None else self.opinion.violation <= 0.0
        )


@dataclass(frozen=True, eq=False, repr=False)
class Solutions(Sequence[Solution]):
    """Designs, best first; shown as a table in a terminal or a notebook.

    Args:
        found: Solutions.
        goal: Goal of the objective.
        outputs: Names of the outputs.
        judge_calls: Calls of the judge. No ledger counts them: no strategy sees the answers.
        criteria: Objective of several criteria; None otherwise. The designs are then trials of the
            Pareto front, sorted by the first criterion.
        values: Values of the criteria of each design, shape ``(n, k)``.
        chosen: Choice of the trials, with the branches expected beyond them; None for ``Pareto``.
        why: Reason for which no design is feasible; empty if one is.
    """

    found: tuple[Solution, ...]
    goal: Goal
    outputs: tuple[str, ...]
    judge_calls: int
    criteria: Pareto | None = None
    values: Array | None = None
    chosen: ChosenTrials | None = None
    why: str = ""

    def __len__(self) -> int:
        return len(self.found)

    @overload
    def __getitem__(self, index: int) -> Solution: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Solution, ...]: ...

    def __getitem__(self, index: int | slice) -> Solution | tuple[Solution, ...]:
        return self.found[index]

    def with_tolerances(self, function: Callable[..., Tolerances] | None) -> Solutions:
        """Return the solutions with ``Study.tolerances`` of their study."""
        return replace(
            self, found=tuple(replace(one, study_tolerances=function) for one in self.found)
        )

    def table(self) -> Table:
        """Return a table with one row per design."""
        claimed = [f"{name} claimed" for name in self._labels]
        columns = ("trial", *claimed, "branch", "judge says", "plausibility", "outputs", "design")
        rows = tuple(
            (
                one.trial.number, *self.claims(i), one.branch, self._judged(one), one.plausibility,
                vector_text(one.y),
                design_text(one.trial) or None,
            )
            for i, one in enumerate(self)
        )  # fmt: skip
        optional = [len(columns) - place for place in (5, 4, 3, 1)]
        empty = {j for j in optional if all(row[j] is None for row in rows)}
        used = [j for j in range(len(columns)) if j not in empty]
        notes = [f"No design is feasible: {self.why}."] if self.why else []
        notes += self._branch_notes()
        if self.judge_calls:
            calls = counted(self.judge_calls, "time")
            notes.append(f"The judge was called {calls}; the ledger excludes this.")
        strange = [
            str(one.trial.number)
            for one in self
            if one.plausibility is not None and one.plausibility < LEAST_PLAUSIBLE
        ]
        if strange:
            notes.append(
                f"Implausible: trial {', '.join(strange)}. More than {1.0 - LEAST_PLAUSIBLE:.0%} "
                "of real designs are more plausible; oracles extrapolate there."
            )
        return Table(
            tuple(columns[j] for j in used),
            tuple(tuple(row[j] for j in used) for row in rows),
            notes=tuple(notes),
        )

    def _branch_notes(self) -> list[str]:
        """Return what is known about solutions that are not in the table."""
        chosen = self.chosen
        if chosen is None or not any(branch is not None for branch in chosen.branches):
            return []
        missed = sum(branch is None for branch in chosen.branches)
        others = [f"{missed} of these designs miss the target."] if missed else []
        near = f"{1.0 - chosen.uncovered_share:.0%}"
        notes = [f"{near} of the solutions that the model expects are near a verified design."]
        if chosen.undiscovered:
            kinds = "branches have" if chosen.undiscovered > 1 else "branch has"
            notes.append(
                f"{chosen.undiscovered} expected {kinds} no verified design. "
                "study.run(..., find='all') continues the search."
            )
        return [*others, *notes]

    def _judged(self, one: Solution) -> float | str | None:
        if one.opinion is None:
            return None
        if one.judged is None:
            return f"failed: {one.opinion.reason}"
        found = self.judged_values(one)
        text = ", ".join(f"{value:.4g}" for value in found)
        if one.upheld:
            return found[0] if len(found) == 1 else text
        return f"{text}, constraints broken: {', '.join(one.broken)}"

    @property
    def _labels(self) -> tuple[str, ...]:
        return (self.goal.label,) if self.criteria is None else self.criteria.labels

    def claims(self, place: int) -> list[float]:
        """Return the value of the goal of a design, or its values of all criteria."""
        if self.values is not None:
            return list(self.values[place].tolist())
        return [self.goal.value(self.found[place].loss)]

    def judged_values(self, one: Solution) -> list[float]:
        """Return the value of the goal under the judge, or the values of all criteria."""
        if one.judged is None or one.opinion is None or one.opinion.y is None:
            return []
        if self.criteria is not None:
            return list(self.criteria.values(one.opinion.y).tolist())
        return [self.goal.value(one.judged)]

    def brief(self, place: int) -> str:
        """Return the claimed values of a design in a few words."""
        if self.criteria is None:
            return self.goal.text(self.found[place].loss)
        return ", ".join(
            f"{name[:12]} {value:.3g}"
            for name, value in zip(self._labels, self.claims(place), strict=True)
        )

    def facts(self, place: int) -> list[str]:
        """Return lines that describe a design: trial, claimed values, judge, plausibility."""
        one = self.found[place]
        lines = [f"trial {one.trial.number}"]
        if self.criteria is None:
            lines.append(self.goal.text(one.loss))
        else:
            pairs = zip(self._labels, self.claims(place), strict=True)
            lines += [f"{name} {value:.4g}" for name, value in pairs]
        judged = self.judged_values(one)
        if judged:
            lines.append(f"judge: {', '.join(f'{value:.4g}' for value in judged)}")
        if one.plausibility is not None:
            lines.append(f"plausibility {one.plausibility:.2g}")
        return [printable(line) for line in lines]

    def __repr__(self) -> str:
        return self.table().text() if self.found else printable(f"no solutions yet: {self.why}")

    def _repr_html_(self) -> str:
        tiles = [
            (image_tag(one.picture, f"trial {one.trial.number}"), self.facts(place))
            for place, one in enumerate(self)
            if one.picture is not None
        ]
        return self.table().html() + (render("tiles.html", tiles=tiles) if tiles else "")


def solutions(
    problem: Problem,
    history: History,
    count: int,
    noisy: bool = False,
    distance: float | None = None,
) -> Solutions:
    """Return the best designs, or designs spread over a front, with a second opinion on each.

    Args:
        problem: Problem that was searched.
        history: Its trials, with decoders.
        count: Largest number of solutions.
        noisy: True if the oracle is noisy.
        distance: Root mean square difference of the coordinates from which points are different;
            default: that of the domain.
    """
    objective, values, chosen = problem.objective, None, ChosenTrials([])
    if isinstance(objective, Pareto):
        front = pareto_front(objective, history, problem.statement if noisy else None)
        trials = front.spread(count)
        numbers = [trial.number for trial in trials]
        values = front.values[[trial.number in numbers for trial in front]]
    else:
        chosen = choose_trials(problem.statement, history, count, noisy, distance)
        trials = chosen.trials
    goal = Goal(problem.objective.to_json(), problem.outputs)
    why = "" if history.best is not None else why_infeasible(history.trials)
    if not trials:
        return Solutions((), goal, problem.outputs, 0, why=why)
    designs = [trial.design for trial in trials]
    points = np.array([trial.point for trial in trials])
    opinions, calls = problem.second_opinions(designs, points)
    if problem.plausibility is None:
        plausible = problem.space.plausibility(points)
    else:
        plausible = real_array("plausibility", problem.plausibility(designs))
        require(
            plausible.shape == (len(designs),),
            f"plausibility: must be one number for each of {len(designs)} designs, got shape "
            f"{plausible.shape}",
        )
    found = tuple(
        Solution(
            trial,
            opinion,
            float(share) if np.isfinite(share) else None,
            design_picture(problem, design),
            () if opinion is None or opinion.y is None else problem.broken(opinion.y),
            branch,
        )
        for trial, design, opinion, share, branch in zip(
            trials, designs, opinions, plausible, chosen.branches or [None] * len(trials),
            strict=True,
        )
    )  # fmt: skip
    criteria = objective if isinstance(objective, Pareto) else None
    return Solutions(found, goal, problem.outputs, calls, criteria, values, chosen, why)
