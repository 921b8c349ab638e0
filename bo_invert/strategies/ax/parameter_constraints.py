"""Linear input constraints as parameter constraints of Ax.

Ax has linear inequalities of numbers on linear scales. An equality removes one real parameter from
the search space of Ax: its value follows from the others, and its range becomes an inequality.
Other constraints hold by the projection of the points that Ax proposes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bo_invert.domains.constrained_box import ConstrainedBox
from bo_invert.domains.feasible_set import FeasibleSet
from bo_invert.domains.parameters import Float, Int, VariedParameter
from bo_invert.domains.search_domain import Domain

# Relative size of a coefficient that is rounding after an elimination. Engineering choice.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class AxConstraints:
    """Inequalities ``sum_i c_i x_i <= bound``, and parameters that equalities determine.

    Args:
        inequalities: coefficients by parameter, and the bound.
        determined: offset and coefficients of the other parameters, by determined parameter, in
            the order in which they can be computed.
    """

    inequalities: tuple[tuple[dict[str, float], float], ...] = ()
    determined: dict[str, tuple[float, dict[str, float]]] = field(default_factory=dict)

    def texts(self, names: Mapping[str, str]) -> list[str]:
        """Return the inequalities in the words of Ax, for names of the parameters in Ax."""
        return [
            " + ".join(f"{c!r}*{names[name]}" for name, c in terms.items()) + f" <= {bound!r}"
            for terms, bound in self.inequalities
        ]

    def completed(self, values: Mapping[str, float]) -> dict[str, float]:
        """Return values by parameter with those of the determined ones, within their ranges."""
        found = dict(values)
        for name, (offset, terms) in self.determined.items():
            found[name] = offset + sum(c * found[other] for other, c in terms.items())
        return found


def ax_constraints(domain: Domain) -> AxConstraints:
    """Return the constraints of a box that Ax can hold."""
    if not isinstance(domain, ConstrainedBox):
        return AxConstraints()
    within: FeasibleSet = domain.feasible
    rows: list[tuple[dict[str, float], float]] = []
    equalities: list[tuple[dict[str, float], float]] = []
    for one in within.linear:
        if not all(_linear(domain.axes[name]) for name in one.names):
            continue
        terms = dict(one.coefficients)
        if one.equality:
            equalities.append((terms, one.upper))
            continue
        if np.isfinite(one.upper):
            rows.append((terms, one.upper))
        if np.isfinite(one.lower):
            rows.append(({name: -c for name, c in terms.items()}, -one.lower))
    determined: dict[str, tuple[float, dict[str, float]]] = {}
    while equalities:
        terms, bound = equalities.pop(0)
        real = [name for name in terms if isinstance(domain.axes[name], Float)]
        pivot = max(real, key=lambda name: abs(terms[name]), default=None)
        if pivot is None or pivot in domain.fixed:
            continue
        c = terms[pivot]
        rest = {name: -value / c for name, value in terms.items() if name != pivot}
        determined[pivot] = (bound / c, rest)
        axis = domain.axes[pivot]
        assert isinstance(axis, Float)
        rows += [({pivot: 1.0}, axis.high), ({pivot: -1.0}, -axis.low)]
        rows = [_without(pivot, determined[pivot], row) for row in rows]
        equalities = [_without(pivot, determined[pivot], row) for row in equalities]
    rows = [row for row in rows if row[0]]
    # Values are computed from the last elimination to the first.
    return AxConstraints(tuple(rows), dict(reversed(determined.items())))


def _linear(parameter: VariedParameter) -> bool:
    """Return True for a number that Ax searches as a range on a linear scale."""
    whole = isinstance(parameter, Int) or (isinstance(parameter, Float) and parameter.continuous)
    return whole and not parameter.log  # type: ignore[union-attr]


def _without(
    pivot: str, rule: tuple[float, dict[str, float]], row: tuple[dict[str, float], float]
) -> tuple[dict[str, float], float]:
    """Replace a determined parameter in a row by the others."""
    terms, bound = dict(row[0]), row[1]
    c = terms.pop(pivot, 0.0)
    offset, rest = rule
    for name, value in rest.items():
        terms[name] = terms.get(name, 0.0) + c * value
    left = {name: value for name, value in terms.items() if abs(value) > _ROUNDING}
    return left, bound - c * offset
