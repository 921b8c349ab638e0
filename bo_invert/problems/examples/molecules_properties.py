"""What RDKit says of molecules given as SMILES: QED, penalised logP, synthetic accessibility, fingerprints, pictures.

Needs the extra ``molecules``. Everything here is exact and free of noise: there is nothing to judge in it, though
penalised logP is known to be gamed by long chains, so it should never be read without a score of realism.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bo_invert.errors import InfeasibleError, MissingExtraError
from bo_invert.types import Array

if TYPE_CHECKING:
    from rdkit.Chem import Mol

Bits = NDArray[np.float32]

BITS = 2048
RADIUS = 2
#: Mean and standard deviation over ZINC-250k of logP, of -SA, and of minus the atoms beyond six in the largest ring.
NORMS = {
    "logp": (2.4571, 1.4343),
    "accessibility": (-3.0526, 0.83352),
    "cycle": (-0.0485697, 0.28602),
}
_PICTURE = (220, 300)
_KINDS = 512
_BLOCK = 512


def chem() -> ModuleType:
    """``rdkit.Chem``, silent about molecules that it cannot read.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        raise MissingExtraError(
            "molecules need RDKit, which is not installed; pip install 'bo-invert[molecules]'"
        ) from None
    rdBase.DisableLog("rdApp.*")
    return Chem


def molecule(smiles: object) -> Mol:
    """RDKit's molecule of a SMILES, parsed and sanitised.

    Raises:
        InfeasibleError: it is no text, empty, or no molecule.
        MissingExtraError: RDKit is not installed.
    """
    read = chem()
    made: Mol | None = read.MolFromSmiles(smiles) if isinstance(smiles, str) else None
    if made is None or made.GetNumAtoms() == 0:
        raise InfeasibleError(f"{smiles!r:.80} is no molecule that RDKit can read")
    return made


def qed(smiles: str) -> float:
    """Quantitative estimate of drug-likeness, in [0, 1], at most 0.948 (Bickerton et al. 2012).

    Raises:
        InfeasibleError: no molecule.
    """
    made = molecule(smiles)
    from rdkit.Chem import QED

    estimate: Any = QED.qed
    return float(estimate(made))


def logp(smiles: str) -> float:
    """Octanol-water partition coefficient by atom contributions (Wildman and Crippen 1999).

    Raises:
        InfeasibleError: no molecule.
    """
    made = molecule(smiles)
    from rdkit.Chem import rdMolDescriptors

    return float(rdMolDescriptors.CalcCrippenDescriptors(made)[0])


def accessibility(smiles: str) -> float:
    """SA score of Ertl and Schuffenhauer (2009): 1 is easily made, 10 hardly. RDKit's own contribution computes it.

    Raises:
        InfeasibleError: no molecule.
        MissingExtraError: this RDKit came without its contributions.
    """
    made = molecule(smiles)
    try:
        from rdkit.Contrib.SA_Score import sascorer
    except ImportError:
        raise MissingExtraError(
            "the SA score is part of RDKit's Contrib folder, which this RDKit does not have; the wheels on PyPI do: "
            "pip install 'bo-invert[molecules]'"
        ) from None
    return float(sascorer.calculateScore(made))


def cycle_penalty(smiles: str) -> float:
    """Minus the number of atoms beyond six in the largest ring.

    Raises:
        InfeasibleError: no molecule.
    """
    made = molecule(smiles)  # its rings live no longer than it does
    rings = made.GetRingInfo().AtomRings()
    return float(min(0, 6 - max(map(len, rings), default=0)))


def penalised_logp(smiles: str) -> float:
    """logP less synthetic accessibility and large rings, each in standard deviations of ZINC-250k (Jin et al. 2018).

    The best of ZINC-250k's molecules have 4.5.

    Raises:
        InfeasibleError: no molecule.
        MissingExtraError: see ``accessibility``.
    """
    parts = {
        "logp": logp(smiles),
        "accessibility": -accessibility(smiles),
        "cycle": cycle_penalty(smiles),
    }
    return sum((parts[name] - mean) / deviation for name, (mean, deviation) in NORMS.items())


def fingerprints(smiles: Sequence[str]) -> Bits:
    """Morgan fingerprints of radius 2, shape ``(n, 2048)``, zeros and ones; a row of NaN where there is no molecule.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    chem()
    from rdkit.Chem import rdFingerprintGenerator

    maker = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    rows = np.full((len(smiles), BITS), np.nan, dtype=np.float32)
    for row, text in zip(rows, smiles, strict=True):
        try:
            row[:] = maker.GetFingerprintAsNumPy(molecule(text))
        except InfeasibleError:
            continue
    return rows


def composition(smiles: Sequence[str]) -> Array:
    """What n molecules are made of, shape ``(n, 520)``: numbers that a model can compare molecules by.

    How many atoms there are of each kind (element, neighbours, hydrogens, charge, in a ring or not: Morgan's
    identifiers of radius 0, folded to 512), how many rings of 3 to 9 or more atoms, and how many bonds turn freely.
    Among a few hundred molecules these tell a model more than fingerprints do. A row of NaN where there is no molecule.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    return np.array([_composition(text) for text in smiles], dtype=np.float64).reshape(
        -1, _KINDS + 8
    )


@lru_cache(maxsize=8192)
def _composition(smiles: str) -> Bits:
    """Of one molecule; kept, since a model looks at the same ones at every ask."""
    row = np.full(_KINDS + 8, np.nan, dtype=np.float32)
    row.setflags(write=False)
    try:
        made = molecule(smiles)
    except InfeasibleError:
        return row
    from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors

    maker = rdFingerprintGenerator.GetMorganGenerator(radius=0, fpSize=_KINDS)
    sizes = [min(len(ring), 9) for ring in made.GetRingInfo().AtomRings()]
    parts = (
        maker.GetCountFingerprintAsNumPy(made),
        np.bincount(sizes, minlength=10)[3:],
        [rdMolDescriptors.CalcNumRotatableBonds(made)],
    )
    row = np.concatenate(parts).astype(np.float32)
    row.setflags(write=False)
    return row


def nearest(prints: Bits, known: Bits) -> tuple[Array, NDArray[np.intp]]:
    """Highest Tanimoto similarity of n fingerprints to k known ones ``(k, 2048)``, and to which: ``(n,)`` each.

    Tanimoto is the bits that two have in common over the bits that either has. A row of NaN is like nothing: 0.
    """
    best, where = np.zeros(len(prints)), np.zeros(len(prints), dtype=np.intp)
    sizes = known.sum(axis=1)
    for start in range(0, len(prints), _BLOCK):
        block = np.nan_to_num(prints[start : start + _BLOCK])
        common = block @ known.T
        either = block.sum(axis=1)[:, None] + sizes - common
        shares = common / np.maximum(either, 1.0)
        rows = slice(start, start + len(block))
        where[rows] = shares.argmax(axis=1)
        best[rows] = shares.max(axis=1)
    return best, where


def picture(smiles: object) -> Array:
    """The structural formula, an array ``(220, 300, 3)`` in [0, 1]; a blank one where there is no molecule."""
    height, width = _PICTURE
    try:
        made = molecule(smiles)
    except InfeasibleError:
        return np.ones((height, width, 3))
    import io

    from matplotlib.image import imread
    from rdkit.Chem.Draw import rdMolDraw2D

    canvas = rdMolDraw2D.MolDraw2DCairo(width, height)
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, made)
    canvas.FinishDrawing()
    image: Array = imread(io.BytesIO(canvas.GetDrawingText()), format="png")[..., :3].astype(
        np.float64
    )
    return image
