"""Suggested next steps after a study, from its log: rules with thresholds, no model."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bo_invert.domains.parameters import Choice
from bo_invert.history import best_so_far
from bo_invert.problems.problem import Problem
from bo_invert.report.charts.study_data import StudyData, coordinate
from bo_invert.report.charts.text import value_text
from bo_invert.report.table import counted
from bo_invert.study.continuation import how_to_continue, widenable
from bo_invert.types import State, Trial

_LATE = 0.25
"""Last share of the calls in which improvements count as recent. Engineering choice."""
_SMALL = 0.01
"""Recent improvement, as a share of the total one, below which a search has slowed down.
Engineering choice."""
_TIGHT = 0.05
"""Distance to a bound, as a share of the spread of the output or of the range of the parameter,
below which the bound limits the result. Engineering choice."""
_FAILURES = 0.2
"""Share of failed trials from which their reason is named. Engineering choice."""
_FEW = 2
"""Observations of a noisy design below which more are suggested. Engineering choice."""
_EXPLAINED = 0.3
"""Coefficient of determination R^2 below which a model is called weak. Engineering choice."""


@dataclass(frozen=True)
class Findings:
    """Facts that the rules need besides the log.

    Args:
        explained: smallest coefficient of determination R^2 of the modelled outputs; None without a
            model.
        upheld: verdict of the judge on the design to act on: True if its outputs satisfy the
            constraints and confirm half of the improvement; None without a judge.
        plausibility: plausibility of that design in [0, 1]; None without a measure.
        hit: True if the target is reached within its tolerance.
        outlook: sentence about the remaining gain; empty without one.
    """

    explained: float | None = None
    upheld: bool | None = None
    plausibility: float | None = None
    hit: bool = False
    outlook: str = ""


def next_steps(data: StudyData, problem: Problem | None, findings: Findings) -> list[str]:
    """Return suggestions, the most important first.

    Args:
        data: the study.
        problem: its problem; None if it is unknown.
        findings: facts from models and the judge.
    """
    return [*_feasibility(data), *_failures(data), *_trust(data, problem, findings),
            *_bounds(data), *_calls(data, problem, findings)]  # fmt: skip


def _feasibility(data: StudyData) -> Iterator[str]:
    """Name the constraint that excludes most trials if no trial is feasible."""
    if data.leading is not None or not data.completed:
        return
    counts: Counter[str] = Counter()
    for trial in data.completed:
        for one in data.constraints:
            counts[str(one)] += bool(trial.y is not None and one.excess(trial.y) > 0.0)
    worst = counts.most_common(1)
    if worst and worst[0][1]:
        yield (
            f"No trial satisfies all constraints; {worst[0][0]} excludes "
            f"{worst[0][1]} of {counted(len(data.completed), 'completed trial')}. Check the bound, "
            "widen the search space, or continue: the search now minimises the violation."
        )


def _failures(data: StudyData) -> Iterator[str]:
    ended = [trial for trial in data.trials if not trial.state.open]
    failed = [trial for trial in ended if trial.state in (State.FAILED, State.INFEASIBLE)]
    if ended and len(failed) >= _FAILURES * len(ended):
        reason, count = Counter(trial.reason for trial in failed).most_common(1)[0]
        yield (
            f"{len(failed)} of {counted(len(ended), 'trial')} have no outputs, {count} of them "
            f"with “{reason[:160]}”. Exclude such designs by the space or by a constraint."
        )
    lost = sum(trial.state is State.LOST for trial in data.trials)
    if lost:
        yield f"{counted(lost, 'trial')} without a result, because their workers ended: retry them."


def _trust(data: StudyData, problem: Problem | None, findings: Findings) -> Iterator[str]:
    """Name doubts about the value of the design to act on."""
    if data.leading is None:
        return
    number = data.leading.number
    if findings.upheld is False:
        yield (
            f"The judge does not confirm trial {number}. Prefer a design that it confirms, search "
            "a smaller plausible region (realism=0.9), or improve the oracle."
        )
    if findings.plausibility is not None and findings.plausibility < _TIGHT:
        yield (
            f"Trial {number} is less plausible than {1 - findings.plausibility:.0%} of real "
            "designs; predictions of a regressor are extrapolations there."
        )
    if data.noisy:
        key = data.leading.point.tobytes()
        times = sum(trial.point.tobytes() == key for trial in data.completed)
        if times < _FEW:
            yield (
                f"The oracle is noisy and trial {number} was observed once: repeat it with "
                f"study.enqueue(point=study.trials[{number}].point)."
            )
    learned = problem is not None and type(problem.oracle).__name__ in _LEARNED
    if learned and problem is not None and problem.judge is None:
        yield (
            "The oracle is a trained model and there is no judge: train a second model on other "
            "data and pass it as Problem(judge=...), because a search exploits the errors of a "
            "model."
        )
    if findings.explained is not None and findings.explained < _EXPLAINED:
        yield (
            f"The model explains little of the data (R² = {findings.explained:.2f}, left-out "
            "observations): its plots are a rough guide. More data, or parameters that matter "
            "more, would help."
        )


_LEARNED = frozenset({"Estimator", "TorchModule", "GradientProxy", "Onnx"})
"""Oracles that are trained models."""


def _bounds(data: StudyData) -> Iterator[str]:
    """Name constraints and ends of parameters at which the result lies."""
    trial = data.leading
    if trial is None or trial.y is None or data.goal.kind == "pareto":
        return
    y = np.array([one.y for one in data.completed if one.y is not None])
    for constraint in data.constraints:
        spread = float(y[:, constraint.index].std())
        slack = -float(constraint.excess(trial.y))
        if spread > 0.0 and slack < _TIGHT * spread:
            yield (
                f"The constraint {constraint} limits the result: trial {trial.number} has "
                f"{value_text(float(trial.y[constraint.index]))}. A looser bound would allow "
                "better values."
            )
    for name, parameter in data.axes.items():
        if isinstance(parameter, Choice) or data.domain is None or data.domain.latent:
            continue
        value = coordinate(parameter, data.values(trial).get(name))
        log = parameter.log
        low, high = float(parameter.low), float(parameter.high)
        if math.isnan(value):
            continue
        at = [math.log(one) for one in (low, value, high)] if log else [low, value, high]
        share = (at[1] - at[0]) / (at[2] - at[0])
        if min(share, 1.0 - share) < _TIGHT**2 and widenable(data.domain, name)[share >= 0.5]:
            side = "lower" if share < 0.5 else "upper"
            yield (
                f"{data.label(name)} is at its {side} end, {value_text(value)}. Widen the range if "
                "values beyond it are possible."
            )


def _calls(data: StudyData, problem: Problem | None, findings: Findings) -> Iterator[str]:
    """Judge by the recent improvement whether further calls are worthwhile."""
    if findings.hit:
        yield "The target is reached within its tolerance: no further call is needed."
        return
    if findings.outlook:
        yield findings.outlook
    calls, losses = best_so_far(data.trials)
    if data.goal.kind == "pareto" or not len(calls) or not np.isfinite(losses[-1]):
        return
    spent = int(calls[-1])
    before = losses[calls <= (1.0 - _LATE) * spent]
    known = losses[np.isfinite(losses)]
    total = float(known[0] - known[-1])
    if spent < 8 or not len(before) or total <= 0.0:
        yield "Continue the study: it has too few calls to judge its progress."
        return
    recent = float(before[-1] - losses[-1]) if np.isfinite(before[-1]) else total
    last = spent - int((1.0 - _LATE) * spent)
    if recent > _SMALL * total:
        yield (
            f"The last {last} calls still improved the result ({recent / total:.0%} of the total "
            f"improvement): {how_to_continue(problem, 2 * spent)}."
        )
    elif not findings.outlook:
        yield (
            f"The last {last} calls improved the result by less than {_SMALL:.0%} of the total "
            "improvement: more calls with the same space will probably gain little."
        )


def confirms(data: StudyData, trial: Trial, judged: float | None, upheld: bool | None) -> bool:
    """Return True if a judge confirms at least half of the improvement of a trial.

    Args:
        data: the study.
        trial: the trial.
        judged: its loss under the judge; None if the judge failed.
        upheld: True if the outputs of the judge satisfy the constraints.
    """
    if judged is None or not upheld or trial.loss is None:
        return False
    losses = [one.loss for one in data.completed if one.loss is not None]
    start = float(np.median(losses))
    return start - judged >= 0.5 * (start - trial.loss)
