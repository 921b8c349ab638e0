"""Distance of modelled outputs from targets, in tolerances; numpy only."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from bo_invert.types import Array, Indices, Mask

_BLOCK = 2**16
"""Number of excesses that are computed at once. Engineering choice: half a megabyte."""


@dataclass(frozen=True, eq=False)
class TargetDistance:
    """Excesses of modelled outputs over the intervals of t targets.

    The excess of entry e is ``max(l_e - f, f - u_e) / unit_e`` with the wanted interval [l, u],
    and its negative with an interval to avoid. An entry is met if its excess is at most 0, and
    the target if the largest excess is. A point y with a tolerance has ``|f - y| / tolerance - 1``.

    Args:
        columns: Modelled output of each of the e entries, shape ``(e,)``.
        lower: Lower ends, -infinite for open ones, shape ``(t, e)``.
        upper: Upper ends, shape ``(t, e)``.
        avoided: Mask of the intervals to avoid, shape ``(e,)``.
        units: Tolerances, in the units of the outputs, shape ``(e,)``.
        wanted: Number of entries of the target; outcome constraints follow.
        rigour: Factor of the excesses over outcome constraints and of failures. A large one keeps
            the nearest outputs feasible.
        slack: Amounts by which outputs may be nearer to the targets than drawn functions, in
            tolerances, shape ``(t, e)`` or broadcast to it.
    """

    columns: Indices
    lower: Array
    upper: Array
    avoided: Mask
    units: Array
    wanted: int
    rigour: float = 1.0
    slack: Array = field(default_factory=lambda: np.zeros((1, 1)))

    def excesses(self, values: Array, targets: Indices) -> tuple[Array, Array]:
        """Return excesses ``(..., e)`` and their derivatives by the outputs, ``(..., e)``.

        Args:
            values: Modelled outputs, shape ``(..., c)``.
            targets: Number of the target of each row, shape ``(...)`` or broadcast to it.
        """
        own = values[..., self.columns]
        below, above = self.lower[targets] - own, own - self.upper[targets]
        upwards = above >= below
        signs = np.where(self.avoided, -1.0, 1.0) / self.units * self.factors
        excess = np.where(upwards, above, below) * signs
        return excess, np.where(upwards, signs, -signs)

    def largest(self, values: Array, target: int = 0, slack: Array | float = 0.0) -> Array:
        """Return the largest excess ``(...)`` of modelled outputs ``(..., c)`` over one target.

        Args:
            values: Modelled outputs, shape ``(..., c)``.
            target: Number of the target.
            slack: Amounts that excesses are reduced by, shape ``(e,)``.
        """
        rows = values.reshape(-1, values.shape[-1])
        found = np.full(len(rows), -np.inf)
        signs = np.where(self.avoided, -1.0, 1.0) / self.units * self.factors
        # Blocks that fit into the cache; hundreds of outputs would be limited by memory.
        size = max(1, _BLOCK // max(1, len(self.columns)))
        for start in range(0, len(rows), size):
            block = slice(start, start + size)
            own = rows[block][:, self.columns]
            excess = np.maximum(self.lower[target] - own, own - self.upper[target])
            excess *= signs
            excess -= slack
            found[block] = excess.max(-1)
        return found.reshape(values.shape[:-1])

    def slacks(self, targets: Indices, drawn: Mask) -> Array:
        """Return the slack ``(..., e)`` of each row, 0 for the mean.

        Args:
            targets: Number of the target of each row, shape ``(...)``.
            drawn: Mask of the rows of drawn functions, shape ``(...)``.
        """
        shape = (len(self.lower), len(self.units))
        own = np.broadcast_to(self.slack, shape)[targets] * self.factors
        return np.where(drawn[..., None], own, 0.0)

    @property
    def factors(self) -> Array:
        """Factors of the excesses, shape ``(e,)``: 1 for the target, else the rigour."""
        return np.where(np.arange(len(self.units)) < self.wanted, 1.0, self.rigour)
