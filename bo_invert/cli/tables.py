"""``bo-invert create``, ``ask``, ``tell``, ``add``, ``pending``, ``amend``: studies by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bo_invert.cli.csv_options import csv_style
from bo_invert.cli.options import (
    Decimal,
    Fix,
    Noisy,
    Options,
    ProblemName,
    ProblemOption,
    Seed,
    Settings,
    Shape,
    Storage,
    StudyName,
    Thousands,
    Token,
    parse_settings,
    stored_problem,
    strategy_options,
)
from bo_invert.cli.output import emit, say
from bo_invert.errors import EvaluationError, FailedError, InfeasibleError, InvalidInputError
from bo_invert.problems.loading import load_problem
from bo_invert.storage.open import open_store
from bo_invert.study.cell_numbers import AS_WRITTEN, NumberReader
from bo_invert.study.csv_table import read_table
from bo_invert.study.pending import TRIAL, PendingTrials
from bo_invert.study.study import Study
from bo_invert.study.table_records import AddedTrials
from bo_invert.types import Trial

Out = Annotated[
    Path | None, typer.Option("--out", help="CSV file for the trials, with empty outputs.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option(
        "--column", metavar="COLUMN=NAME", help="Name of the quantity in a column; repeatable."
    ),
]
TrialNumber = Annotated[int, typer.Argument(metavar="TRIAL", min=0, help="Number of the trial.")]
Values = Annotated[
    list[str] | None, typer.Argument(metavar="OUTPUT=VALUE", help="Values of the outputs.")
]
At = Annotated[
    list[str] | None,
    typer.Option(
        "--at", metavar="PARAMETER=VALUE", help="Condition that differs from the suggested one."
    ),
]
Extra = Annotated[
    list[str] | None,
    typer.Option("--extra", metavar="NAME=VALUE", help="Further measured value; repeatable."),
]
Failure = Annotated[str | None, typer.Option("--failed", help="Record a failure: its reason.")]
Never = Annotated[
    str | None, typer.Option("--infeasible", help="Record that it cannot be evaluated: why.")
]
Beyond = Annotated[
    Literal["error", "model"],
    typer.Option("--outside", help="Conditions outside the search domain: report, or models only."),
]


def create(
    name: StudyName,
    problem: ProblemName,
    storage: Storage,
    strategy: Annotated[str, typer.Option(help="Strategy.")] = "auto",
    seed: Seed = 0,
    option: Options = None,
    noisy: Noisy = None,
    settings: Settings = None,
    token: Token = None,
) -> None:
    """Create a study without a call, for work by hand."""
    made = load_problem(problem, parse_settings(settings, "--set"))
    options = strategy_options(option, noisy)
    Study.create(name, made, strategy, seed, open_store(storage, token), **options)
    say(f"study {name!r} created; next: bo-invert ask {name!r} --storage {storage}")


def ask(
    name: StudyName,
    storage: Storage,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Number of trials.")] = 1,
    out: Out = None,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Calls that the whole study may spend.")
    ] = None,
    fix: Fix = None,
    problem: ProblemOption = None,
    settings: Settings = None,
    how: Shape = "table",
    token: Token = None,
) -> None:
    """Start trials, and write them as a CSV file to complete.

    Queued designs come first, then proposals of the strategy.
    """
    study = opened(name, storage, problem, settings, token)
    _check_replaceable(study, out)
    trials = study.ask(count, budget=budget, fixed=_optional(fix, "--fix"))
    _show_pending(study, trials, out, how)
    if not trials:
        say(
            "no trial: all designs are known, open trials must end first, the budget is spent, or "
            "the strategy is done"
        )
        raise typer.Exit(1)


def pending(
    name: StudyName,
    storage: Storage,
    out: Out = None,
    how: Shape = "table",
    token: Token = None,
) -> None:
    """List the open trials of a study."""
    study = Study.open(name, open_store(storage, token))
    _check_replaceable(study, out)
    if len(study.pending):
        _show_pending(study, study.pending, out, how)
    else:
        say(f"study {name!r} has no open trials")


def tell(
    name: StudyName,
    result: Annotated[
        str, typer.Argument(metavar="FILE|TRIAL", help="CSV file with a column trial, or a number.")
    ],
    storage: Storage,
    values: Values = None,
    at: At = None,
    extra: Extra = None,
    failed: Failure = None,
    infeasible: Never = None,
    outside: Beyond = "error",
    columns: Columns = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    problem: ProblemOption = None,
    settings: Settings = None,
    token: Token = None,
) -> None:
    """Record results of trials, one by one or from a CSV file.

    Rows of the file match by trial number; rows without outputs are skipped.
    """
    study = opened(name, storage, problem, settings, token)
    if not result.isdecimal():
        if values or at or extra or failed or infeasible:
            raise InvalidInputError("tell: values, --at and --extra need the number of a trial")
        renamed = parse_settings(columns, "--column")
        _report(
            study.tell_table(
                result,
                columns=renamed,
                outside=outside,
                errors="ignore",
                decimal=decimal,
                thousands=thousands,
            )
        )
        return
    answer = _answer(values, failed, infeasible, NumberReader(decimal, thousands))
    if answer is None:
        raise InvalidInputError(f"tell: outputs are required, such as {study.outputs[0]}=1.5")
    trial = study.tell(
        int(result), answer, at=_optional(at, "--at"), extra=_optional(extra, "--extra"),
        outside=outside,
    )  # fmt: skip
    say(f"trial {trial.number} is {trial.state}{f': {trial.reason}' if trial.reason else ''}")


def add(
    name: StudyName,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="CSV file with all parameters and outputs.")
    ],
    storage: Storage,
    outside: Annotated[
        Literal["error", "model", "skip"],
        typer.Option(help="Designs outside the search domain: report, models only, or leave out."),
    ] = "error",
    blank: Annotated[
        Literal["pending", "failed", "failed-open", "skip"],
        typer.Option(
            help="Rows without outputs: queue them, record failures (of open trials only with "
            "failed-open), or leave them out."
        ),
    ] = "pending",
    repeats: Annotated[
        Literal["skip", "add"], typer.Option(help="Rows that are recorded already.")
    ] = "skip",
    columns: Columns = None,
    decimal: Decimal = None,
    thousands: Thousands = None,
    problem: ProblemOption = None,
    settings: Settings = None,
    token: Token = None,
) -> None:
    """Add observations from a CSV file.

    Invalid rows are listed, and the others are added. A repeated command adds nothing twice.
    """
    study = opened(name, storage, problem, settings, token)
    renamed = parse_settings(columns, "--column")
    _report(
        study.add(
            file,
            columns=renamed,
            outside=outside,
            blank=blank,
            repeats=repeats,
            errors="ignore",
            decimal=decimal,
            thousands=thousands,
        )
    )


def amend(
    name: StudyName,
    trial: TrialNumber,
    storage: Storage,
    values: Values = None,
    reason: Annotated[str, typer.Option(help="Reason of the correction.")] = "",
    at: At = None,
    extra: Extra = None,
    failed: Failure = None,
    infeasible: Never = None,
    outside: Beyond = "error",
    problem: ProblemOption = None,
    settings: Settings = None,
    token: Token = None,
) -> None:
    """Correct the result of a trial. The log retains the former one."""
    study = opened(name, storage, problem, settings, token)
    answer = _answer(values, failed, infeasible)
    changed = study.amend(
        trial, answer, reason=reason, at=_optional(at, "--at"),
        extra=_optional(extra, "--extra"), outside=outside,
    )  # fmt: skip
    say(f"trial {changed.number} is amended")


def opened(
    name: str,
    storage: str,
    problem: str | None,
    settings: Sequence[str] | None,
    token: str | None,
) -> Study:
    """Open a study with its problem, from the log where it holds the problem."""
    store = open_store(storage, token)
    made = stored_problem(store, name, problem, parse_settings(settings, "--set"))
    return Study.open(name, store, made)


def _answer(
    values: Sequence[str] | None,
    failed: str | None,
    infeasible: str | None,
    numbers: NumberReader | None = None,
) -> dict[str, Any] | EvaluationError | None:
    """Return outputs or an error of the command line; None without both."""
    given = [one for one in (values or None, failed, infeasible) if one is not None]
    if len(given) > 1:
        raise InvalidInputError("give one of OUTPUT=VALUE, --failed and --infeasible")
    if failed is not None:
        return FailedError(failed)
    if infeasible is not None:
        return InfeasibleError(infeasible)
    outputs = parse_settings(values, "OUTPUT=VALUE")
    if numbers is not None and numbers != AS_WRITTEN:
        for name, text in outputs.items():
            found = numbers.number(text) if isinstance(text, str) else None
            outputs[name] = text if found is None else found
    return outputs or None


def _optional(pairs: Sequence[str] | None, flag: str) -> Mapping[str, Any] | None:
    return parse_settings(pairs, flag) if pairs else None


def _check_replaceable(study: Study, out: Path | None) -> None:
    """Refuse to replace a file with results that the study does not have.

    Raises:
        InvalidInputError: The file holds results of open trials, or is no table of trials.
    """
    if out is None or not out.exists() or not out.stat().st_size:
        return
    try:
        table = read_table(out, [TRIAL, *study.outputs], {})
    except InvalidInputError:
        table = None
    if table is None or TRIAL not in table.names:
        raise InvalidInputError(
            f"--out: {out} exists and is no table of trials. Name another file, or delete it"
        )
    waiting = {str(trial.number) for trial in study.pending}
    unsaved = [
        row.cells[TRIAL]
        for row in table.rows
        if str(row.cells.get(TRIAL)) in waiting
        and any(row.cells.get(output) is not None for output in study.outputs)
    ]
    if unsaved:
        raise InvalidInputError(
            f"--out: {out} holds results of trials {', '.join(map(str, unsaved))} that are not "
            f"recorded. Record them: bo-invert tell {study.name} {out}. Or name another file"
        )


def _show_pending(study: Study, trials: Sequence[Trial], out: Path | None, how: Shape) -> None:
    """Print open trials, and write them to a file to complete."""
    pending = PendingTrials(trials, study.outputs, study.domain)
    if out is not None and trials:
        style = csv_style()
        out.write_text(pending.to_csv(style.separator, style.decimal), encoding="utf-8")
        say(f"{len(trials)} trials written to {out}; complete the outputs, then: bo-invert tell")
    if trials or how != "table":
        emit(pending.records, how)


def _report(result: AddedTrials) -> None:
    """Print how many rows were recorded; exit with code 1 if some are invalid."""
    say(result.summary)
    if result.rejected:
        raise typer.Exit(1)
