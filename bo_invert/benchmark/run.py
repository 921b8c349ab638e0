"""One method on one problem with one seed, and what is kept of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bo_invert.errors import MissingExtraError, UnsuitableStrategyError
from bo_invert.history import best_so_far
from bo_invert.problems.problem import Problem
from bo_invert.report.runs import Find, Run, Status
from bo_invert.storage.base import Store
from bo_invert.strategies.base import Strategy, from_spec
from bo_invert.study.solutions import Solution, solutions
from bo_invert.study.study import Study
from bo_invert.types import JSON, frozen

ProblemSource = Problem | Callable[[int], Problem]
"""A problem, or a function from a seed to one, so that each seed is another target."""


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
    """One method on one problem with one seed; see ``compare`` for the arguments.

    Args:
        name: of the problem in tables; default: its own. Methods under one name are compared.
        progress: show a bar of calls.
        stop: see ``Study.run``; a run that it ended early has the status ``STOPPED``.
    """
    chosen = from_spec(strategy)
    title = name or ("problem" if not isinstance(problem, Problem) else problem.name)
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
        study = _study(f"{title} / {label} / seed {seed}", made, chosen, seed, storage)
        study.run(budget, batch=batch, progress=progress, stop_when_hit=stop_when_hit, stop=stop)
        halted = stop is not None and stop() and study.history.calls < budget
        ending: dict[str, Any] = (
            {"status": Status.STOPPED, "ended": "it was stopped"} if halted else {}
        )
        return summarize(study, label=label, name=title, budget=budget, keep=keep, **ending)
    except (UnsuitableStrategyError, MissingExtraError) as refusal:
        return Run(**header, status=Status.REFUSED, ended=str(refusal))
    except Exception as error:
        if raise_errors:
            raise
        sentence = _sentence(error)
    if study is None:
        return Run(**header, status=Status.ERROR, ended=sentence)
    return _broken(study, header, sentence, keep)


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
    """What a study with its problem has come to, as a ``Run``; its best designs are judged, at no charge.

    Args:
        study: opened with its problem.
        label: of the method; default: the strategy's name.
        name: of the problem; default: its own.
        budget: it was allowed; default: what it spent.
        keep: how many of the best different designs to report.
        status: of the run.
        ended: why it stopped; default: told from the log.
    """
    history, spent = study.history, study.spent
    calls, losses = best_so_far(history.trials)
    assert study.problem is not None
    finds = tuple(_find(study.problem, one) for one in solutions(study.problem, history, keep))
    allowed = spent.calls if budget is None else budget
    if ended is None:
        hit = bool(finds) and bool(finds[0].hit) and history.calls < allowed
        used_up = history.calls >= allowed
        ended = (
            "the budget was used up"
            if used_up
            else "the target was hit"
            if hit
            else "the strategy was done"
        )
        if not history.completed and history.failed and history.failed[-1].outcome is not None:
            ended = f"nothing worked; the last trial said: {history.failed[-1].outcome.reason}"
    statement, asks = study.statement, study.journal.ask_seconds
    return Run(
        label or study.strategy.name, name or study.problem_name, study.seed, study.strategy.spec(), allowed,
        statement.objective.to_json(), np.asarray(calls, dtype=np.int64), losses, spent, finds, status, ended,
        float(np.median(asks)) if asks else None,
    )  # fmt: skip


def _study(
    name: str, problem: Problem, strategy: Strategy, seed: int, storage: str | Store | None
) -> Study:
    return Study.create(name, problem, strategy, seed, storage, exist_ok=True)


def _broken(study: Study, header: dict[str, Any], sentence: str, keep: int) -> Run:
    """A run that raised, with what it had found by then if that can still be told."""
    try:
        return summarize(study, label=header["label"], name=header["problem"], budget=header["budget"], keep=keep,
                         status=Status.ERROR, ended=sentence)  # fmt: skip
    except Exception:
        return Run(**header, status=Status.ERROR, ended=sentence)


def _sentence(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _find(problem: Problem, solution: Solution) -> Find:
    trial = solution.trial
    with_tolerance = problem.objective.to_json().get("tolerance", 0.0) > 0
    return Find(
        number=trial.number,
        point=trial.point,
        y=frozen(solution.y),
        loss=solution.loss,
        feasible=trial.feasible,
        hit=problem.objective.satisfied(solution.y) if with_tolerance else None,
        judged=solution.judged,
        upheld=solution.upheld,
        plausibility=solution.plausibility,
        picture=solution.picture,
        text=_in_words(trial.design),
    )


def _in_words(design: Any, longest: int = 200) -> str:
    if isinstance(design, Mapping):
        words = ", ".join(
            f"{k} = {v:.5g}" if isinstance(v, float) else f"{k} = {v}" for k, v in design.items()
        )
    elif isinstance(design, np.ndarray) and design.ndim <= 1:
        words = "(" + ", ".join(f"{v:.5g}" for v in np.atleast_1d(design)) + ")"
    else:
        words = design if isinstance(design, str) else ""
    return words if len(words) <= longest else words[: longest - 1] + "…"
