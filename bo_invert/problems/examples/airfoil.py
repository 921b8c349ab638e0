"""Airfoils: what a small network of NeuralFoil thinks well of, and a large one judges. Needs the extra ``airfoil``."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from bo_invert.errors import InvalidInputError
from bo_invert.objectives import Maximize, Minimize, Objective
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
    """An airfoil that a network of NeuralFoil thinks well of. A design is 18 Kulfan numbers; a call takes under 1 ms.

    The network was fitted to XFoil and errs: whoever maximises what it says finds where it errs most. So a larger
    network judges what is returned, the smaller one has to be confident, and the latent keeps to where the
    2,174 airfoils of aerosandbox lie.

    Args:
        goal: ``"efficiency"``: the most lift per drag with at least ``confidence``; ``"weighted"``: the most lift per
            drag times confidence, without a constraint.
        target: lift and moment coefficient wanted, at the least drag, with at least ``confidence``; replaces ``goal``.
        space: ``"latent"``: principal components of the real airfoils' surfaces, with the measure of where they lie;
            ``"modes"``: a box of these components; ``"box"``: Kulfan numbers between the 1 % and 99 % quantiles of the
            real airfoils; ``"database"``: the real airfoils as they are, to be screened.
        model: the network that is asked, one of NeuralFoil's eight, ``"xxsmall"`` to ``"xxxlarge"``.
        judge: the network that judges what is returned.
        alpha: angle of attack, degrees.
        reynolds: Reynolds number.
        confidence: the least that the network may have in its own answer, in [0, 1].
        realism: share of the real airfoils that the region holds to which the search of the latent keeps; None for all.
        dim: number of principal components, 1 to 18; default: 6 in the latent, 9 in the box of components. (On other
            angles and Reynolds numbers than the default ones, the judge confirmed more of what was found with 6.)
        sigma: reach of the box of components, in standard deviations.
        baseline: the real airfoil in the middle of the box of components, ``"naca4412"`` for one; default: their mean.
        tolerance: how far lift and moment may be from the target.

    Raises:
        InvalidInputError: an option is none of the above.
        MissingExtraError: neuralfoil or aerosandbox is not installed.
    """
    objective, rules = _goal(goal, target, confidence, tolerance)
    for option, size in (("model", model), ("judge", judge)):
        if size not in SIZES:
            raise InvalidInputError(f"airfoil: {option} is one of {', '.join(SIZES)}, got {size!r}")
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
    """The objective and its constraints."""
    if not 0.0 <= confidence < 1.0:
        raise InvalidInputError(f"airfoil: confidence is in [0, 1), got {confidence!r}")
    trusted = f"confidence >= {confidence!r}"
    if target is not None:
        wanted, around = _pair("target", target), _pair("tolerance", tolerance)
        if min(around) <= 0:
            raise InvalidInputError(
                f"airfoil: the tolerances of lift and moment are positive, got {tolerance!r}"
            )
        bounds = [f"{name} {sense} {value + sign * room!r}"
                  for name, value, room in zip(("CL", "CM"), wanted, around, strict=True)
                  for sense, sign in ((">=", -1), ("<=", 1))]  # fmt: skip
        return Minimize("CD"), [*bounds, trusted]
    if goal == "efficiency":
        return Maximize("L/D"), [trusted]
    if goal == "weighted":
        return Maximize("L/D x confidence"), []
    raise InvalidInputError(f"airfoil: goal is 'efficiency' or 'weighted', got {goal!r}")


def _pair(option: str, values: Sequence[float]) -> tuple[float, float]:
    try:
        lift, moment = (float(value) for value in values)
    except (TypeError, ValueError):
        lift = moment = math.nan
    if not (math.isfinite(lift) and math.isfinite(moment)):
        raise InvalidInputError(
            f"airfoil: {option} is two numbers, for lift and for moment, got {values!r}"
        )
    return lift, moment


def _space(name: str, dim: int | None, sigma: float, baseline: str | None) -> Space:
    if not (math.isfinite(sigma) and sigma > 0):
        raise InvalidInputError(
            f"airfoil: sigma is a positive number of standard deviations, got {sigma!r}"
        )
    if baseline is not None and name != "modes":
        raise InvalidInputError(
            f"airfoil: a baseline is the middle of space='modes', and means nothing in {name!r}"
        )
    if name == "latent":
        return latent(LATENT_DIM if dim is None else dim)
    if name == "modes":
        return ModeBox(PUBLISHED_DIM if dim is None else dim, sigma, baseline)
    if name == "box":
        return kulfan_box()
    if name == "database":
        return Catalogue(database().designs)
    raise InvalidInputError(
        f"airfoil: space is 'latent', 'modes', 'box' or 'database', got {name!r}"
    )


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
