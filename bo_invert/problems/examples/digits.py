"""Inversion of a slant regressor for digits, in a latent space or in pixels; extra ``demo``."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import one_of
from bo_invert.objectives import Maximize, Minimize, Objective, Target
from bo_invert.oracles.estimator import Estimator
from bo_invert.oracles.gradient_proxy import GradientProxy
from bo_invert.oracles.torch import TorchModule
from bo_invert.problems.examples.digits_assets import (
    SHAPE,
    Materials,
    decoder_only,
    materials,
    slant,
)
from bo_invert.problems.problem import Problem
from bo_invert.spaces.base import Space
from bo_invert.spaces.pixels import Pixels
from bo_invert.types import Array

OUTPUT = "slant"


def problem(
    target: float | None = None,
    goal: Literal["maximize", "minimize"] = "maximize",
    oracle: Literal["forest", "network"] = "forest",
    space: Literal["latent", "pixels"] = "latent",
    latent_dim: int = 8,
    seed: int = 0,
    tolerance: float = 0.0,
    progress: bool = False,
    generator: Literal["vae", "gan"] = "vae",
) -> Problem:
    """Find an 8 x 8 digit with a target slant, as a regressor predicts it.

    ``digits_assets.slant`` defines the slant. Its 1 % and 99 % quantiles over real digits are 0
    and 1. The regressors are trained on 450 images, and a search can exploit their errors. The
    judge is trained on other images; the formula gives the true slant.

    Args:
        target: target slant; None to maximise or minimise it.
        goal: ``"maximize"`` or ``"minimize"``; ignored with a target.
        oracle: ``"forest"``, a random forest with a network as its gradient proxy, or
            ``"network"``, that network alone.
        space: ``"latent"`` for the generator's latent space, ``"pixels"`` for images (Deep Dream).
        latent_dim: dimension of the latent space.
        seed: seed of the data split and of all training.
        tolerance: accepted deviation from the target; 0 to use the whole budget.
        progress: show training progress on stderr.
        generator: ``"vae"``, or ``"gan"``, a decoder without an encoder and with its prior as the
            reference measure. The VAE determines the plausibility in both cases.

    Raises:
        InvalidInputError: unknown option.
        MissingExtraError: scikit-learn or safetensors is not installed.
    """
    one_of("digits", "goal", goal, ("maximize", "minimize"))
    one_of("digits", "oracle", oracle, ("forest", "network"))
    one_of("digits", "space", space, ("latent", "pixels"))
    one_of("digits", "generator", generator, ("vae", "gan"))
    objective: Objective = Maximize() if goal == "maximize" else Minimize()
    if target is not None:
        objective = Target(target, tolerance=tolerance)
    made = materials(seed, latent_dim, progress)
    if space == "pixels":
        taught = np.concatenate([made.part("generator"), made.part("regressors")])
        searched: Space = Pixels(SHAPE, data=taught, jitter=1, tv=0.05, l2=0.01)
    elif generator == "gan":
        searched = decoder_only(made, seed, latent_dim, progress).latent
    else:
        searched = made.latent
    network = TorchModule(made.network, outputs=[OUTPUT])
    forest = Estimator(made.forest, outputs=[OUTPUT])
    return Problem(
        searched,
        network if oracle == "network" else GradientProxy(forest, network),
        objective,
        name="digits",
        judge=Estimator(made.judge, outputs=[OUTPUT]),
        draw=draw,
        plausibility=made.realism,
    )


def draw(design: ArrayLike) -> Array:
    """Convert a digit to a picture ``(8, 8)`` in [0, 1] with bright ink."""
    return np.clip(np.asarray(design, dtype=np.float64).reshape(SHAPE), 0.0, 1.0)


__all__ = ["OUTPUT", "Materials", "draw", "materials", "problem", "slant"]
