"""Molecules as short sequences of tokens, by way of SELFIES: every sequence of them is a molecule.

SELFIES (Krenn et al. 2020) is a language in which every string means a molecule. Its symbols are single atoms, bonds
and counts; the tokens here are symbols and frequent runs of them (byte pair encoding, Gage 1994), which makes a
drug-like molecule of 38 symbols one of a dozen tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.generators.selfies.atom_ordering import ordered
from bo_invert.types import Array

Tokens = NDArray[np.int64]

#: The first of every vocabulary: nothing follows. It is SELFIES's own symbol for nothing.
END = "[nop]"
#: Numbers that substructures are told apart by.
COUNTS = 1024
#: Runs of symbols are counted in so many molecules; more would hardly change which are frequent.
_COUNTED = 6000
#: Room for molecules with more tokens than any that was learnt from.
_ROOM = 1.25


def _packages() -> tuple[Any, Any]:
    """``rdkit.Chem``, silent about what it cannot read, and ``selfies``.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    try:
        import selfies
        from rdkit import Chem, rdBase
    except ImportError:
        raise MissingExtraError(
            "molecules need RDKit and selfies, which are not installed; pip install 'bo-invert[molecules]'"
        ) from None
    rdBase.DisableLog("rdApp.*")
    return Chem, selfies


def canonical(smiles: str, stereo: bool = True) -> str:
    """RDKit's canonical SMILES; empty where there is no molecule that it can parse and sanitise.

    Args:
        smiles: any SMILES.
        stereo: keep stereochemistry (and isotopes); otherwise mirror images share one SMILES.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    made = _packages()[0].MolFromSmiles(smiles)
    return "" if made is None else str(_packages()[0].MolToSmiles(made, isomericSmiles=stereo))


def to_selfies(smiles: str) -> str:
    """SELFIES of a SMILES, in the order of ``selfies_order``; empty where there is no molecule or it cannot be said.

    Raises:
        MissingExtraError: selfies is not installed.
    """
    chem, selfies = _packages()
    made = chem.MolFromSmiles(smiles)
    try:
        return "" if made is None else str(selfies.encoder(ordered(made) or smiles))
    except selfies.EncoderError:
        return ""


def from_selfies(text: str, stereo: bool = True) -> str:
    """Canonical SMILES of SELFIES; empty where nothing is said.

    Raises:
        MissingExtraError: RDKit or selfies is not installed.
    """
    selfies = _packages()[1]
    try:
        return canonical(selfies.decoder(text), stereo)
    except selfies.DecoderError:
        return ""


def counts(smiles: Sequence[str]) -> NDArray[np.float32]:
    """How often which substructure occurs in n molecules, shape ``(n, 1024)``.

    Substructures are atoms with their neighbours and the neighbours' neighbours, as in Morgan fingerprints.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    chem = _packages()[0]
    from rdkit.Chem import rdFingerprintGenerator

    maker = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=COUNTS)
    rows = np.zeros((len(smiles), COUNTS), dtype=np.float32)
    for row, text in zip(rows, smiles, strict=True):
        row[:] = maker.GetCountFingerprintAsNumPy(chem.MolFromSmiles(text))
    return rows


def similarities(one: Sequence[str], other: Sequence[str]) -> Array:
    """Tanimoto similarities of Morgan fingerprints (radius 2, 2,048 bits) of n pairs, shape ``(n,)``; 0 for the empty.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    chem = _packages()[0]
    from rdkit import DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    maker = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    pairs = (
        (maker.GetFingerprint(chem.MolFromSmiles(text)) for text in pair)
        for pair in zip(one, other, strict=True)
    )
    return np.array([DataStructs.TanimotoSimilarity(*pair) for pair in pairs])


@dataclass(frozen=True)
class Vocabulary:
    """Tokens, and how many of them a molecule has at most.

    Args:
        tokens: different ones; the first is ``END``.
        length: of a sequence.

    Raises:
        InvalidInputError: there are none, some are equal, or the first is not ``END``.
    """

    tokens: tuple[str, ...]
    length: int

    def __post_init__(self) -> None:
        if (
            len(self.tokens) < 2
            or self.tokens[0] != END
            or len(set(self.tokens)) < len(self.tokens)
            or self.length < 1
        ):
            raise InvalidInputError(
                f"a vocabulary has {END} and other tokens, all different, and a length from 1"
            )

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    @cached_property
    def _longest(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, sorted(self.tokens, key=len, reverse=True))))

    @cached_property
    def silent(self) -> NDArray[np.bool_]:
        """Which tokens have no atom, shape ``(tokens,)``: ends, dots, branches and rings."""
        empty = re.compile(r"(\[nop\]|\.|\[[=#/\\-]*(Branch|Ring)\d\])+")
        return np.array([empty.fullmatch(token) is not None for token in self.tokens])

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Numbers of tokens ``(n, length)`` of SELFIES, from the left the longest that fits, and then ``END``.

        Raises:
            InvalidInputError: one has symbols that are not in the vocabulary, or more tokens than ``length``.
        """
        rows = np.zeros((len(texts), self.length), dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            found = self._longest.findall(text)
            if "".join(found) != text:
                strange = sorted(
                    {symbol for symbol in symbols(text) if symbol not in self._numbers}
                )
                raise InvalidInputError(
                    f"{text!r:.200} has symbols that were never learnt: {', '.join(strange)}"
                )
            if len(found) > self.length:
                raise InvalidInputError(
                    f"{text!r:.200} has {len(found)} tokens; there is room for {self.length}"
                )
            row[: len(found)] = [self._numbers[token] for token in found]
        return rows

    def decode(self, rows: Tokens) -> list[str]:
        """SELFIES of numbers of tokens ``(n, l)``, up to the first ``END``."""
        ends = np.where((rows == 0).any(axis=1), (rows == 0).argmax(axis=1), rows.shape[1])
        return [
            "".join(self.tokens[i] for i in row[:end]) for row, end in zip(rows, ends, strict=True)
        ]

    @staticmethod
    def learn(texts: Sequence[str], merges: int) -> Vocabulary:
        """The symbols of these SELFIES, all that SELFIES needs to be robust, and the most frequent runs.

        Args:
            texts: not empty.
            merges: how often the most frequent pair of neighbouring tokens becomes a token.

        Raises:
            MissingExtraError: selfies is not installed.
        """
        robust: Iterable[str] = _packages()[1].get_semantic_robust_alphabet()
        split = [symbols(text) for text in texts]
        tokens = [END, *sorted({*robust, *(symbol for row in split for symbol in row)} - {END})]
        numbers = {token: number for number, token in enumerate(tokens)}
        flat = np.array(
            [numbers[symbol] for row in split[:_COUNTED] for symbol in (*row, END)], dtype=np.int64
        )
        for _ in range(merges):
            pair = _commonest_pair(flat, len(tokens))
            if pair is None:
                break
            joined = tokens[pair[0]] + tokens[pair[1]]
            flat = _merged(flat, pair, len(tokens))
            tokens.append(joined)
        tokens = list(dict.fromkeys(tokens))  # two merges may make the same run
        found = Vocabulary(tuple(tokens), 1)
        longest = max(len(found._longest.findall(text)) for text in texts)
        return Vocabulary(found.tokens, int(np.ceil(_ROOM * longest)))


def symbols(text: str) -> list[str]:
    """The symbols of a SELFIES: what stands in brackets, and the dots between molecules."""
    return re.findall(r"\[[^\]]*\]|\.", text)


def _commonest_pair(flat: Tokens, many: int) -> tuple[int, int] | None:
    """The most frequent pair of neighbours, none of them ``END``; None where none occurs twice."""
    left, right = flat[:-1], flat[1:]
    pairs, counts = np.unique((left * many + right)[(left > 0) & (right > 0)], return_counts=True)
    if not len(counts) or counts.max() < 2:
        return None
    first, second = divmod(int(pairs[counts.argmax()]), many)
    return first, second


def _merged(flat: Tokens, pair: tuple[int, int], number: int) -> Tokens:
    """The sequence with every occurrence of a pair, from the left, replaced by one number."""
    where = np.flatnonzero((flat[:-1] == pair[0]) & (flat[1:] == pair[1]))
    if pair[0] == pair[1]:  # of three in a row, two are a pair
        begins = np.append(True, np.diff(where) > 1)
        run = np.maximum.accumulate(np.where(begins, where, 0))
        where = where[(where - run) % 2 == 0]
    merged = flat.copy()
    merged[where] = number
    return np.delete(merged, where + 1)
