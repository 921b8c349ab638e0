"""Molecular design in the latent space of a SELFIES VAE; extra ``molecules``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

import numpy as np

from bo_invert.errors import one_of
from bo_invert.objectives import Maximize, Minimize, Objective, Target
from bo_invert.oracles.base import Oracle
from bo_invert.oracles.function import Function
from bo_invert.problems.examples.molecules_assets import PROPERTIES, Materials, Source, materials
from bo_invert.problems.examples.molecules_properties import picture
from bo_invert.problems.problem import Problem
from bo_invert.types import JSON


def problem(
    data: Source = None,
    property: str = "qed",
    target: float | Mapping[str, float] | None = None,
    goal: Literal["maximize", "minimize"] = "maximize",
    oracle: Literal["exact", "forest"] = "exact",
    latent_dim: int = 32,
    seed: int = 0,
    tolerance: float = 0.0,
    training: Mapping[str, JSON] | None = None,
    progress: bool = False,
) -> Problem:
    """Find a molecule with an optimal or target property.

    Designs are canonical SMILES. RDKit computes the properties: ``"qed"`` (drug-likeness in [0,
    1]), ``"plogp"`` (penalised logP), ``"logp"`` and ``"sa"`` (synthetic accessibility, 1 easy to
    10 difficult). The default oracle is exact and needs no judge. Molecules with a high penalised
    logP can be impractical; the problem's ``plausibility`` detects them. The oracle ``"forest"`` is
    a random forest, trained on half of the molecules and judged by the exact property.

    The first call trains the VAE and stores it in the cache; 29,000 molecules take some minutes on
    one core.

    Args:
        data: file with one SMILES a line, such as ZINC-250k, or a list of SMILES. Default: the file
            in ``$BO_INVERT_MOLECULES``.
        property: property of the objective.
        target: target value, or targets of several properties, ``{"qed": 0.9, "logp": 2.5}``, which
            replace ``property``.
        goal: ``"maximize"`` or ``"minimize"``; ignored with a target.
        oracle: ``"exact"``, or ``"forest"`` for a learned surrogate with exploitable errors.
        latent_dim: dimension of the latent space.
        seed: seed of the data split and of all training.
        tolerance: accepted deviation from the target; 0 to use the whole budget.
        training: further fields of ``SelfiesConfig``, such as ``{"epochs": 10}``.
        progress: show training progress on stderr.

    Raises:
        InvalidInputError: unknown option, or missing file.
        MissingExtraError: RDKit, selfies, safetensors or scikit-learn is not installed.
    """
    one_of("molecules", "goal", goal, ("maximize", "minimize"))
    one_of("molecules", "oracle", oracle, ("exact", "forest"))
    names = list(target) if isinstance(target, Mapping) else [property]
    for name in names:
        one_of("molecules", "property", name, PROPERTIES)
    objective: Objective = Maximize() if goal == "maximize" else Minimize()
    if target is not None:
        objective = Target(target, tolerance=tolerance)
    made = materials(data, latent_dim, seed, training, progress)
    exact = Function(partial(exact_properties, names=names), outputs=names)
    return Problem(
        made.latent,
        exact if oracle == "exact" else _forests(made, names),
        objective,
        outputs=names,
        name="molecules",
        judge=None if oracle == "exact" else exact,
        draw=picture,
        plausibility=made.realism,
    )


def exact_properties(smiles: str, names: Sequence[str]) -> dict[str, float]:
    """Compute the properties of a molecule; ``names`` are keys of ``PROPERTIES``.

    Raises:
        InfeasibleError: ``smiles`` is no molecule.
    """
    return {name: PROPERTIES[name](smiles) for name in names}


def _forests(made: Materials, names: list[str]) -> Oracle:
    forests = [made.forest(name) for name in names]
    return Function(
        lambda smiles: np.stack([one(smiles) for one in forests], axis=1),
        outputs=names,
        batched=True,
    )


__all__ = ["Materials", "materials", "problem"]
