"""Trials as a pandas data frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from bo_invert.search_domain import Domain
from bo_invert.types import Trial

if TYPE_CHECKING:
    import pandas as pd


def trials_frame(
    trials: Sequence[Trial], outputs: Sequence[str], domain: Domain | None = None
) -> pd.DataFrame:
    """Return one row per trial; the columns are the keys of ``trial_record``."""
    import pandas as pd

    return pd.DataFrame([trial_record(trial, outputs, domain) for trial in trials])


def trial_record(
    trial: Trial, outputs: Sequence[str], domain: Domain | None = None
) -> dict[str, Any]:
    """Return one trial as plain values.

    Args:
        trial: a trial of a study.
        outputs: names of the m outputs.
        domain: a box names its parameters; other coordinates are ``z0, z1, ...``.

    Returns:
        ``number, state, origin, ask``, the parameters, the outputs, ``loss, feasible, violation,
        values, gradients, seconds, attempts, reason, why``, and ``plausibility`` of a proposal in
        a box with data. A parameter or output with one of
        these names has ``_`` appended.
    """
    outcome, cost = trial.outcome, trial.cost
    head = {
        "number": trial.number,
        "state": str(trial.state),
        "origin": trial.origin,
        "ask": trial.ask,
    }
    tail = {
        "loss": trial.loss,
        "feasible": trial.feasible,
        "violation": None if outcome is None else outcome.violation,
        "values": cost.values,
        "gradients": cost.gradients,
        "seconds": cost.seconds,
        "attempts": len(trial.attempts),
        "reason": "" if outcome is None else outcome.reason,
        "why": str(trial.query.meta.get("why", "")),
        **{name: trial.query.meta[name] for name in ("plausibility",) if name in trial.query.meta},
    }
    coordinates: dict[str, Any] = {f"z{i}": float(value) for i, value in enumerate(trial.point)}
    if domain is not None and domain.parameters:
        (coordinates,) = domain.values(trial.point[None])
    y = [None] * len(outputs) if trial.y is None else trial.y.tolist()
    own = [*coordinates.items(), *zip(outputs, y, strict=True)]
    named = {f"{key}_" if key in head | tail else key: value for key, value in own}
    return head | named | tail
