"""Whether what is wanted can come of what was answered: outputs that move, targets in reach, constraints, a judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bo_invert.objectives import Target
from bo_invert.oracles.base import Answer
from bo_invert.problem_doctor.call_budget import Seen
from bo_invert.problem_doctor.design_distance import name_of
from bo_invert.problem_doctor.findings import Finding, error, note, ok, share, warning
from bo_invert.problem_doctor.repeatability import Steadiness
from bo_invert.problems.problem import Problem
from bo_invert.types import Array, Cost

_ENOUGH = 4
"""Designs that were answered, from which something can be said of all."""
_TAIL = 50.0
"""Distance from the median, in median distances, beyond which a loss is far out."""
_UNEQUAL = 100.0


def look_at_outputs(problem: Problem, seen: list[Seen]) -> list[Finding]:
    """Outputs that stand still, steps, tails.

    Args:
        problem: whose outputs they are.
        seen: draws that were answered.
    """
    if len(seen) < _ENOUGH:
        return []
    y = np.array([one.y for one in seen])
    names = [
        name_of(design) for design in problem.space.decode(np.array([one.point for one in seen]))
    ]
    designs = len(set(names))
    answers = len(np.unique(y, axis=0))
    if answers == 1 and designs >= _ENOUGH:
        return [
            error(
                "oracle.constant",
                f"{designs} different designs are answered exactly alike: {_brief(y[0])}",
                "Does it look at its input, and in the right units?",
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
                f"{_listed(still)} never moved over {designs} designs",
                "An output that does not depend on the design can be left out",
                {"outputs": still},
            )
        )
    if answers < designs:
        many = 2 * answers <= designs
        found.append(
            (warning if many else note)(
                "oracle.plateaus",
                f"{designs} different designs have {answers} different answers, as of trees, rounding or clipping",
                "There is no slope to follow on a plateau: strategies with a model, or cmaes",
                {"designs": designs, "answers": answers},
            )
        )
    losses = np.array([one.outcome.loss for one in seen], dtype=float)
    middle = np.median(losses)
    usual = float(np.median(np.abs(losses - middle)))
    far = np.abs(losses - middle).max()
    if len(losses) >= 8 and usual > 0 and far > _TAIL * usual:
        found.append(
            note(
                "oracle.heavy_tails",
                f"the farthest loss is {far / usual:.0f} times as far from the "
                "median as usual; models straighten such tails, a logarithm may do it better",
                "",
                {"ratio": far / usual},
            )
        )
    if not found:
        found.append(ok("oracle.moves", f"{designs} designs have {answers} different answers"))
    return found


def look_at_target(problem: Problem, seen: list[Seen], state: Steadiness) -> list[Finding]:
    """Whether a target lies where answers lie."""
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
    words = f"{name} is wanted at {wanted[worst]:.4g}, and draws gave {low[worst]:.4g} to {high[worst]:.4g}"
    found = []
    if beyond[worst] > 1.0:
        found.append(
            warning(
                "target.out_of_range",
                f"{words}: {beyond[worst]:.1f} such ranges beyond",
                "It may be out of reach; are the units right? Otherwise the nearest is what a study finds",
                numbers,
            )
        )
    elif beyond[worst] > 0.0:
        found.append(
            note(
                "target.beyond",
                f"{words}: outside of what {len(seen)} draws gave, but near",
                "",
                numbers,
            )
        )
    else:
        found.append(
            ok("target.in_range", "the target lies within what draws gave, output by output")
        )
    spread = y.std(axis=0) / scale
    moving = spread[spread > 0]
    if len(moving) > 1 and moving.max() > _UNEQUAL * moving.min():
        loud = problem.outputs[goal.indices[int(spread.argmax())]]
        found.append(
            warning(
                "target.scales",
                f"{loud} varies {moving.max() / moving.min():.0f} times as much as "
                "another output, so the loss sees little else",
                "Give every output a scale: Target(value, scale=[...])",
            )
        )
    if state.sigma is not None and goal.tolerance > 0:
        noise = state.sigma[list(goal.indices)]
        if (noise > goal.tolerance).any():
            found.append(
                warning(
                    "target.noise",
                    f"the tolerance {goal.tolerance:.2g} is smaller than the noise {noise.max():.2g}, so a hit is luck",
                    "Widen it, or average inside the oracle",
                )
            )
    return found


def look_at_constraints(problem: Problem, seen: list[Seen]) -> list[Finding]:
    """How many draws are feasible."""
    if not problem.constraints or not seen:
        return []
    good = sum(one.outcome.violation <= 0 for one in seen)
    wanted = ", ".join(map(str, problem.constraints))
    numbers = {"feasible": good, "of": len(seen)}
    if not good and len(seen) >= 8:
        y = np.array([one.y for one in seen])
        alone = {str(rule): int((rule.excess(y) <= 0).sum()) for rule in problem.constraints}
        said = f"no draw of {len(seen)} satisfies " + (
            f"all of {wanted}" if len(alone) > 1 else wanted
        )
        if all(alone.values()):
            each = ", ".join(f"{rule}: {count}" for rule, count in alone.items())
            return [
                note(
                    "constraints.rare",
                    f"{said}, though some satisfy each alone ({each})",
                    "",
                    numbers,
                )
            ]
        never = next(rule for rule in problem.constraints if not alone[str(rule)])
        off = float(np.min(never.excess(y)))
        return [
            warning(
                "constraints.rare",
                f"{said}; {never} is missed by {off:.3g} at least",
                "A study has to find the feasible part first: are the bounds right?",
                numbers,
            )
        ]
    return [
        (ok if good else note)(
            "constraints.feasible", f"{good} of {len(seen)} draws satisfy {wanted}", "", numbers
        )
    ]


def look_at_judge(problem: Problem, points: Array) -> tuple[list[Finding], int]:
    """Whether the judge answers, and how often it was asked."""
    judge = problem.judge
    if judge is None:
        return [], 0
    if problem.oracle is not None and judge.inside is problem.oracle.inside:
        return [
            warning(
                "judge.same",
                "the judge is the oracle itself, and will agree with everything",
                "A judge is another regressor, of other data; or leave it out",
            )
        ], 0
    designs = problem.space.decode(points[:2])
    answers: list[Answer] = judge.answers(designs, problem.outputs)
    calls = sum(answer.calls for answer in answers)
    outcomes = [problem.outcome(_said(answer), Cost()) for answer in answers]
    failed = [outcome for outcome in outcomes if outcome.y is None]
    if failed:
        return [
            warning(
                "judge.fails",
                f"the judge gives no outputs for {share(len(failed), len(outcomes))} draws: {failed[0].reason}",
                "Mend Problem(judge=...); it has to answer what the oracle answers",
            )
        ], calls
    return [ok("judge.works", "the judge answers")], calls


def look_at_pictures(problem: Problem, designs: Sequence[Any]) -> list[Finding]:
    """Whether designs can be drawn, and how plausible they are told."""
    found = []
    for name in ("draw", "plausibility"):
        fn = getattr(problem, name)
        if fn is None:
            continue
        try:
            shown = np.asarray(fn(designs[0] if name == "draw" else designs[:4]), dtype=np.float64)
            if name == "draw" and shown.ndim not in (2, 3):
                raise ValueError(
                    f"a picture has shape (height, width) or (height, width, 3), got {shown.shape}"
                )
            if name == "plausibility" and (
                shown.shape != (len(designs[:4]),) or (shown < 0).any() or (shown > 1).any()
            ):
                raise ValueError(f"one number in [0, 1] per design is wanted, got {shown!r:.60}")
        except Exception as fault:
            found.append(
                warning(
                    f"{name}.fails",
                    f"{name} raises {type(fault).__name__}: {fault}",
                    f"Mend Problem({name}=...)",
                )
            )
    return found


def _said(answer: Answer) -> Any:
    return answer.y if answer.verdict is None else answer.verdict


def _brief(y: Array) -> str:
    return ", ".join(f"{value:.4g}" for value in y[:4]) + (", ..." if len(y) > 4 else "")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
