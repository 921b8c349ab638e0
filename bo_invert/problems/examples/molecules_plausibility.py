"""Plausibility of molecules from synthetic accessibility and similarity to known molecules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.errors import InfeasibleError, InvalidInputError
from bo_invert.generators.design_plausibility import RankCalibration
from bo_invert.problems.examples.molecules_properties import accessibility, fingerprints, nearest
from bo_invert.types import Array


class MoleculeRealism:
    """Calibrated plausibility of molecules in [0, 1].

    Two scores are ranked among the held-out molecules: the SA score, and the Tanimoto similarity to
    the nearest known molecule. The plausibility is the rank of the lower rank among those of the
    held-out molecules. New real molecules therefore have a uniform plausibility; 95 % of them
    exceed 0.05. Long carbon chains have good SA scores, but a low similarity and thus a low
    plausibility.

    Args:
        known: SMILES of real molecules, usually the generator's training data.
        real: SMILES of held-out real molecules.

    Raises:
        InvalidInputError: ``known`` or ``real`` is empty.
        MissingExtraError: RDKit is not installed.
    """

    def __init__(self, known: Sequence[str], real: Sequence[str]) -> None:
        if not known or not real:
            raise InvalidInputError(
                f"MoleculeRealism: known and real must be non-empty, got {len(known)} and "
                f"{len(real)}"
            )
        self.known = tuple(known)
        self._prints = fingerprints(self.known)
        scores, likeness = self.scores(real)
        self._calibrated = RankCalibration(-scores, likeness)

    def scores(self, smiles: Sequence[str]) -> tuple[Array, Array]:
        """Compute SA scores and similarities to the nearest known molecule, ``(n,)`` each.

        The SA score of an invalid SMILES is infinite.
        """
        scores = np.array([_accessibility(text) for text in smiles])
        return scores, nearest(fingerprints(smiles), self._prints)[0]

    def nearest(self, smiles: Sequence[str]) -> list[str]:
        """Return the most similar known molecule of each SMILES."""
        return [self.known[i] for i in nearest(fingerprints(smiles), self._prints)[1]]

    def __call__(self, smiles: Sequence[str]) -> Array:
        """Compute the plausibility of n molecules, shape ``(n,)``; 0 for invalid SMILES."""
        scores, likeness = self.scores(smiles)
        return self._calibrated(-scores, likeness)


def _accessibility(smiles: str) -> float:
    try:
        return accessibility(smiles)
    except InfeasibleError:
        return np.inf
