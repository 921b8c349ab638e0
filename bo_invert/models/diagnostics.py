"""How far a model can be trusted: told values as predicted from all the others, and outcomes as predicted before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bo_invert.errors import InvalidInputError
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.data_subset import select_subset
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.output_warp import Warp
from bo_invert.models.gp.surrogate import Surrogate, fit_surrogate
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.models.threads import one_thread
from bo_invert.problem_statement import ProblemStatement
from bo_invert.types import Array, Trial

LEVELS = (0.5, 0.9)
"""Of central intervals."""
_ROWS = 12
"""So many outputs at most are listed one by one."""


@dataclass(frozen=True, eq=False)
class Forecasts:
    """n values of c modelled numbers beside what a model said of them without knowing them.

    A forecast is normal on the model's own scale. Where the model warps a number, its distribution in the units of the
    number is skewed: ``median`` and ``interval`` are exact there, and a mean is not offered.

    Args:
        names: of the numbers.
        values: what turned out, shape ``(n, c)``.
        centre: of the forecasts on the model's scale, shape ``(n, c)``.
        std: likewise.
        warp: from the numbers to the model's scale; None where they are the same.
        about: the model in words.
    """

    names: tuple[str, ...]
    values: Array
    centre: Array
    std: Array
    warp: Warp | None = None
    about: str = ""

    @property
    def z(self) -> Array:
        """Errors in standard deviations, on the model's scale, ``(n, c)``: standard normal if the model is right."""
        return np.asarray((self._warped(self.values) - self.centre) / self.std)

    @property
    def median(self) -> Array:
        """Of the forecasts, in the units of the numbers, ``(n, c)``; without a warp it is the mean."""
        return self._unwarped(self.centre)

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Ends of the central intervals that should hold a share ``level`` of the values, ``(n, c)`` each."""
        reach = _quantile(level) * self.std
        ends = self._unwarped(self.centre - reach), self._unwarped(self.centre + reach)
        return np.minimum(*ends), np.maximum(*ends)

    def coverage(self, level: float = 0.9) -> Array:
        """Share of the values inside their central intervals, ``(c,)``: near ``level`` if the model is calibrated."""
        return np.asarray((np.abs(self.z) <= _quantile(level)).mean(0))

    @property
    def rmse(self) -> Array:
        """Root mean squared error of the medians, in the units of the numbers, ``(c,)``."""
        return np.asarray(np.sqrt(((self.values - self.median) ** 2).mean(0)))

    @property
    def explained(self) -> Array:
        """Share of the values' variance that the medians explain, ``(c,)``: 1 is perfect, 0 no better than the mean."""
        variance = self.values.var(0)
        return np.asarray(1.0 - self.rmse**2 / np.where(variance > 0.0, variance, 1.0))

    @property
    def log_density(self) -> Array:
        """Mean log density of the values under their forecasts, in the units of the numbers, ``(c,)``.

        Higher is better. It is the one score here that rewards being right and being honest about it.
        """
        density = -0.5 * self.z**2 - np.log(self.std) - 0.5 * math.log(2.0 * math.pi)
        if self.warp is not None:
            density = density + self.warp.log_slope(torch.tensor(self.values)).numpy()
        return np.asarray(density.mean(0))

    def __str__(self) -> str:
        n, c = self.values.shape
        head = f"{n} values" + (f", {self.about}" if self.about else "")
        width = max(len(name) for name in (*self.names, "output"))
        lines = [
            head,
            f"{'output':<{width}}  explained       rmse  in 50 %  in 90 %  median z  log density",
        ]
        explained, rmse, density = self.explained, self.rmse, self.log_density
        half, most, middle = self.coverage(0.5), self.coverage(0.9), np.median(self.z, axis=0)
        shown = range(c) if c <= _ROWS else np.argsort(explained, kind="stable")[:_ROWS]
        lines += [
            f"{self.names[j]:<{width}}  {explained[j]:9.4f}  {rmse[j]:9.3g}  {half[j]:7.0%}  {most[j]:7.0%}  "
            f"{middle[j]:8.2f}  {density[j]:11.3f}"
            for j in shown
        ]
        if c > _ROWS:
            lines.append(
                f"These are the worst of {c}; of all, {most.mean():.0%} of the values are in their 90 %."
            )
        return "\n".join(lines)

    def _warped(self, values: Array) -> Array:
        return values if self.warp is None else np.asarray(self.warp(torch.tensor(values)).numpy())

    def _unwarped(self, numbers: Array) -> Array:
        return (
            numbers
            if self.warp is None
            else np.asarray(self.warp.inverse(torch.tensor(numbers)).numpy())
        )


def diagnose(
    statement: ProblemStatement,
    trials: Sequence[Trial],
    *,
    kernel: str = "auto",
    noisy: bool = False,
    warp: bool = True,
) -> Forecasts:
    """Every told outcome, as the model of ``gp`` predicts it from all the others (leave-one-out).

    Args:
        statement: of the problem; ``study.statement``.
        trials: ``study.trials``; beyond 1,000 told ones, those that the model is given.
        kernel: as for the strategy ``gp``.
        noisy: likewise.
        warp: likewise.

    Raises:
        InvalidInputError: fewer than three trials are told.
    """
    history = History(trials)
    if len(history.completed) < 3:
        raise InvalidInputError(
            f"diagnose: leaving one out takes at least 3 completed trials, and there are {len(history.completed)}; "
            "tell more outcomes first"
        )
    inputs = to_unit(statement.domain, history.points)
    some = select_subset(inputs, history.order)
    outputs = ModelledOutputs(statement, history.y[some], history.losses[some])
    choice = ModelSearchSpace.of(kernel, noisy, outputs.warp_directions if warp else None)
    with one_thread():
        surrogate = fit_surrogate(inputs[some], outputs.values, search_space=choice)
        names = [statement.outputs[column] for column in outputs.columns]
        return leave_one_out(
            surrogate, outputs.values, ["loss", *names] if outputs.models_loss else names
        )


def leave_one_out(surrogate: Surrogate, values: Array, names: Sequence[str] = ()) -> Forecasts:
    """The values that a surrogate was fitted to, each predicted from all others, hyperparameters kept.

    Args:
        surrogate: fitted to them.
        values: shape ``(n, c)``.
        names: of the numbers.
    """
    mean, variance = surrogate.gp.leave_one_out()
    return _forecasts(surrogate, mean, variance, values, names)


def forecast(
    surrogate: Surrogate, inputs: Array, values: Array, names: Sequence[str] = ()
) -> Forecasts:
    """Outcomes at inputs as a surrogate that does not know them predicts them.

    Args:
        surrogate: fitted to other points.
        inputs: unit inputs, shape ``(b, d)``.
        values: what turned out there, shape ``(b, c)``.
        names: of the numbers.
    """
    mean, variance = surrogate.posterior(torch.as_tensor(inputs).to(surrogate.offset))
    return _forecasts(surrogate, mean, variance + surrogate.misfit_variance, values, names)


def _forecasts(
    surrogate: Surrogate,
    mean: torch.Tensor,
    variance: torch.Tensor,
    values: Array,
    names: Sequence[str],
) -> Forecasts:
    centre = mean @ surrogate.weights + surrogate.offset
    std = (variance @ surrogate.weights**2 + surrogate.residual_variance).sqrt()
    listed = tuple(names) or tuple(f"number {j}" for j in range(values.shape[1]))
    return Forecasts(listed, np.asarray(values, dtype=float), centre.cpu().numpy(), std.cpu().numpy(), surrogate.warp,
                     _words(surrogate))  # fmt: skip


def _words(surrogate: Surrogate) -> str:
    process = surrogate.gp
    k, c = surrogate.weights.shape
    what = [
        f"{process.kernel.name} kernel",
        f"noise {float(process.noise.amax()):.1g} of the variance",
    ]
    return ", ".join([*what, *(["warped"] if surrogate.warp is not None else []),
                      *([f"{k} components of {c} outputs"] if k != c else [])])  # fmt: skip


def _quantile(level: float) -> float:
    return float(torch.special.ndtri(torch.tensor(0.5 + 0.5 * level, dtype=torch.float64)))
