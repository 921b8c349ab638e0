"""Advice on a continuation: ranges worth widening, and the call that adds trials."""

from __future__ import annotations

import math

from bo_invert.domains.fixed import Fixed
from bo_invert.domains.input_constraints import Count, Linear
from bo_invert.domains.parameters import Float, Int
from bo_invert.domains.search_domain import Domain
from bo_invert.problems.problem import Problem

_SLACK = 1e-9
"""Least movement of an end, as a share of the range, that counts. Engineering choice: the tolerance
of input constraints."""


def widenable(domain: Domain, name: str) -> tuple[bool, bool]:
    """Return whether a lower and a higher end of a numeric parameter would add valid designs.

    An end is not widenable if the input constraints imply it. An amount is not negative: neither is
    0 as the lower end of a part of a sum, nor of a parameter that is absent at 0.

    Args:
        domain: search domain.
        name: parameter with a range.
    """
    ranges: dict[str, tuple[float, float]] = {}
    for key, one in {**domain.parameters, **domain.axes}.items():
        if isinstance(one, Fixed) and not isinstance(one.value, str):
            ranges[key] = float(one.value), float(one.value)
        elif isinstance(one, (Float, Int)):
            ranges[key] = float(one.low), float(one.high)
    low, high = ranges[name]
    below, above = True, True
    for constraint in domain.constraints:
        if name not in constraint.names:
            continue
        if isinstance(constraint, Count):
            below, above = below and low != 0.0, above and high != 0.0
        elif isinstance(constraint, Linear):
            least, most = _implied(constraint, name, ranges)
            slack = _SLACK * (high - low)
            below = below and least < low - slack and not (low == 0.0 and _is_sum(constraint))
            above = above and most > high + slack
    return below, above


def _is_sum(one: Linear) -> bool:
    """Return True for an upper bound of a sum of several amounts, or a fixed sum."""
    signs = {c > 0 for c in one.coefficients.values()}
    bounded = abs(one.upper if signs == {True} else one.lower) < math.inf
    return len(one.coefficients) > 1 and len(signs) == 1 and bounded


def _implied(one: Linear, name: str, ranges: dict[str, tuple[float, float]]) -> tuple[float, float]:
    """Return the ends of a parameter that a linear constraint allows within the other ranges."""
    others = [
        sorted((c * ranges[key][0], c * ranges[key][1]))
        for key, c in one.coefficients.items()
        if key != name
    ]
    least, most = (sum(pair[end] for pair in others) for end in (0, 1))
    factor = one.coefficients[name]
    low, high = sorted(((one.lower - most) / factor, (one.upper - least) / factor))
    return low, high


def how_to_continue(problem: Problem | None, budget: int) -> str:
    """Return the calls that continue a study up to a budget.

    Args:
        problem: its problem; None if it is unknown.
        budget: calls of the whole study.
    """
    if problem is not None and problem.oracle is None:
        return "ask for further designs with study.ask() and record their outcomes by study.tell()"
    if problem is None:
        return f"continue to {budget} calls"
    return f"continue, for example with study.run(budget={budget})"
