"""Outputs that meet a target and the outcome constraints, and their probability under a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.target import Target

_SMALLEST = 1e-12
"""Least difference of two log probabilities, dimensionless. Engineering choice: avoids log 0."""


@dataclass(frozen=True, eq=False)
class TargetRegion:
    """Intervals of the modelled outputs that meet a target and all outcome constraints.

    Args:
        columns: Modelled output of each of the e entries, shape ``(e,)``.
        lower: Lower ends, -infinite for open ones, shape ``(e,)``.
        upper: Upper ends, shape ``(e,)``.
        avoided: True for an entry whose interval is to be avoided, shape ``(e,)``.
        noise: Standard deviation of the measurement noise of each entry, shape ``(e,)``; 0 for a
            tolerance.
    """

    columns: Tensor
    lower: Tensor
    upper: Tensor
    avoided: Tensor
    noise: Tensor

    @staticmethod
    def of(
        outputs: ModelledOutputs, tolerance: float = 0.0, noise: tuple[float, ...] = ()
    ) -> TargetRegion:
        """Return the region of the target of a problem.

        Args:
            outputs: Modelled outputs of a problem whose objective is a ``Target``.
            tolerance: Tolerance of the points of the target, in the units of the outputs. Used if
                the target has none of its own.
            noise: Standard deviations of the measurement noise of the wanted entries.
        """
        target = outputs.statement.objective
        assert isinstance(target, Target)
        entries = target.entries
        # Ranges need no tolerance, so the default is for numbers.
        widths = [
            own or (tolerance if low == high else 0.0)
            for own, low, high in zip(target.tolerances, entries.lower, entries.upper, strict=True)
        ]
        columns = [outputs.column(index) for index in target.indices]
        # A tolerance widens the intervals that are wanted, and narrows those to avoid.
        room = [
            -width if avoided else width
            for width, avoided in zip(widths, entries.avoided, strict=True)
        ]
        lower = [low - extra for low, extra in zip(entries.lower, room, strict=True)]
        upper = [high + extra for high, extra in zip(entries.upper, room, strict=True)]
        avoided = list(entries.avoided)
        for column, sense, bound in outputs.constraint_bounds(torch.zeros(1).double()):
            columns.append(column)
            lower.append(-math.inf if sense > 0 else float(bound[column]))
            upper.append(float(bound[column]) if sense > 0 else math.inf)
            avoided.append(False)
        spread = [*noise, *[0.0] * (len(columns) - len(noise))]
        low, high = (torch.tensor(values, dtype=torch.float64) for values in (lower, upper))
        return TargetRegion(
            torch.tensor(columns), low, high, torch.tensor(avoided),
            torch.tensor(spread, dtype=torch.float64),
        )  # fmt: skip

    def contains(self, values: Tensor) -> Tensor:
        """Return the mask ``(...)`` of modelled outputs ``(..., c)`` inside the region."""
        own = values[..., self.columns]
        inside = (own >= self.lower) & (own <= self.upper)
        return (inside ^ self.avoided).all(-1)

    def excess(self, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
        """Return how far outputs are outside the region, and the slopes by them, ``(..., e)`` each.

        The unit of an entry is the half width of its interval plus a standard deviation. Values
        above an interval are positive, those below it negative. In an interval to avoid, it is the
        distance from the nearer end. Inside the region, excess and slope are 0.

        Args:
            mean: Modelled outputs, shape ``(..., c)``.
            std: Their standard deviations, shape ``(..., c)``.
        """
        own, half = mean[..., self.columns], 0.5 * (self.upper - self.lower)
        half = torch.where(torch.isfinite(half) & ~self.avoided, half, 0.0)
        scale = (half + std[..., self.columns]).clamp(min=_SMALLEST)
        above, below = (own - self.upper).clamp(min=0.0), (self.lower - own).clamp(min=0.0)
        inside = (own > self.lower) & (own < self.upper)
        nearer = torch.where(
            own - self.lower < self.upper - own, own - self.lower, own - self.upper
        )
        outside = torch.where(self.avoided, inside, (above > 0.0) | (below > 0.0))
        excess = torch.where(self.avoided, nearer, above - below)
        none = torch.zeros_like(scale)
        return torch.where(outside, excess / scale, none), torch.where(outside, 1.0 / scale, none)

    def log_acceptance(self, mean: Tensor, std: Tensor, widen: Tensor | None = None) -> Tensor:
        """Return log probabilities ``(...)`` that normal outputs lie in the region.

        ``log a = sum_j log(Phi((u_j - mu_j) / s_j) - Phi((l_j - mu_j) / s_j))``. An entry with
        measurement noise r has the term ``log N(y_j; mu_j, s_j^2 + r_j^2) - log N(0; 0, r_j^2)``
        instead, with the middle y of its interval.

        Args:
            mean: Means of the modelled outputs, shape ``(..., c)``.
            std: Standard deviations, shape ``(..., c)``.
            widen: Amounts by which intervals grow at both ends, shape ``(e,)``.
        """
        centre, spread = mean[..., self.columns], std[..., self.columns]
        extra = torch.zeros_like(self.lower) if widen is None else widen
        extra = torch.where(self.avoided, -extra, extra)
        low = (self.lower - extra - centre) / spread
        high = (self.upper + extra - centre) / spread
        terms = log_probability(low, high)
        if bool(self.avoided.any()):
            terms = torch.where(self.avoided, log_complement(terms), terms)
        if bool(self.noise.any()):
            variance = self.noise.square()
            both = variance + spread.square()
            gap = 0.5 * (self.lower + self.upper) - centre
            noisy = 0.5 * (torch.log(variance / both) - gap.square() / both)
            terms = torch.where(self.noise > 0.0, noisy, terms)
        total_log: Tensor = terms.sum(-1)
        return total_log

    def acceptance(self, mean: Tensor, std: Tensor) -> Tensor:
        """Return probabilities ``(...)`` that normal outputs lie in the region.

        They are the exponentials of ``log_acceptance``, without its accuracy below 1e-16, at a
        fraction of its cost.

        Args:
            mean: Means of the modelled outputs, shape ``(..., c)``.
            std: Standard deviations, shape ``(..., c)`` or broadcast to it.
        """
        if bool(self.noise.any()):
            return self.log_acceptance(mean, std).exp()
        centre, spread = mean[..., self.columns], std[..., self.columns]
        low, high = (self.lower - centre) / spread, (self.upper - centre) / spread
        inside = torch.special.ndtr(high) - torch.special.ndtr(low)
        if bool(self.avoided.any()):
            inside = torch.where(self.avoided, 1.0 - inside, inside)
        found: Tensor = inside.prod(-1)
        return found


def log_complement(log: Tensor) -> Tensor:
    """Return log(1 - exp(log)) for log probabilities."""
    return torch.log(-torch.expm1(log.clamp(max=-_SMALLEST)))


def log_probability(low: Tensor, high: Tensor) -> Tensor:
    """Return log(Phi(high) - Phi(low)) without cancellation in the tails, for low <= high."""
    # In the upper tail, the symmetric interval of the lower tail has the same probability.
    upper_tail = low > 0.0
    first, last = torch.where(upper_tail, -high, low), torch.where(upper_tail, -low, high)
    log_first, log_last = torch.special.log_ndtr(first), torch.special.log_ndtr(last)
    gap = (log_first - log_last).clamp(max=-_SMALLEST)
    result: Tensor = log_last + torch.log(-torch.expm1(gap))
    return result
