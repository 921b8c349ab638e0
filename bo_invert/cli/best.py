"""``bo-invert best``: the best trial of a study and, where answers are noisy, the one to act on instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from bo_invert.cli.options import (
    Settings,
    Shape,
    Storage,
    StudyName,
    parse_settings,
    stored_problem,
)
from bo_invert.cli.output import Format, emit, say, trial_records, why_nothing
from bo_invert.errors import BoInvertError, InvalidInputError

if TYPE_CHECKING:
    from bo_invert.storage.base import Store
    from bo_invert.storage.reader import JournalReader
    from bo_invert.study.recommendation import Recommendation
    from bo_invert.study.study import Study


_READABLE = 64
"""So many numbers of a design are shown."""


def best(
    name: StudyName,
    storage: Storage,
    noisy: Annotated[
        bool | None,
        typer.Option("--noisy/--exact", help="What the oracle is; default: what the log says."),
    ] = None,
    problem: Annotated[
        str | None,
        typer.Option(
            help="file.py:name; needed where the oracle is noisy and the problem no ready one."
        ),
    ] = None,
    settings: Settings = None,
    how: Shape = Format.table,
) -> None:
    """The best trial of a study; of a noisy oracle also the trial that a model of all answers recommends."""
    from bo_invert.history import History
    from bo_invert.storage.open import open_store
    from bo_invert.storage.reader import JournalReader
    from bo_invert.study.recommendation import known_noisy

    store = open_store(storage)
    journal = JournalReader(store, name)
    history = History(journal.trials)
    if history.best is None:
        say(why_nothing(journal))
        raise typer.Exit(1)
    record = trial_records(journal, [history.best], how)[0]
    if known_noisy(journal.header["strategy"], history) if noisy is None else noisy:
        found = _recommended(store, name, problem, settings)
        if found is not None:
            say(found.luck)
            record |= _record(journal, found)
    emit(record, how)


def luck(study: Study) -> list[str]:
    """Sentences on the best value of a study, where answers are noisy."""
    try:
        sentence = study.recommend().luck
    except InvalidInputError as reason:
        return [] if study.best is None else [str(reason)]
    return [sentence] if sentence else []


def decoded(study: Study, how: Format) -> dict[str, Any]:
    """The best design where its coordinates do not say it: a text, or numbers, unless there are too many to read."""
    import numpy as np

    best = study.best
    if best is None or study.problem is None or study.problem.domain.parameters:
        return {}
    try:
        design = best.design
    except Exception:  # the search is done and paid for, whatever the decoder does now
        return {}
    if not isinstance(design, str):
        numbers = np.asarray(design)
        if numbers.dtype.kind not in "fiu" or numbers.ndim > 1 or numbers.size > _READABLE:
            return {}
        design = numbers.tolist()
    if how is Format.table and not isinstance(design, str):
        design = " ".join(f"{value:.6g}" for value in np.ravel(design))
    return {"best.design": design}


def second_opinion(study: Study, how: Format) -> dict[str, Any]:
    """What the judge and the reference measure say of the best design; nothing of a problem that has neither."""
    from bo_invert.report.objective_view import Goal

    problem = study.problem
    if problem is None or not study.journal.best:
        return {}
    measured = problem.plausibility is not None or problem.domain.latent
    (one,) = study.solutions()
    told: dict[str, Any] = {} if not measured else {"best.plausibility": one.plausibility}
    if problem.judge is None:
        return told
    goal = Goal(problem.objective.to_json(), problem.outputs)
    if how is Format.table:
        shown = "nothing, it failed" if one.judged is None else goal.text(one.judged)
        return {
            "judge says": shown
            + (f", constraints broken: {', '.join(one.broken)}" if one.upheld is False else ""),
            **told,
        }
    return {"best.judged_loss": one.judged, "best.judged_feasible": one.upheld, **told}


def _recommended(
    store: Store, name: str, source: str | None, settings: list[str] | None
) -> Recommendation | None:
    """What a model recommends; None, and a sentence, where the problem cannot be guessed from the log."""
    from bo_invert.study.study import Study

    try:
        made = stored_problem(store, name, source, parse_settings(settings, "--set"))
        return Study.open(name, store, problem=made).recommend(noisy=True)
    except BoInvertError as reason:
        if source is not None or settings:
            raise
        say(
            f"answers are noisy, so the best seen is partly luck; what a model expects cannot be told: {reason}"
        )
        return None


def _record(journal: JournalReader, found: Recommendation) -> dict[str, Any]:
    """Number, parameters and expectations under keys of their own."""
    told = trial_records(journal, [found.trial])[0]
    keys = list(told)
    end = keys.index("loss")
    start = end - len(found.outputs)
    record = {
        f"recommended.{key}": told[key] for key in ("number", *keys[keys.index("ask") + 1 : start])
    }
    for key, interval in zip(
        keys[start : end + 1], [*found.outputs.values(), found.loss], strict=True
    ):
        ends = {f"expected.{key}.low": interval.low, f"expected.{key}.high": interval.high}
        record |= {f"expected.{key}": interval.expected, **ends}
    return record | {"expected.feasible": found.probability}
