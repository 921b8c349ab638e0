"""Choice of the trials that are shown as different solutions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from bo_invert.history import History
from bo_invert.models.blas_threads import one_thread
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.study.recommendation import recommend, suspected_noisy
from bo_invert.types import Array, Trial


@dataclass(frozen=True)
class ChosenTrials:
    """Trials with different designs; those of a target with their branches.

    Args:
        trials: Trials, best first; of a target, the best one of all, then one of each other branch.
        branches: Branch of each trial, numbered by falling mass; None for trials that miss the
            target. Empty without a model of the branches.
        undiscovered: Number of expected branches without a verified design.
        uncovered_share: Share of the posterior mass near no verified design of the study.
    """

    trials: list[Trial]
    branches: tuple[int | None, ...] = ()
    undiscovered: int = 0
    uncovered_share: float = 0.0


def choose_trials(
    statement: ProblemStatement,
    history: History,
    count: int,
    noisy: bool,
    distance: float | None = None,
) -> ChosenTrials:
    """Choose trials with different designs.

    The solutions of a target are one of each branch first, by falling mass; then those that cover
    most of the remaining mass of the posterior. The other trials follow, best first.

    Args:
        statement: Problem statement.
        history: Trials of the study.
        count: Largest number of trials.
        noisy: Repeated calls at a point differ.
        distance: Root mean square difference of the coordinates from which points are different;
            default: that of the domain.
    """
    distance = statement.domain.separation if distance is None else distance
    first = leading_trial(statement, history) if noisy else None
    target = statement.objective
    met = target.satisfied if isinstance(target, Target) else None
    plain = distinct_trials(history, count, distance, first, met)
    if count < 2 or not isinstance(target, Target) or len(history.completed) < 2 or not plain:
        return ChosenTrials(plain)
    solutions = _by_branch(statement, history, noisy, distance, plain[0])
    if not solutions.trials:
        return ChosenTrials(plain)
    known = {trial.number for trial in solutions.trials}
    rest = [trial for trial in plain if trial.number not in known]
    trials = [*solutions.trials, *rest][:count]
    branches = (*solutions.branches, *[None] * len(rest))[:count]
    return ChosenTrials(trials, branches, solutions.undiscovered, solutions.uncovered_share)


@one_thread()
def _by_branch(
    statement: ProblemStatement, history: History, noisy: bool, distance: float, best: Trial
) -> ChosenTrials:
    """Return the trials that meet the target: the best, one per branch, then by covered mass."""
    from bo_invert.models.inverse import fit as fits, solution_set

    noisy = noisy or suspected_noisy(statement, history)
    fit = fits.fit_target_model(statement, history, fits.TargetOptions(noisy=noisy))
    hits = [
        trial
        for trial, hit in zip(history.completed, fit.hits, strict=True)
        if hit and not trial.outside
    ]
    if len(hits) < 2:
        return ChosenTrials([])
    points = np.array([trial.point for trial in hits])
    # The branches are those of Study.posterior.
    _, near = solution_set.sample_solutions(fit.model, points, count=1, seed=0)
    places = {trial.number: place for place, trial in enumerate(hits)}
    order = near.spread(places.get(best.number, 0), distance)
    labels = near.verified_branches
    return ChosenTrials(
        [hits[row] for row in order], tuple(int(labels[row]) for row in order),
        near.undiscovered_branches, near.uncovered_share,
    )  # fmt: skip


def leading_trial(statement: ProblemStatement, history: History) -> Trial | None:
    """Return the trial that leads the solutions of a noisy problem; None without a feasible one."""
    return None if history.best is None else recommend(statement, history, noisy=True).trial


def distinct_trials(
    history: History,
    count: int,
    separation: float,
    first: Trial | None = None,
    met: Callable[[Array], bool] | None = None,
) -> list[Trial]:
    """Return the best trials with different designs, best first.

    The trials are feasible, unless no trial is; then the one of lowest violation is returned. The
    distance of each from the better ones is at least ``separation * sqrt(d)`` (2-norm of points in
    ``d`` dimensions). Closer trials fill up the list if there are too few others.

    Args:
        history: Trials of the study.
        count: Largest number of trials.
        separation: Smallest root-mean-square difference of the coordinates of two points.
        first: Trial to begin with. Default: the best one.
        met: Function of the outputs ``(m,)`` of a trial; those that it accepts precede the others.
            A sum of losses can be least just outside a range.
    """
    ranking = [trial for trial in history.ranking if first is None or trial.number != first.number]
    ranking = ranking if first is None else [first, *ranking]
    usable = [trial for trial in ranking if trial.feasible] or ranking[:1]
    if met is not None and first is None:
        usable.sort(key=lambda trial: trial.y is None or not met(trial.y))
    chosen: list[Trial] = []
    for smallest in (separation, 0.0):
        for trial in usable:
            radius = max(1e-9, smallest * float(np.sqrt(len(trial.point))))
            if len(chosen) < count and all(
                np.linalg.norm(trial.point - other.point) >= radius for other in chosen
            ):
                chosen.append(trial)
    return sorted(chosen, key=usable.index)
