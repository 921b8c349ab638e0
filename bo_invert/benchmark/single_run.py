"""Single run: one strategy on one problem with one seed, and its summary."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from bo_invert.benchmark.hypervolumes import with_hypervolumes
from bo_invert.errors import MissingExtraError, StudyPausedError, UnsuitableStrategyError
from bo_invert.history import best_so_far
from bo_invert.objectives.pareto import Pareto
from bo_invert.problems.problem import Problem
from bo_invert.report.runs import Find, Picture, Run, Status
from bo_invert.storage.base import Store
from bo_invert.strategies.base import Strategy, from_spec
from bo_invert.study.header import current_spec
from bo_invert.study.solutions import Solution, solutions
from bo_invert.study.study import Study
from bo_invert.types import JSON, frozen

_FRONT = 8
"""Number of designs that show a Pareto front. Engineering choice."""

REUSE_LIMIT = 2
"""Trials per call of the budget before known designs are billed. Engineering choice: as many
answers from the log as calls are free, and a method that repeats designs spends its budget."""

ProblemSource = Problem | Callable[[int], Problem]
"""Problem, or function ``seed -> Problem`` that draws another target for each seed."""


def run_one(
    label: str,
    problem: ProblemSource,
    strategy: str | JSON | Strategy,
    budget: int,
    seed: int = 0,
    *,
    name: str | None = None,
    batch: int = 1,
    keep: int = 1,
    progress: bool = False,
    storage: str | Store | None = None,
    stop_when_hit: bool = False,
    raise_errors: bool = False,
    stop: Callable[[], bool] | None = None,
) -> Run:
    """Run one strategy on one problem with one seed; ``compare`` documents the other arguments.

    Args:
        name: name of the problem in tables; default: the problem's own. Runs with equal names are
            compared.
        progress: show a progress bar.
        stop: callback of ``Study.run``; a run that it ends has the status ``STOPPED``.
    """
    chosen = from_spec(strategy)
    title = name or (problem.name if isinstance(problem, Problem) else "problem")
    header = {
        "label": label,
        "problem": title,
        "seed": seed,
        "strategy": chosen.spec(),
        "budget": budget,
    }
    study: Study | None = None
    try:
        made = problem if isinstance(problem, Problem) else problem(seed)
        if name is None:
            title = header["problem"] = made.name
        study = Study.create(
            f"{title} / {label} / seed {seed}", made, chosen, seed, storage, exist_ok=True
        )
        study.run(
            budget, batch=batch, progress=progress, stop_when_hit=stop_when_hit, stop=stop,
            reuse_limit=REUSE_LIMIT * budget,
        )  # fmt: skip
        halted = stop is not None and stop() and study.history.calls < budget
        return summarize(
            study, label=label, name=title, budget=budget, keep=keep,
            status=Status.STOPPED if halted else Status.FINISHED,
            ended="stopped" if halted else None,
        )  # fmt: skip
    except (UnsuitableStrategyError, MissingExtraError) as refusal:
        return Run(**header, status=Status.REFUSED, ended=str(refusal))
    except StudyPausedError as pause:
        return Run(**header, status=Status.STOPPED, ended=str(pause))
    except Exception as error:
        if raise_errors:
            raise
        return _failed_run(study, header, _reason(error), keep)


def summarize(
    study: Study,
    *,
    label: str | None = None,
    name: str | None = None,
    budget: int | None = None,
    keep: int = 1,
    status: Status = Status.FINISHED,
    ended: str | None = None,
) -> Run:
    """Summarize a study as a ``Run``; the judge evaluates its best designs, unbilled.

    Args:
        study: study with its problem.
        label: label of the method; default: the strategy's name.
        name: name of the problem; default: the problem's own.
        budget: calls allowed; default: calls spent.
        keep: number of best, distinct designs to report.
        status: status of the run.
        ended: reason of the end; default: derived from the log.
    """
    history, spent = study.history, study.spent
    calls, losses = best_so_far(history.trials)
    assert study.problem is not None
    if isinstance(study.statement.objective, Pareto) and study.problem.judge is None:
        keep = max(keep, _FRONT)
    finds = tuple(_find(study.problem, one) for one in solutions(study.problem, history, keep))
    allowed = spent.calls if budget is None else budget
    if ended is None:
        hit = bool(finds) and bool(finds[0].hit) and history.calls < allowed
        used_up = history.calls >= allowed
        ended = "budget spent" if used_up else "target hit" if hit else "no further query"
        if not history.completed and history.failed and history.failed[-1].outcome is not None:
            ended = f"all trials failed; last error: {history.failed[-1].outcome.reason}"
    statement, asks = study.statement, study.journal.ask_seconds
    spec = current_spec(study.journal.header)
    objective = statement.objective
    trace = study.criteria_trace.to_json() if isinstance(objective, Pareto) else {}
    run = Run(
        label or spec["name"], name or study.problem_name, study.seed,
        spec, allowed, objective.to_json(),
        np.asarray(calls, dtype=np.int64), losses, spent, finds, status, ended,
        float(np.median(asks)) if asks else None, criteria=trace,
    )  # fmt: skip
    return with_hypervolumes([run])[0]


def _failed_run(study: Study | None, header: dict[str, Any], reason: str, keep: int) -> Run:
    """Summarize a run that raised, with its results up to the error if they can be read."""
    with suppress(Exception):
        if study is not None:
            return summarize(
                study, label=header["label"], name=header["problem"], budget=header["budget"],
                keep=keep, status=Status.ERROR, ended=reason,
            )  # fmt: skip
    return Run(**header, status=Status.ERROR, ended=reason)


def _reason(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _find(problem: Problem, solution: Solution) -> Find:
    trial = solution.trial
    return Find(
        number=trial.number,
        point=trial.point,
        y=frozen(solution.y),
        loss=solution.loss,
        feasible=trial.feasible,
        hit=problem.objective.satisfied(solution.y) if problem.objective.satisfiable else None,
        judged=solution.judged,
        upheld=solution.upheld,
        plausibility=solution.plausibility,
        picture=solution.picture,
        text=_design_text(trial.design, solution.picture),
    )


def _design_text(design: object, picture: Picture | None, longest: int = 200) -> str:
    if picture is not None and not isinstance(design, (Mapping, str)):
        return f"image of {picture.shape[0]} x {picture.shape[1]} pixels"  # shown beside
    match design:
        case Mapping():
            words = ", ".join(
                f"{k} = {v:.5g}" if isinstance(v, float) else f"{k} = {v}"
                for k, v in design.items()
            )
        case np.ndarray(ndim=0 | 1):
            words = "(" + ", ".join(f"{v:.5g}" for v in np.atleast_1d(design)) + ")"
        case _:
            words = design if isinstance(design, str) else ""
    return words if len(words) <= longest else words[: longest - 1] + "…"
