"""HTML report of a single study: question, result, course, model and next steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from bo_invert.errors import printable
from bo_invert.report.charts.chart import Chart
from bo_invert.report.charts.html import chart_view
from bo_invert.report.table import Table
from bo_invert.report.templating import render


@dataclass(frozen=True, eq=False)
class StudyReport:
    """Contents of a report; all texts are unescaped.

    Args:
        title: title of the page.
        subtitle: problem, strategy and size.
        result: sentences about the result, the most important first.
        solution: table of the design to act on; None without one.
        coordinates: table of the coordinates of this design, folded away; None without one.
        solutions: pictures or parameters of the best designs; None without one.
        verdicts: table of the best designs with verdicts of the judge; None without one.
        question: tables of objective, constraints and parameters.
        course: plots of the search.
        model: plots of the model.
        model_note: reason why there is no model, or remark on it.
        steps: suggested next steps.
        trials: plots of all trials.
        details: tables of costs and versions.
    """

    title: str
    subtitle: str
    result: Sequence[str]
    solution: Table | None = None
    coordinates: Table | None = None
    solutions: Chart | None = None
    verdicts: Table | None = None
    question: Sequence[Table] = ()
    course: Sequence[Chart] = ()
    model: Sequence[Chart] = ()
    model_note: str = ""
    steps: Sequence[str] = ()
    trials: Sequence[Chart] = ()
    details: Sequence[Table] = field(default_factory=tuple)

    def html(self) -> str:
        """Return the page, one file without external resources."""
        groups = {"course": self.course, "model": self.model, "trials": self.trials}
        views = {
            name: [chart_view(chart, f"{name}-{i}") for i, chart in enumerate(charts)]
            for name, charts in groups.items()
        }
        return render(
            "study.html",
            title=printable(self.title),
            subtitle=printable(self.subtitle),
            report=self,
            result=[printable(text) for text in self.result],
            steps=[printable(text) for text in self.steps],
            note=printable(self.model_note),
            solutions=None if self.solutions is None else chart_view(self.solutions, "solutions"),
            **views,
        )
