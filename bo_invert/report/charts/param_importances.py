"""Chart of the importance of each parameter: Sobol indices with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.chart import Axis, Bars, Chart, Panel
from bo_invert.report.charts.sensitivity import sobol_indices
from bo_invert.report.charts.slice import check_params
from bo_invert.report.charts.study_data import StudyData

_MOST = 20
"""Largest number of bars. Engineering choice."""


def param_importances(
    data: StudyData, params: Sequence[str] | None = None, target: str | None = None
) -> Chart:
    """Return total and first-order Sobol indices of the parameters, largest first.

    Args:
        data: the study.
        params: names of the parameters to show; None for the 20 most important ones.
        target: output; None for the value of the goal.

    Raises:
        InvalidInputError: there is no model.
    """
    quantity = data.quantity(target)
    names = check_params(data, params)
    if data.predictor is None or data.domain is None:
        raise InvalidInputError("param_importances: open the study with its problem, for its model")
    found = sobol_indices(data.predictor(), data.domain, quantity.output)
    low, total, high = np.quantile(found.total, [0.05, 0.5, 0.95], axis=0)
    first = np.minimum(np.median(found.first, axis=0), total)
    order = [i for i in np.argsort(-total, kind="stable") if found.names[i] in names]
    shown = np.array(order[:_MOST], dtype=int)
    about = (
        "Share of the variance of the model over the search space (total Sobol index); bars of "
        "several parameters sum to more than 1 if they interact. Intervals: 90 % over functions "
        "that agree with the data."
    )
    notes = [about]
    if len(order) > _MOST:
        notes.append(f"The {_MOST} most important of {len(order)} parameters.")
    if found.used < 1.0:
        notes.append(
            "The search space makes the parameters dependent: values are exchanged where it "
            f"permits this, in at least {found.used:.0%} of the samples."
        )
    y = np.arange(len(shown), dtype=float)
    zero = np.zeros(len(shown))
    labels = [data.label(found.names[i]) for i in shown]
    bars = (
        Bars("second", "with interactions (total index)", y, zero, total[shown],
             tuple(f"{name}: {total[i]:.2f} ({low[i]:.2f} to {high[i]:.2f})"
                   for name, i in zip(labels, shown, strict=True)),
             low[shown], high[shown]),
        Bars("bar", "alone (first-order index)", y, zero, first[shown], height=0.36),
    )  # fmt: skip
    top = max(1.0, float(high[shown].max(initial=0.0)) * 1.02)
    panel = Panel(
        Axis("share of the variance", bounds=(0.0, top)),
        Axis(ticks=tuple(zip(y.tolist(), labels, strict=True)), bounds=(len(shown) - 0.4, -0.6)),
        bars, wide=True, height=max(180, 90 + 30 * len(shown)),
    )  # fmt: skip
    columns = {
        "parameter": [found.names[i] for i in shown],
        "importance": total[shown].tolist(),
        "low": low[shown].tolist(),
        "high": high[shown].tolist(),
        "first_order": first[shown].tolist(),
    }
    title = f"Importance of the parameters for {quantity.label}"
    return Chart("param_importances", title, (panel,), columns, tuple(notes), columns_wide=1)
