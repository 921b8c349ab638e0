"""Open trials as records, for work by hand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from bo_invert.domains.search_domain import Domain
from bo_invert.report.csv_export import CsvStyle, records_csv
from bo_invert.report.dataframe import expected_text, records_frame, trial_values
from bo_invert.report.table import Table, applicable
from bo_invert.types import Trial

if TYPE_CHECKING:
    import pandas as pd

TRIAL = "trial"
"""Column with the numbers of trials in tables of results."""


def pending_record(trial: Trial, outputs: Sequence[str], domain: Domain | None) -> dict[str, Any]:
    """Return a trial as a row to complete: number, parameters and empty outputs.

    Args:
        trial: Open trial.
        outputs: Names of the outputs.
        domain: Domain of named parameters; None for a latent.
    """
    names = {} if domain is None else dict.fromkeys(domain.parameters)
    return {TRIAL: trial.number, **names, **trial_values(trial, domain), **dict.fromkeys(outputs)}


class PendingTrials(Sequence[Trial]):
    """Open trials of a study: queued, running or lost.

    Args:
        trials: The trials in order.
        outputs: Names of the outputs.
        domain: Domain of named parameters; None for a latent.
    """

    def __init__(
        self, trials: Sequence[Trial], outputs: Sequence[str], domain: Domain | None
    ) -> None:
        self._trials, self._outputs, self._domain = tuple(trials), outputs, domain

    @overload
    def __getitem__(self, index: int) -> Trial: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Trial]: ...
    def __getitem__(self, index: int | slice) -> Trial | Sequence[Trial]:
        return self._trials[index]

    def __len__(self) -> int:
        return len(self._trials)

    def __iter__(self) -> Iterator[Trial]:
        return iter(self._trials)

    @property
    def records(self) -> list[dict[str, Any]]:
        """Number, parameters and empty outputs of each trial."""
        return [pending_record(trial, self._outputs, self._domain) for trial in self._trials]

    def to_dataframe(self) -> pd.DataFrame:
        """Return the records as a data frame, which ``Study.tell_table`` accepts when complete."""
        return records_frame(self.records)

    def to_csv(self, separator: str = ",", decimal: str = ".") -> str:
        """Return the records as the text of a CSV file to complete.

        Args:
            separator: Separator of cells: comma, semicolon, tab or ``|``.
            decimal: Decimal sign, point or comma.
        """
        return records_csv(self.records, CsvStyle(separator, decimal))

    def __repr__(self) -> str:
        rows = self.records[:50]
        if any(trial.expected for trial in self._trials[:50]):
            rows = [
                {**row, "expected": expected_text(trial)}
                for row, trial in zip(rows, self._trials, strict=False)
            ]
        if not rows:
            return "no pending trials"
        cells = tuple(
            tuple("" if value is None else value for value in row.values()) for row in rows
        )
        more = applicable((len(self) > len(rows), f"and {len(self) - len(rows)} more"))
        return "\n".join([Table(tuple(rows[0]), cells).text(), *more])

    def _repr_html_(self) -> str:
        return str(self.to_dataframe().to_html(index=False, na_rep=""))
