"""Trials as a pandas data frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from bo_invert.domains.search_domain import Domain
from bo_invert.types import Outcome, Trial
from bo_invert.user_data import brief

if TYPE_CHECKING:
    import pandas as pd


_SHOWN = 3
"""Largest number of intervals in a cell. Engineering choice."""


def trials_frame(
    trials: Sequence[Trial], outputs: Sequence[str], domain: Domain | None = None
) -> pd.DataFrame:
    """Return one row per trial; the columns are the keys of ``trial_record``."""
    return records_frame([trial_record(trial, outputs, domain) for trial in trials])


def records_frame(records: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return records as a data frame."""
    import pandas as pd

    return pd.DataFrame(records)


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
        values, gradients, seconds, attempts, reason, why``, further measured values, and where
        they apply: ``expected`` (90 % intervals of the outputs at the time of the ask),
        ``plausibility`` of a proposal in a box with data, ``suggested`` (conditions
        that differ from those of the run), ``outside`` and ``amended`` (former outputs and
        reasons). A parameter or output with one of these names, and an output or further value
        with the name of a parameter, has ``_`` appended.
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
        **({"expected": expected_text(trial)} if trial.expected else {}),
        **_history(trial, outputs, domain),
    }
    y = [None] * len(outputs) if trial.y is None else trial.y.tolist()
    named: dict[str, Any] = {}
    # Conditional parameters that are inactive in the trial are empty cells.
    values = {**(dict.fromkeys(domain.parameters) if domain else {}), **trial_values(trial, domain)}
    for key, value in (*values.items(), *zip(outputs, y, strict=True), *trial.extra.items()):
        while key in named or key in head or key in tail:
            key += "_"
        named[key] = value
    return head | named | tail


def expected_text(trial: Trial) -> str:
    """Return the 90 % intervals of the outputs of a trial at the time of its ask, at most three."""
    shown = list(trial.expected.items())[:_SHOWN]
    texts = [
        f"{name} {median:.4g} ({low:.4g} to {high:.4g})" for name, (low, median, high) in shown
    ]
    return ", ".join([*texts, *["..."] * (len(trial.expected) > _SHOWN)])


def _history(trial: Trial, outputs: Sequence[str], domain: Domain | None) -> dict[str, Any]:
    """Return suggested conditions and former outcomes of a trial as text, where there are any."""
    found: dict[str, Any] = {"outside": True} if trial.outside else {}
    if trial.moved:
        run = trial_values(trial, domain)
        suggested = trial_values(trial.evolved(outcome=None), domain)
        found["suggested"] = brief({k: v for k, v in suggested.items() if v != run.get(k)})
    if trial.amendments:
        found["amended"] = "; ".join(
            f"{_outputs(one.before, outputs)}{f' ({one.reason})' if one.reason else ''}"
            for one in trial.amendments
        )
    return found


def _outputs(outcome: Outcome, outputs: Sequence[str]) -> str:
    if outcome.y is None:
        return f"{outcome.state} {outcome.reason}".strip()
    return ", ".join(f"{n}={v:.9g}" for n, v in zip(outputs, outcome.y.tolist(), strict=True))


def trial_values(trial: Trial, domain: Domain | None) -> dict[str, Any]:
    """Return the parameters of a trial, ``z0, z1, ...`` without names; values of the user exactly.

    Args:
        trial: a trial of a study.
        domain: domain of the study; None for a latent.
    """
    if domain is None or not domain.parameters:
        return {f"z{i}": float(value) for i, value in enumerate(trial.point)}
    (values,) = domain.values(trial.point[None])
    given = trial.exact_design
    if given is None:
        return values
    if isinstance(given, list) and len(given) == len(values):
        return dict(zip(values, given, strict=True))
    known = isinstance(given, dict) and set(given) == set(values)
    return {name: given[name] for name in values} if known else values
