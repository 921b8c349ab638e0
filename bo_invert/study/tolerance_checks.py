"""Checks of the tolerances of a design by the oracle, and their result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.base import Z_90
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.inverse.fit import TargetOptions, fit_target_model
from bo_invert.models.inverse.largest_box import SIZE_POINTS
from bo_invert.models.inverse.tolerance_search import ToleranceSearch
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.problems.problem import Problem
from bo_invert.report.runs import Picture
from bo_invert.storage.journal_base import LoggedProposal
from bo_invert.storage.reader import JournalView
from bo_invert.study.design_pictures import design_picture
from bo_invert.study.posterior import MIN_OBSERVATIONS
from bo_invert.study.tolerances import CHECK, Tolerances
from bo_invert.types import JSON, Array, Design, Query, State, Trial

_SETTLED = 0.01
"""Width of the interval of the share below which checks end. Engineering choice: a fifth of the
share outside of a box with probability 0.95."""
_LEAST_CHECKS = 2
"""Least number of checks beyond one per free parameter. Engineering choice: a linear model of the
outputs needs one each."""
_SUGGESTED = 3
"""Number of designs that are suggested for measurements. Engineering choice."""
_PICTURES = 8
"""Largest number of parameters with pictures. Engineering choice."""
_MOVE_DIGITS = 9
"""Digits of moves in a log. Engineering choice: far below measurable differences."""


@dataclass(frozen=True)
class ToleranceRequest:
    """Design, probability and options of its tolerances.

    Args:
        trial: Trial of the design.
        probability: Probability that a design of the box meets the target.
        noisy: Repeated calls at a point differ.
    """

    trial: Trial
    probability: float
    noisy: bool = False

    def checks(self, trials: Sequence[Trial]) -> list[Trial]:
        """Return the trials that check these tolerances."""
        return [trial for trial in trials if self._checks(trial.query.meta.get(CHECK))]

    def _checks(self, note: JSON) -> bool:
        known = isinstance(note, Mapping)
        return known and (note["trial"], note["probability"]) == (
            self.trial.number, self.probability
        )  # fmt: skip

    @one_thread()
    def search(self, statement: ProblemStatement, history: History) -> ToleranceSearch:
        """Return the search for the largest box under a model of the log."""
        model = fit_target_model(statement, history, TargetOptions(noisy=self.noisy)).model
        checks = self.checks(history.trials)
        moves = [trial.query.meta[CHECK]["moves"] for trial in checks[-1:]]
        starts = [np.array(one) for one in moves if len(one)]
        return ToleranceSearch(model, self.trial.point, self.probability, starts)

    def propose(
        self, statement: ProblemStatement, most: int, view: JournalView, wanted: int
    ) -> LoggedProposal:
        """Return the next check; none after ``most`` checks, or once the share is certain.

        The proposal depends on the log only, so an interrupted run continues exactly.
        """
        del wanted
        history = History(view.trials)
        queries: tuple[Query, ...] = ()
        checks = self.checks(view.trials)
        if len(checks) < most:
            queries = self._query(statement, history, len(checks))
        return LoggedProposal(queries, view.memo, view.asks, view.seq, 0.0)

    @one_thread()
    def _query(self, statement: ProblemStatement, history: History, done: int) -> tuple[Query, ...]:
        if len(history.completed) < MIN_OBSERVATIONS:
            # One more point gives the model a spread.
            point = statement.domain.sobol(np.random.default_rng(0), 1, len(history.trials))[0]
            return (Query(point, origin=CHECK, meta={CHECK: self._note(())}),)
        search = self.search(statement, history)
        low, high = search.interval
        enough = done >= len(search.space.columns) + _LEAST_CHECKS
        if not len(search.space.columns) or (enough and high - low < _SETTLED):
            return ()
        known = history.all_points
        point = search.farthest_check(known) if done % 2 else None
        if point is None:
            point = search.next_check(known)
        if point is None:
            return ()
        moves = search.box.moves.round(_MOVE_DIGITS).tolist()
        return (Query(point, origin=CHECK, meta={CHECK: self._note(moves)}),)

    def _note(self, moves: JSON) -> JSON:
        return {"trial": self.trial.number, "probability": self.probability, "moves": moves}


@one_thread()
def tolerances_of(
    problem: Problem, history: History, request: ToleranceRequest, note: str
) -> Tolerances:
    """Return the tolerances of a design under a model of the log, without a call.

    Args:
        problem: Problem.
        history: Trials.
        request: Design and probability.
        note: Sentence on the limits of the result.

    Raises:
        InvalidInputError: No parameter of the design can move.
    """
    search = request.search(problem.statement, history)
    space, domain, trial = search.space, search.space.domain, request.trial
    if not space.names:
        raise InvalidInputError(
            f"tolerances: trial {trial.number} must have a parameter that can move, got choices "
            "and fixed values only"
        )
    # The points of the box are a sample, too.
    error = Z_90 * float(np.sqrt(search.share * (1.0 - search.share) / SIZE_POINTS))
    interval = (
        max(0.0, min(search.interval[0], search.share) - error),
        min(1.0, max(search.interval[1], search.share) + error),
    )
    box, own = search.box, space.centre[space.columns]
    alone = own + np.array([[-1.0], [1.0]]) * search.separate

    def named(ends: Array) -> dict[str, Any]:
        point = space.centre.copy()
        point[space.columns] = ends
        values = domain.named(point, measured=True)
        return {name: values[name] for name in space.names}

    low, high = named(alone[0]), named(alone[1])
    lower, upper = named(box.ends[0]), named(box.ends[1])
    note = " ".join(filter(None, [note, _limits(search, request.probability)]))
    return Tolerances(
        trial, space.names, named(own), {name: (low[name], high[name]) for name in space.names},
        lower, upper, request.probability, search.share, interval,
        sum(one.cost.calls for one in request.checks(history.trials)),
        _to_measure(problem, search, history), note, _pictures(problem, search),
        box, partial(_drawn, search), problem.space.decode,
    )  # fmt: skip


def _limits(search: ToleranceSearch, probability: float) -> str:
    """Return why parameters cannot move, empty if all can."""
    if search.share < probability:
        return (
            f"The model gives the design itself a probability of {search.share:.0%} only, and no "
            f"box has {probability:g}. Further calls, or measurements of to_measure, make the "
            "model more certain."
        )
    bound = [search.space.names[position] for position in search.bound]
    if not bound:
        return ""
    return (
        f"Equality constraints bind {', '.join(bound)}: none of them can move alone, and no box "
        "has a width in them."
    )


def _drawn(search: ToleranceSearch, n: int, seed: int) -> Array:
    """Return n points ``(n, d)`` uniform in the box and the feasible set."""
    rng, dim = np.random.default_rng(seed), len(search.space.columns)
    found = np.empty((0, search.space.domain.dim))
    while len(found) < n:
        points = search.box.points(rng.random((max(n, 64), dim)))
        found = np.concatenate([found, points[search.space.domain.admits(points)]])
    return found[:n]


def _to_measure(problem: Problem, search: ToleranceSearch, history: History) -> list[Design]:
    """Return designs that would inform most about the box."""
    known, found = history.all_points, []
    for _ in range(_SUGGESTED):
        point = search.next_check(known)
        if point is None:
            break
        found.append(problem.decode(point))
        known = np.concatenate([known, point[None]])
    return found


def _pictures(
    problem: Problem, search: ToleranceSearch
) -> tuple[tuple[Picture, tuple[str, ...]], ...]:
    """Return pictures of the designs at the ends of each parameter alone."""
    space, found = search.space, []
    for position, name in enumerate(space.names[:_PICTURES]):
        down, up = search.separate[:, position]
        for point, end in zip(space.along(position, np.array([-down, up])), "−+", strict=True):
            picture = design_picture(problem, problem.decode(point))
            if picture is None:
                return ()
            found.append((picture, (f"{name} {end}", f"{point[space.columns[position]]:.3g}")))
    return tuple(found)


def require_met(trial: Trial, statement: ProblemStatement) -> None:
    """Check that a trial meets the target and the constraints.

    Raises:
        InvalidInputError: It does not.
    """
    met = (
        trial.state is State.COMPLETED and trial.feasible and statement.objective.satisfied(trial.y)
    )
    if not met:
        outputs = "no outputs" if trial.y is None else f"y = {trial.y.tolist()!r:.200}"
        raise InvalidInputError(
            f"tolerances: trial {trial.number} must meet {statement.objective} within its "
            f"tolerance, and the constraints, got {outputs}. Choose one of study.solutions(), or "
            "continue the study"
        )
