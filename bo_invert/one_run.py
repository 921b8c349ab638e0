"""One method on one problem with one seed, and what is kept of it."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bo_invert.errors import MissingExtra, Unsuitable
from bo_invert.history import best_so_far
from bo_invert.problem import Problem
from bo_invert.runs import Find, Run, Status, as_picture
from bo_invert.stores.base import Store
from bo_invert.strategies.base import Strategy, from_spec
from bo_invert.study import Study
from bo_invert.types import JSON, Trial, frozen

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
    header = {"label": label, "problem": title, "seed": seed, "strategy": chosen.spec(), "budget": budget}
    study: Study | None = None
    try:
        made = problem if isinstance(problem, Problem) else problem(seed)
        if name is None:
            title = header["problem"] = made.name
        study = _study(f"{title} / {label} / seed {seed}", made, chosen, seed, storage)
        study.run(budget, batch=batch, progress=progress, stop_when_hit=stop_when_hit, stop=stop)
        halted = stop is not None and stop() and study.history.calls < budget
        ending: dict[str, Any] = {"status": Status.STOPPED, "ended": "it was stopped"} if halted else {}
        return summarize(study, label=label, name=title, budget=budget, keep=keep, **ending)
    except (Unsuitable, MissingExtra) as refusal:
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
    domain = study.statement.domain
    apart = (0.02 if domain.geometry == "box" else 0.2) * float(np.sqrt(domain.dim))
    finds = _finds(study, _different(history.ranking, keep, apart))
    allowed = spent.calls if budget is None else budget
    if ended is None:
        hit = bool(finds) and bool(finds[0].hit) and history.calls < allowed
        used_up = history.calls >= allowed
        ended = "the budget was used up" if used_up else "the target was hit" if hit else "the strategy was done"
        if not history.completed and history.barren and history.barren[-1].outcome is not None:
            ended = f"nothing worked; the last trial said: {history.barren[-1].outcome.reason}"
    statement, asks = study.statement, study.journal.ask_seconds
    return Run(
        label or study.strategy.name, name or study.problem_name, study.seed, study.strategy.spec(), allowed,
        statement.objective.to_json(), np.asarray(calls, dtype=np.int64), losses, spent, finds, status, ended,
        float(np.median(asks)) if asks else None,
    )  # fmt: skip


def _study(name: str, problem: Problem, strategy: Strategy, seed: int, storage: str | Store | None) -> Study:
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


def _different(ranking: Sequence[Trial], keep: int, apart: float) -> list[Trial]:
    """The best ``keep`` trials, each at least ``apart`` from the better ones where there are enough of those.

    Feasible ones, unless there is none. A search ends up asking next to its best point over and over: five times
    nearly the same design would say less than one.
    """
    usable = [t for t in ranking if t.feasible] or list(ranking[:1])
    chosen: list[Trial] = []
    for least in (apart, 1e-9):
        for trial in usable:
            if len(chosen) < keep and all(np.linalg.norm(trial.point - t.point) >= least for t in chosen):
                chosen.append(trial)
    return sorted(chosen, key=usable.index)


def _finds(study: Study, trials: Sequence[Trial]) -> tuple[Find, ...]:
    problem = study.problem
    if problem is None or not trials:
        return ()
    designs = [trial.design for trial in trials]
    judged = problem.judged(designs)
    plausible = (
        problem.space.plausibility(np.array([trial.point for trial in trials]))
        if problem.realism is None
        else problem.realism(designs)
    )
    with_tolerance = problem.objective.to_json().get("tolerance", 0.0) > 0
    finds = []
    for trial, design, verdict, realistic in zip(trials, designs, judged, plausible, strict=True):
        assert trial.y is not None
        assert trial.loss is not None
        finds.append(
            Find(
                number=trial.number,
                point=trial.point,
                y=frozen(trial.y),
                loss=trial.loss,
                feasible=trial.feasible,
                hit=problem.objective.satisfied(trial.y) if with_tolerance else None,
                judged=verdict,
                plausibility=float(realistic) if np.isfinite(realistic) else None,
                picture=None if problem.draw is None else as_picture(problem.draw(design)),
                text=_in_words(design),
            )
        )
    return tuple(finds)


def _in_words(design: Any, longest: int = 200) -> str:
    if isinstance(design, Mapping):
        words = ", ".join(f"{k} = {v:.5g}" if isinstance(v, float) else f"{k} = {v}" for k, v in design.items())
    elif isinstance(design, np.ndarray) and design.ndim <= 1:
        words = "(" + ", ".join(f"{v:.5g}" for v in np.atleast_1d(design)) + ")"
    else:
        words = design if isinstance(design, str) else ""
    return words if len(words) <= longest else words[: longest - 1] + "…"
