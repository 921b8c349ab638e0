"""Output of the command line: data to standard output, messages to standard error."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import typer

from bo_invert.cli.csv_options import csv_style
from bo_invert.cli.messages import command_text
from bo_invert.cli.terminal import print_error
from bo_invert.domains.constrained_box import stored_domain
from bo_invert.errors import printable
from bo_invert.report.csv_export import finite, records_csv
from bo_invert.report.dataframe import trial_record
from bo_invert.report.feasibility import why_infeasible
from bo_invert.report.objective_view import Goal
from bo_invert.report.table import Table, shown, terminal_width
from bo_invert.types import Trial

if TYPE_CHECKING:
    from bo_invert.benchmark.compare import Comparison
    from bo_invert.storage.reader import JournalReader

Format = Literal["table", "json", "csv"]
Row = Mapping[str, Any]
RESUME = "rerun the same command to resume"


def say(message: str) -> None:
    """Print a message to standard error, with options instead of Python arguments."""
    print_error(command_text(message))


def show(text: str) -> None:
    """Print data to standard output."""
    print(printable(text))


def split(names: str) -> list[str]:
    """Split names at commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def emit(
    data: Row | Sequence[Row],
    how: Format,
    hidden: Collection[str] = (),
    optional: Sequence[str] = (),
) -> None:
    """Print one record, or several records of the same keys.

    Args:
        data: plain values; a single record is printed key by key.
        how: output format; json and csv hold all keys.
        hidden: keys that a table omits.
        optional: keys that a table omits on a narrow terminal, least important first.
    """
    records = [data] if isinstance(data, Mapping) else list(data)
    keys = dict.fromkeys(key for record in records for key in record if key not in hidden)
    visible = tuple(keys)
    rows = tuple(tuple(_cell(record.get(key)) for key in visible) for record in records)
    if how == "json":
        plain = [finite(record) for record in records]
        chosen = plain[0] if isinstance(data, Mapping) else plain
        text = json.dumps(chosen, indent=2, ensure_ascii=False, allow_nan=False)
    elif how == "csv":
        text = records_csv(records, csv_style()).rstrip("\n")
    elif isinstance(data, Mapping):
        width = max(map(len, visible))
        pairs = zip(visible, *rows, strict=True)
        text = "\n".join(f"{key:{width}}  {shown(value)}".rstrip() for key, value in pairs)
    else:
        text = Table(visible, rows, optional=tuple(optional)).text(terminal_width())
    show(text)


def _cell(value: object) -> object:
    return " ".join(value.split()) if isinstance(value, str) else value


def study_record(
    journal: JournalReader, best: Trial | None, how: Format = "json"
) -> dict[str, Any]:
    """Return identity, best result and cost of a study.

    A table shows the best result in the user's quantity: the output or the distance to the target.
    """
    header, spent = journal.header, journal.ledger
    # Several criteria have a front instead of a best trial.
    several = header["problem"]["objective"].get("type") == "pareto"
    loss = None if best is None or several else best.loss
    text = None if loss is None else _goal(journal).text(loss)
    found = {"best": text} if how == "table" else {"best_loss": loss}
    return {
        "study": journal.name,
        "problem": header["problem_name"],
        "strategy": header["strategy"]["name"],
        "seed": header["seed"],
        "trials": len(journal.trials),
        **found,
        "values": spent.values,
        "gradients": spent.gradients,
        "failed": spent.failed,
        "infeasible": spent.infeasible,
        "lost": spent.lost,
        "reused": spent.reused,
        "running": spent.running,
        "seconds": spent.seconds,
        "asking": spent.asking,
        "created": header["created"],
    }


OPTIONAL_STUDY_KEYS = (
    "created", "asking", "seconds", "reused", "lost", "infeasible", "running", "gradients",
    "failed", "seed",
)  # fmt: skip
"""Columns of the list of studies that a narrow terminal omits, least important first."""

OPTIONAL_TRIAL_KEYS = (
    "expected", "attempts", "gradients", "values", "violation", "ask", "origin", "seconds",
    "reason", "feasible",
)  # fmt: skip
"""Columns of the list of trials that a narrow terminal omits, least important first."""


def trial_records(
    journal: JournalReader, trials: Sequence[Trial], how: Format = "json"
) -> list[dict[str, Any]]:
    """Return trials as rows, with parameters by name if the log has names.

    A table omits a loss that is plus or minus an output, and shows the distance to a target.
    """
    problem = journal.header["problem"]
    domain = stored_domain(problem)
    records = [trial_record(trial, problem["outputs"], domain) for trial in trials]
    if how != "table":
        return records
    goal = _goal(journal)
    return [
        {
            (goal.label if key == "loss" else key): (
                goal.value(value) if key == "loss" and value is not None else value
            )
            for key, value in record.items()
            if key != "loss" or not goal.is_output
        }
        for record in records
    ]


def _goal(journal: JournalReader) -> Goal:
    problem = journal.header["problem"]
    return Goal(problem["objective"], problem["outputs"])


def best_record(journal: JournalReader, best: Trial | None) -> dict[str, Any]:
    """Return number, parameters and outputs of the best trial, with the prefix ``best.``."""
    if best is None:
        return {}
    (record,) = trial_records(journal, [best])
    keys = list(record)
    wanted = ["number", *keys[keys.index("ask") + 1 : keys.index("loss")]]
    return {f"best.{key}": record[key] for key in wanted}


def reasons(journal: JournalReader) -> list[str]:
    """Return each reason for the choice of a strategy once, with its first trial."""
    given = [(str(t.query.meta.get("why", "")), t.number) for t in reversed(journal.trials)]
    first = sorted((number, why) for why, number in dict(given).items() if why)
    return [f"from trial {number}: {why}" for number, why in first]


def why_nothing(journal: JournalReader) -> str:
    """Explain why a study has no feasible trial."""
    why = why_infeasible(journal.trials)
    return f"bo-invert: study {journal.name!r} has no feasible trial: {why}"


def require_result(comparison: Comparison) -> None:
    """Exit with code 1 if no run of a comparison has a feasible design."""
    if all(run.best is None for run in comparison.runs):
        say("bo-invert: no run found a feasible design")
        raise typer.Exit(1)
