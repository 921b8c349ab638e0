"""Molecules written in an order in which rings close soon.

SELFIES closes a ring by counting back. RDKit's canonical SMILES leaves a ring for whatever hangs on it and closes it
after that, so that the count depends on all that was written meanwhile, and a generator that errs by one atom there
makes a large ring of a small one. Here the smaller is written first: the rest of a ring before what hangs on it.
"""

from __future__ import annotations

from typing import Any

_BONDS = {"SINGLE": "", "DOUBLE": "=", "TRIPLE": "#"}


def ordered(made: Any) -> str | None:
    """SMILES of RDKit's molecule, without aromatic bonds, that begins at an end and writes small branches first.

    None for molecules that have to be left in RDKit's order: with stereochemistry or bonds of other kinds.
    """
    from rdkit import Chem

    kekule = Chem.Mol(made)
    Chem.Kekulize(kekule, clearAromaticFlags=True)
    bonds = {
        frozenset((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())): _BONDS.get(
            str(bond.GetBondType())
        )
        for bond in kekule.GetBonds()
    }
    if None in bonds.values():
        return None
    names = [atom.GetSmarts(isomericSmiles=True) for atom in kekule.GetAtoms()]
    if any("@" in name for name in names) or any(
        str(bond.GetStereo()) != "STEREONONE" for bond in kekule.GetBonds()
    ):
        return None
    ranks = list(Chem.CanonicalRankAtoms(made))
    around = {
        atom.GetIdx(): sorted(
            (other.GetIdx() for other in atom.GetNeighbors()), key=ranks.__getitem__
        )
        for atom in kekule.GetAtoms()
    }
    fragments = Chem.GetMolFrags(made)
    distances = Chem.GetDistanceMatrix(made)
    texts = []
    for atoms in fragments:
        root = max(atoms, key=lambda i: (max(distances[i, j] for j in atoms), -ranks[i]))
        texts.append(_written(root, around, names, bonds))
    return ".".join(sorted(texts))


def _written(
    root: int, around: dict[int, list[int]], names: list[str], bonds: dict[frozenset[int], Any]
) -> str:
    """SMILES of the fragment of an atom, by depth first search from there."""
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
        sizes = {other: _beyond(other, seen, around) for other in ahead if other not in seen}
        for other in sorted(sizes, key=sizes.__getitem__):
            if other not in seen:
                children[atom].append(other)
                visit(other, atom)

    visit(root, None)

    def text(atom: int, parent: int | None) -> str:
        bond = "" if parent is None else bonds[frozenset((parent, atom))]
        marks = "".join(
            bonds[frozenset((atom, o))] + _label(number) for number, o in closures.get(atom, [])
        )
        *branches, last = [text(child, atom) for child in children[atom]] or [""]
        return f"{bond}{names[atom]}{marks}{''.join(f'({branch})' for branch in branches)}{last}"

    return text(root, None)


def _beyond(start: int, seen: set[int], around: dict[int, list[int]]) -> int:
    """How many atoms can be reached from an atom without those that were seen."""
    reached, edge = {start}, [start]
    while edge:
        new = {other for atom in edge for other in around[atom]} - reached - seen
        reached |= new
        edge = list(new)
    return len(reached)


def _label(number: int) -> str:
    return str(number) if number < 10 else f"%{number:02d}"
