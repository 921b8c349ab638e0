"""Statistics of comparisons: spreads, ranks, signed-rank tests and their correction for many of them, data profiles."""

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
    """Median and quartiles of the values that are there; infinite ones count. None when there are none."""
    known = sorted(float(v) for v in values if v is not None and not math.isnan(v))
    if not known:
        return None
    return Spread(quantile(known, 0.5), quantile(known, 0.25), quantile(known, 0.75), len(known))


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between sorted values, at least one; unlike numpy's, infinite ones are allowed."""
    position = share * (len(ordered) - 1)
    below, weight = int(position), position - int(position)
    if weight == 0.0 or ordered[below] == ordered[below + 1]:
        return ordered[below]
    return (1 - weight) * ordered[below] + weight * ordered[below + 1]


def mean_ranks(scores: ArrayLike) -> Array:
    """Mean rank of k methods over n paired blocks, shape ``(n, k)`` to ``(k,)``: 1 is best, ties share their ranks."""
    return np.asarray(block_ranks(scores).mean(axis=0), dtype=float)


def block_ranks(scores: ArrayLike) -> Array:
    """Ranks within each block, shape ``(n, k)``: 1 for the lowest score, ties share their ranks."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(np.asarray(scores, dtype=float), axis=1), dtype=float)


def wilcoxon(a: ArrayLike, b: ArrayLike) -> float:
    """Two-sided p-value of the Wilcoxon signed-rank test of n pairs, exact with ties too.

    Pairs without a difference say nothing and are dropped; two infinite scores do not differ, and an infinite
    score is worse than any finite one.
    """
    return stratified_wilcoxon([(a, b)])


def stratified_wilcoxon(strata: Iterable[tuple[ArrayLike, ArrayLike]]) -> float:
    """Two-sided p-value of signed ranks that are ranked within strata and added up over them.

    Differences of different strata need no common unit. Exact: under the null hypothesis each pair's difference may
    as well have the other sign, and all these signs are counted.

    Args:
        strata: paired scores, as for ``wilcoxon``.
    """
    doubled = (
        np.concatenate([np.zeros(0), *(2 * _signed_ranks(a, b) for a, b in strata)])
        .round()
        .astype(int)
    )
    chances = np.ones(
        1
    )  # of each sum of the ranks whose sign is positive, doubled: ties have halves of ranks
    for size in np.abs(doubled):
        chances = 0.5 * (np.pad(chances, (0, size)) + np.pad(chances, (size, 0)))
    positive, negative = doubled[doubled > 0].sum(), -doubled[doubled < 0].sum()
    return min(1.0, 2.0 * float(chances[max(positive, negative) :].sum()))


def least_p(pairs: int) -> float:
    """The lowest two-sided p-value of any signed-rank test of so many pairs: one method is better in all of them."""
    return min(1.0, 2.0 * 0.5**pairs)


def balance(a: ArrayLike, b: ArrayLike) -> float:
    """Which way the signed ranks of n pairs lean: 1 when ``a`` is higher in every pair that differs, -1 when ``b`` is.

    It is the rank-biserial correlation of matched pairs (Kerby 2014), and 0 when nothing differs.
    """
    return stratified_balance([(a, b)])


def stratified_balance(strata: Iterable[tuple[ArrayLike, ArrayLike]]) -> float:
    """The same for ranks within strata that are added up over them."""
    ranks = np.concatenate([np.zeros(0), *(_signed_ranks(a, b) for a, b in strata)])
    return float(ranks.sum() / np.abs(ranks).sum()) if len(ranks) else 0.0


def _signed_ranks(a: ArrayLike, b: ArrayLike) -> Array:
    """Of the pairs that differ: the rank of the difference among all, with its sign."""
    from scipy.stats import rankdata

    differences = _differences(a, b)
    return np.asarray(np.sign(differences) * rankdata(np.abs(differences)), dtype=float)


def _differences(a: ArrayLike, b: ArrayLike) -> Array:
    """Of the pairs that differ; infinite ones are beyond all others."""
    one, other = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    differences = np.zeros(one.shape)
    np.subtract(one, other, out=differences, where=one != other)
    finite = np.abs(differences[np.isfinite(differences)])
    beyond = 1.0 + (finite.max() if len(finite) else 0.0)
    return np.asarray(np.clip(differences, -beyond, beyond)[differences != 0], dtype=float)


def data_profile(calls_to_solve: ArrayLike, at: ArrayLike) -> Array:
    """Share of problems solved within so many calls (Moré & Wild 2009), same shape as ``at``.

    Args:
        calls_to_solve: one number per problem, at least one; infinite where it was not solved.
        at: numbers of calls.
    """
    needed = np.sort(np.asarray(calls_to_solve, dtype=float))
    return np.asarray(
        np.searchsorted(needed, np.asarray(at, dtype=float), side="right") / len(needed),
        dtype=float,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979), in the order of the input: valid whatever the tests' dependence."""
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(np.argsort(p_values, kind="stable")):
        highest = max(highest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[int(index)] = highest
    return adjusted


class Ranking(NamedTuple):
    """Mean rank of each method, and the Holm-adjusted p-value of it against the best ranked (None for that one)."""

    ranks: list[float]
    p_values: list[float | None]
    pairs: int


def rank(scores: ArrayLike) -> Ranking:
    """Rank k methods over n paired blocks of scores ``(n, k)``, lower is better."""
    table = np.asarray(scores, dtype=float)
    ranks = mean_ranks(table)
    best = int(np.argmin(ranks))
    others = [j for j in range(table.shape[1]) if j != best]
    adjusted = holm([wilcoxon(table[:, j], table[:, best]) for j in others])
    p_values: list[float | None] = [None] * table.shape[1]
    for j, p in zip(others, adjusted, strict=True):
        p_values[j] = p
    return Ranking(ranks.tolist(), p_values, len(table))
