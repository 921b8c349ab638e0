"""Objective of an inversion: distance of outputs from a target."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.rounding import snapped
from bo_invert.errors import InvalidInputError, printable
from bo_invert.objectives.base import Objective, Tensor, output_columns, output_position
from bo_invert.objectives.target_entries import TargetEntries
from bo_invert.types import JSON, Array
from bo_invert.user_code import DeviceConstants

Range = tuple[float | None, float | None]
"""Range of values; None for an open end."""


@dataclass(frozen=True, init=False)
class Target(Objective):
    """Objective of an inversion: mean squared distance from a target.

    ``loss(y) = sum_i w_i r_i^2 / sum_i w_i``, over the wanted values and the intervals to avoid,
    with the weights w (default 1) and the residuals

    - ``r_i = (y_i - value_i) / scale_i`` of a number,
    - ``r_i = (max(y_i - high_i, 0) - max(low_i - y_i, 0)) / scale_i`` of a range, which is 0
      inside of it,
    - ``r_i = max(min(y_i - low_i, high_i - y_i), 0) / scale_i`` of an interval to avoid: the
      distance to its nearer end, 0 outside of it.

    Args:
        value: a number, a vector, or ``{"output name": number}``. Instead of a number, a range
            ``(low, high)`` allows all values in it; None is an open end: ``(0.8, None)`` means at
            least 0.8.
        tolerance: largest distance of every output from its number or range at which a run stops,
            in units of the outputs: one number, one per entry, or by name. With 0 for all entries
            a run uses the whole budget, unless all are ranges or intervals to avoid: it then stops
            when all are met. 0 for some entries requires them exactly. Names of ranges and
            intervals to avoid may be omitted, which is 0.
        scale: unit of the distance, one number, one per entry, or by name.
        output: name of the output of a single number or range.
        weights: weight of each entry, a vector or by name; default 1.
        avoid: intervals to avoid, ``{"output name": (low, high)}``.
    """

    value: tuple[float | tuple[float | None, float | None], ...]
    tolerances: tuple[float, ...]
    scale: tuple[float, ...]
    outputs: tuple[str, ...]
    indices: tuple[int, ...]
    weights: tuple[float, ...]
    entries: TargetEntries
    structured = True

    def __init__(
        self,
        value: ArrayLike | Range | Sequence[float | Range] | Mapping[str, float | Range] = (),
        tolerance: ArrayLike | Mapping[str, float] = 0.0,
        scale: ArrayLike | Mapping[str, float] = 1.0,
        output: str | None = None,
        *,
        weights: ArrayLike | Mapping[str, float] = 1.0,
        avoid: Mapping[str, tuple[float, float]] | None = None,
    ) -> None:
        entries = TargetEntries.read(value, avoid, output)
        ends = zip(entries.lower[: entries.wanted], entries.upper, strict=False)
        # The class is frozen, so attributes are set in its dictionary.
        vars(self).update(
            value=tuple(low if low == high else (low, high) for low, high in ends),
            tolerances=entries.tolerances(tolerance), scale=entries.numbers("scale", scale),
            outputs=entries.names, indices=tuple(range(entries.count)),
            weights=entries.numbers("weights", weights), entries=entries,
        )  # fmt: skip

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(self.outputs))

    @property
    def size(self) -> int | None:
        return self.entries.wanted

    @property
    def points(self) -> bool:
        """True if it consists of numbers, without ranges and intervals to avoid."""
        return self.entries.points

    @property
    def tolerance(self) -> float | tuple[float, ...]:
        """Tolerance of all entries as one number; one number per entry if they differ."""
        return self.tolerances[0] if len(set(self.tolerances)) == 1 else self.tolerances

    @property
    def satisfiable(self) -> bool:
        ends = zip(self.entries.lower, self.entries.upper, strict=True)
        return max(self.tolerances) > 0 or all(low < high for low, high in ends)

    @cached_property
    def units(self) -> tuple[float, ...]:
        """Units u of the entries: ``loss = mean_i (d_i / u_i)^2`` of the distances d.

        They are the scales, divided by ``sqrt(k w_i / sum(w))`` for different weights.
        """
        if len(set(self.weights)) == 1:
            return self.scale
        weights = np.array(self.weights)
        return tuple((np.array(self.scale) / np.sqrt(weights / weights.mean())).tolist())

    def bind(self, outputs: Sequence[str]) -> Target:
        wanted = self.entries.wanted
        unnamed = wanted - (len(self.outputs) - (self.entries.count - wanted))
        if unnamed and wanted != len(outputs):
            remedy = (
                "give one value per output, or name the outputs you mean: Target({'name': value})"
            )
            if wanted == 2 and len(outputs) == 1:
                given = {outputs[0]: self.entries.lower}
                remedy = f"write a range of one output with its name: Target({given})"
            raise InvalidInputError(
                f"{self}: the target has {wanted} value{'s' * (wanted != 1)}, "
                f"the oracle has outputs {list(outputs)}; {remedy}"
            )
        bound = copy.copy(self)  # ``replace`` fails, because fields differ from arguments
        named = tuple(output_position(name, outputs, str(self)) for name in self.outputs)
        vars(bound)["indices"] = (*range(unnamed), *named)
        return bound

    def residuals(self, y: Tensor) -> Tensor:
        """Compute the residuals of the entries ``(..., k)``, in units of ``units``."""
        host = isinstance(y, np.ndarray)
        picked = y[..., list(self.indices)] if host else output_columns(y, self.indices)
        if self.points:
            value, units = self._points.of(picked)
            return (picked - value) / units
        return self._distances(picked) / self._points.of(picked)[1]

    def smooth_residuals(self, y: Array) -> tuple[Array, Array]:
        """Divide the residuals of outputs ``(n, m)`` into smooth ones and excesses.

        The loss is proportional to the sum of the squares of the first and of the positive parts of
        the others.

        Returns:
            Residuals of numbers and of intervals to avoid ``(n, k)``, and excesses over the finite
            ends of ranges ``(n, p)``.
        """
        entries, units = self.entries, np.array(self.units)
        lower, upper = np.array(entries.lower), np.array(entries.upper)
        ranges = (lower < upper) & ~np.array(entries.avoided)
        picked = y[..., list(self.indices)]
        ends = [((lower - picked) / units, lower), ((picked - upper) / units, upper)]
        beyond = [excess[:, ranges & np.isfinite(end)] for excess, end in ends]
        return np.asarray(self.residuals(y))[:, ~ranges], np.column_stack(beyond)

    def loss(self, y: Tensor) -> Tensor:
        return (self.residuals(y) ** 2).mean(-1)

    def distance(self, y: Tensor) -> Tensor:
        """Compute the distance ``(...)``, the square root of the loss, of outputs ``(..., m)``."""
        loss = self.loss(y)
        # The gradient of a root is infinite at 0.
        return np.sqrt(loss) if isinstance(loss, (np.ndarray, float)) else (loss + 1e-24).sqrt()

    def satisfied(self, y: Tensor) -> bool:
        if not self.satisfiable:
            return False
        entries = self.entries
        for i, low, high, avoided, tolerance in zip(
            self.indices, entries.lower, entries.upper, entries.avoided, self.tolerances,
            strict=True,
        ):  # fmt: skip
            if avoided:
                inside = min(float(y[i]) - low, high - float(y[i])) > tolerance
                if inside and snapped(float(y[i]), low, high) not in (low, high):
                    return False
            elif not (
                low - tolerance
                <= snapped(float(y[i]), low - tolerance, high + tolerance)
                <= high + tolerance
            ):
                return False
        return True

    def within(self, y: Tensor, times: float = 1.0) -> Tensor:
        """Return the mask ``(...)`` of outputs ``(..., m)`` within the tolerance of all entries.

        Args:
            y: Raw outputs.
            times: Factor of the tolerances.
        """
        host = isinstance(y, np.ndarray)
        picked = y[..., list(self.indices)] if host else output_columns(y, self.indices)
        return (abs(self._distances(picked)) <= times * self._tolerances.of(picked)[0]).all(-1)

    def to_json(self) -> JSON:
        entries = self.entries
        found: dict[str, JSON] = {
            "type": "target", "value": entries.value_json,
            "tolerance": self.tolerance if len(set(self.tolerances)) == 1 else [*self.tolerances],
            "scale": list(self.scale), "outputs": list(entries.wanted_names),
        }  # fmt: skip
        if len(set(self.weights)) > 1:
            found["weights"] = list(self.weights)
        if entries.wanted < entries.count:
            found["avoid"] = entries.avoid_json
        return found

    def __str__(self) -> str:
        if self.points:
            shown = [str(one) for one in self.value]
        else:
            unnamed = len(self.texts) - len(self.outputs)
            names = ["" for _ in range(unnamed)] + [f"{name} " for name in self.outputs]
            shown = [name + text for name, text in zip(names, self.texts, strict=True)]
        return printable(f"Target({', '.join(shown if len(shown) < 6 else [*shown[:5], '...'])})")

    @property
    def texts(self) -> tuple[str, ...]:
        """Entries in words, such as ``0.5``, ``>= 0.8`` or ``avoid 1 to 2``."""
        entries, texts = self.entries, []
        for low, high, avoided in zip(entries.lower, entries.upper, entries.avoided, strict=True):
            text = f"{low:.4g} to {high:.4g}"
            if low == high:
                text = f"{low:.4g}"
            elif not np.isfinite(low) or not np.isfinite(high):
                text = f"<= {high:.4g}" if np.isfinite(high) else f">= {low:.4g}"
            texts.append(f"avoid {text}" if avoided else text)
        return tuple(texts)

    def nearest(self, low: Array, high: Array) -> Array:
        """Return the least distance of each entry ``(k,)`` in intervals of outputs ``(k,)``."""
        entries = self.entries
        gap = np.maximum(np.array(entries.lower) - high, low - np.array(entries.upper))
        # An interval to avoid is met at one of its ends, unless all outputs lie inside.
        inside = np.minimum(low - np.array(entries.lower), np.array(entries.upper) - high)
        return np.asarray(np.maximum(np.where(entries.avoided, inside, gap), 0.0))

    def _distances(self, picked: Tensor) -> Tensor:
        """Compute the signed distances ``(..., k)`` of the outputs of the entries ``(..., k)``."""
        lower, upper, middle, half = self._ranges.of(picked)
        outside = (picked - upper).clip(0.0) - (lower - picked).clip(0.0)
        return outside + (half - abs(picked - middle)).clip(0.0)

    @cached_property
    def _points(self) -> _Constants:
        value = self.value if self.points else np.zeros(self.entries.count)
        return _Constants(np.array(value), np.array(self.units))

    @cached_property
    def _tolerances(self) -> _Constants:
        return _Constants(np.array(self.tolerances))

    @cached_property
    def _ranges(self) -> _Constants:
        lower, upper = np.array(self.entries.lower), np.array(self.entries.upper)
        avoided = np.array(self.entries.avoided)
        # An interval to avoid has no range, and a range has no interval to avoid.
        wanted = np.where(avoided, -np.inf, lower), np.where(avoided, np.inf, upper)
        lower, upper = np.where(avoided, lower, 0.0), np.where(avoided, upper, 0.0)
        return _Constants(*wanted, 0.5 * (lower + upper), 0.5 * (upper - lower))


class _Constants:
    """Arrays of constants as arrays of numpy, or as tensors like another one."""

    def __init__(self, *arrays: Array) -> None:
        self._arrays = arrays
        self._tensors = DeviceConstants(*arrays)

    def of(self, y: Tensor) -> tuple[Tensor, ...]:
        """Return the constants for outputs y."""
        return self._arrays if isinstance(y, np.ndarray) else self._tensors.like(y)
