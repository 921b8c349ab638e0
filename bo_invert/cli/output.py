"""What the command line prints: data to standard output, everything else to standard error."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bo_invert.report.objective_view import Goal
    from bo_invert.storage.reader import JournalReader
    from bo_invert.types import Trial

Row = Mapping[str, Any]


class Format(StrEnum):
    """How data is printed."""

    table = "table"
    json = "json"
    csv = "csv"


def say(message: str) -> None:
    """A message for people, to standard error."""
    from bo_invert.types import printable  # numpy comes with it: late, for the help

    print(printable(message), file=sys.stderr)


def show(text: str) -> None:
    """Data for people or programs, to standard output."""
    from bo_invert.types import printable

    print(printable(text))


def split(names: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def emit(data: Row | Sequence[Row], how: Format, hidden: Collection[str] = ()) -> None:
    """Print one record, or several of the same keys.

    Args:
        data: plain values; one record alone is shown key by key.
        how: as a table for people, or in full for programs.
        hidden: keys that a table leaves out.
    """
    show(rendered(data, how, hidden))


def rendered(data: Row | Sequence[Row], how: Format, hidden: Collection[str] = ()) -> str:
    """What ``emit`` prints."""
    if how is Format.json:
        plain = _plain(data) if isinstance(data, Mapping) else [_plain(record) for record in data]
        return json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False)
    records = [data] if isinstance(data, Mapping) else list(data)
    keys = list(dict.fromkeys(key for record in records for key in record))
    if how is Format.csv:
        stream = io.StringIO()
        writer = csv.DictWriter(stream, keys, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_plain(record) for record in records)
        return stream.getvalue().rstrip("\n")
    from bo_invert.report.table import Table, shown

    visible = [key for key in keys if key not in hidden]
    if isinstance(data, Mapping):
        width = max(map(len, visible))
        return "\n".join(f"{key:{width}}  {shown(_cell(data[key]))}".rstrip() for key in visible)
    rows = tuple(tuple(_cell(record.get(key)) for key in visible) for record in records)
    return Table(tuple(visible), rows).text()


def _plain(record: Row) -> dict[str, Any]:
    """JSON has no word for infinity and NaN."""
    return {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()
    }


def _cell(value: Any) -> Any:
    return " ".join(value.split()) if isinstance(value, str) else value


def study_record(
    journal: JournalReader, best: Trial | None, how: Format = Format.json
) -> dict[str, Any]:
    """A study in one row: what it is about, what it found (in a table as its user would say it), what it spent."""
    header, spent = journal.header, journal.ledger
    loss = None if best is None else best.loss
    people = how is Format.table
    found = (
        {"best": None if loss is None else _goal(journal).text(loss)}
        if people
        else {"best_loss": loss}
    )
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


def trial_records(
    journal: JournalReader, trials: Sequence[Trial], how: Format = Format.json
) -> list[dict[str, Any]]:
    """Trials as rows, with parameters by name where the log knows their names; the problem itself is not needed.

    In a table there is no loss beside the output that it is plus or minus, and a distance instead of that of a target.
    """
    from bo_invert.report.dataframe import trial_record
    from bo_invert.search_domain import stored_domain

    problem = journal.header["problem"]
    domain = stored_domain(problem)
    records = [trial_record(trial, problem["outputs"], domain) for trial in trials]
    return [_told(record, _goal(journal)) for record in records] if how is Format.table else records


def _goal(journal: JournalReader) -> Goal:
    from bo_invert.report.objective_view import Goal

    problem = journal.header["problem"]
    return Goal(problem["objective"], problem["outputs"])


def _told(record: Row, goal: Goal) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for key, value in record.items():
        if key != "loss":
            told[key] = value
        elif not goal.is_output:
            told[goal.label] = None if value is None else goal.value(value)
    return told


def best_record(journal: JournalReader, best: Trial | None) -> dict[str, Any]:
    """Number, parameters and outputs of the best trial, under keys of their own."""
    if best is None:
        return {}
    record = trial_records(journal, [best])[0]
    keys = list(record)
    wanted = ["number", *keys[keys.index("ask") + 1 : keys.index("loss")]]
    return {f"best.{key}": record[key] for key in wanted}


def reasons(journal: JournalReader) -> list[str]:
    """Why a strategy that chooses among others chose what it chose, once each, with the trial where it began."""
    begun: dict[str, int] = {}
    for trial in journal.trials:
        why = trial.query.meta.get("why")
        if why is not None:
            begun.setdefault(str(why), trial.number)
    return [f"from trial {number}: {why}" for why, number in begun.items()]


def why_nothing(journal: JournalReader) -> str:
    """A sentence on a study without a feasible trial."""
    done = [trial.outcome for trial in journal.trials if trial.outcome is not None]
    reasons = [outcome.reason for outcome in done if outcome.reason]
    parts = []
    if len(done) > len(reasons):
        parts.append(
            f"{len(done) - len(reasons)} of {len(done)} trials miss the outcome constraints"
        )
    if reasons:
        parts.append(
            f"{len(reasons)} of {len(done)} trials gave no outputs; the last said: {reasons[-1]}"
        )
    why = "; ".join(parts) or "no trial has an outcome"
    return f"bo-invert: study {journal.name!r} found nothing: {why}"
