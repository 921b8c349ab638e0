"""Gradient check against central differences along random directions."""

from __future__ import annotations

import math

import numpy as np

from bo_invert.problem_doctor.call_budget import Call, CallBudget
from bo_invert.problem_doctor.findings import Finding, error, first, note, ok, seconds, warning
from bo_invert.types import Array

# Steps of the differences in units of the domain. Engineering choice: smaller steps drown in the
# rounding of single precision.
_STEPS = (1e-3, 4e-3)
# Relative rounding error of a value, dimensionless: about 10 machine epsilon of IEEE single
# precision.
_PRECISION = 1e-6
# Relative errors of the directional derivative. Engineering choice: below the first the gradient
# agrees, above the second it is wrong.
_CLOSE, _WRONG = 0.05, 0.15
_CUT = "the oracle is a module that computes without them (no_grad, detach or numpy)"


def check_gradient(
    meter: CallBudget, rng: np.random.Generator, exact: bool, most: int
) -> list[Finding]:
    """Compare gradients at one or two points with differences of values.

    Args:
        meter: call budget of the oracle.
        rng: generator of points and directions.
        exact: the oracle is deterministic; differences of a noisy oracle are not compared.
        most: largest number of calls, at least 2.
    """
    problem = meter.problem
    assert problem.oracle is not None
    if not problem.differentiable:
        parts = ("oracle", problem.oracle), ("space", problem.space)
        missing = " and ".join(name for name, part in parts if not part.differentiable)
        why = f"{missing} not differentiable" if missing else _CUT
        return [note("gradient.none", f"no gradients: {why}")]
    end = meter.calls + most
    here = meter.slope(_inner(meter, rng))
    if (
        here.y is None
        and here.outcome.gradient is None
        and not here.outcome.reason.startswith(("RuntimeError", "NotImplemented"))
    ):
        here = meter.slope(_inner(meter, rng))  # a failed design carries no gradient information
    gradient = here.outcome.gradient
    if gradient is None:
        return [
            error(
                "gradient.fails",
                f"the problem is differentiable, but the gradient fails: {here.outcome.reason}",
                "Remove .detach(), .numpy(), .item() and no_grad from the forward pass, or pass "
                "the oracle as a plain function",
            )
        ]
    if not gradient.any():
        if meter.calls + 2 <= end:
            here = meter.slope(_inner(meter, rng))
            gradient = here.outcome.gradient
        if gradient is None or not gradient.any():
            known = np.array([one.y for one in meter.answered])
            moving = len(known) > 1 and bool((np.ptp(known, axis=0) > 0).any())
            return [
                (error if moving else warning)(
                    "gradient.zero",
                    "the gradient is exactly 0 in every coordinate, while outputs "
                    + ("differ" if moving else "may differ"),
                    "The function is detached, rounded or piecewise constant: pass it as a plain "
                    "function, or add a differentiable proxy (bi.GradientProxy)",
                )
            ]
    took = here.seconds
    if meter.calls + 2 <= end and most >= 6:
        # The first gradient includes imports and compilation.
        took = min(took, meter.slope(_inner(meter, rng)).seconds)
    present = ok(
        "gradient.present", f"a value with its gradient takes {seconds(took)}", seconds=took
    )
    if problem.oracle.exact_forward:
        return [present, *(_compared(meter, here, gradient, rng, end) if exact else [])]
    return [
        present,
        note(
            "gradient.stand_in",
            "the gradient is that of a proxy and may differ from the oracle's; the oracle verifies "
            "the end point of a descent",
        ),
    ]


def _compared(
    meter: CallBudget, here: Call, gradient: Array, rng: np.random.Generator, end: int
) -> list[Finding]:
    """Compare directional derivatives of the gradient with central differences."""
    errors, rough, compared = [], 0, 0
    for direction in _directions(gradient, rng):
        steps = _STEPS if meter.calls + 4 <= end else _STEPS[:1]
        if meter.calls + 2 * len(steps) > end:
            break
        measured = [_difference(meter, here, direction, step) for step in steps]
        compared += 1
        expected = float(gradient @ direction)
        sizes = [max(abs(expected), abs(slope)) for slope, _ in measured]
        finite = all(np.isfinite(slope) for slope, _ in measured)
        off = [
            abs(expected - slope) / size if size > 0 else 0.0
            for (slope, floor), size in zip(measured, sizes, strict=True)
            if finite and size > 5.0 * floor
        ]
        if not off:
            continue  # a call failed, or the derivative is below the rounding error
        agree = len(measured) < 2 or abs(measured[0][0] - measured[1][0]) <= 0.2 * max(sizes)
        if min(off) > _WRONG and not agree:
            rough += 1
        else:
            errors.append(min(off))
    why = "values are too flat" if compared else "calls are too few"
    reason = "differences of two step sizes disagree" if rough else why
    worst = max(errors, default=0.0)
    numbers = {"error": worst, "directions": len(errors)}
    agreement = "the gradient agrees with central differences to"
    return first(
        (
            not errors,
            note("gradient.unchecked", f"the gradient could not be checked: {reason}"),
        ),
        (
            worst > _WRONG,
            error(
                "gradient.wrong",
                f"the gradient differs by {worst:.0%} from central differences",
                "Part of the forward pass is detached, in training mode, or another function: "
                "correct it, or pass the oracle as a plain function",
                **numbers,
            ),
        ),
        (worst > _CLOSE, note("gradient.near", f"{agreement} {worst:.0%}", **numbers)),
        (True, ok("gradient.agrees", f"{agreement} {worst:.1g}", **numbers)),
    )


def _difference(
    meter: CallBudget, here: Call, direction: Array, step: float
) -> tuple[float, float]:
    """Return the central difference of the loss and its rounding error; NaN after a failure."""
    import torch

    point, loss = here.point, meter.problem.loss_tensor
    ends = [meter.ask(point + sign * step * direction, "near", point) for sign in (1.0, -1.0)]
    # Gradients refer to the loss with penalties.
    losses = [
        math.nan if end.y is None else float(loss(torch.from_numpy(end.y.copy()[None]))[0])
        for end in ends
    ]
    return (losses[0] - losses[1]) / (2 * step), _PRECISION * max(map(abs, losses)) / step


def _directions(gradient: Array, rng: np.random.Generator) -> list[Array]:
    """Return two unit directions: one near the gradient, one random."""
    draws = rng.standard_normal((2, len(gradient)))
    draws /= np.linalg.norm(draws, axis=1, keepdims=True)
    mixed = gradient / np.linalg.norm(gradient) + draws[0]
    length = np.linalg.norm(mixed)
    return [mixed / length if length > 0.1 else draws[0], draws[1]]


def _inner(meter: CallBudget, rng: np.random.Generator) -> Array:
    """Draw a projected point away from the bounds, so that both steps stay in the domain."""
    import torch

    from bo_invert.problems.feasible_region import project

    domain = meter.problem.domain
    inside = domain.centre + 0.9 * (meter.problem.space.sample(rng, 1) - domain.centre)
    return np.asarray(project(domain, torch.from_numpy(inside)).numpy()[0], dtype=np.float64)
