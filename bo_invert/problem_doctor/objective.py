"""Checks of outputs against the objective: variation, targets, constraints and the judge."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.errors import EvaluationError
from bo_invert.ledger import Cost
from bo_invert.objectives import Target
from bo_invert.oracles.base import OracleResult
from bo_invert.problem_doctor.call_budget import Call
from bo_invert.problem_doctor.design_distance import name_of
from bo_invert.problem_doctor.findings import Finding, error, note, ok, share, warning
from bo_invert.problem_doctor.repeatability import Repeatability
from bo_invert.problems.problem import Problem
from bo_invert.types import Array, Design

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
    names = [
        name_of(design) for design in problem.space.decode(np.array([one.point for one in seen]))
    ]
    designs = len(set(names))
    answers = len(np.unique(y, axis=0))
    if answers == 1 and designs >= _MIN_OBSERVATIONS:
        return [
            error(
                "oracle.constant",
                f"{designs} different designs have the same outputs: {_brief(y[0])}",
                "Check that the oracle uses its input, in the expected units",
            )
        ]
    found = []
    still = [
        name for name, column in zip(problem.outputs, y.T, strict=True) if np.ptp(column) == 0.0
    ]
    if still:
        found.append(
            warning(
                "oracle.output_constant",
                f"{_listed(still)} is constant over {designs} designs",
                "Remove outputs that do not depend on the design",
                outputs=still,
            )
        )
    if answers < designs:
        many = 2 * answers <= designs
        found.append(
            (warning if many else note)(
                "oracle.plateaus",
                f"{designs} different designs have {answers} different outputs, as with trees, "
                "rounding or clipping",
                "Gradients vanish on plateaus: use a model-based strategy or cmaes",
                designs=designs,
                answers=answers,
            )
        )
    losses = np.array([one.outcome.loss for one in seen], dtype=float)
    middle = np.median(losses)
    usual = float(np.median(np.abs(losses - middle)))
    far = np.abs(losses - middle).max()
    if len(losses) >= 8 and usual > 0 and far > _HEAVY_TAIL * usual:
        found.append(
            note(
                "oracle.heavy_tails",
                f"the largest deviation of a loss is {far / usual:.0f} median absolute deviations; "
                "models warp such tails, a logarithm in the oracle may work better",
                ratio=far / usual,
            )
        )
    if not found:
        found.append(ok("oracle.moves", f"{designs} designs have {answers} different outputs"))
    return found


def check_target(problem: Problem, seen: list[Call], state: Repeatability) -> list[Finding]:
    """Check that the target is near the range of the observed outputs."""
    goal = problem.objective
    if not isinstance(goal, Target) or len(seen) < 3:
        return []
    y = np.array([one.y for one in seen])[:, list(goal.indices)]
    wanted, scale = np.array(goal.value), np.array(goal.scale)
    low, high = y.min(axis=0), y.max(axis=0)
    width = np.where(high > low, high - low, np.maximum(np.abs(high), 1e-300))
    beyond = np.maximum(np.maximum(low - wanted, wanted - high), 0.0) / width
    worst = int(beyond.argmax())
    name = problem.outputs[goal.indices[worst]]
    numbers = {"beyond": float(beyond[worst]), "output": name}
    words = (
        f"the target of {name} is {wanted[worst]:.4g}, and draws gave {low[worst]:.4g} to "
        f"{high[worst]:.4g}"
    )
    found = []
    if beyond[worst] > 1.0:
        found.append(
            warning(
                "target.out_of_range",
                f"{words}: {beyond[worst]:.1f} ranges outside",
                "Check the units. If the target is unreachable, a study returns the nearest output",
                **numbers,
            )
        )
    elif beyond[worst] > 0.0:
        found.append(
            note(
                "target.beyond",
                f"{words}: outside the range of {len(seen)} draws, but near",
                **numbers,
            )
        )
    else:
        found.append(
            ok("target.in_range", "the target is within the range of the draws in every output")
        )
    spread = y.std(axis=0) / scale
    moving = spread[spread > 0]
    if len(moving) > 1 and moving.max() > _SPREAD_RATIO * moving.min():
        loud = problem.outputs[goal.indices[int(spread.argmax())]]
        found.append(
            warning(
                "target.scales",
                f"{loud} varies {moving.max() / moving.min():.0f} times as much as "
                "another output and dominates the loss",
                "Pass a scale for each output: Target(value, scale=[...])",
            )
        )
    if state.sigma is not None and goal.tolerance > 0:
        noise = state.sigma[list(goal.indices)]
        if (noise > goal.tolerance).any():
            found.append(
                warning(
                    "target.noise",
                    f"the tolerance {goal.tolerance:.2g} is smaller than the noise "
                    f"{noise.max():.2g}, "
                    "so a hit is random",
                    "Increase the tolerance, or average repeats inside the oracle",
                )
            )
    return found


def check_constraints(problem: Problem, seen: list[Call]) -> list[Finding]:
    """Count the draws that satisfy the constraints."""
    if not problem.constraints or not seen:
        return []
    good = sum(one.outcome.violation <= 0 for one in seen)
    wanted = ", ".join(map(str, problem.constraints))
    numbers = {"feasible": good, "of": len(seen)}
    if not good and len(seen) >= 8:
        y = np.array([one.y for one in seen])
        alone = {str(rule): int((rule.excess(y) <= 0).sum()) for rule in problem.constraints}
        text = f"no draw of {len(seen)} satisfies " + (
            f"all of {wanted}" if len(alone) > 1 else wanted
        )
        if all(alone.values()):
            each = ", ".join(f"{rule}: {count}" for rule, count in alone.items())
            return [
                note(
                    "constraints.rare",
                    f"{text}, but each constraint is satisfied by some ({each})",
                    **numbers,
                )
            ]
        never = next(rule for rule in problem.constraints if not alone[str(rule)])
        off = float(np.min(never.excess(y)))
        return [
            warning(
                "constraints.rare",
                f"{text}; the smallest violation of {never} is {off:.3g}",
                "Check the bounds; a study must find the feasible set first",
                **numbers,
            )
        ]
    return [
        (ok if good else note)(
            "constraints.feasible", f"{good} of {len(seen)} draws satisfy {wanted}", **numbers
        )
    ]


def check_judge(problem: Problem, points: Array) -> tuple[list[Finding], int]:
    """Check that the judge returns outputs; also return the number of its calls."""
    judge = problem.judge
    if judge is None:
        return [], 0
    if problem.oracle is not None and judge.implementation is problem.oracle.implementation:
        return [
            warning(
                "judge.same",
                "the judge is the oracle itself and always agrees",
                "Use a regressor trained on other data, or no judge",
            )
        ], 0
    designs = problem.space.decode(points[:2])
    answers: list[OracleResult] = judge.answers(designs, problem.outputs)
    calls = sum(answer.calls for answer in answers)
    outcomes = [problem.outcome(_result(answer), Cost()) for answer in answers]
    failed = [outcome for outcome in outcomes if outcome.y is None]
    if failed:
        return [
            warning(
                "judge.fails",
                "the judge gives no outputs for "
                f"{share(len(failed), len(outcomes))} draws: {failed[0].reason}",
                "Correct Problem(judge=...); it must return the outputs of the oracle",
            )
        ], calls
    return [ok("judge.works", "the judge returns outputs")], calls


def check_display(problem: Problem, designs: Sequence[Design]) -> list[Finding]:
    """Check the ``draw`` and ``plausibility`` functions of the problem."""
    found = []
    for name in ("draw", "plausibility"):
        fn = getattr(problem, name)
        if fn is None:
            continue
        try:
            shown = np.asarray(fn(designs[0] if name == "draw" else designs[:4]), dtype=np.float64)
            if name == "draw" and shown.ndim not in (2, 3):
                raise ValueError(
                    f"expected shape (height, width) or (height, width, 3), got {shown.shape}"
                )
            if name == "plausibility" and (
                shown.shape != (len(designs[:4]),) or (shown < 0).any() or (shown > 1).any()
            ):
                raise ValueError(f"expected one number in [0, 1] per design, got {shown!r:.60}")
        except Exception as fault:
            found.append(
                warning(
                    f"{name}.fails",
                    f"{name} raises {type(fault).__name__}: {fault}",
                    f"Correct Problem({name}=...)",
                )
            )
    return found


def _result(answer: OracleResult) -> Array | EvaluationError | None:
    return answer.outputs_or_error


def _brief(y: Array) -> str:
    return ", ".join(f"{value:.4g}" for value in y[:4]) + (", ..." if len(y) > 4 else "")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
