"""Common parts of plots of a model: chosen parameters, the model, and its base point."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bo_invert.domains.fixed import Fixed
from bo_invert.domains.parameters import VariedParameter
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError
from bo_invert.report.charts.grid import grid_conditions
from bo_invert.report.charts.sensitivity import importances
from bo_invert.report.charts.study_data import Predictor, Quantity, StudyData
from bo_invert.types import Array, Trial


@dataclass(frozen=True, eq=False)
class ModelView:
    """Model of a study, and what its plots show of it.

    Args:
        data: the study.
        model: its model.
        base: point whose values the parameters have that a plot does not vary, shape ``(d,)``.
        quantity: quantity to show.
        trials: trials to mark.
    """

    data: StudyData
    model: Predictor
    base: Array
    quantity: Quantity
    trials: Sequence[Trial]


class ChartParameters(Protocol):
    """Parameters that a chart can show."""

    @property
    def axes(self) -> Mapping[str, VariedParameter]: ...
    @property
    def domain(self) -> Domain | None: ...


def chosen_params(
    data: ChartParameters, params: Sequence[str] | None, where: str, least: int = 1
) -> list[str]:
    """Return the names of parameters; all for None.

    Args:
        data: the study, or samples of its designs.
        params: names; None for all.
        where: name of the plot, for messages.
        least: smallest number of names.

    Raises:
        InvalidInputError: a name is unknown, fixed or given twice, or there are too few names.
    """
    given = [params] if isinstance(params, str) else params
    try:
        names = list(data.axes) if given is None else list(given)
    except TypeError:
        raise InvalidInputError(
            f"{where}: params must be a list of names of parameters, got {params!r:.200}"
        ) from None
    fixed = (
        []
        if data.domain is None
        else [name for name, one in data.domain.parameters.items() if isinstance(one, Fixed)]
    )
    for name in names:
        if name in fixed:
            raise InvalidInputError(f"{where}: {name!r} is fixed and does not vary")
        if not isinstance(name, str) or name not in data.axes:
            raise InvalidInputError(
                f"{where}: params must be among {list(data.axes)[:20]}, got {name!r:.200}"
            )
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InvalidInputError(
            f"{where}: params must be different parameters, got {twice[0]!r} twice"
        )
    if len(names) < least:
        needed = "two parameters are" if least > 1 else "one parameter is"
        more = " Use slice()." if least > 1 and names else ""
        raise InvalidInputError(
            f"{where}: at least {needed} needed, got {names} of {list(data.axes)[:20]}.{more}"
        )
    return names


def first_params(
    names: list[str], params: Sequence[str] | None, most: int, notes: list[str]
) -> list[str]:
    """Return the first ``most`` names of a default selection, and note that there are others."""
    if params is not None or len(names) <= most:
        return names
    notes.append(f"The first {most} of {len(names)} parameters; choose others with params=.")
    return names[:most]


def by_importance(
    data: StudyData, model: Predictor, quantity: Quantity, names: Sequence[str]
) -> list[str]:
    """Return names of parameters, the most important one first; as given if there are too many."""
    assert data.domain is not None
    try:
        found = importances(model, data.domain, quantity.output, count=128)
    except InvalidInputError:
        return list(names)
    share = dict(zip(found.names, np.median(found.shares, axis=0), strict=True))
    return sorted(names, key=lambda name: -share[name])


def fitted(data: StudyData) -> tuple[Predictor | None, str]:
    """Return the model of a study, or None and the reason."""
    if data.predictor is None or data.domain is None:
        return None, "No model: open the study with its problem."
    try:
        return data.predictor(), ""
    except InvalidInputError as reason:
        return None, f"No model: {reason}"


def require_model(data: StudyData, where: str) -> Predictor:
    """Return the model of a study.

    Raises:
        InvalidInputError: there are too few observations, or the problem is unknown.
    """
    if data.predictor is None or data.domain is None:
        raise InvalidInputError(f"{where}: open the study with its problem, for its model")
    return data.predictor()


def base_point(data: StudyData) -> Array | None:
    """Return the point of the trial to act on, else of any observation; None without one."""
    trial = data.leading or next(iter(reversed(data.completed)), None)
    if trial is None or data.domain is None:
        return None if trial is None else trial.point
    return np.asarray(data.domain.project(trial.point[None])[0])


def others_note(data: StudyData, about: str, groups: Sequence[Sequence[str]]) -> list[str]:
    """Return sentences on the values of the parameters that a plot of a model does not vary.

    Args:
        data: the study.
        about: subject of the first sentence, such as ``"Colours: median of the model"``.
        groups: parameters that vary together.
    """
    base = base_point(data)
    leading = "" if data.leading is None else f" ({data.leading.number})"
    whose = "last trial" if data.leading is None else data.leading_name
    notes = [f"{about}; the other parameters have the values of the {whose}{leading}."]
    if getattr(data.domain, "constraints", ()):
        notes[0] = (
            f"{notes[0][:-1]}, within the constraints: parts of a sum keep their "
            "ratios (Cox direction), others move as little as possible."
        )
    elif data.domain is not None and data.domain.floor:
        notes[0] = (
            f"{notes[0][:-1]}; where this is implausible, they move towards plausible designs."
        )
    if base is not None and data.domain is not None:
        for names in groups:
            decided = grid_conditions(data.domain, base, names)
            if decided:
                notes.append(f"{' and '.join(names)}: with {', '.join(decided)}.")
    return notes


def outside_reason(data: StudyData, names: Sequence[str]) -> str:
    """Return why no value of some parameters can be shown."""
    joint = ", ".join(names)
    limits = [str(one) for one in getattr(data.domain, "constraints", ())]
    if not limits:
        return f"No value of {joint} is in the search space."
    return f"{joint}: the constraints leave no area to show ({'; '.join(limits[:3])})."
