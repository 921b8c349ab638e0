"""Log expected improvement of the distance from ranges and intervals to avoid, without sampling.

The moment generating function of a squared distance from a range has a closed form. A saddle point
approximates the expected improvement of a sum of such distances, as in ``target_ei``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bo_invert.models.acquisition.target_ei import newton_saddle

_NEWTON_STEPS = 25
"""Largest number of Newton steps for the saddle point. Engineering choice: bounds the cost."""
_OPEN = 50.0
"""Distance of an open end from the mean in standard deviations. Engineering choice: the probability
beyond it is 1e-545."""


class Ranges(NamedTuple):
    """Ranges of t values, and intervals to avoid.

    Args:
        lower: Lower ends, -infinite at open ends, shape ``(t,)``.
        upper: Upper ends, shape ``(t,)``.
        avoided: Mask of the intervals to avoid, shape ``(t,)``.
    """

    lower: Tensor
    upper: Tensor
    avoided: Tensor

    def squared_distances(self, values: Tensor) -> Tensor:
        """Return squared distances from ranges, or depths in intervals, of values ``(..., t)``."""
        outside = torch.maximum(self.lower - values, values - self.upper).clamp(min=0.0)
        inside = torch.minimum(values - self.lower, self.upper - values).clamp(min=0.0)
        return torch.where(self.avoided, inside, outside).square()


def log_range_distance_ei(mean: Tensor, std: Tensor, ranges: Ranges, square: Tensor) -> Tensor:
    """Return log E[max(square - sum_i D_i^2, 0)] of distances D_i of independent normal values.

    D_i is the distance from a range, or the depth in an interval to avoid. The expectation is
    int exp(theta c) M(-theta) / theta^2 dtheta / (2 pi i) along a vertical line, with c =
    ``square`` and M the product of the moment generating functions M_i(-theta) = E exp(-theta
    D_i^2). It is approximated at the saddle point (Daniels 1954), with an error of a few percent.

    A normal value with mean m and variance s is split in pieces: D = 0, and one piece on each side
    of an end, in which D = x with value - m = +-(x + r), 0 <= x <= l. With q = 1 + 2 theta s,

        E[exp(-theta D^2); piece] = q^(-1/2) exp(-theta r^2 / q) P(0 <= x <= l),

    with x normal with mean -r / q and variance s / q.

    Args:
        mean: Means, shape ``(..., t)``.
        std: Standard deviations > 0, shape ``(..., t)``.
        ranges: Ranges of the values.
        square: Squared distance of the incumbent > 0, broadcast to ``(...)``.
    """
    pieces = _pieces(mean, std, ranges)
    c = square.expand(mean.shape[:-1])
    with torch.no_grad():
        theta = _saddle(pieces, c)
    _, slope, bend = _derivatives(pieces, c, theta)
    # One more Newton step: its length is 0, but it carries the gradient of the saddle point.
    theta = theta - slope / bend.detach()
    log_mgf, _, bend = _derivatives(pieces, c, theta)
    exponent = theta * c + log_mgf - 2.0 * theta.log()
    log: Tensor = exponent - 0.5 * (2.0 * math.pi * bend).log()
    return log


class _Pieces(NamedTuple):
    """Pieces of normal values with a distance: two for each of t entries.

    Args:
        log_zero: Log probability of the distance 0, shape ``(..., t)``.
        reach: Distance r from the mean to the end of the piece, shape ``(..., t, 2)``.
        length: Length l of the piece, shape ``(..., t, 2)``.
        std: Standard deviations, shape ``(..., t, 1)``.
    """

    log_zero: Tensor
    reach: Tensor
    length: Tensor
    std: Tensor


def _pieces(mean: Tensor, std: Tensor, ranges: Ranges) -> _Pieces:
    far, avoided = _OPEN * std, ranges.avoided
    lower = torch.where(ranges.lower.isfinite(), ranges.lower, mean - far)
    upper = torch.where(ranges.upper.isfinite(), ranges.upper, mean + far)
    low, high = (lower - mean) / std, (upper - mean) / std
    # Logarithms of small differences need both arguments in the lower tail.
    flip = low + high > 0.0
    near, other = torch.where(flip, -low, high), torch.where(flip, -high, low)
    between = _log_difference(near, other)
    beyond = torch.logaddexp(torch.special.log_ndtr(low), torch.special.log_ndtr(-high))
    log_zero = torch.where(avoided, beyond, between)
    # Outside of a range, x grows away from it; in an interval, towards its middle.
    reach = torch.stack(
        [
            torch.where(avoided, lower - mean, mean - lower),
            torch.where(avoided, mean - upper, upper - mean),
        ],
        -1,
    )
    length = torch.where(avoided, 0.5 * (upper - lower), 4.0 * far + (upper - mean).abs())
    length = torch.maximum(length, torch.where(avoided, length, 4.0 * far + (mean - lower).abs()))
    return _Pieces(log_zero, reach, length.unsqueeze(-1), std.unsqueeze(-1))


def _derivatives(pieces: _Pieces, c: Tensor, theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log M(-theta), and the first and second derivative of the exponent in theta."""
    t = theta[..., None, None]
    q = 1.0 + 2.0 * t * pieces.std**2
    centre, own = -pieces.reach / q, pieces.std / q.sqrt()
    # P(0 <= x <= l) in logarithms, as a difference in the lower tail
    first, last = centre / own, (pieces.length - centre) / own
    flip = first - last > 0.0
    log_share = _log_difference(torch.where(flip, last, first), torch.where(flip, -first, -last))
    log_piece = log_share - t * pieces.reach**2 / q - 0.5 * q.log()
    every = torch.cat([pieces.log_zero.unsqueeze(-1), log_piece], -1)
    log_mgf = every.logsumexp(-1)
    weights = (log_piece - log_mgf.unsqueeze(-1)).exp()
    # Moments of a truncated normal: E x^k = m E x^(k-1) + (k-1) s E x^(k-2) - ends
    start = own * (-0.5 * first**2 - 0.5 * math.log(2.0 * math.pi) - log_share).exp()
    end = own * (-0.5 * last**2 - 0.5 * math.log(2.0 * math.pi) - log_share).exp()
    one = centre + start - end
    two = centre * one + own**2 - pieces.length * end
    three = centre * two + 2.0 * own**2 * one - pieces.length**2 * end
    four = centre * three + 3.0 * own**2 * two - pieces.length**3 * end
    second = (weights * two.clamp(min=0.0)).sum(-1)
    fourth = (weights * four.clamp(min=0.0)).sum(-1)
    slope = c - second.sum(-1) - 2.0 / theta
    bend = (fourth - second**2).clamp(min=0.0).sum(-1) + 2.0 / theta**2
    return log_mgf.sum(-1), slope, bend


def _saddle(pieces: _Pieces, c: Tensor) -> Tensor:
    """Return the saddle point theta of the expectation."""
    # The slope is negative at theta = 2 / c. With E x^2 <= 2 (r^2 / q^2 + s / q) in each piece, it
    # is positive where c - (t + 2) / theta - sum(r^2 / (2 s^2)) / theta^2 vanishes.
    outside = (pieces.reach.clamp(max=0.0) / pieces.std**2).square().amax(-1).sum(-1)
    half = 0.5 * pieces.log_zero.shape[-1] + 1.0
    high = ((half + (half * half + 0.5 * c * outside).sqrt()) / c).log()
    return newton_saddle(lambda theta: _derivatives(pieces, c, theta)[1:], c, high, _NEWTON_STEPS)


def _log_difference(above: Tensor, below: Tensor) -> Tensor:
    """Return log(Phi(above) - Phi(below)) for above >= below, at least log(1e-30 Phi(above))."""
    log = torch.special.log_ndtr(above)
    # 60 standard deviations below, the share is below 1e-700; the slope of log Phi would overflow.
    low = torch.special.log_ndtr(torch.maximum(below, above - 60.0))
    difference: Tensor = log + (-torch.expm1((low - log).clamp(max=-1e-30))).log()
    return difference
