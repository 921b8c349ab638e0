"""SMILES with an atom order that closes rings early.

SELFIES closes a ring by a count of atoms back to its start. RDKit's canonical SMILES writes the
substituents of a ring before the ring closes. The count then depends on these, and one wrong atom
changes the ring size. Here the smaller part comes first: the rest of a ring, then its substituents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rdkit.Chem import Mol

_BONDS = {"SINGLE": "", "DOUBLE": "=", "TRIPLE": "#"}


def ordered(made: Mol) -> str | None:
    """Write an RDKit molecule as Kekulé SMILES that starts at an end, with small branches first.

    Returns:
        None for molecules with stereochemistry or with other bonds than single, double and triple.
    """
    from rdkit import Chem

    kekule = Chem.Mol(made)
    Chem.Kekulize(kekule, clearAromaticFlags=True)
    bonds = {
        frozenset((b.GetBeginAtomIdx(), b.GetEndAtomIdx())): _BONDS.get(str(b.GetBondType()))
        for b in kekule.GetBonds()
    }
    # Stereo marks depend on the order of the atoms, and other bonds have no mark here.
    names = [atom.GetSmarts(isomericSmiles=True) for atom in kekule.GetAtoms()]
    if (
        None in bonds.values()
        or any("@" in name for name in names)
        or any(str(bond.GetStereo()) != "STEREONONE" for bond in kekule.GetBonds())
    ):
        return None
    ranks = list(Chem.CanonicalRankAtoms(made))
    around = {
        atom.GetIdx(): sorted(
            (other.GetIdx() for other in atom.GetNeighbors()), key=ranks.__getitem__
        )
        for atom in kekule.GetAtoms()
    }
    distances = Chem.GetDistanceMatrix(made)
    texts = []
    for atoms in Chem.GetMolFrags(made):
        # Start at an atom of the largest eccentricity, an end of the longest chain.
        root = max(atoms, key=lambda i: (max(distances[i, j] for j in atoms), -ranks[i]))
        texts.append(_written(root, around, names, bonds))
    return ".".join(sorted(texts))


def _written(
    root: int, around: dict[int, list[int]], names: list[str], bonds: dict[frozenset[int], Any]
) -> str:
    """Write the SMILES of the fragment of atom ``root`` by depth-first search."""
    children: dict[int, list[int]] = {}
    closures: dict[int, list[tuple[int, int]]] = {}
    seen: set[int] = set()
    count = 0

    def visit(atom: int, parent: int | None) -> None:
        nonlocal count
        seen.add(atom)
        children[atom] = []
        ahead = [other for other in around[atom] if other != parent]
        for other in ahead:
            if other in seen and atom not in children[other]:
                count += 1
                closures.setdefault(other, []).append((count, atom))
                closures.setdefault(atom, []).append((count, other))
        # Small branches first: the main chain, the last branch, needs no parentheses.
        sizes = {other: _branch_size(other, seen, around) for other in ahead if other not in seen}
        for other in sorted(sizes, key=sizes.__getitem__):
            if other not in seen:
                children[atom].append(other)
                visit(other, atom)

    visit(root, None)

    def text(atom: int, parent: int | None) -> str:
        bond = "" if parent is None else bonds[frozenset((parent, atom))]
        marks = "".join(  # % precedes ring numbers of two digits
            bonds[frozenset((atom, o))] + "%" * (number > 9) + str(number)
            for number, o in closures.get(atom, [])
        )
        *branches, last = [text(child, atom) for child in children[atom]] or [""]
        return f"{bond}{names[atom]}{marks}{''.join(f'({branch})' for branch in branches)}{last}"

    return text(root, None)


def _branch_size(start: int, seen: set[int], around: dict[int, list[int]]) -> int:
    """Count the atoms reachable from ``start`` without passing through ``seen``."""
    reached, edge = {start}, {start}
    while edge:
        edge = {other for atom in edge for other in around[atom]} - reached - seen
        reached |= edge
    return len(reached)
