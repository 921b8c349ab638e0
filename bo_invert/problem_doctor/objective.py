"""Checks of outputs against the objective: variation, targets, constraints and the judge."""

from __future__ import annotations

import numpy as np

from bo_invert.objectives.target import Target
from bo_invert.problem_doctor.call_budget import Call
from bo_invert.problem_doctor.design_distance import name_of
from bo_invert.problem_doctor.findings import (
    Finding,
    error,
    every,
    first,
    note,
    ok,
    share,
    warning,
)
from bo_invert.problem_doctor.repeatability import Repeatability
from bo_invert.problems.problem import Problem
from bo_invert.types import Array

# Observations (count) that the output checks need. Engineering choice.
_MIN_OBSERVATIONS = 4
# Distance of a loss from the median, in median absolute deviations. Engineering choice.
_HEAVY_TAIL = 50.0
# Ratio of the spreads of two outputs, dimensionless. Engineering choice: the loss then depends on
# one output to within 1e-4.
_SPREAD_RATIO = 100.0


def check_outputs(problem: Problem, seen: list[Call]) -> list[Finding]:
    """Check outputs for constants, plateaus and heavy tails.

    Args:
        problem: problem of the outputs.
        seen: draws with outputs.
    """
    if len(seen) < _MIN_OBSERVATIONS:
        return []
    y = np.array([one.y for one in seen])
    decoded = problem.space.decode(np.array([one.point for one in seen]))
    designs, answers = len({name_of(design) for design in decoded}), len(np.unique(y, axis=0))
    if answers == 1 and designs >= _MIN_OBSERVATIONS:
        return [
            error(
                "oracle.constant",
                f"{designs} different designs have the same outputs: {_brief(y[0])}",
                "Check that the oracle uses its input, in the expected units",
            )
        ]
    still = [
        name for name, column in zip(problem.outputs, y.T, strict=True) if np.ptp(column) == 0.0
    ]
    losses = np.array([one.outcome.loss for one in seen], dtype=float)
    deviations = np.abs(losses - np.median(losses))
    usual = float(np.median(deviations))
    ratio = deviations.max() / usual if usual > 0 else 0.0
    return every(
        (
            still,
            warning(
                "oracle.output_constant",
                f"{_listed(still)} is constant over {designs} designs",
                "Remove outputs that do not depend on the design",
                outputs=still,
            ),
        ),
        (
            answers < designs,
            (warning if 2 * answers <= designs else note)(
                "oracle.plateaus",
                f"{designs} different designs have {answers} different outputs, as with trees, "
                "rounding or clipping",
                "Gradients vanish on plateaus: use a model-based strategy or cmaes",
                designs=designs,
                answers=answers,
            ),
        ),
        (
            len(losses) >= 8 and ratio > _HEAVY_TAIL,
            note(
                "oracle.heavy_tails",
                f"the largest deviation of a loss is {ratio:.0f} median absolute deviations; "
                "models warp such tails, a logarithm in the oracle may work better",
                ratio=ratio,
            ),
        ),
    ) or [ok("oracle.moves", f"{designs} designs have {answers} different outputs")]


def check_target(problem: Problem, seen: list[Call], state: Repeatability) -> list[Finding]:
    """Check that the target is near the range of the observed outputs."""
    goal = problem.objective
    if not isinstance(goal, Target) or len(seen) < 3:
        return []
    indices = list(goal.indices)
    names = [problem.outputs[index] for index in indices]
    y = np.array([one.y for one in seen])[:, indices]
    low, high = y.min(axis=0), y.max(axis=0)
    width = np.where(high > low, high - low, np.maximum(np.abs(high), 1e-300))
    beyond = goal.nearest(low, high) / width
    worst = int(beyond.argmax())
    numbers = {"beyond": float(beyond[worst]), "output": names[worst]}
    text = (
        f"the target of {names[worst]} is {goal.texts[worst]}, and draws gave {low[worst]:.4g} to "
        f"{high[worst]:.4g}"
    )
    spread = y.std(axis=0) / np.array(goal.units)
    moving = spread[spread > 0]
    ratio = moving.max() / moving.min() if len(moving) > 1 else 1.0
    noise = np.zeros(len(indices)) if state.sigma is None else state.sigma[indices]
    tolerances = np.array(goal.tolerances)
    noisiest = int(np.argmax(np.divide(noise, tolerances, where=tolerances > 0, out=0.0 * noise)))
    return first(
        (
            beyond[worst] > 1.0,
            warning(
                "target.out_of_range",
                f"{text}: {beyond[worst]:.1f} ranges outside",
                "Check the units. If the target is unreachable, a study returns the nearest output",
                **numbers,
            ),
        ),
        (
            beyond[worst] > 0.0,
            note(
                "target.beyond",
                f"{text}: outside the range of {len(seen)} draws, but near",
                **numbers,
            ),
        ),
        (
            True,
            ok("target.in_range", "the target is within the range of the draws in every output"),
        ),
    ) + every(
        (
            ratio > _SPREAD_RATIO,
            warning(
                "target.scales",
                f"{names[int(spread.argmax())]} varies {ratio:.0f} times as much as another "
                "output and dominates the loss",
                "Pass a scale for each output: Target(value, scale=[...])",
            ),
        ),
        (
            0 < tolerances[noisiest] < noise[noisiest],
            warning(
                "target.noise",
                f"the tolerance {tolerances[noisiest]:.2g} of {names[noisiest]} is smaller than "
                f"its noise {noise[noisiest]:.2g}, so a hit is random",
                "Increase the tolerance, or average repeats inside the oracle",
            ),
        ),
    )


def check_constraints(problem: Problem, seen: list[Call]) -> list[Finding]:
    """Count the draws that satisfy the constraints."""
    if not problem.constraints or not seen:
        return []
    good = sum(one.outcome.violation <= 0 for one in seen)
    wanted = ", ".join(map(str, problem.constraints))
    numbers = {"feasible": good, "of": len(seen)}
    y = np.array([one.y for one in seen])
    excesses = [rule.excess(y) for rule in problem.constraints]
    alone = [int((excess <= 0).sum()) for excess in excesses]
    rarest = int(np.argmin(alone))
    text = f"no draw of {len(seen)} satisfies {'all of ' if len(alone) > 1 else ''}{wanted}"
    each = ", ".join(f"{rule}: {n}" for rule, n in zip(problem.constraints, alone, strict=True))
    return first(
        (
            good or len(seen) < 8,
            (ok if good else note)(
                "constraints.feasible", f"{good} of {len(seen)} draws satisfy {wanted}", **numbers
            ),
        ),
        (
            all(alone),
            note(
                "constraints.rare",
                f"{text}, but each constraint is satisfied by some ({each})",
                **numbers,
            ),
        ),
        (
            True,
            warning(
                "constraints.rare",
                f"{text}; the smallest violation of {problem.constraints[rarest]} is "
                f"{float(excesses[rarest].min()):.3g}",
                "Check the bounds; a study must find the feasible set first",
                **numbers,
            ),
        ),
    )


def check_judge(problem: Problem, points: Array) -> tuple[list[Finding], int]:
    """Check that the judge returns outputs; also return the number of its calls."""
    judge, oracle = problem.judge, problem.oracle
    if judge is None:
        return [], 0
    if oracle is not None and judge.implementation is oracle.implementation:
        return [
            warning(
                "judge.same",
                "the judge is the oracle itself and always agrees",
                "Use a regressor trained on other data, or no judge",
            )
        ], 0
    opinions, calls = problem.second_opinions(problem.space.decode(points[:2]), points[:2])
    reasons = [one.reason for one in opinions if one is not None and one.y is None]
    return first(
        (
            reasons,
            warning(
                "judge.fails",
                "the judge gives no outputs for "
                f"{share(len(reasons), len(opinions))} draws: {''.join(reasons[:1])}",
                "Correct Problem(judge=...); it must return the outputs of the oracle",
            ),
        ),
        (True, ok("judge.works", "the judge returns outputs")),
    ), calls


def _brief(y: Array) -> str:
    return ", ".join(f"{value:.4g}" for value in y[:4]) + (", ..." if len(y) > 4 else "")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
