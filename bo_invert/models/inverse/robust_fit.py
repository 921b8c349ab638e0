"""Fit of the quality of designs under noise of their inputs to a log."""

from __future__ import annotations

from dataclasses import dataclass

from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.data_subset import select_subset
from bo_invert.models.fitted_model import fit_model
from bo_invert.models.inverse.fit import TargetOptions, fit_target_model
from bo_invert.models.inverse.input_yield import InputYield
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.types import JSON, Indices


@dataclass(frozen=True)
class RobustOptions:
    """Options of a fit; see the strategy ``robust``.

    Args:
        draws: Number of deviations.
        tolerance: Tolerance of a target without one; None for a default.
        noisy: The oracle is noisy.
        kernel: Key of ``base.KERNELS``.
        device: Torch device of the surrogate.
    """

    draws: int = 64
    tolerance: float | None = None
    noisy: bool = False
    kernel: str = "auto"
    device: str = "cpu"


def fit_input_yield(
    statement: ProblemStatement,
    history: History,
    options: RobustOptions,
    seed: int,
    memo: JSON = None,
) -> tuple[InputYield, Indices, JSON]:
    """Return the quality of designs, the positions of the observations in the fit, and a memo.

    Args:
        statement: Statement of a problem with input noise.
        history: Log with at least two observations.
        options: Options.
        seed: Seed of the deviations.
        memo: Memo of an earlier fit.
    """
    noise = statement.input_noise
    assert noise is not None
    if isinstance(statement.objective, Target):
        choices = TargetOptions(
            options.tolerance, (), options.noisy, options.kernel, options.device
        )
        fit = fit_target_model(statement, history, choices, memo)
        return InputYield(noise, fit.model, fit.fitted, options.draws, seed), fit.subset, fit.memo
    inputs = to_unit(statement.domain, history.points)
    subset = select_subset(inputs, history.order)
    fitted = fit_model(
        statement, history, inputs, (memo or {}).get("outputs"),
        subset=subset, kernel=options.kernel, noisy=options.noisy, warp=False,
        device=options.device,
    )  # fmt: skip
    note = {"outputs": fitted.surrogate.memo}
    return InputYield(noise, None, fitted, options.draws, seed), subset, note
