"""Statistics of comparisons: quartiles, ranks, signed-rank tests, Holm's method, data profiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.types import Array


class Spread(NamedTuple):
    """Median and quartiles of ``n`` values."""

    median: float
    low: float
    high: float
    n: int


def spread(values: Iterable[float | None]) -> Spread | None:
    """Return median and quartiles without None and NaN; infinite values count.

    Returns:
        None if there are no values.
    """
    known = sorted(float(v) for v in values if v is not None and not math.isnan(v))
    if not known:
        return None
    return Spread(quantile(known, 0.5), quantile(known, 0.25), quantile(known, 0.75), len(known))


def median(values: Iterable[float]) -> float:
    """Return the median, as ``spread`` does; infinite without values."""
    known = spread(values)
    return math.inf if known is None else known.median


def rounded_median(values: Iterable[float | None], digits: int = 3) -> float | None:
    """Round the median to significant digits; None without values."""
    known = spread(values)
    return None if known is None else float(f"{known.median:.{digits}g}")


def quantile(ordered: Sequence[float], share: float) -> float:
    """Interpolate linearly between sorted values; unlike in numpy, they may be infinite."""
    position = share * (len(ordered) - 1)
    below, weight = int(position), position - int(position)
    # The difference of two infinite neighbours would be NaN.
    if weight == 0.0 or ordered[below] == ordered[below + 1]:
        return ordered[below]
    return (1 - weight) * ordered[below] + weight * ordered[below + 1]


def block_ranks(scores: ArrayLike) -> Array:
    """Rank k methods within each of n blocks, shape ``(n, k)``: 1 is lowest, ties share ranks."""
    import pandas as pd

    return pd.DataFrame(np.asarray(scores, dtype=float)).rank(axis=1).to_numpy()


def wilcoxon(a: ArrayLike, b: ArrayLike) -> float:
    """Return the exact two-sided p-value of the Wilcoxon signed-rank test of n pairs.

    Pairs without a difference are dropped. Two infinite scores do not differ, and an infinite
    score is worse than any finite one.
    """
    return stratified_wilcoxon([(a, b)])


def stratified_wilcoxon(strata: Iterable[tuple[ArrayLike, ArrayLike]]) -> float:
    """Return the exact two-sided p-value of the signed-rank test with ranks within strata.

    Differences in different strata need no common unit. Under the null hypothesis each difference
    has either sign with probability 1/2. The distribution of the sum of positive ranks is the
    convolution of one two-point distribution per pair, which is exact with ties as well.

    Args:
        strata: paired scores, as for ``wilcoxon``.
    """
    ranks = np.concatenate([np.zeros(0), *(_signed_ranks(a, b) for a, b in strata)])
    # Tied ranks are multiples of 1/2, so twice the ranks are whole numbers.
    doubled = (2 * ranks).round().astype(int)
    chances = np.ones(1)
    for size in np.abs(doubled):
        chances = 0.5 * (np.pad(chances, (0, size)) + np.pad(chances, (size, 0)))
    positive, negative = doubled[doubled > 0].sum(), -doubled[doubled < 0].sum()
    return min(1.0, 2.0 * float(chances[max(positive, negative) :].sum()))


def least_p(pairs: int) -> float:
    """Return the lowest two-sided p-value of a signed-rank test of this many pairs."""
    return min(1.0, 2.0 * 0.5**pairs)


def stratified_balance(strata: Iterable[tuple[ArrayLike, ArrayLike]]) -> float:
    """Return the rank-biserial correlation of matched pairs (Kerby 2014), ranks within strata.

    ``sum(sign_i * rank_i) / sum(rank_i)`` over the pairs that differ. It is 1 if the first score
    is higher in every pair, -1 if the second one is, and 0 if no pair differs.
    """
    ranks = np.concatenate([np.zeros(0), *(_signed_ranks(a, b) for a, b in strata)])
    return float(ranks.sum() / np.abs(ranks).sum()) if len(ranks) else 0.0


def _signed_ranks(a: ArrayLike, b: ArrayLike) -> Array:
    """Rank the absolute differences of the pairs that differ and give them their signs."""
    one, other = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    differences = np.zeros(one.shape)
    np.subtract(one, other, out=differences, where=one != other)
    finite = np.abs(differences[np.isfinite(differences)])
    # Infinite differences rank above all finite ones.
    beyond = 1.0 + (finite.max() if len(finite) else 0.0)
    differences = np.clip(differences, -beyond, beyond)[differences != 0]
    (ranks,) = block_ranks(np.abs(differences)[None])
    return np.asarray(np.sign(differences) * ranks, dtype=float)


def data_profile(calls_to_solve: ArrayLike, at: ArrayLike) -> Array:
    """Return the share of problems solved within each number of calls (Moré & Wild 2009).

    Args:
        calls_to_solve: one number per problem, at least one; infinite for unsolved problems.
        at: numbers of calls.
    """
    needed = np.sort(np.asarray(calls_to_solve, dtype=float))
    return np.searchsorted(needed, np.asarray(at, dtype=float), side="right") / len(needed)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values by Holm's step-down method (1979), valid under any dependence of the tests.

    The i-th lowest of n values becomes the maximum over j <= i of ``(n - j + 1) p_(j)``, at most 1.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[int(index)] = highest
    return adjusted


def rank(scores: ArrayLike) -> list[tuple[float, float | None]]:
    """Rank k methods over n > 0 paired blocks of scores ``(n, k)``, lower is better.

    Returns:
        Mean rank of each method and its Holm-adjusted p-value against the best ranked one, which
        has None.
    """
    table = np.asarray(scores, dtype=float)
    ranks = block_ranks(table).mean(axis=0)
    best = int(np.argmin(ranks))
    others = [j for j in range(table.shape[1]) if j != best]
    adjusted = holm([wilcoxon(table[:, j], table[:, best]) for j in others])
    p_values = dict(zip(others, adjusted, strict=True))
    return [(mean, p_values.get(j)) for j, mean in enumerate(ranks.tolist())]
