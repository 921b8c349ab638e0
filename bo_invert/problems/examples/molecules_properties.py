"""Molecular properties, fingerprints and pictures from SMILES with RDKit; extra ``molecules``.

All properties are exact and free of noise. Long carbon chains exploit the penalised logP, so report
it together with a plausibility.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bo_invert.errors import InfeasibleError, MissingExtraError
from bo_invert.generators.selfies.vocabulary import packages
from bo_invert.types import Array

with suppress(ImportError):  # the list of ready problems imports this module without the extra
    from rdkit.Chem import QED, Mol, rdFingerprintGenerator, rdMolDescriptors
    from rdkit.Chem.Draw import rdMolDraw2D

Bits = NDArray[np.float32]

BITS = 2048
# Means and standard deviations over ZINC-250k of logP, -SA and the ring term; Jin et al. 2018.
NORMS = {
    "logp": (2.4571, 1.4343),
    "accessibility": (-3.0526, 0.83352),
    "cycle": (-0.0485697, 0.28602),
}
_KINDS = 512
"""Number of bits of the folded atom identifiers. Engineering choice: collisions are rare."""
_BLOCK = 512
"""Number of rows per block of similarities. Engineering choice: bounds the memory."""


def molecule(smiles: object) -> Mol:
    """Parse and sanitise a SMILES.

    Raises:
        InfeasibleError: ``smiles`` is no text, empty, or no molecule.
        MissingExtraError: RDKit is not installed.
    """
    chem, _ = packages()
    made: Mol | None = chem.MolFromSmiles(smiles) if isinstance(smiles, str) else None
    if made is None or made.GetNumAtoms() == 0:
        raise InfeasibleError(f"RDKit cannot read the molecule {smiles!r:.80}")
    return made


def qed(smiles: str) -> float:
    """Compute the quantitative estimate of drug-likeness (Bickerton et al. 2012).

    The range is [0, 1]; the attainable maximum is 0.948.

    Raises:
        InfeasibleError: ``smiles`` is no molecule.
    """
    estimate: Any = QED.qed
    return float(estimate(molecule(smiles)))


def logp(smiles: str) -> float:
    """Compute the octanol-water logP by atom contributions (Wildman and Crippen 1999).

    Raises:
        InfeasibleError: ``smiles`` is no molecule.
    """
    return float(rdMolDescriptors.CalcCrippenDescriptors(molecule(smiles))[0])


def accessibility(smiles: str) -> float:
    """Compute the SA score (Ertl and Schuffenhauer 2009), 1 easy to 10 difficult.

    Raises:
        InfeasibleError: ``smiles`` is no molecule.
        MissingExtraError: RDKit's Contrib folder is missing.
    """
    try:
        from rdkit.Contrib.SA_Score import sascorer
    except ImportError:
        raise MissingExtraError(
            "molecules: the SA score needs RDKit's Contrib folder, which is missing. Install a "
            "wheel "
            "from PyPI: pip install 'bo-invert[molecules]'."
        ) from None
    return float(sascorer.calculateScore(molecule(smiles)))


def cycle_penalty(smiles: str) -> float:
    """Compute minus the number of atoms beyond six in the largest ring.

    Raises:
        InfeasibleError: ``smiles`` is no molecule.
    """
    made = molecule(smiles)  # keeps the memory of the rings alive
    rings = made.GetRingInfo().AtomRings()
    return float(min(0, 6 - max(map(len, rings), default=0)))


def penalised_logp(smiles: str) -> float:
    """Compute the penalised logP (Jin et al. 2018).

    It is the sum of logP, -SA and ``cycle_penalty``, each standardised over ZINC-250k. The maximum
    over ZINC-250k is 4.5.

    Raises:
        InfeasibleError: ``smiles`` is no molecule.
        MissingExtraError: see ``accessibility``.
    """
    parts = {
        "logp": logp(smiles),
        "accessibility": -accessibility(smiles),
        "cycle": cycle_penalty(smiles),
    }
    return sum((parts[name] - mean) / deviation for name, (mean, deviation) in NORMS.items())


def fingerprints(smiles: Sequence[str]) -> Bits:
    """Compute binary Morgan fingerprints of radius 2, shape ``(n, 2048)``.

    Invalid SMILES give rows of NaN.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    packages()  # raises without the extra
    maker = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=BITS)
    rows = np.full((len(smiles), BITS), np.nan, dtype=np.float32)
    for row, text in zip(rows, smiles, strict=True):
        with suppress(InfeasibleError):
            row[:] = maker.GetFingerprintAsNumPy(molecule(text))
    return rows


def composition(smiles: Sequence[str]) -> Array:
    """Compute composition features of n molecules, shape ``(n, 520)``.

    The first 512 features count atoms by Morgan identifiers of radius 0, which encode element,
    neighbours, hydrogens, charge and ring membership. The others count rings of 3 to 9 or more
    atoms and rotatable bonds. With a few hundred molecules these features predict better than
    fingerprints. Invalid SMILES give rows of NaN.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    return np.array([_composition(text) for text in smiles], dtype=np.float64).reshape(
        -1, _KINDS + 8
    )


@lru_cache(maxsize=8192)
def _composition(smiles: str) -> Bits:
    """Compute the features of one molecule; cached, because each ask needs them again."""
    row = np.full(_KINDS + 8, np.nan, dtype=np.float32)
    with suppress(InfeasibleError):
        made = molecule(smiles)
        maker = rdFingerprintGenerator.GetMorganGenerator(radius=0, fpSize=_KINDS)
        sizes = [min(len(ring), 9) for ring in made.GetRingInfo().AtomRings()]
        parts = (
            maker.GetCountFingerprintAsNumPy(made),
            np.bincount(sizes, minlength=10)[3:],
            [rdMolDescriptors.CalcNumRotatableBonds(made)],
        )
        row[:] = np.concatenate(parts)
    row.setflags(write=False)
    return row


def nearest(prints: Bits, known: Bits) -> tuple[Array, NDArray[np.intp]]:
    """Compute the highest Tanimoto similarities of n fingerprints to k known ones.

    The Tanimoto similarity is the number of common bits over the number of bits in the union. A row
    of NaN has the similarity 0.

    Returns:
        Similarities and indices of the nearest known fingerprints, shape ``(n,)`` each.
    """
    best, where = np.zeros(len(prints)), np.zeros(len(prints), dtype=np.intp)
    sizes = known.sum(axis=1)
    for start in range(0, len(prints), _BLOCK):
        block = np.nan_to_num(prints[start : start + _BLOCK])
        common = block @ known.T
        shares = common / np.maximum(block.sum(axis=1)[:, None] + sizes - common, 1.0)
        rows = slice(start, start + len(block))
        where[rows] = shares.argmax(axis=1)
        best[rows] = shares.max(axis=1)
    return best, where


def picture(smiles: object) -> Array:
    """Draw the structural formula, ``(220, 300, 3)`` in [0, 1]; blank for an invalid SMILES."""
    height, width = 220, 300  # pixels; fits tables of reports
    try:
        made = molecule(smiles)
    except InfeasibleError:
        return np.ones((height, width, 3))
    from matplotlib.image import imread

    canvas = rdMolDraw2D.MolDraw2DCairo(width, height)
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, made)
    canvas.FinishDrawing()
    return imread(io.BytesIO(canvas.GetDrawingText()), format="png")[..., :3].astype(np.float64)
