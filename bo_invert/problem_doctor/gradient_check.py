"""Whether there is a gradient, and whether it is that of the function: central differences along a few directions."""

from __future__ import annotations

import numpy as np

from bo_invert.problem_doctor.call_budget import Meter, Seen
from bo_invert.problem_doctor.findings import Finding, error, note, ok, seconds, warning
from bo_invert.types import Array

_STEPS = (1e-3, 4e-3)
"""Of the differences, in units of the domain. Networks in single precision are too coarse for smaller ones."""
_PRECISION = 1e-6
"""Relative error of a value in single precision, generously."""
_CLOSE, _WRONG = 0.05, 0.15


def look_at_gradient(
    meter: Meter, rng: np.random.Generator, exact: bool, most: int
) -> list[Finding]:
    """Gradients at a point or two, beside differences of values.

    Args:
        meter: of the oracle.
        rng: for points and directions.
        exact: whether the oracle answers the same design the same; differences of noise say nothing.
        most: calls that may be spent on it, at least 2.
    """
    problem = meter.problem
    assert problem.oracle is not None
    if not problem.differentiable:
        who = (
            "oracle"
            if problem.space.differentiable
            else "space"
            if problem.oracle.differentiable
            else "oracle and space"
        )
        said = f"there is no gradient: the {who} {'have' if ' and ' in who else 'has'} none"
        return [note("gradient.none", said)]
    end = meter.calls + most
    here = meter.slope(_inner(meter, rng))
    gradient = here.outcome.gradient
    if (
        gradient is None
        and here.y is None
        and not here.outcome.reason.startswith(("RuntimeError", "NotImplemented"))
    ):
        here = meter.slope(
            _inner(meter, rng)
        )  # a design that cannot be evaluated says nothing of gradients
        gradient = here.outcome.gradient
    if gradient is None:
        return [
            error(
                "gradient.fails",
                f"a gradient is promised, and there is none: {here.outcome.reason}",
                "Something on the way leaves torch (.detach(), .numpy(), .item(), no_grad); mend it, or pass the "
                "oracle as a plain function",
            )
        ]
    known = [one.y for one in meter.of("fresh") if one.y is not None]
    moving = len(known) > 1 and bool((np.ptp(known, axis=0) > 0).any())
    if not gradient.any():
        other = meter.slope(_inner(meter, rng)) if meter.calls + 2 <= end else None
        if other is None or other.outcome.gradient is None or not other.outcome.gradient.any():
            tell = error if moving else warning
            return [
                tell(
                    "gradient.zero",
                    "the gradient is exactly 0 in every coordinate, while answers "
                    + ("differ" if moving else "may differ"),
                    "The function is detached, rounded, or made of steps: pass it as a plain function, or give "
                    "it a differentiable stand-in (bi.GradientProxy)",
                )
            ]
        here, gradient = other, other.outcome.gradient
    took = here.seconds
    if meter.calls + 2 <= end and most >= 6:
        took = min(
            took, meter.slope(_inner(meter, rng)).seconds
        )  # the first one imports and compiles
    present = ok(
        "gradient.present",
        f"a value with its gradient takes {seconds(took)}",
        "",
        {"seconds": took},
    )
    if not problem.oracle.exact_forward:
        return [
            present,
            note(
                "gradient.stand_in",
                "the gradient is that of a stand-in, which need not agree "
                "with the oracle; what a descent finds is verified by the oracle",
            ),
        ]
    if not exact:
        return [present]
    return [present, *_compared(meter, here, gradient, rng, end)]


def _compared(
    meter: Meter, here: Seen, gradient: Array, rng: np.random.Generator, end: int
) -> list[Finding]:
    """The slope along directions, by the gradient and by differences."""
    errors, rough, looked = [], 0, 0
    for direction in _directions(gradient, rng):
        steps = _STEPS if meter.calls + 4 <= end else _STEPS[:1]
        if meter.calls + 2 * len(steps) > end:
            break
        measured = [_difference(meter, here, direction, step) for step in steps]
        looked += 1
        told = float(gradient @ direction)
        sizes = [max(abs(told), abs(slope)) for slope, _ in measured]
        if any(not np.isfinite(slope) for slope, _ in measured):
            continue
        off = [
            abs(told - slope) / size if size > 0 else 0.0
            for (slope, floor), size in zip(measured, sizes, strict=True)
            if size > 5.0 * floor
        ]
        if not off:
            continue  # too flat to tell anything from rounding
        agree = len(measured) < 2 or abs(measured[0][0] - measured[1][0]) <= 0.2 * max(sizes)
        if min(off) > _WRONG and not agree:
            rough += 1
        else:
            errors.append(min(off))
    if not errors:
        why = "values are too flat" if looked else "calls are too few"
        said = "differences of values disagree among themselves" if rough else why
        return [note("gradient.unchecked", f"whether the gradient is right cannot be told: {said}")]
    worst = max(errors)
    numbers = {"error": worst, "directions": len(errors)}
    if worst > _WRONG:
        return [
            error(
                "gradient.wrong",
                f"the gradient is off by {worst:.0%} from central differences of the values",
                "A part of the way is detached, in another mode, or another function; mend it, or pass the "
                "oracle as a plain function",
                numbers,
            )
        ]
    if worst > _CLOSE:
        return [
            note(
                "gradient.near",
                f"the gradient agrees with central differences to {worst:.0%}",
                "",
                numbers,
            )
        ]
    return [
        ok(
            "gradient.agrees",
            f"the gradient agrees with central differences to {worst:.1g}",
            "",
            numbers,
        )
    ]


def _difference(meter: Meter, here: Seen, direction: Array, step: float) -> tuple[float, float]:
    """Slope of the loss along a direction, and the rounding error to expect of it; NaN where there is no answer."""
    ends = [
        meter.ask(here.point + sign * step * direction, "near", here.point) for sign in (1.0, -1.0)
    ]
    losses = [_loss(meter, one) for one in ends]
    return (losses[0] - losses[1]) / (2 * step), _PRECISION * max(map(abs, losses)) / step


def _loss(meter: Meter, one: Seen) -> float:
    """What a gradient is the slope of: the loss with its penalties."""
    import torch

    return (
        float("nan")
        if one.y is None
        else float(meter.problem.loss_tensor(torch.from_numpy(one.y.copy()[None]))[0])
    )


def _directions(gradient: Array, rng: np.random.Generator) -> list[Array]:
    """Of length 1: one with a signal in it, one without a preference."""
    draws = rng.standard_normal((2, len(gradient)))
    draws /= np.linalg.norm(draws, axis=1, keepdims=True)
    mixed = gradient / np.linalg.norm(gradient) + draws[0]
    length = np.linalg.norm(mixed)
    return [mixed / length if length > 0.1 else draws[0], draws[1]]


def _inner(meter: Meter, rng: np.random.Generator) -> Array:
    """A draw away from the edges, where steps lead out of the domain; where a descent would stand."""
    import torch

    from bo_invert.problems.gradient_descent import project

    domain = meter.problem.domain
    draw = meter.problem.space.sample(rng, 1)
    inside = domain.centre + 0.9 * (draw - domain.centre)
    return np.asarray(project(domain, torch.from_numpy(inside)).numpy()[0], dtype=np.float64)
