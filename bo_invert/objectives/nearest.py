"""Objective of a least change: the design nearest to a given one that reaches a target."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.change import Change
from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError, printable
from bo_invert.objectives.base import Tensor
from bo_invert.objectives.outcome_constraint import OutcomeConstraint
from bo_invert.objectives.single_output import OneOutput
from bo_invert.objectives.target import Target
from bo_invert.types import JSON, Array, Design
from bo_invert.user_data import real_vector
from bo_invert.user_tables import record

CHANGE = "change"
"""Name of the output that holds the change of a design."""


class Nearest(OneOutput):
    """Objective of a least change: the smallest change of a design x0 that reaches a target.

    The loss is the change d of a design, which the problem computes without a call and appends to
    the outputs as ``"change"``. The target within its tolerance is an outcome constraint on each
    of its outputs, so a design that misses it is not feasible, and ``study.best`` is the hit with
    the least change. With the differences r from x0 in units of the ranges ``high - low``,

        ``d(x) = sqrt(sum_j w_j^2 r_j^2)``.

    A choice counts as 1 if it changes. With ``few=True`` the loss is ``k + d / (1 + d)`` with the
    number k of changed parameters: fewer changes come first, then the distance.

    Args:
        x0: design of the space, inside its bounds; it may violate input constraints. A latent
            needs an encoder; without one pass ``point``.
        target: wanted outputs with a tolerance or ranges, without intervals to avoid.
        weights: weight of each parameter, >= 0, one for all, one per parameter or by name; default
            1. A large weight keeps a parameter near its value.
        few: prefer few changed parameters.
        point: coordinates of x0 in the domain, shape ``(d,)``, instead of ``x0``.

    Raises:
        InvalidInputError: the target has neither tolerance nor ranges, or intervals to avoid; x0 is
            no design of the space; or weights do not fit.
    """

    def __init__(
        self,
        x0: Design,
        target: Target,
        weights: ArrayLike | Mapping[str, float] | None = None,
        few: bool = False,
        *,
        point: ArrayLike | None = None,
    ) -> None:
        super().__init__(CHANGE)
        if not isinstance(target, Target):
            raise InvalidInputError(
                f"Nearest: target must be a Target, got {target!r:.80}. Write Nearest(x0, "
                "Target(value, tolerance=...))"
            )
        points = [low == high and not room for low, high, room in _ends(target)]
        if any(points) or target.entries.wanted < target.entries.count:
            raise InvalidInputError(
                f"Nearest: target must have a tolerance for every number and no intervals to "
                f"avoid, got {target}. Write Target(value, tolerance=...)"
            )
        if (x0 is None) == (point is None):
            raise InvalidInputError("Nearest: either x0 or point must be given, got both or none")
        vars(self).update(  # the class is frozen
            x0=x0, target=target, weights=weights, few=bool(few), change=None,
            point=None if point is None else real_vector("Nearest", "point", point),
        )  # fmt: skip

    exhausted_text = "no query is expected to find a smaller change that reaches the target"
    x0: Design
    target: Target
    weights: Any
    few: bool
    point: Array | None
    change: Change | None
    """Measure of the change; None before a problem has located x0 in its space."""

    @property
    def names(self) -> tuple[str, ...]:
        return self.target.names

    @property
    def size(self) -> int | None:
        return self.target.size

    def located(self, domain: Domain, encode: Callable[[Sequence[Design]], Array]) -> Nearest:
        """Return a copy that knows the point of x0.

        Args:
            domain: domain of the space.
            encode: function from designs to points ``(n, d)``.

        Raises:
            InvalidInputError: x0 is no design of the space, or weights do not fit its parameters.
        """
        point = self.point
        if point is None:
            try:
                point = np.asarray(encode([self.x0]), dtype=float)[0]
            except InvalidInputError as error:
                raise InvalidInputError(
                    f"Nearest: x0 must be a design of the space, got {self.x0!r:.80}: {error}"
                ) from None
        if point.shape != (domain.dim,):
            raise InvalidInputError(
                f"Nearest: point must have {domain.dim} coordinates, got {point.size}"
            )
        if self.few and not domain.parameters:
            raise InvalidInputError(
                "Nearest: few must be False in a latent, whose coordinates have no meaning of "
                "their own, got True"
            )
        found = copy.copy(self)
        weights = self._weights(domain.parameters)
        weights = weights if domain.parameters else np.repeat(weights, domain.dim)
        vars(found)["change"] = Change(domain, point, weights, self.few)
        return found

    def bounds(self, outputs: Sequence[str]) -> tuple[OutcomeConstraint, ...]:
        """Return the outcome constraints of the target, for the named outputs of an oracle."""
        target, found = self.target.bind(outputs), []
        for index, (low, high, room) in zip(target.indices, _ends(target), strict=True):
            for sense, end in (">=", low - room), ("<=", high + room):
                if np.isfinite(end):
                    found.append(OutcomeConstraint(outputs[index], sense, end))
        return tuple(found)

    def without_bounds(
        self, constraints: Sequence[OutcomeConstraint], outputs: Sequence[str]
    ) -> tuple[OutcomeConstraint, ...]:
        """Return the outcome constraints of a problem that are not those of the target."""
        own = self.bounds(outputs)
        return tuple(one for one in constraints if replace(one, index=0) not in own)

    def bind(self, outputs: Sequence[str]) -> Nearest:
        bound = copy.copy(self)
        own = [name for name in outputs if name != CHANGE]
        vars(bound).update(index=list(outputs).index(CHANGE), target=self.target.bind(own))
        return bound

    def loss(self, y: Tensor) -> Tensor:
        return y[..., self.index]

    def table(self, point: Array) -> list[tuple[str, Any, Any]]:
        """Return name, value in x0 and value of each parameter that a point ``(d,)`` changes.

        Raises:
            InvalidInputError: the objective belongs to no problem.
        """
        return self._located().table(np.asarray(point))

    def to_json(self) -> JSON:
        change = self._located()
        found: dict[str, JSON] = {"type": "nearest", "target": self.target.to_json()}
        if change.domain.parameters:
            found["x0"] = change.domain.values(change.origin[None], measured=True)[0]
        else:
            found["point"] = change.origin.tolist()
        if len(set(change.weights.tolist())) > 1 or change.weights[0] != 1.0:
            found["weights"] = change.weights.tolist()
        return {**found, "few": True} if self.few else found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nearest) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        return printable(f"Nearest({self.target}{', few=True' if self.few else ''})")

    def _key(self) -> str:
        own = str((self.x0, self.point, self.weights, self.few, self.target))
        return own if self.change is None else json.dumps(self.to_json(), sort_keys=True)

    def _located(self) -> Change:
        if self.change is None:
            raise InvalidInputError(
                "Nearest: the space must be known. Use the objective of a Problem"
            )
        return self.change

    def _weights(self, parameters: Mapping[str, object]) -> Array:
        names = list(parameters)
        if self.weights is None:
            return np.ones(max(1, len(names)))
        named, given = record(self.weights), self.weights
        if named is not None:
            unknown = [name for name in named if name not in names]
            if unknown:
                raise InvalidInputError(
                    f"Nearest: weights must have names among {names}, got {unknown}"
                )
            given = [named.get(name, 1.0) for name in names]
        values = real_vector("Nearest", "weights", given)
        if values.size not in (1, len(names)) or not (values >= 0).all() or not values.any():
            raise InvalidInputError(
                f"Nearest: weights must be one number or {len(names)} numbers >= 0, one of them "
                f"> 0, got {self.weights!r:.80}"
            )
        return np.broadcast_to(values, (max(1, len(names)),)).copy()


def _ends(target: Target) -> list[tuple[float, float, float]]:
    """Return lower end, upper end and tolerance of each entry."""
    entries = target.entries
    return list(zip(entries.lower, entries.upper, target.tolerances, strict=True))
