"""Kernel of numeric parameters and unordered choices, with analytic gradients.

With one lengthscale per choice, a choice of 12 values has one hyperparameter instead of 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Generic, NamedTuple

import numpy as np

from bo_invert.domains.parameters import Choice
from bo_invert.domains.search_domain import Domain
from bo_invert.models.array_module import A, array_module, clamp, clamp_below_, matching
from bo_invert.models.gp.kernels import Kernel, KernelCache, lengthscale_prior
from bo_invert.types import Array, Indices

_MIN_LENGTHSCALE, _MAX_LENGTHSCALE = 0.3, 8.0
"""Bounds of the lengthscale of a choice; two values differ by distance 1. Engineering choice: the
correlation of two values lies between 0.004 and 0.992."""
_LOGIT_SPREAD = 1.5
"""Prior standard deviation of a logit. Engineering choice: a weight of 0.9 is plausible."""
_MAX_LOGIT = 3.0
"""Bound of a logit in nats. Engineering choice: the offset of a rarely tried value stays uncertain,
even if those of others are equal."""


@dataclass(frozen=True)
class ColumnStructure:
    """Columns of numeric parameters and of unordered choices.

    Args:
        numeric: Columns of the numeric parameters, one each.
        choices: Columns of each choice: one per value, or a single one for two values.
    """

    numeric: tuple[int, ...]
    choices: tuple[tuple[int, ...], ...]

    @property
    def dim(self) -> int:
        """Number of columns."""
        return len(self.numeric) + sum(map(len, self.choices))


def column_structure(domain: Domain) -> ColumnStructure | None:
    """Return the structure of a domain; None without unordered choices."""
    numeric: list[int] = []
    choices: list[tuple[int, ...]] = []
    for name, columns in domain.columns.items():
        parameter = domain.parameters[name]
        positions = tuple(range(columns.start, columns.stop))
        if isinstance(parameter, Choice) and not parameter.ordered:
            choices.append(positions)
        else:
            numeric.extend(positions)
    return ColumnStructure(tuple(numeric), tuple(choices)) if choices else None


class MixedCache(NamedTuple, Generic[A]):
    """Intermediate results for gradients of a mixed kernel."""

    numeric: A
    """k(x, x') of the numeric parameters, shape ``(..., n, m)``."""
    numeric_cache: KernelCache[A]
    product: A
    """Product of the kernels of all choices, ``(..., n, m)``."""
    left: A
    right: A
    """Embedded choices, ``(..., n, e)`` and ``(..., m, e)``."""
    inverse_squares: A
    """1 / l^2 of each choice, shape ``(..., c)``."""
    weights: A
    """Weights ``(..., t)`` of numeric kernel (if any), offsets of each choice, pairs (if any), and
    product."""
    pairs: A | None
    """Share of the pairs of choices in which both are equal, ``(..., n, m)``."""


@dataclass(frozen=True)
class MixedKernel(Kernel):
    """Sum of a numeric kernel, of offsets of choices and of their pairs, and of a product kernel.

    ``k = v k_x(x, x') + sum_p w_p [c_p = c'_p] + r E (E - 1) / (c (c - 1))
    + u k_x(x, x') prod_p h_p(c_p, c'_p)`` with the number E of equal ones among c choices, the
    Hamming kernels ``h_p = exp(-[c_p != c'_p] / (2 l_p^2))`` and weights v, w, r, u that sum to 1,
    after the kernel of BoTorch's ``MixedSingleTaskGP``. The first term is shared by all values. The
    second has an offset for each value of each choice. The third, for at least three choices, has
    an offset for each pair of values of two choices, the interactions of second order (additive
    kernels, Duvenaud et al. 2011). The fourth has a function of its own for each combination of
    values.

    The hyperparameters are the log lengthscales of the numeric parameters and of the choices, then
    the logits of v (if there are numeric parameters), of w and of r (if there are at least three
    choices), relative to u.

    Args:
        base: Kernel of the numeric parameters.
        structure: Columns of the inputs.
    """

    base: Kernel
    structure: ColumnStructure

    PAIRED: ClassVar[int] = 3
    """Number of choices from which there is a term of pairs."""

    @cached_property
    def _owner(self) -> Indices:
        """Number of the choice of each embedded column, shape ``(e,)``."""
        choices = self.structure.choices
        return np.array([p for p, columns in enumerate(choices) for _ in columns])

    @cached_property
    def _columns(self) -> tuple[Indices, Indices]:
        """Columns of the numeric parameters, and of the choices."""
        flat = [column for columns in self.structure.choices for column in columns]
        return np.array(self.structure.numeric, dtype=int), np.array(flat)

    @cached_property
    def _factors(self) -> Array:
        """Slope of the embedding in each column of a choice, shape ``(e,)``.

        The embedding e has the inner products e.e' = s - [c != c'] with the constant s of
        ``_squares``: one-hot columns as they are, and (4 u - 2) / sqrt(2) for the coordinates 1/4
        and 3/4 of two values.
        """
        choices = self.structure.choices
        slopes = [math.sqrt(8.0) if len(c) == 1 else 1.0 for c in choices for _ in c]
        return np.array(slopes)

    @cached_property
    def _squares(self) -> Array:
        """Squared norm of the embedding of each choice, shape ``(c,)``."""
        squares = [0.5 if len(c) == 1 else 1.0 for c in self.structure.choices]
        return np.array(squares)

    @property
    def _sizes(self) -> tuple[int, int]:
        """Number of numeric parameters, and of choices."""
        return len(self.structure.numeric), len(self.structure.choices)

    def radial(self, squared: A) -> tuple[A, A]:
        return self.base.radial(squared)

    def against(  # type: ignore[override]  # another cache
        self, log_lengthscales: A, right: A
    ) -> Callable[[A], tuple[A, MixedCache[A]]]:
        xp, numbers = array_module(right), self._columns[0]
        logs, choice_logs, weights = self._split(log_lengthscales)
        right_numbers, b = right[..., numbers], self._embed(right)
        of_numbers = self.base.against(logs, right_numbers)
        inverse_squares: A = xp.exp(-2.0 * choice_logs)
        offsets, of_pairs = weights[..., self._offsets], weights[..., -2, None, None]

        def matrix(left: A) -> tuple[A, MixedCache[A]]:
            same = left is right
            numeric, numeric_cache = of_numbers(right_numbers if same else left[..., numbers])
            a = b if same else self._embed(left)
            product: A = xp.exp(-0.5 * self._mismatch(inverse_squares, a, b))
            # sum_p w_p [c_p = c'_p] = sum_p w_p - sum_p w_p [c_p != c'_p]
            equal: A = offsets.sum(-1)[..., None, None] - self._mismatch(offsets, a, b)
            pairs = self._pairs(a, b) if self._paired else None
            cache = MixedCache(
                numeric, numeric_cache, product, a, b, inverse_squares, weights, pairs
            )
            if pairs is not None:
                equal = equal + of_pairs * pairs
            return numeric * self._numeric_share(cache) + equal, cache

        return matrix

    def gradient_in_log_lengthscales(  # type: ignore[override]
        self, cache: MixedCache[A], upstream: A
    ) -> A:
        """Return the gradient ``(..., h)`` of sum(upstream * matrix) in the hyperparameters."""
        by_numeric = self.base.gradient_in_log_lengthscales(
            cache.numeric_cache, upstream * self._numeric_share(cache)
        )
        both, weights = upstream * cache.numeric * cache.product, cache.weights
        # d product / d log l_p = [c_p != c'_p] product / l_p^2
        by_choices = cache.inverse_squares * weights[..., -1:] * self._mismatches(both, cache)
        inner = [upstream.sum((-2, -1))[..., None] - self._mismatches(upstream, cache)]
        if self._sizes[0]:
            inner.insert(0, (upstream * cache.numeric).sum((-2, -1))[..., None])
        if cache.pairs is not None:
            inner.append((upstream * cache.pairs).sum((-2, -1))[..., None])
        inner.append(both.sum((-2, -1))[..., None])
        terms: A = array_module(upstream).concatenate(inner, -1)
        # softmax: dw_i / du_j = w_i ([i = j] - w_j)
        by_logits = weights * (terms - (weights * terms).sum(-1)[..., None])
        parts = [by_numeric, by_choices, by_logits[..., :-1]]
        gradient: A = array_module(upstream).concatenate(parts, -1)
        return gradient

    def gradient_in_inputs(  # type: ignore[override]
        self, cache: MixedCache[A], upstream: A
    ) -> A:
        """Return the gradient ``(..., n, d)`` of sum(upstream * matrix) in the left inputs.

        It is 0 in the columns of choices, which have no derivative.
        """
        own = self.base.gradient_in_inputs(
            cache.numeric_cache, upstream * self._numeric_share(cache)
        )
        return self._spread(own, self._columns[0])

    def size(self, d: int) -> int:
        return sum(self._sizes) + self._logits

    def parameters(self, d: int) -> int:
        return sum(self._sizes)

    def start(self, d: int, lengthscale: float) -> list[float]:
        numbers, choices = self._sizes
        own = min(max(lengthscale, _MIN_LENGTHSCALE), _MAX_LENGTHSCALE)
        return [math.log(lengthscale)] * numbers + [math.log(own)] * choices + [0.0] * self._logits

    def bounds(self, d: int, low: float, high: float) -> tuple[list[float], list[float]]:
        logits = [_MAX_LOGIT] * self._logits
        ends = self.start(d, low), self.start(d, high)
        lower, upper = (end[: sum(self._sizes)] for end in ends)
        return lower + [-x for x in logits], upper + logits

    def share(self, logs: A) -> A:
        numbers, own, logits = self._parts(logs)
        of = self._offsets
        parts = (
            numbers, own, logits[..., : of.start], logits[..., of], logits[..., of.stop :]
        )  # fmt: skip
        means = [p.mean(-1)[..., None] for p in parts if p.shape[-1]]
        shared: A = array_module(logs).concatenate(means, -1)
        return shared

    def unshare(self, shared: A, d: int) -> A:
        return shared[..., self._sharing]

    def share_gradient(self, gradient: A) -> A:
        total: A = gradient @ matching(_indicator(self._sharing), gradient)
        return total

    def negative_log_prior(self, logs: A) -> tuple[A, A]:
        numbers, own, logits = self._parts(logs)
        xp = array_module(logs)
        lengthscales: A = xp.concatenate([numbers, own], -1)
        value, by_lengthscales = lengthscale_prior(lengthscales)
        off: A = logits / _LOGIT_SPREAD
        gradient: A = xp.concatenate([by_lengthscales, off / _LOGIT_SPREAD], -1)
        return value + 0.5 * (off * off).sum(-1), gradient

    def scale_lengthscales(self, logs: A, log_factors: A) -> A:
        numbers, own, logits = self._parts(logs)
        low, high = math.log(_MIN_LENGTHSCALE), math.log(_MAX_LENGTHSCALE)
        parts = [
            numbers + log_factors,
            clamp(own + log_factors, low, high),
            logits + 0 * log_factors,
        ]
        scaled: A = array_module(logs).concatenate(parts, -1)
        return scaled

    def column_log_lengthscales(self, logs: A) -> A:
        numbers, own, _ = self._parts(logs)
        columns = self._spread(numbers, self._columns[0])
        # |e - e'|^2 = 2 [c != c'], so h is a squared exponential of e with lengthscale sqrt(2) l
        factors = matching(np.log(math.sqrt(2.0) / self._factors), logs)
        columns[..., self._columns[1]] = own[..., self._owner] + factors
        return columns

    def term_factors(self, logs: A, uniform: A) -> A:
        """Draw terms of the sum; return factors ``(..., R, d)`` of frequencies in each column.

        A column on which the term does not depend has the factor 0.

        Args:
            logs: Hyperparameters, shape ``(..., h)``.
            uniform: Uniform numbers in [0, 1), shape ``(R,)``.
        """
        xp, (numeric, choices), count = array_module(logs), self._columns, self._sizes[1]
        _, own, weights = self._split(logs)
        # Sections of [0, 1): the numeric term, if any, the offsets of each choice, those of pairs,
        # if any, the product.
        ends = weights.cumsum(-1)[..., None, :-1]  # (..., 1, terms - 1)
        term = (uniform[:, None] >= ends).sum(-1) + (0 if self._sizes[0] else 1)
        # 0 is the numeric term, p + 1 choice p, c + 1 the pairs, and the last one the product.
        product = (term == count + 1 + self._paired) * xp.ones_like(uniform)
        of_numbers: A = ((term == 0) + product)[..., None] * matching(
            np.ones(len(numeric)), uniform
        )
        factors = self._spread(of_numbers, numeric)
        # At the shortest lengthscale, the squared exponential is almost [c = c'].
        shorter = (xp.exp(own) / _MIN_LENGTHSCALE)[..., None, self._owner]
        number = matching((self._owner + 1).astype(float), uniform)
        alone = term[..., None] == number
        if self._paired:
            # The position within the section of pairs selects one.
            first, second = np.triu_indices(count, 1)
            start, width = ends[..., -2], weights[..., None, -2]
            pair = clamp((uniform - start) / width * len(first), 0.0, len(first) - 1.0)
            order = matching(np.arange(len(first)).astype(np.float64), uniform)
            chosen = xp.ones_like(pair)[..., None] * (xp.floor(pair)[..., None] == order)
            members = np.equal.outer(first, self._owner) + np.equal.outer(second, self._owner)
            both = chosen @ matching(members.astype(np.float64), uniform)
            alone = alone | ((term[..., None] == count + 1) & (both > 0.0))
        factors[..., choices] = alone * shorter + product[..., None]
        return factors

    @cached_property
    def _sharing(self) -> Indices:
        """Position of each hyperparameter in the shared ones, shape ``(h,)``."""
        numbers, choices = self._sizes
        sizes = [numbers, choices, 1 if numbers else 0, choices, int(self._paired)]
        groups = [size for size in sizes if size]
        return np.repeat(np.arange(len(groups)), groups)

    @property
    def _logits(self) -> int:
        """Number of logits."""
        numbers, choices = self._sizes
        return choices + (numbers > 0) + self._paired

    @property
    def _offsets(self) -> slice:
        """Positions of the offsets of each choice among the logits and the weights."""
        first = 1 if self._sizes[0] else 0
        return slice(first, first + self._sizes[1])

    @property
    def _paired(self) -> bool:
        """True if there is a term of pairs; that of two choices would be the product kernel."""
        return self._sizes[1] >= self.PAIRED

    def _parts(self, logs: A) -> tuple[A, A, A]:
        """Return the log lengthscales of numbers and of choices, and the logits."""
        numbers, choices = self._sizes
        end = numbers + choices
        return logs[..., :numbers], logs[..., numbers:end], logs[..., end:]

    def _split(self, logs: A) -> tuple[A, A, A]:
        """Return the log lengthscales of numbers and of choices, and the weights."""
        numbers, own, logits = self._parts(logs)
        xp = array_module(logs)
        # The logit of the product is 0. Logits are at most 3, so exp does not overflow.
        odds: A = xp.exp(xp.concatenate([logits, xp.zeros_like(logs[..., :1])], -1))
        weights: A = odds / odds.sum(-1)[..., None]
        return numbers, own, weights

    def _embed(self, inputs: A) -> A:
        """Return the embedding of the choices, shape ``(..., e)``."""
        factors = matching(self._factors, inputs)
        centres = matching(np.where(self._factors == 1.0, 0.0, 0.5), inputs)
        embedded: A = factors * (inputs[..., self._columns[1]] - centres)
        return embedded

    def _spread(self, values: A, columns: Indices) -> A:
        """Return values ``(..., c)`` in their columns, 0 in all others, shape ``(..., d)``."""
        spread: A = values @ matching(np.eye(self.structure.dim)[columns], values)
        return spread

    def _numeric_share(self, cache: MixedCache[A]) -> A:
        """Return the factor of k_x in the kernel, ``(..., n, m)``."""
        weights = cache.weights[..., None, None]
        share: A = weights[..., -1, :, :] * cache.product
        if self._sizes[0]:
            share = share + weights[..., 0, :, :]
        return share

    def _mismatch(self, sizes: A, left: A, right: A) -> A:
        """Return the sum of ``sizes`` ``(..., c)`` over choices that differ, ``(..., n, m)``."""
        # [c != c'] = s - e.e', so that one matrix product suffices
        total = (sizes * matching(self._squares, sizes)).sum(-1)[..., None, None]
        scaled = left * sizes[..., None, self._owner]
        mismatch: A = total - scaled @ right.swapaxes(-1, -2)
        return clamp_below_(mismatch, 0.0)

    def _pairs(self, left: A, right: A) -> A:
        """Return the share of the pairs of choices in which both are equal, ``(..., n, m)``."""
        count = self._sizes[1]
        equal: A = count - self._mismatch(matching(np.ones(count), left), left, right)
        return equal * (equal - 1.0) / (count * (count - 1.0))

    def _mismatches(self, upstream: A, cache: MixedCache[A]) -> A:
        """Return the sum of upstream over the pairs that differ in each choice, ``(..., c)``."""
        equal: A = (cache.left * (upstream @ cache.right)).sum(-2)
        most = upstream.sum((-2, -1))[..., None] * matching(self._squares, upstream)
        different: A = most - equal @ matching(_indicator(self._owner), equal)
        return different


def _indicator(groups: Indices) -> Array:
    """Return the matrix ``(h, g)`` that sums values of the same group."""
    return np.equal.outer(groups, np.arange(groups[-1] + 1)).astype(float)
