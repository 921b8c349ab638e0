"""Token sequences of molecules: SELFIES with byte pair encoding.

In SELFIES (Krenn et al. 2020), every string is a valid molecule. Its symbols are atoms, bonds and
counts. Tokens are symbols and frequent sequences of symbols (byte pair encoding, Gage 1994). A
drug-like molecule has about 38 symbols, or a dozen tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bo_invert.errors import InvalidInputError, require_package
from bo_invert.generators.selfies.atom_ordering import ordered
from bo_invert.types import Array

Tokens = NDArray[np.int64]

END = "[nop]"
"""First token of each vocabulary, the end of a sequence; SELFIES defines it as no operation."""
COUNTS = 1024
"""Length of the vectors of substructure counts."""
# Engineering choice: number of molecules in which token pairs are counted; more hardly change the
# most frequent pairs.
_COUNTED = 6000
# Engineering choice: ratio of the length of token sequences to the longest one in training.
_LENGTH_RATIO = 1.25


def packages() -> tuple[Any, Any]:
    """Import and return ``rdkit.Chem``, with its logging disabled, and ``selfies``.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    with require_package("molecules", "rdkit or selfies", "molecules"):
        import selfies
        from rdkit import Chem, rdBase
    # RDKit logs each SMILES that it cannot parse; callers check the result instead.
    rdBase.DisableLog("rdApp.*")
    return Chem, selfies


def canonical(smiles: str, stereo: bool = True) -> str:
    """Return RDKit's canonical SMILES; the empty string if RDKit cannot parse or sanitise it.

    Args:
        smiles: any SMILES.
        stereo: retain stereochemistry and isotopes; otherwise stereoisomers share one SMILES.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    made = packages()[0].MolFromSmiles(smiles)
    return "" if made is None else str(packages()[0].MolToSmiles(made, isomericSmiles=stereo))


def to_selfies(smiles: str) -> str:
    """Return the SELFIES of a SMILES in the order of ``atom_ordering``; empty if there is none.

    Raises:
        MissingExtraError: selfies is not installed.
    """
    chem, selfies = packages()
    made = chem.MolFromSmiles(smiles)
    try:
        return "" if made is None else str(selfies.encoder(ordered(made) or smiles))
    except selfies.EncoderError:
        return ""


def from_selfies(text: str, stereo: bool = True) -> str:
    """Return the canonical SMILES of a SELFIES; the empty string if it is invalid or empty.

    Raises:
        MissingExtraError: RDKit or selfies is not installed.
    """
    selfies = packages()[1]
    try:
        return canonical(selfies.decoder(text), stereo)
    except selfies.DecoderError:
        return ""


def counts(smiles: Sequence[str]) -> NDArray[np.float32]:
    """Count substructures of n molecules, shape ``(n, 1024)``: Morgan fingerprints of radius 2.

    A substructure is an atom with its neighbours and their neighbours (Rogers and Hahn 2010).

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    chem = packages()[0]
    from rdkit.Chem import rdFingerprintGenerator

    maker = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=COUNTS)
    rows = [maker.GetCountFingerprintAsNumPy(chem.MolFromSmiles(text)) for text in smiles]
    return np.array(rows, dtype=np.float32).reshape(len(smiles), COUNTS)


def similarities(one: Sequence[str], other: Sequence[str]) -> Array:
    """Compute Tanimoto similarities ``(n,)`` of n pairs of SMILES; 0 for empty molecules.

    These compare Morgan fingerprints of radius 2 with 2,048 bits: shared bits over all set bits.

    Raises:
        MissingExtraError: RDKit is not installed.
    """
    chem = packages()[0]
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
    """Vocabulary of tokens and the length of token sequences.

    Args:
        tokens: distinct tokens; the first is ``END``.
        length: number of tokens of a sequence, padded by ``END``.

    Raises:
        InvalidInputError: there are fewer than two tokens, some are equal, the first is not
            ``END``, or the length is below 1.
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
                f"Vocabulary: tokens must be distinct, {END} first and at least one other, with "
                f"length >= 1, got {len(self.tokens)} tokens and length {self.length}"
            )

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    @cached_property
    def _longest(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, sorted(self.tokens, key=len, reverse=True))))

    @cached_property
    def silent(self) -> NDArray[np.bool_]:
        """Mask ``(tokens,)`` of tokens without an atom: ends, dots, branches and rings."""
        empty = r"(\[nop\]|\.|\[[=#/\\-]*(Branch|Ring)\d\])+"
        return np.array([re.fullmatch(empty, token) is not None for token in self.tokens])

    def encode(self, texts: Sequence[str]) -> Tokens:
        """Split n SELFIES into tokens, longest match first; return indices ``(n, length)``.

        Raises:
            InvalidInputError: a SELFIES has unknown symbols, or more tokens than ``length``.
        """
        rows = np.zeros((len(texts), self.length), dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            found = self._longest.findall(text)
            if "".join(found) != text:
                unknown = sorted(set(symbols(text)) - set(self._numbers))
                raise InvalidInputError(
                    "Vocabulary: SELFIES must consist of symbols of the training molecules, got "
                    f"{', '.join(unknown)} in {text!r:.200}"
                )
            if len(found) > self.length:
                raise InvalidInputError(
                    f"Vocabulary: SELFIES must have at most {self.length} tokens, "
                    f"got {len(found)} in {text!r:.200}"
                )
            row[: len(found)] = [self._numbers[token] for token in found]
        return rows

    def decode(self, rows: Tokens) -> list[str]:
        """Join tokens of indices ``(n, l)`` to n SELFIES, each up to its first ``END``."""
        # Rows without END extend to their full length.
        ends = np.where((rows == 0).any(axis=1), (rows == 0).argmax(axis=1), rows.shape[1])
        return [
            "".join(self.tokens[i] for i in row[:end]) for row, end in zip(rows, ends, strict=True)
        ]

    @staticmethod
    def learn(texts: Sequence[str], merges: int) -> Vocabulary:
        """Fit a vocabulary by byte pair encoding (Gage 1994).

        Initial tokens are the symbols of the texts and SELFIES' robust alphabet. Each merge adds
        the most frequent pair of adjacent tokens as a new token.

        Args:
            texts: training SELFIES; at least one.
            merges: largest number of merges.

        Raises:
            MissingExtraError: selfies is not installed.
        """
        robust: Iterable[str] = packages()[1].get_semantic_robust_alphabet()
        split = [symbols(text) for text in texts]
        tokens = [END, *sorted({*robust}.union(*split) - {END})]
        numbers = {token: number for number, token in enumerate(tokens)}
        flat = np.array(
            [numbers[symbol] for row in split[:_COUNTED] for symbol in (*row, END)], dtype=np.int64
        )
        # END separates the molecules in the flat sequence, so that no pair spans two molecules.
        for _ in range(merges):
            pair = _most_frequent_pair(flat, len(tokens))
            if pair is None:
                break
            flat = _merged(flat, pair, len(tokens))
            tokens.append(tokens[pair[0]] + tokens[pair[1]])
        # Two merges may give the same sequence.
        found = Vocabulary(tuple(dict.fromkeys(tokens)), 1)
        # Longest match gives other tokens than the merges did, so count these again.
        longest = max(len(found._longest.findall(text)) for text in texts)
        return Vocabulary(found.tokens, int(np.ceil(_LENGTH_RATIO * longest)))


def symbols(text: str) -> list[str]:
    """Split a SELFIES into its symbols: bracketed symbols, and dots between molecules."""
    return re.findall(r"\[[^\]]*\]|\.", text)


def _most_frequent_pair(flat: Tokens, many: int) -> tuple[int, int] | None:
    """Return the most frequent pair of adjacent tokens without ``END``; None if none recurs."""
    left, right = flat[:-1], flat[1:]
    # Pair (a, b) has the number a * many + b, which divmod inverts.
    pairs, counts = np.unique((left * many + right)[(left > 0) & (right > 0)], return_counts=True)
    if not len(counts) or counts.max() < 2:
        return None
    return divmod(int(pairs[counts.argmax()]), many)


def _merged(flat: Tokens, pair: tuple[int, int], number: int) -> Tokens:
    """Replace each occurrence of a pair, from the left, by one number."""
    where = np.flatnonzero((flat[:-1] == pair[0]) & (flat[1:] == pair[1]))
    if pair[0] == pair[1]:  # occurrences overlap in runs of equal tokens: take every second one
        begins = np.append(True, np.diff(where) > 1)
        run = np.maximum.accumulate(np.where(begins, where, 0))
        where = where[(where - run) % 2 == 0]
    merged = flat.copy()
    merged[where] = number
    return np.delete(merged, where + 1)
