"""Diagnostics of a surrogate: leave-one-out and out-of-sample forecasts with their calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import ndtri

from bo_invert.errors import InvalidInputError, printable
from bo_invert.history import History
from bo_invert.models.base import to_unit
from bo_invert.models.blas_threads import one_thread
from bo_invert.models.data_subset import select_subset
from bo_invert.models.fitted_model import fit_model
from bo_invert.models.gp.output_warp import Warp
from bo_invert.models.gp.surrogate import Surrogate
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import Array, Trial
from bo_invert.user_code import own_settings

_MAX_ROWS = 12
"""Largest number of rows in a printed table. Engineering choice."""


@dataclass(frozen=True, eq=False)
class Forecasts:
    """Forecasts of n values of c modelled outputs, beside the values.

    A forecast is normal on the warped scale. In units of a warped output it is skewed; ``median``
    and ``interval`` are exact there, and there is no mean.

    Args:
        names: Names of the outputs.
        values: Observed values, shape ``(n, c)``.
        centre: Means on the warped scale, shape ``(n, c)``.
        std: Standard deviations on the warped scale, shape ``(n, c)``.
        warp: Output warp; None without a warp.
        about: Description of the model.
    """

    names: tuple[str, ...]
    values: Array
    centre: Array
    std: Array
    warp: Warp | None = None
    about: str = ""

    @property
    def z(self) -> Array:
        """Standardised errors on the warped scale, ``(n, c)``; standard normal if calibrated."""
        values = torch.tensor(self.values)
        warped = values if self.warp is None else self.warp(values)
        return np.asarray((warped.numpy() - self.centre) / self.std)

    @property
    def median(self) -> Array:
        """Medians in units of the outputs, ``(n, c)``; without a warp, also the means."""
        return self._unwarped(self.centre)

    def interval(self, level: float = 0.9) -> tuple[Array, Array]:
        """Return the ends of central intervals with probability ``level``, ``(n, c)`` each."""
        reach = ndtri(0.5 + 0.5 * level) * self.std
        # A warp is monotone but may decrease, so the ends are sorted.
        ends = self._unwarped(self.centre - reach), self._unwarped(self.centre + reach)
        return np.minimum(*ends), np.maximum(*ends)

    def coverage(self, level: float = 0.9) -> Array:
        """Return the share of values in their intervals, ``(c,)``; near ``level`` if calibrated."""
        return np.asarray((np.abs(self.z) <= ndtri(0.5 + 0.5 * level)).mean(0))

    @property
    def rmse(self) -> Array:
        """Root mean squared errors of the medians in units of the outputs, ``(c,)``."""
        return np.asarray(np.sqrt(((self.values - self.median) ** 2).mean(0)))

    @property
    def explained(self) -> Array:
        """Coefficients of determination R^2 of the medians, ``(c,)``; 1 is perfect."""
        variance = self.values.var(0)
        return np.asarray(1.0 - self.rmse**2 / np.where(variance > 0.0, variance, 1.0))

    @property
    def log_density(self) -> Array:
        """Mean log predictive density in units of the outputs, ``(c,)``; higher is better.

        It is a proper score: it rewards accuracy and calibration (Gneiting & Raftery 2007).
        """
        return np.asarray(self.log_densities.mean(0))

    @property
    def log_densities(self) -> Array:
        """Log predictive densities of the values in units of the outputs, ``(n, c)``."""
        # log N(w(y); centre, std) + log w'(y)
        density = -0.5 * self.z**2 - np.log(self.std) - 0.5 * np.log(2.0 * np.pi)
        if self.warp is not None:
            density = density + self.warp.log_slope(torch.tensor(self.values)).numpy()
        return np.asarray(density)

    def __str__(self) -> str:
        n, c = self.values.shape
        width = max(len(name) for name in (*self.names, "output"))
        lines = [
            f"{n} values" + (f", {self.about}" if self.about else ""),
            f"{'output':<{width}}  explained       rmse  in 50 %  in 90 %  median z  log density",
        ]
        explained, rmse, density = self.explained, self.rmse, self.log_density
        half, most, middle = self.coverage(0.5), self.coverage(0.9), np.median(self.z, axis=0)
        # Many outputs are summarised by those that the model explains least.
        shown = range(c) if c <= _MAX_ROWS else np.argsort(explained, kind="stable")[:_MAX_ROWS]
        lines += [
            f"{self.names[j]:<{width}}  {explained[j]:9.4f}  {rmse[j]:9.3g}  {half[j]:7.0%}  "
            f"{most[j]:7.0%}  {middle[j]:8.2f}  {density[j]:11.3f}"
            for j in shown
        ]
        if c > _MAX_ROWS:
            lines.append(
                f"These are the worst of {c} outputs; {most.mean():.0%} of all values lie in their "
                "90 % intervals."
            )
        return printable("\n".join(lines))

    def _unwarped(self, warped: Array) -> Array:
        values = torch.tensor(warped)
        return np.asarray((values if self.warp is None else self.warp.inverse(values)).numpy())


@one_thread()
@own_settings()
def diagnose(
    statement: ProblemStatement,
    trials: Sequence[Trial],
    *,
    kernel: str = "auto",
    noisy: bool = False,
    warp: bool = True,
) -> Forecasts:
    """Compute leave-one-out forecasts of the observations under the model of ``gp``.

    Args:
        statement: Problem statement, such as ``study.statement``.
        trials: Trials, such as ``study.trials``; beyond 1,000 observations a subset is used.
        kernel: Option of the strategy ``gp``.
        noisy: Option of the strategy ``gp``.
        warp: Option of the strategy ``gp``.

    Raises:
        InvalidInputError: There are fewer than three completed trials.
    """
    history = History(trials)
    if len(history.completed) < 3:
        raise InvalidInputError(
            "diagnose: trials must hold at least 3 completed ones, got "
            f"{len(history.completed)}. Report more outcomes first."
        )
    # The same subset as of the strategy, so that the same model is judged.
    inputs = to_unit(statement.domain, history.points)
    subset = select_subset(inputs, history.order)
    model = fit_model(
        statement, history, inputs, subset=subset, kernel=kernel, noisy=noisy, warp=warp
    )
    return leave_one_out(model.surrogate, model.outputs.values, model.outputs.names)


def leave_one_out(surrogate: Surrogate, values: Array, names: Sequence[str] = ()) -> Forecasts:
    """Forecast each fitted value from all others, at fixed hyperparameters.

    Args:
        surrogate: Surrogate of the values.
        values: Values of the fit, shape ``(n, c)``.
        names: Names of the outputs.
    """
    # Closed form, without n refits.
    return _forecasts(surrogate, *surrogate.predictive.leave_one_out(), values, names)


def forecast(
    surrogate: Surrogate, inputs: Array, values: Array, names: Sequence[str] = ()
) -> Forecasts:
    """Forecast outcomes at other inputs than those of the fit.

    Args:
        surrogate: Surrogate.
        inputs: Unit inputs, shape ``(b, d)``.
        values: Observed outcomes there, shape ``(b, c)``.
        names: Names of the outputs.
    """
    # An outcome also varies by its noise, or by structure too fine for the model.
    predicted = surrogate.predict(torch.as_tensor(inputs).to(surrogate.offset))
    return _forecasts(surrogate, *predicted, values, names)


def _forecasts(
    surrogate: Surrogate,
    mean: torch.Tensor,
    variance: torch.Tensor,
    values: Array,
    names: Sequence[str],
) -> Forecasts:
    """Return forecasts of the outputs from moments ``(n, k)`` of the scores."""
    # y = w^-1(s @ W + offset + residual): moments on the warped scale, from independent scores s
    centre, std = surrogate.warped_moments(mean, variance)
    k, c = surrogate.weights.shape
    parts = [
        f"{surrogate.gp.kernel.name} kernel",
        f"noise {float(surrogate.gp.noise.amax()):.1g} of the variance",
        "warped" if surrogate.warp is not None else "",
        f"{k} components of {c} outputs" if k != c else "",
    ]
    return Forecasts(
        tuple(names) or tuple(f"number {j}" for j in range(values.shape[1])),
        np.asarray(values, dtype=float),
        centre.cpu().numpy(),
        std.cpu().numpy(),
        surrogate.warp,
        ", ".join(filter(None, parts)),
    )
