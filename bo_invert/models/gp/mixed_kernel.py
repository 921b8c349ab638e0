"""Kernel of numeric parameters and unordered choices, with analytic gradients.

With one lengthscale per choice, a choice of 12 values has one hyperparameter instead of 12.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from bo_invert.models.gp.kernels import Kernel, KernelCache, lengthscale_prior
from bo_invert.parameters import Choice
from bo_invert.search_domain import Domain

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


class MixedCache(NamedTuple):
    """Intermediate results for gradients of a mixed kernel."""

    numeric: Tensor
    """k(x, x') of the numeric parameters, shape ``(..., n, m)``."""
    numeric_cache: KernelCache
    product: Tensor
    """Product of the kernels of all choices, ``(..., n, m)``."""
    left: Tensor
    right: Tensor
    """Embedded choices, ``(..., n, e)`` and ``(..., m, e)``."""
    inverse_squares: Tensor
    """1 / l^2 of each choice, shape ``(..., c)``."""
    weights: Tensor
    """Weights ``(..., t)`` of numeric kernel (if any), offsets of each choice, and product."""


@dataclass(frozen=True)
class MixedKernel(Kernel):
    """Sum of a numeric kernel, of offsets of the choices, and of a product kernel.

    ``k = v k_x(x, x') + sum_p w_p [c_p = c'_p] + u k_x(x, x') prod_p h_p(c_p, c'_p)`` with the
    Hamming kernels ``h_p = exp(-[c_p != c'_p] / (2 l_p^2))`` and weights v, w, u that sum to 1,
    after the kernel of BoTorch's ``MixedSingleTaskGP``. The first term is shared by all values. The
    second has an offset for each value of each choice. The third has a function of its own for
    each combination of values.

    The hyperparameters are the log lengthscales of the numeric parameters and of the choices, then
    the logits of v (if there are numeric parameters) and of w, relative to u.

    Args:
        base: Kernel of the numeric parameters.
        structure: Columns of the inputs.
    """

    base: Kernel
    structure: ColumnStructure

    @cached_property
    def _owner(self) -> Tensor:
        """Number of the choice of each embedded column, shape ``(e,)``."""
        choices = self.structure.choices
        return torch.tensor([p for p, columns in enumerate(choices) for _ in columns])

    @cached_property
    def _columns(self) -> tuple[Tensor, Tensor]:
        """Columns of the numeric parameters, and of the choices."""
        flat = [column for columns in self.structure.choices for column in columns]
        return torch.tensor(self.structure.numeric, dtype=torch.long), torch.tensor(flat)

    @cached_property
    def _factors(self) -> Tensor:
        """Slope of the embedding in each column of a choice, shape ``(e,)``.

        The embedding e has the inner products e.e' = s - [c != c'] with the constant s of
        ``_squares``: one-hot columns as they are, and (4 u - 2) / sqrt(2) for the coordinates 1/4
        and 3/4 of two values.
        """
        choices = self.structure.choices
        slopes = [math.sqrt(8.0) if len(c) == 1 else 1.0 for c in choices for _ in c]
        return torch.tensor(slopes, dtype=torch.float64)

    @cached_property
    def _squares(self) -> Tensor:
        """Squared norm of the embedding of each choice, shape ``(c,)``."""
        squares = [0.5 if len(c) == 1 else 1.0 for c in self.structure.choices]
        return torch.tensor(squares, dtype=torch.float64)

    @property
    def _sizes(self) -> tuple[int, int]:
        """Number of numeric parameters, and of choices."""
        return len(self.structure.numeric), len(self.structure.choices)

    def radial(self, squared: Tensor) -> tuple[Tensor, Tensor]:
        return self.base.radial(squared)

    def matrix(  # type: ignore[override]  # another cache
        self, log_lengthscales: Tensor, left: Tensor, right: Tensor
    ) -> tuple[Tensor, MixedCache]:
        """Return the kernel matrix ``(..., n, m)``.

        Args:
            log_lengthscales: Hyperparameters, shape ``(..., h)``.
            left: Inputs, shape ``(..., n, d)``.
            right: Inputs, shape ``(..., m, d)``.
        """
        numbers, _ = (columns.to(left.device) for columns in self._columns)
        logs, choice_logs, weights = self._split(log_lengthscales)
        numeric, numeric_cache = self.base.matrix(logs, left[..., numbers], right[..., numbers])
        a, b = self._embed(left), self._embed(right)
        inverse_squares = (-2.0 * choice_logs).exp()
        product = torch.exp(-0.5 * self._mismatch(inverse_squares, a, b))
        cache = MixedCache(numeric, numeric_cache, product, a, b, inverse_squares, weights)
        offsets = weights[..., -1 - self._sizes[1] : -1]
        # sum_p w_p [c_p = c'_p] = sum_p w_p - sum_p w_p [c_p != c'_p]
        equal = offsets.sum(-1)[..., None, None] - self._mismatch(offsets, a, b)
        return numeric * self._numeric_share(cache) + equal, cache

    def gradient_in_log_lengthscales(  # type: ignore[override]
        self, cache: MixedCache, upstream: Tensor
    ) -> Tensor:
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
        terms = torch.cat([*inner, both.sum((-2, -1))[..., None]], -1)
        # softmax: dw_i / du_j = w_i ([i = j] - w_j)
        by_logits = weights * (terms - (weights * terms).sum(-1, keepdim=True))
        return torch.cat([by_numeric, by_choices, by_logits[..., :-1]], -1)

    def gradient_in_inputs(  # type: ignore[override]
        self, cache: MixedCache, upstream: Tensor
    ) -> Tensor:
        """Return the gradient ``(..., n, d)`` of sum(upstream * matrix) in the left inputs.

        It is 0 in the columns of choices, which have no derivative.
        """
        own = self.base.gradient_in_inputs(
            cache.numeric_cache, upstream * self._numeric_share(cache)
        )
        gradient = own.new_zeros(*own.shape[:-1], self.structure.dim)
        gradient[..., self._columns[0].to(own.device)] = own
        return gradient

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

    def share(self, logs: Tensor) -> Tensor:
        numbers, own, logits = self._parts(logs)
        choices = self._sizes[1]
        parts = numbers, own, logits[..., :-choices], logits[..., -choices:]
        return torch.cat([p.mean(-1, keepdim=True) for p in parts if p.shape[-1]], -1)

    def unshare(self, shared: Tensor, d: int) -> Tensor:
        return shared[..., self._sharing.to(shared.device)]

    def share_gradient(self, gradient: Tensor) -> Tensor:
        sharing = self._sharing.to(gradient.device)
        total = gradient.new_zeros(*gradient.shape[:-1], int(sharing[-1]) + 1)
        return total.index_add(-1, sharing, gradient)

    def negative_log_prior(self, logs: Tensor) -> tuple[Tensor, Tensor]:
        numbers, own, logits = self._parts(logs)
        value, gradient = lengthscale_prior(torch.cat([numbers, own], -1))
        off = logits / _LOGIT_SPREAD
        return value + 0.5 * (off * off).sum(-1), torch.cat([gradient, off / _LOGIT_SPREAD], -1)

    def scale_lengthscales(self, logs: Tensor, log_factors: Tensor) -> Tensor:
        numbers, own, logits = self._parts(logs)
        longer = own + log_factors
        bounded = longer.clamp(math.log(_MIN_LENGTHSCALE), math.log(_MAX_LENGTHSCALE))
        rows = len(log_factors)
        return torch.cat([numbers + log_factors, bounded, logits.expand(rows, -1)], -1)

    def column_log_lengthscales(self, logs: Tensor) -> Tensor:
        numbers, own, _ = self._parts(logs)
        columns = logs.new_zeros(*logs.shape[:-1], self.structure.dim)
        numeric, choices = (column.to(logs.device) for column in self._columns)
        columns[..., numeric] = numbers
        # |e - e'|^2 = 2 [c != c'], so h is a squared exponential of e with lengthscale sqrt(2) l
        factors = (math.sqrt(2.0) / self._factors.to(logs)).log()
        columns[..., choices] = own[..., self._owner.to(logs.device)] + factors
        return columns

    def term_factors(self, logs: Tensor, uniform: Tensor) -> Tensor:
        """Draw terms of the sum; return factors ``(..., R, d)`` of frequencies in each column.

        A column on which the term does not depend has the factor 0.

        Args:
            logs: Hyperparameters, shape ``(..., h)``.
            uniform: Uniform numbers in [0, 1), shape ``(R,)``.
        """
        numeric, choices = (column.to(logs.device) for column in self._columns)
        owner, count = self._owner.to(logs.device), self._sizes[1]
        _, own, weights = self._split(logs)
        # Sections of [0, 1): the numeric term, the offsets of each choice, the product.
        shares = weights if self._sizes[0] else torch.nn.functional.pad(weights, (1, 0))
        ends = shares.cumsum(-1)[..., :-1].unsqueeze(-2)  # (..., 1, 1 + c)
        term = (uniform[:, None] >= ends).sum(-1)  # 0 numeric, p + 1 choice p, c + 1 product
        product = (term == count + 1).to(logs)
        factors = logs.new_zeros(*term.shape, self.structure.dim)
        factors[..., numeric] = ((term == 0).to(logs) + product)[..., None]
        # At the shortest lengthscale, the squared exponential is almost [c = c'].
        shorter = (own.exp() / _MIN_LENGTHSCALE)[..., owner].unsqueeze(-2)
        offsets = (term[..., None] == owner + 1).to(logs) * shorter
        factors[..., choices] = offsets + product[..., None]
        return factors

    @cached_property
    def _sharing(self) -> Tensor:
        """Position of each hyperparameter in the shared ones, shape ``(h,)``."""
        numbers, choices = self._sizes
        sizes = [numbers, choices, 1 if numbers else 0, choices]
        groups = [size for size in sizes if size]
        return torch.arange(len(groups)).repeat_interleave(torch.tensor(groups))

    @property
    def _logits(self) -> int:
        """Number of logits."""
        numbers, choices = self._sizes
        return choices + (1 if numbers else 0)

    def _parts(self, logs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log lengthscales of numbers and of choices, and the logits."""
        numbers, choices = self._sizes
        end = numbers + choices
        return logs[..., :numbers], logs[..., numbers:end], logs[..., end:]

    def _split(self, logs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the log lengthscales of numbers and of choices, and the weights."""
        numbers, own, logits = self._parts(logs)
        padded = torch.cat([logits, logits.new_zeros(*logits.shape[:-1], 1)], -1)
        return numbers, own, padded.softmax(-1)

    def _embed(self, inputs: Tensor) -> Tensor:
        """Return the embedding of the choices, shape ``(..., e)``."""
        factors = self._factors.to(inputs)
        columns = inputs[..., self._columns[1].to(inputs.device)]
        return torch.where(factors == 1.0, columns, factors * (columns - 0.5))

    def _numeric_share(self, cache: MixedCache) -> Tensor:
        """Return the factor of k_x in the kernel, ``(..., n, m)``."""
        weights = cache.weights[..., None, None]
        share = weights[..., -1, :, :] * cache.product
        return share + weights[..., 0, :, :] if self._sizes[0] else share

    def _mismatch(self, sizes: Tensor, left: Tensor, right: Tensor) -> Tensor:
        """Return the sum of ``sizes`` ``(..., c)`` over choices that differ, ``(..., n, m)``."""
        # [c != c'] = s - e.e', so that one matrix product suffices
        total = (sizes * self._squares.to(sizes)).sum(-1)[..., None, None]
        scaled = left * sizes[..., self._owner.to(sizes.device)].unsqueeze(-2)
        return (total - scaled @ right.transpose(-1, -2)).clamp_(min=0.0)

    def _mismatches(self, upstream: Tensor, cache: MixedCache) -> Tensor:
        """Return the sum of upstream over the pairs that differ in each choice, ``(..., c)``."""
        equal = (cache.left * (upstream @ cache.right)).sum(-2)
        owner = self._owner.to(equal.device)
        total = equal.new_zeros(*equal.shape[:-1], self._sizes[1]).index_add(-1, owner, equal)
        return upstream.sum((-2, -1))[..., None] * self._squares.to(upstream) - total
