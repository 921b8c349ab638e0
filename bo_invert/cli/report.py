"""``bo-invert report``: the HTML report of a study."""

from __future__ import annotations

from pathlib import Path

from bo_invert.benchmark.compare import Comparison, summarize
from bo_invert.cli.options import (
    ProblemOption,
    ReportFolder,
    Settings,
    Storage,
    StudyName,
    parse_settings,
    stored_problem,
)
from bo_invert.cli.output import say, trial_records
from bo_invert.errors import InvalidInputError, ProblemChangedError
from bo_invert.problems.provenance import provenance_rows
from bo_invert.report.csv_export import records_csv
from bo_invert.storage.open import open_store
from bo_invert.study.study import Study


def report(
    name: StudyName,
    storage: Storage,
    out: ReportFolder = Path("report"),
    problem: ProblemOption = None,
    settings: Settings = None,
) -> None:
    """Write an offline HTML report of a study."""
    store = open_store(storage)
    made = stored_problem(store, name, problem, parse_settings(settings, "--set"))
    try:
        study = Study.open(name, store, problem=made)
    except ProblemChangedError as error:
        raise InvalidInputError(
            f"{error}\nGive the options of the problem with which the study ran: --set key=value"
        ) from None
    write_report_folder(study, out, None)


def write_report_folder(study: Study, out: Path, budget: int | None) -> None:
    """Write the report, data and tables of a study to a folder."""
    comparison = Comparison((summarize(study, budget=budget, keep=8),))
    provenance = provenance_rows(study.journal.header.get("provenance"))
    made = "".join(f"\n  {name:<11}  {value}" for name, value in provenance)
    folder = comparison.save(
        out, title=f"{study.problem_name} · {study.name}", lead=f"{study!r}{made}"
    )
    records = trial_records(study.journal, study.trials)
    (folder / "trials.csv").write_text(records_csv(records), encoding="utf-8")
    say(f"written to {folder}")
