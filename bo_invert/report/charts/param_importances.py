"""Chart of the importance of each parameter: Sobol indices or Shapley effects."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bo_invert.report.charts.chart import Axis, Chart, Panel
from bo_invert.report.charts.layers import Bars
from bo_invert.report.charts.model_view import chosen_params, require_model
from bo_invert.report.charts.sensitivity import importances, is_constant
from bo_invert.report.charts.study_data import StudyData

_NEGLIGIBLE = 1e-6
"""Range of a model in ranges of the observed values below which it is constant. Engineering choice:
its fitted variance is at its lower bound then."""
_MOST = 20
"""Largest number of bars. Engineering choice."""
_SOBOL = (
    "Share of the variance of the model over the search space (total Sobol index); bars of "
    "several parameters sum to more than 1 if they interact. Intervals: 90 % over functions that "
    "agree with the data."
)
_SHAPLEY = (
    "Share of the variance of the model over the search space that belongs to each parameter "
    "(Shapley effect, for parameters that depend on each other; the shares sum to 1). Intervals: "
    "90 % over functions that agree with the data, and over samples."
)


def param_importances(
    data: StudyData, params: Sequence[str] | None = None, target: str | None = None
) -> Chart:
    """Return Sobol indices or, in a constrained space, Shapley effects, largest first.

    Args:
        data: the study.
        params: names of the parameters to show; None for the 20 most important ones.
        target: output; None for the value of the goal.

    Raises:
        InvalidInputError: there is no model.
    """
    quantity = data.quantity(target)
    names = chosen_params(data, params, "param_importances")
    model = require_model(data, "param_importances")
    assert data.domain is not None
    found = importances(model, data.domain, quantity.output)
    measured = np.array([data.value(trial, quantity) for trial in data.completed], dtype=float)
    title = f"Importance of the parameters for {quantity.label}"
    flat = is_constant(measured)
    if flat or found.constant or found.spread <= _NEGLIGIBLE * np.ptp(measured):
        why = "does not vary" if flat else "does not vary under the model"
        return _without_variance(
            title, f"{quantity.label} {why}", [one for one in found.names if one in names]
        )
    low, share, high = np.quantile(found.shares, [0.05, 0.5, 0.95], axis=0)
    first = None if found.first is None else np.minimum(np.median(found.first, axis=0), share)
    order = [i for i in np.argsort(-share, kind="stable") if found.names[i] in names]
    shown = np.array(order[:_MOST], dtype=int)
    notes = [_SHAPLEY if first is None else _SOBOL]
    if len(order) > _MOST:
        notes.append(f"The {_MOST} most important of {len(order)} parameters.")
    y = np.arange(len(shown), dtype=float)
    zero = np.zeros(len(shown))
    labels = [data.label(found.names[i]) for i in shown]
    texts = tuple(
        f"{name}: {share[i]:.2f} ({low[i]:.2f} to {high[i]:.2f})"
        for name, i in zip(labels, shown, strict=True)
    )
    named = "Shapley effect" if first is None else "with interactions (total index)"
    bars = [
        Bars("bar" if first is None else "second", named, y, zero, share[shown], texts,
             low[shown], high[shown]),
    ]  # fmt: skip
    if first is not None:
        alone = "alone (first-order index)"
        bars.append(Bars("bar", alone, y, zero, first[shown], height=0.36))
    top = max(1.0, float(high[shown].max(initial=0.0)) * 1.02)
    panel = Panel(
        Axis("share of the variance", bounds=(0.0, top)),
        Axis(ticks=tuple(zip(y.tolist(), labels, strict=True)), bounds=(len(shown) - 0.4, -0.6)),
        tuple(bars), wide=True, height=max(180, 90 + 30 * len(shown)),
    )  # fmt: skip
    columns: dict[str, Sequence[object]] = {
        "parameter": [found.names[i] for i in shown],
        "importance": share[shown].tolist(),
        "low": low[shown].tolist(),
        "high": high[shown].tolist(),
        "method": ["Shapley effect" if first is None else "total Sobol index"] * len(shown),
    }
    if first is not None:
        columns["first_order"] = first[shown].tolist()
    return Chart("param_importances", title, (panel,), columns, tuple(notes), columns_wide=1)


def _without_variance(title: str, why: str, names: Sequence[str]) -> Chart:
    """Return the chart of a quantity that does not vary: the reason, and no shares."""
    reason = f"{why}, so that no parameter has an importance."
    undefined = [math.nan] * len(names)
    columns: dict[str, Sequence[object]] = {
        "parameter": list(names),
        "importance": undefined,
        "low": undefined,
        "high": undefined,
        "method": ["does not vary"] * len(names),
    }
    panel = Panel(wide=True, height=180, reason=reason)
    return Chart("param_importances", title, (panel,), columns, (reason,), columns_wide=1)
