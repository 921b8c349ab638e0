"""Checks of a feasible set: empty sets, sets too thin to sample, and the constraints to blame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from bo_invert.domains.conditions import values_of_existence
from bo_invert.domains.feasible_set import FeasibleSet
from bo_invert.domains.fixed import Fixed
from bo_invert.domains.input_constraints import InputConstraint
from bo_invert.domains.largest_ball import largest_ball
from bo_invert.domains.parameter_conditions import Condition
from bo_invert.domains.parameters import Choice, Parameter, Value
from bo_invert.errors import InvalidInputError
from bo_invert.types import Array

THINNEST = 1e-6
"""Least radius of the largest ball inside, in units of the ranges. Engineering choice: a thousand
times the tolerance of an inequality; a thinner set is an equality."""
_LEVELS = 64
"""Largest number of values that the integer program lists. Engineering choice: more values of a
choice are rare; they are treated as equally spaced."""


_NODES = 2000
"""Largest number of nodes of an integer program. Engineering choice: a second at most."""


def require_points(within: FeasibleSet) -> None:
    """Check that a set has points, and that it is not too thin to sample.

    Raises:
        InvalidInputError: it is empty, a single point or too thin; the message names the
            constraints.
    """
    if within.coupled:
        _require_polytope(within)
    if not within.fixed:
        _require_branches(within)
    real = any(np.isinf(p.levels) for p in within.parameters.values())
    if not real or not within.coupled:
        return
    if not within.free.all() or within.counts:
        return
    moves = _dimension(within)
    others = any(
        p.width and name not in within.position and name not in within.fixed
        for name, p in within.parameters.items()
    )
    if moves == 0 and not others and not within.fixed:
        raise InvalidInputError(
            f"Box: {_texts(within.constraints)} leave a single point. Remove a constraint, or "
            "evaluate the point directly"
        )


def _require_polytope(within: FeasibleSet) -> None:
    centre, radius = largest_ball(within.relaxed)
    if (
        centre is None
        or not _has_exact_point(within)
        or (not (within.free.all() and not within.counts) and not len(integer_points(within, 1)))
    ):
        raise InvalidInputError(empty_message(within))
    # Fixed values may leave any room; the box without them is not thin.
    if radius < THINNEST and (within.low < within.high).any() and not within.fixed:
        blamed = _smallest(within, lambda part: _radius(part) < THINNEST)
        raise InvalidInputError(
            f"Box: {_texts(blamed)} leave a set that is too thin to sample: the largest ball "
            f"inside has a radius of {radius:.2g} of the ranges, and at least {THINNEST:g} is "
            "needed. Write an equality ('a + b == 1') instead of two inequalities, or widen them"
        )


def _has_exact_point(within: FeasibleSet) -> bool:
    """Return False if fixed values miss linear constraints by less than a solver's tolerance.

    Linear programs accept errors of 1e-7, which is above the tolerance of an inequality.
    """
    box = within.relaxed
    return not within.fixed or bool(box.project(0.5 * (box.lower + box.upper))[1][0])


def _require_branches(within: FeasibleSet) -> None:
    """Check that conditional parameters can exist under the constraints that name them.

    Raises:
        InvalidInputError: they cannot, so that designs would never have a value of a parameter.
    """
    known = within.parameters
    plain = {name: one.under(()) for name, one in known.items()}
    exists = [(one, values_of_existence(known, one.names)) for one in within.partial]
    for one, values in exists:
        if not all(values.values()):
            continue  # its parameters never exist together
        applying = [other for other, needed in exists if _implies(values, needed)]
        single = {
            name: allowed[0]
            for name, allowed in values.items()
            if len(allowed) == 1 and known[name].width
        }
        part = FeasibleSet(plain, [*within.linear, *within.counts, *applying], single)
        if not (_has_exact_point(part) and len(integer_points(part, 1))):
            texts = " and ".join(str(Condition(name, found)) for name, found in values.items())
            absent = next(name for name in one.names if known[name].when)
            raise InvalidInputError(
                f"Box: no design with {texts} is possible, so that {absent!r} never exists: "
                f"{empty_message(part).removeprefix('Box: ')}, or remove {absent!r}"
            )


def _implies(values: Mapping[str, Sequence[Value]], needed: Mapping[str, Sequence[Value]]) -> bool:
    """Return True if parameters with these values satisfy other conditions."""
    return all(
        name in values and all(value in allowed for value in values[name])
        for name, allowed in needed.items()
    )


def _radius(within: FeasibleSet) -> float:
    return largest_ball(within.relaxed)[1]


def _dimension(within: FeasibleSet) -> int:
    rank = np.linalg.matrix_rank(within.a[within.relaxed.equal]) if within.linear else 0
    return len(within.axes) - int(rank)


def empty_message(within: FeasibleSet) -> str:
    """Return the message of an empty set, with a smallest subset of constraints without points."""
    blamed = _smallest(
        within, lambda part: not (_has_exact_point(part) and len(integer_points(part, 1)))
    )
    fixed = f" and the fixed values {within.fixed}" if within.fixed else ""
    if len(blamed) == 1:
        return (
            f"Box: {_texts(blamed)} has no solution within the values of the parameters{fixed}: "
            f"{_ranges(within, blamed)}. Change the constraint or the ranges"
        )
    return (
        f"Box: {_texts(blamed)} contradict one another within the values of the "
        f"parameters{fixed}: {_ranges(within, blamed)}. Remove or change one of them"
    )


def _ranges(within: FeasibleSet, blamed: Sequence[InputConstraint]) -> str:
    names = dict.fromkeys(name for one in blamed for name in one.names)
    shown = [f"{name} in {_range(within.parameters[name])}" for name in names]
    return ", ".join(shown[:8]) + (", ..." if len(shown) > 8 else "")


def _range(parameter: Parameter) -> str:
    if isinstance(parameter, Choice):
        return str(list(parameter.values))
    if isinstance(parameter, Fixed):
        return repr(parameter.value)
    return f"[{parameter.low:g}, {parameter.high:g}]"


def _texts(constraints: Sequence[InputConstraint]) -> str:
    listed = [f"'{one}'" for one in constraints]
    word = "constraint" if len(listed) == 1 else "constraints"
    return f"{word} {', '.join(listed)}"


def _smallest(within: FeasibleSet, fails: object) -> list[InputConstraint]:
    """Return a smallest failing subset of constraints (deletion filter, Chinneck 1991)."""
    assert callable(fails)
    blamed = [*within.linear, *within.counts]
    for one in list(blamed):
        rest = [other for other in blamed if other is not one]
        if rest and fails(FeasibleSet(within.parameters, rest, within.fixed)):
            blamed = rest
    return blamed


def integer_points(within: FeasibleSet, count: int) -> Array:
    """Return scaled values ``(k, q)``, k <= count, of the set by mixed-integer programs.

    Each program maximises a random linear function; the first one none. No row means that linear
    constraints and counts have no solution.
    """
    q = len(within.axes)
    rows: list[Array] = []
    lower: list[float] = []
    upper: list[float] = []
    low, high, integer = within.low.tolist(), within.high.tolist(), [0] * q

    def variable(least: float, most: float) -> int:
        low.append(least)
        high.append(most)
        integer.append(1)
        return len(low) - 1

    sparse: list[tuple[dict[int, float], float, float]] = []
    limits = zip(within.a, within.least[0].tolist(), within.most[0].tolist(), strict=True)
    sparse += [(dict(enumerate(row)), least, most) for row, least, most in limits]
    for i, axis in enumerate(within.axes):
        if not axis.discrete or within.low[i] == within.high[i]:
            continue
        p = axis.parameter
        if isinstance(p, Choice) and p.levels <= _LEVELS:
            codes = [variable(0.0, 1.0) for _ in p.values]
            scaled = [(float(v) - axis.low) / axis.span for v in p.values]
            sparse.append((dict.fromkeys(codes, 1.0), 1.0, 1.0))
            sparse.append(({i: -1.0, **dict(zip(codes, scaled, strict=True))}, 0.0, 0.0))
        else:  # equally spaced
            step = variable(0.0, p.levels - 1)
            sparse.append(({i: -1.0, step: 1.0 / (p.levels - 1)}, 0.0, 0.0))
    for one in within.counts:
        used: list[int] = []
        for name in one.of:
            i = within.position[name]
            axis = within.axes[i]
            z, up = variable(0.0, 1.0), variable(0.0, 1.0)
            used.append(z)
            gap = max(one.smallest / axis.span, 1e-3 if one.least else 0.0)
            # w - zero lies in [-zero z, (1 - zero) z], and beyond the gap if z is 1.
            sparse.append(({i: 1.0, z: -(1.0 - axis.zero)}, -np.inf, axis.zero))
            sparse.append(({i: 1.0, z: axis.zero}, axis.zero, np.inf))
            if gap:
                # The sign of w - zero is that of up - 1/2.
                sparse.append(({i: 1.0, z: -gap, up: -2.0}, axis.zero - 2.0, np.inf))
                sparse.append(({i: 1.0, z: gap, up: -2.0}, -np.inf, axis.zero))
        sparse.append((dict.fromkeys(used, 1.0), one.least, one.most))
    for terms, least, most in sparse:
        row = np.zeros(len(low))
        row[list(terms)] = list(terms.values())
        rows.append(row)
        lower.append(least)
        upper.append(most)
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        aim = np.zeros(len(low))
        if number:
            aim[:q] = rng.standard_normal(q)
        result = milp(
            aim,
            integrality=np.array(integer),
            bounds=Bounds(np.array(low), np.array(high)),
            constraints=LinearConstraint(np.array(rows), lower, upper) if rows else None,
            options={"node_limit": _NODES},  # a time limit would depend on the machine
        )
        if result.x is None:
            break
        found.append(result.x[:q])
    return np.array(found).reshape(len(found), q)
