"""Fit of the model of a target to a log."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from bo_invert.history import History
from bo_invert.models.acquisition.feasibility import fit_feasibility
from bo_invert.models.base import to_unit
from bo_invert.models.data_subset import select_subset
from bo_invert.models.fitted_model import FittedModel, fit_model
from bo_invert.models.gp.mixed_kernel import column_structure
from bo_invert.models.gp.posterior import GPPosterior
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.models.inverse.oracle_noise import OracleNoise, fit_oracle_noise
from bo_invert.models.inverse.posterior_model import TargetModel
from bo_invert.models.inverse.target_region import TargetRegion
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.types import JSON, Array, Indices, Mask

_TOLERANCE = 0.01
"""Default tolerance in standard deviations of an output. Engineering choice: an error of 1 %."""


@dataclass(frozen=True, eq=False)
class TargetFit:
    """Model of a target and the observations behind it.

    Args:
        model: Model of the target.
        fitted: Surrogate with its outputs.
        subset: Positions of the observations in the fit.
        hits: Mask of all observations that meet the target and the constraints, shape ``(n,)``.
        memo: Memo for the next fit.
        tolerances: Tolerance of each entry of the target, in the units of the outputs.
    """

    model: TargetModel
    fitted: FittedModel
    subset: Indices
    hits: Mask
    memo: JSON
    tolerances: tuple[float, ...]


@dataclass(frozen=True)
class TargetOptions:
    """Options of the model of a target.

    Args:
        tolerance: Tolerance of a target without one, in the units of the outputs. Default: 1 % of
            the least standard deviation of the observed outputs.
        noise: Standard deviations of the measurement noise of the wanted entries; empty for none.
        noisy: The oracle is noisy.
        kernel: Key of ``base.KERNELS``.
        device: Torch device of the surrogate.
        noise_model: Model scale and distribution of the noise of a noisy oracle. Otherwise it is
            equal and independent normal noise.
        averaged: Use the posterior for predictions, which for few observations is an average over
            hyperparameters.
    """

    tolerance: float | None = None
    noise: tuple[float, ...] = ()
    noisy: bool = False
    kernel: str = "auto"
    device: str = "cpu"
    noise_model: bool = False
    averaged: bool = False


def fit_target_model(
    statement: ProblemStatement, history: History, options: TargetOptions, memo: JSON = None
) -> TargetFit:
    """Fit a Gaussian process of each output, and return the model of the target.

    Args:
        statement: Statement of a problem whose objective is a ``Target``.
        history: Log with at least two observations.
        options: Options.
        memo: Memo of an earlier fit.
    """
    domain, memo = statement.domain, memo or {}
    inputs = to_unit(domain, history.points)
    subset = select_subset(inputs, history.order)
    fitted = fit_model(
        statement, history, inputs, memo.get("outputs"),
        subset=subset, kernel=options.kernel, noisy=options.noisy, warp=False,
        device=options.device,
    )  # fmt: skip
    failed = to_unit(domain, history.failed_points)
    log_feasible, labels = fit_feasibility(
        inputs, failed, history.order, memo.get("permission"), structure=column_structure(domain)
    )
    outputs = fitted.outputs
    width = options.tolerance or _default_tolerance(statement, history)
    region = TargetRegion.of(outputs, width, options.noise)
    surrogate = fitted.surrogate
    if options.averaged:
        surrogate = replace(surrogate, gp=surrogate.predictive)
    gp: GPPosterior | None = None
    noise: OracleNoise | None = None
    if options.noisy and options.noise_model:
        gp, noise = _oracle_noise(surrogate)
    model = TargetModel(domain, surrogate, region, log_feasible, gp, noise)
    hits = region.contains(torch.as_tensor(history.y[:, outputs.columns])).numpy()
    note = {"outputs": fitted.surrogate.memo, "permission": labels}
    target = statement.objective
    assert isinstance(target, Target)
    tolerances = tuple(own or width for own in target.tolerances)
    return TargetFit(model, fitted, subset, hits, note, tolerances)


def _oracle_noise(surrogate: Surrogate) -> tuple[GPPosterior | None, OracleNoise | None]:
    """Return posterior and noise of the calls; None for principal components and few calls."""
    k, c = surrogate.weights.shape
    return fit_oracle_noise(surrogate.gp) if k == c else (None, None)


def _default_tolerance(statement: ProblemStatement, history: History) -> float:
    target = statement.objective
    assert isinstance(target, Target)
    spread: Array = history.y[:, list(target.indices)].std(0)
    positive = spread[spread > 0.0]
    return _TOLERANCE * float(np.min(positive)) if len(positive) else _TOLERANCE
