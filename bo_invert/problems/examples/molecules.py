"""Molecular design in the latent space of a SELFIES VAE; extra ``molecules``.

The seed splits the molecules into disjoint parts. ``generator`` trains the VAE, and a random half
of it trains the forests. ``held_out`` (5 %, at most 1,500) calibrates the plausibility and tests
the models.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from bo_invert.errors import InfeasibleError, InvalidInputError, one_of
from bo_invert.generators.base import TrainingReport
from bo_invert.generators.selfies import SelfiesConfig, SelfiesVAE
from bo_invert.generators.selfies.vocabulary import canonical
from bo_invert.generators.storage import cached_generator
from bo_invert.objectives.base import Objective
from bo_invert.objectives.single_output import Maximize, Minimize
from bo_invert.objectives.target import Target
from bo_invert.oracles.base import Oracle
from bo_invert.oracles.function import Function
from bo_invert.problems.examples.base import OncePerKey
from bo_invert.problems.examples.molecules_plausibility import MoleculeRealism
from bo_invert.problems.examples.molecules_properties import (
    accessibility,
    composition,
    fingerprints,
    logp,
    penalised_logp,
    picture,
    qed,
)
from bo_invert.problems.problem import Problem
from bo_invert.spaces.latent import Latent
from bo_invert.types import JSON, Array

VARIABLE = "BO_INVERT_MOLECULES"
# Exact properties of a SMILES by name.
PROPERTIES: Mapping[str, Callable[[str], float]] = {
    "qed": qed,
    "plogp": penalised_logp,
    "logp": logp,
    "sa": accessibility,
}
# Share of the molecules that is held out, and its maximum number.
HELD_OUT = (0.05, 1500)
# Minimum number of different molecules. Engineering choice: fewer cannot train a VAE.
FEWEST = 100
_MEASURED = 3000
"""Number of molecules for the reference measure. Engineering choice: bounds the run time."""

Source = str | Path | Sequence[str] | None


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
        MissingExtraError: RDKit, selfies or safetensors is not installed.
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


@dataclass(frozen=True, eq=False)
class Materials:
    """Data and trained models of the molecules problem.

    Args:
        smiles: canonical SMILES of real molecules, without duplicates.
        unread: number of lines that are no molecules.
        parts: row indices of ``generator``, ``forest`` (half of it) and ``held_out``.
        vae: VAE trained on the part ``generator``.
        training: training report of the VAE.
        latent: latent space of the VAE, with ``composition`` as its ``features``; the part
            ``generator`` defines its reference measure.
        realism: plausibility of designs, calibrated on the part ``held_out``.
        seed: seed of the data split and of all training.
    """

    smiles: tuple[str, ...]
    unread: int
    parts: Mapping[str, NDArray[np.intp]]
    vae: SelfiesVAE
    training: TrainingReport
    latent: Latent
    realism: MoleculeRealism
    seed: int
    _forests: OncePerKey[Forest] = field(default_factory=OncePerKey)

    def part(self, name: str) -> list[str]:
        """Return the molecules of a part."""
        return [self.smiles[i] for i in self.parts[name]]

    def forest(self, name: str) -> Forest:
        """Return the forest of a property of ``PROPERTIES``; the first call trains it."""
        return self._forests.get(
            name, lambda: Forest(self.part("forest"), PROPERTIES[name], self.seed)
        )


class Forest:
    """Random forest from Morgan fingerprints to a property.

    Args:
        smiles: training molecules.
        target: exact property of a SMILES.
        seed: seed of the trees.
    """

    def __init__(self, smiles: Sequence[str], target: Callable[[str], float], seed: int) -> None:
        from sklearn.ensemble import RandomForestRegressor

        self._trees = RandomForestRegressor(
            50, max_features=0.05, min_samples_leaf=2, random_state=seed
        )
        self._trees.fit(fingerprints(smiles), [target(one) for one in smiles])

    def __call__(self, smiles: Sequence[str]) -> Array:
        """Predict the property of n SMILES, shape ``(n,)``.

        Raises:
            InfeasibleError: a SMILES is no molecule.
        """
        seen = fingerprints(smiles)
        lost = np.flatnonzero(np.isnan(seen).any(axis=1))
        if len(lost):
            raise InfeasibleError(f"RDKit cannot read the molecule {smiles[lost[0]]!r:.80}")
        return np.asarray(self._trees.predict(seen))


_materials: OncePerKey[Materials] = OncePerKey()


def materials(
    data: Source = None,
    latent_dim: int = 32,
    seed: int = 0,
    training: Mapping[str, JSON] | None = None,
    progress: bool = False,
) -> Materials:
    """Read the data and train all models once per process, the VAE once per cache directory.

    Args:
        data: file with one SMILES a line, or SMILES. Default: the file in
            ``$BO_INVERT_MOLECULES``.
        latent_dim: dimension of the latent space.
        seed: seed of the data split and of all training.
        training: further fields of ``SelfiesConfig``.
        progress: show training progress on stderr.

    Raises:
        InvalidInputError: the file is missing, or it contains fewer than 100 molecules.
        MissingExtraError: RDKit, selfies or safetensors is not installed.
    """
    texts = _texts(data)
    options = dict(training or {})
    key = json.dumps([texts, latent_dim, seed, options], sort_keys=True)
    return _materials.get(key, lambda: _make(texts, latent_dim, seed, options, progress))


def _texts(data: Source) -> list[str]:
    data = os.environ.get(VARIABLE) if data is None else data
    if data is None:
        raise InvalidInputError(
            "molecules: data must be a file with one SMILES a line, got None; pass data=PATH, or "
            "set "
            f"${VARIABLE}. Example: 29,445 molecules of ZINC-250k in JTVAE/data/zinc/valid.txt and "
            "test.txt of https://github.com/pascalnotin/uncertainty_guided_optimization (MIT)."
        )
    if not isinstance(data, (str, Path)):
        return [str(one) for one in data]
    path = Path(data).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"molecules: {path} cannot be read: {error}") from None
    return [line.replace(",", " ").split()[0] for line in lines if line.strip(" ,\t")]


def _make(
    texts: Sequence[str], latent_dim: int, seed: int, training: Mapping[str, JSON], progress: bool
) -> Materials:
    config = SelfiesConfig.from_json({"seed": seed, **training, "dim": latent_dim})
    found = [canonical(text, config.stereo) for text in texts]
    smiles = tuple(one for one in dict.fromkeys(found) if one)
    if len(smiles) < FEWEST:
        raise InvalidInputError(
            f"molecules: data must contain at least {FEWEST} different molecules, one SMILES a "
            f"line; "
            f"{len(texts)} lines contain {len(smiles)}"
        )
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(len(smiles))
    held, taught = np.split(order, [min(max(20, round(HELD_OUT[0] * len(smiles))), HELD_OUT[1])])
    parts: dict[str, NDArray[np.intp]] = {
        "generator": taught,
        "forest": taught[: len(taught) // 2],
        "held_out": held,
    }
    part = {name: [smiles[i] for i in rows] for name, rows in parts.items()}
    vae, report = cached_generator(part["generator"], config, "molecules", progress=progress)
    for remark in report.remarks:
        warnings.warn(f"molecules: the generator: {remark}", stacklevel=2)
    latent = Latent(
        vae, latent_dim, data=part["generator"][:_MEASURED], features=composition, seed=seed
    )
    return Materials(
        smiles=smiles,
        unread=found.count(""),
        parts=parts,
        vae=vae,
        training=report,
        latent=latent,
        realism=MoleculeRealism(part["generator"], part["held_out"]),
        seed=seed,
    )
