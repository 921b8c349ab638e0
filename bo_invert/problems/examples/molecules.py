"""Molecules: drug-likeness, penalised logP and targets, in the latent of a SELFIES VAE. Extra: ``molecules``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from bo_invert.errors import InvalidInputError
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
    """Real molecules, a VAE that learnt them, and the search for a molecule with a property that is wanted.

    Designs are canonical SMILES. The properties are RDKit's: ``"qed"`` (drug-likeness, in [0, 1]), ``"plogp"``
    (penalised logP), ``"logp"`` and ``"sa"`` (SA score: 1 is easily made, 10 hardly). They are exact, so that there is
    nothing to judge in them; but a high penalised logP may belong to a molecule that nobody would make, and the
    problem's ``plausibility`` says so. With ``oracle="forest"`` the search asks a random forest that learnt the
    property from half of the molecules, and the exact property is the judge.

    The first call trains the VAE (some minutes on one core for 29,000 molecules) and keeps it in the cache.

    Args:
        data: a file with one SMILES a line, such as ZINC-250k or a part of it, or a list of SMILES; default: the file
            that ``$BO_INVERT_MOLECULES`` names.
        property: to maximise, to minimise, or to bring to a target.
        target: the value wanted; or several at once, ``{"qed": 0.9, "logp": 2.5}``, then ``property`` is not used.
        goal: ``"maximize"`` or ``"minimize"``, without a target.
        oracle: ``"exact"``, or a ``"forest"`` that can be fooled.
        latent_dim: length of the VAE's code.
        seed: of the split of the data and of everything trained.
        tolerance: of the target; 0 to use the whole budget.
        training: further fields of ``SelfiesConfig``, such as ``{"epochs": 10}``.
        progress: show a training bar on stderr.

    Raises:
        InvalidInputError: an option is none of the above, or there is no file.
        MissingExtraError: RDKit, selfies, safetensors or scikit-learn is not installed.
    """
    _one_of("goal", goal, ("maximize", "minimize"))
    _one_of("oracle", oracle, ("exact", "forest"))
    names = list(target) if isinstance(target, Mapping) else [property]
    for name in names:
        _one_of("property", name, tuple(PROPERTIES))
    objective: Objective = Maximize() if goal == "maximize" else Minimize()
    if target is not None:
        objective = Target(target, tolerance=tolerance)
    made = materials(data, latent_dim, seed, training, progress)
    exact = Function(Exact(names), outputs=names)
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


class Exact:
    """Properties of one SMILES, by name.

    Args:
        names: of ``PROPERTIES``.
    """

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def __call__(self, smiles: str) -> dict[str, float]:
        """The values.

        Raises:
            InfeasibleError: no molecule.
        """
        return {name: PROPERTIES[name](smiles) for name in self.names}


def _forests(made: Materials, names: list[str]) -> Oracle:
    import numpy as np

    forests = [made.forest(name) for name in names]
    return Function(
        lambda smiles: np.stack([one(smiles) for one in forests], axis=1),
        outputs=names,
        batched=True,
    )


def _one_of(option: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise InvalidInputError(
            f"molecules: {option} is {' or '.join(map(repr, allowed))}, got {value!r}"
        )


__all__ = ["Materials", "materials", "problem"]
