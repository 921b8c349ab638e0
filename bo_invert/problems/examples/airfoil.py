"""Airfoil design with a NeuralFoil network as oracle and a larger judge; extra ``airfoil``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from bo_invert.errors import InvalidInputError, one_of
from bo_invert.objectives.base import Objective
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.oracles.torch import TorchModule
from bo_invert.problems.examples.airfoil_networks import OUTPUTS, SIZES, NeuralFoil
from bo_invert.problems.examples.airfoil_shapes import Database, crossing, database, draw, surfaces
from bo_invert.problems.examples.airfoil_spaces import (
    PUBLISHED_DIM,
    Catalogue,
    ModeBox,
    kulfan_box,
    latent,
    real_looking,
)
from bo_invert.problems.problem import Problem
from bo_invert.spaces.base import Space

LATENT_DIM = 6


def problem(
    goal: Literal["efficiency", "weighted"] = "efficiency",
    target: Sequence[float] | None = None,
    space: Literal["latent", "modes", "box", "database"] = "latent",
    model: str = "xxsmall",
    judge: str = "xxxlarge",
    alpha: float = 4.0,
    reynolds: float = 1e6,
    confidence: float = 0.9,
    realism: float | None = 0.95,
    dim: int | None = None,
    sigma: float = 2.0,
    baseline: str | None = None,
    tolerance: Sequence[float] = (0.02, 0.005),
) -> Problem:
    """Maximise the lift-to-drag ratio of an airfoil, as a NeuralFoil network predicts it.

    A design is a vector of 18 Kulfan parameters; a call takes less than 1 ms. The network
    approximates XFoil, and a search can exploit its errors. A larger network therefore judges the
    results, a constraint bounds the network's confidence, and the latent space represents the 2,174
    airfoils of aerosandbox.

    Args:
        goal: ``"efficiency"`` maximises lift over drag subject to ``confidence``. ``"weighted"``
            maximises lift over drag times confidence without a constraint.
        target: target lift and moment coefficients; the drag is minimised subject to
            ``confidence``. Replaces ``goal``.
        space: ``"latent"``: principal components of real surfaces, with a reference measure.
            ``"modes"``: a box of these components. ``"box"``: Kulfan parameters between the 1 % and
            99 % quantiles of real airfoils. ``"database"``: the real airfoils.
        model: network of the oracle, ``"xxsmall"`` to ``"xxxlarge"``.
        judge: network of the judge.
        alpha: angle of attack, degrees.
        reynolds: Reynolds number.
        confidence: lower bound on the network's confidence, in [0, 1).
        realism: share of real airfoils in the searched region of the latent space; None for all.
        dim: number of principal components, 1 to 18. Default: 6 in the latent space, 9 in the box.
            With 6, the judge confirms more results at other angles and Reynolds numbers.
        sigma: half width of the box of components in standard deviations.
        baseline: real airfoil at the centre of the box of components, such as ``"naca4412"``.
            Default: the mean airfoil.
        tolerance: accepted deviations of lift and moment from the target.

    Raises:
        InvalidInputError: unknown or invalid option.
        MissingExtraError: neuralfoil or aerosandbox is not installed.
    """
    objective, rules = _goal(goal, target, confidence, tolerance)
    one_of("airfoil", "model", model, SIZES)
    one_of("airfoil", "judge", judge, SIZES)
    return Problem(
        _space(space, dim, sigma, baseline),
        TorchModule(NeuralFoil(model, alpha, reynolds), outputs=OUTPUTS),
        objective,
        constraints=rules,
        name="airfoil",
        judge=TorchModule(NeuralFoil(judge, alpha, reynolds), outputs=OUTPUTS),
        draw=draw,
        realism=realism,
        plausibility=real_looking(),
    )


def _goal(
    goal: str, target: Sequence[float] | None, confidence: float, tolerance: Sequence[float]
) -> tuple[Objective, list[str]]:
    """Return the objective and its constraints."""
    if not 0.0 <= confidence < 1.0:
        raise InvalidInputError(f"airfoil: confidence must be in [0, 1), got {confidence!r}")
    trusted = f"confidence >= {confidence!r}"
    if target is not None:
        wanted, around = _pair("target", target), _pair("tolerance", tolerance)
        if min(around) <= 0:
            raise InvalidInputError(
                f"airfoil: tolerance must be positive for lift and moment, got {tolerance!r}"
            )
        bounds = [f"{name} {sense} {value + sign * room!r}"
                  for name, value, room in zip(("CL", "CM"), wanted, around, strict=True)
                  for sense, sign in ((">=", -1), ("<=", 1))]  # fmt: skip
        return Minimize("CD"), [*bounds, trusted]
    one_of("airfoil", "goal", goal, ("efficiency", "weighted"))
    return (
        (Maximize("L/D"), [trusted]) if goal == "efficiency" else (Maximize("L/D x confidence"), [])
    )


def _pair(option: str, values: Sequence[float]) -> tuple[float, float]:
    try:
        lift, moment = (float(value) for value in values)
    except (TypeError, ValueError):
        lift = moment = math.nan
    if not (math.isfinite(lift) and math.isfinite(moment)):
        raise InvalidInputError(
            f"airfoil: {option} must be two finite numbers, lift and moment, got {values!r}"
        )
    return lift, moment


def _space(name: str, dim: int | None, sigma: float, baseline: str | None) -> Space:
    one_of("airfoil", "space", name, ("latent", "modes", "box", "database"))
    if not (math.isfinite(sigma) and sigma > 0):
        raise InvalidInputError(f"airfoil: sigma must be a positive finite number, got {sigma!r}")
    if baseline is not None and name != "modes":
        raise InvalidInputError(
            f"airfoil: baseline must be None for space={name!r}, got {baseline!r}. Use "
            f"space='modes'."
        )
    if name == "latent":
        return latent(LATENT_DIM if dim is None else dim)
    if name == "modes":
        return ModeBox(PUBLISHED_DIM if dim is None else dim, sigma, baseline)
    if name == "box":
        return kulfan_box()
    return Catalogue(database().designs)


__all__ = [
    "OUTPUTS",
    "SIZES",
    "Database",
    "NeuralFoil",
    "crossing",
    "database",
    "draw",
    "problem",
    "surfaces",
]
