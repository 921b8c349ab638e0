"""Design that most probably meets the target of a study, predicted without a call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bo_invert.errors import InvalidInputError, printable
from bo_invert.history import History
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.inverse import fit as fits, likely_points as likely
from bo_invert.models.optim.duplicates import duplicate_filter
from bo_invert.models.prediction_intervals import predict_intervals
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.study.posterior import MIN_OBSERVATIONS, PosteriorRequest, require_target
from bo_invert.types import INTERVALS, Array, Design


@dataclass(frozen=True, eq=False, repr=False)
class PredictedSolution:
    """Design with the highest probability to meet a target.

    Args:
        point: Point of the domain, shape ``(d,)``.
        design: Design of the point; None if the study was opened without its problem.
        outputs: Lower end, median and upper end of the 90 % interval of each output that target
            and constraints read, by name. All are the observed value of a known design.
        hit: Probability that the design meets the target and the constraints.
        trial: Number of the trial that observed the design; None for a predicted design.
    """

    point: Array
    design: Design
    outputs: Mapping[str, tuple[float, float, float]]
    hit: float
    trial: int | None = None

    def __repr__(self) -> str:
        known = "predicted" if self.trial is None else f"observed in trial {self.trial}"
        lines = [f"{known}: meets the target with probability {self.hit:.2f}"]
        for name, (low, middle, high) in list(self.outputs.items())[:10]:
            lines.append(f"  {name} = {middle:.6g} ({low:.6g} to {high:.6g})")
        return printable("\n".join(lines))


@one_thread()
def predict_solution(
    statement: ProblemStatement,
    history: History,
    noisy: bool,
    request: PosteriorRequest,
) -> PredictedSolution:
    """Return the point that most probably meets the target, without its design.

    Args:
        statement: Problem statement.
        history: Trials.
        noisy: Repeated calls at a point differ.
        request: Tolerance and seed; see ``Study.predicted_solution``.

    Raises:
        InvalidInputError: The objective is no target, or there are fewer than two observations.
    """
    target = require_target(statement, "predicted_solution")
    if len(history.completed) < MIN_OBSERVATIONS:
        raise InvalidInputError(
            f"predicted_solution: the study must have at least {MIN_OBSERVATIONS} observations, "
            f"got {len(history.completed)}. Run it, or add observations"
        )
    best = history.best
    if not noisy and best is not None and best.y is not None and target.satisfied(best.y):
        names = dict.fromkeys(target.names or statement.outputs)
        values = {name: float(best.y[statement.outputs.index(name)]) for name in names}
        same = {name: (value, value, value) for name, value in values.items()}
        return PredictedSolution(best.point, None, same, 1.0, best.number)
    fit = fits.fit_target_model(
        statement,
        history,
        fits.TargetOptions(*request.checked(target, "predicted_solution"), noisy, averaged=True),
    )
    duplicates = duplicate_filter(statement, history, fit.subset)
    none = np.empty((0, statement.domain.dim))
    search = likely.likely_points(fit, none, History(history.completed), duplicates)
    points = search.choose(1, np.random.default_rng(request.seed))
    model = fit.fitted
    (interval,) = predict_intervals(
        model.surrogate, model.outputs, statement, history.trials,
        search.model.unit(points).cpu().numpy(),
    )  # fmt: skip
    spans = {name: (low, middle, high) for name, (low, middle, high) in interval[INTERVALS].items()}
    hit = float(search.probabilities(points)[0])
    return PredictedSolution(points[0], None, spans, min(1.0, hit))
