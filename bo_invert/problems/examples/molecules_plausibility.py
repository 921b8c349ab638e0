"""How plausible a molecule is: can it be made, and is it like any that is known, ranked among real molecules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.errors import InfeasibleError, InvalidInputError
from bo_invert.problems.examples.molecules_properties import accessibility, fingerprints, nearest
from bo_invert.types import Array


class MoleculeRealism:
    """A calibrated number in [0, 1]: the share of held-out real molecules that look no more real than this one.

    Two scores are taken of a molecule: the SA score, and the Tanimoto similarity to the nearest known molecule. Each is
    ranked among the held-out real molecules; the lower of the two ranks is ranked once more among theirs. Fresh real
    molecules therefore get uniform numbers, and 0.05 means that 95 % of them look more real. A long chain of carbon is
    easily made and like nothing known; its rank is that of the second score.

    Args:
        known: SMILES of real molecules; those that the generator learnt from.
        real: SMILES of held-out real molecules that are not among them.

    Raises:
        InvalidInputError: there are none of one kind.
        MissingExtraError: RDKit is not installed.
    """

    def __init__(self, known: Sequence[str], real: Sequence[str]) -> None:
        if not known or not real:
            raise InvalidInputError(
                "MoleculeRealism: known and held-out real molecules are needed, both"
            )
        self.known = tuple(known)
        self._prints = fingerprints(self.known)
        scores, likeness = self.scores(real)
        self._scores, self._likeness = np.sort(scores), np.sort(likeness)
        self._lower = np.sort(self._lower_rank(scores, likeness))

    def scores(self, smiles: Sequence[str]) -> tuple[Array, Array]:
        """SA scores, infinite for what is no molecule, and similarities to the nearest known one; each ``(n,)``."""
        return np.array([_made(text) for text in smiles]), nearest(
            fingerprints(smiles), self._prints
        )[0]

    def nearest(self, smiles: Sequence[str]) -> list[str]:
        """The known molecule that is most similar to each of n."""
        return [self.known[i] for i in nearest(fingerprints(smiles), self._prints)[1]]

    def __call__(self, smiles: Sequence[str]) -> Array:
        """Plausibility of n molecules, shape ``(n,)``; 0 for what is none."""
        return _share(self._lower, self._lower_rank(*self.scores(smiles)))

    def _lower_rank(self, scores: Array, likeness: Array) -> Array:
        return np.minimum(_share(-self._scores[::-1], -scores), _share(self._likeness, likeness))


def _made(smiles: str) -> float:
    try:
        return accessibility(smiles)
    except InfeasibleError:
        return np.inf


def _share(ordered: Array, values: Array) -> Array:
    """Share of the sorted values that are no larger, shape of ``values``."""
    return np.searchsorted(ordered, values, side="right") / len(ordered)
