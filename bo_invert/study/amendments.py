"""Outcomes with the conditions and further values that the user reports, and corrected outcomes."""

from __future__ import annotations

from dataclasses import replace

from bo_invert.errors import EvaluationError, InvalidInputError
from bo_invert.problems.problem import Problem
from bo_invert.study.input_validation import check_outputs
from bo_invert.study.placement import Place, read_extra, used_names
from bo_invert.types import Outcome, State, Trial
from bo_invert.user_tables import record


def completed(problem: Problem, outcome: Outcome, where: Place | None, extra: object) -> Outcome:
    """Return an outcome with its place and further values of the user."""
    found = read_extra(extra, used_names(problem.space.domain, problem.outputs))
    if where is not None:
        return where.of_outcome(outcome, found)
    return replace(outcome, extra=found) if found else outcome


def amended_outcome(
    problem: Problem,
    trial: Trial,
    answer: object = None,
    where: Place | None = None,
    extra: object = None,
) -> Outcome:
    """Return the corrected outcome of a trial; everything that is not given stays.

    Gradient and trace belong to the former outputs, so new outputs remove them.

    Args:
        problem: Problem of the study.
        trial: Trial with an outcome.
        answer: Corrected outputs or error; None to retain them.
        where: Corrected conditions; None to retain them.
        extra: Further measured values, added to the former ones or replacing them.

    Raises:
        InvalidInputError: Nothing is corrected, or a value is invalid.
    """
    if answer is None and where is None and extra is None:
        raise InvalidInputError("amend: one of outputs, at and extra is required")
    known = outcome = trial.outcome or Outcome(trial.state)
    if where is not None:
        outcome = replace(where.of_outcome(known), gradient=None, trace=None)
    if known.y is not None and (answer is None or record(answer) is not None):
        # Outputs that are not given stay; the plausibility of a new point is computed.
        given = zip(problem.outputs, known.y.tolist(), strict=True)
        stay = {name: y for name, y in given if name in problem.output_names.oracle}
        answer = stay | (record(answer) or {}) if answer is not None or where is not None else None
    if answer is not None:
        if not isinstance(answer, EvaluationError):
            check_outputs(answer, problem.output_names.reported(answer))
        point = trial.query.point if outcome.point is None else outcome.point
        outcome = replace(
            problem.outcome(answer, known.cost, point), point=outcome.point,
            design=outcome.design, outside=outcome.outside, extra=outcome.extra,
        )  # fmt: skip
        if outcome.state is not State.COMPLETED and not isinstance(answer, EvaluationError):
            raise InvalidInputError(
                f"amend: {outcome.reason}. Outputs must be finite numbers; pass FailedError('why') "
                "to record a failure"
            )
    if extra is not None:
        more = read_extra(extra, used_names(problem.space.domain, problem.outputs))
        outcome = replace(outcome, extra={**outcome.extra, **more})
    return outcome
