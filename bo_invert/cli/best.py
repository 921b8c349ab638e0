"""``bo-invert best``: the best trial of a study and, for noisy oracles, the recommended one."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import typer

from bo_invert.cli.front import front_record
from bo_invert.cli.options import (
    ProblemOption,
    Settings,
    Shape,
    Storage,
    StudyName,
    parse_settings,
    stored_problem,
)
from bo_invert.cli.output import Format, emit, say, trial_records, why_nothing
from bo_invert.errors import BoInvertError, InvalidInputError
from bo_invert.history import History
from bo_invert.report.objective_view import Goal
from bo_invert.storage.base import Store
from bo_invert.storage.open import open_existing
from bo_invert.storage.reader import JournalReader
from bo_invert.study.recommendation import Recommendation, known_noisy
from bo_invert.study.study import Study


def best(
    name: StudyName,
    storage: Storage,
    noisy: Annotated[
        bool | None,
        typer.Option("--noisy/--exact", help="Noise of the oracle; default: from the log."),
    ] = None,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
) -> None:
    """Show the best trial of a study.

    For a noisy oracle, also shows the trial that a model of all observations recommends; with noise
    of the inputs, the trial of the best yield.
    """
    store = open_existing(storage)
    journal = JournalReader(store, name)
    history = History(journal.trials)
    if history.best is None:
        say(why_nothing(journal))
        raise typer.Exit(1)
    (record,) = trial_records(journal, [history.best], how)
    several = front_record(journal)
    if several:
        say(
            f"The front has {several['front']} trials: bo-invert front {name}. This is the one of "
            "the lowest mean loss."
        )
    record |= several
    if journal.header["problem"].get("input_noise"):
        found = _recommended(store, name, problem, settings, noisy)
        record |= {} if found is None else _yields(journal, found)
    elif known_noisy(journal.header["strategy"], history) if noisy is None else noisy:
        found = _recommended(store, name, problem, settings, True)
        if found is not None:
            say(found.luck)
            record |= _record(journal, found)
    emit(record, how)


def luck(study: Study) -> list[str]:
    """Return warnings about the best value of a study with a noisy oracle."""
    try:
        sentence = study.recommend().luck
    except InvalidInputError as reason:
        return [] if study.best is None else [str(reason)]
    return [sentence] if sentence else []


def decoded(study: Study, how: Format, longest: int = 64) -> dict[str, Any]:
    """Return the best design of a latent space if it is a text or a short vector of numbers."""
    best = study.best
    if best is None or study.problem is None or study.problem.domain.parameters:
        return {}
    try:
        design = best.design
    except Exception:  # an error of the user's decoder must not hide the result of the search
        return {}
    numbers = np.asarray(design)
    if isinstance(design, str):
        return {"best.design": design}
    if numbers.dtype.kind not in "fiu" or numbers.ndim > 1 or numbers.size > longest:
        return {}
    text = " ".join(f"{value:.6g}" for value in np.ravel(numbers))
    return {"best.design": text if how == "table" else numbers.tolist()}


def second_opinion(study: Study, how: Format) -> dict[str, Any]:
    """Return the judge's result and the plausibility of the best design, if available."""
    problem = study.problem
    if problem is None or not study.journal.best:
        return {}
    if problem.objective.to_json()["type"] == "pareto":  # a front has no best design
        return {}
    measured = problem.plausibility is not None or problem.measured
    (one,) = study.solutions()
    plausibility: dict[str, Any] = {"best.plausibility": one.plausibility} if measured else {}
    if problem.judge is None:
        return plausibility
    goal = Goal(problem.objective.to_json(), problem.outputs)
    text = "failed" if one.judged is None else goal.text(one.judged)
    if one.upheld is False:
        text += f", constraints violated: {', '.join(one.broken)}"
    judged = {"best.judged_loss": one.judged, "best.judged_feasible": one.upheld}
    return ({"judged": text} if how == "table" else judged) | plausibility


def _recommended(
    store: Store, name: str, source: str | None, settings: list[str] | None, noisy: bool | None
) -> Recommendation | None:
    """Return the recommended trial; None, and a message, if the problem cannot be loaded."""
    try:
        options = parse_settings(settings, "--set")
        made = stored_problem(store, name, source, options, to_read=True)
        return Study.open(name, store, problem=made).recommend(noisy=noisy)
    except BoInvertError as reason:
        if source is not None or settings:
            raise
        kind = "best value is biased" if noisy else "inputs are noisy"
        say(f"The {kind}. No recommendation: {reason}")
        return None


def _yields(journal: JournalReader, found: Recommendation) -> dict[str, Any]:
    """Return number and parameters of the trial of the best yield, its yield and the nominal one.

    Objectives without a target have an expected loss instead.
    """
    record = _recommended_trial(journal, found)
    for kind, one in (("", found.robust), ("nominal.", found.nominal)):
        if one is not None:
            key = kind + one.kind.replace(" ", "_")
            record |= {key: one.expected, f"{key}.low": one.low, f"{key}.high": one.high}
    return record


def _recommended_trial(journal: JournalReader, found: Recommendation) -> dict[str, Any]:
    """Return number and parameters of the recommended trial."""
    row = trial_records(journal, [found.trial])[0]
    keys = list(row)
    last = keys.index("loss") - len(found.outputs)
    names = ("number", *keys[keys.index("ask") + 1 : last])
    return {f"recommended.{key}": row[key] for key in names}


def _record(journal: JournalReader, found: Recommendation) -> dict[str, Any]:
    """Return number, parameters and expected outputs of the recommended trial."""
    row = trial_records(journal, [found.trial])[0]
    keys = list(row)
    end = keys.index("loss")
    start = end - len(found.outputs)
    intervals = zip(keys[start : end + 1], [*found.outputs.values(), found.loss], strict=True)
    expected = {
        f"expected.{key}{suffix}": value
        for key, one in intervals
        for suffix, value in (("", one.expected), (".low", one.low), (".high", one.high))
    }
    return _recommended_trial(journal, found) | expected | {"expected.feasible": found.probability}
