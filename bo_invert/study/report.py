"""Report of a single study: its contents from the log, the models and the judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from bo_invert.domains.fixed import Fixed
from bo_invert.domains.parameters import Choice, Float, Int, Parameter
from bo_invert.errors import InvalidInputError
from bo_invert.objectives.from_json import objective_from_json
from bo_invert.objectives.nearest import Nearest
from bo_invert.problems.recorded_versions import provenance_rows
from bo_invert.report.charts.chart import Chart
from bo_invert.report.charts.plot import Plot
from bo_invert.report.charts.study_data import StudyData, kind_of
from bo_invert.report.charts.text import value_text
from bo_invert.report.feasibility import why_infeasible
from bo_invert.report.study_report import StudyReport
from bo_invert.report.study_view import counts_text
from bo_invert.report.table import Table, counted
from bo_invert.study.front import ParetoFront
from bo_invert.study.front_report import front_sentences, front_steps, front_table
from bo_invert.study.next_steps import Findings, confirms, next_steps
from bo_invert.study.plots import PlottedStudy, StudyPlots, plot_model, study_data
from bo_invert.study.solutions import Solutions
from bo_invert.types import JSON, Trial

_SHOWN = 8
"""Largest number of designs. Engineering choice."""
_SLICED = 12
"""Largest number of coordinates of a latent whose slices are shown. Engineering choice."""
_MANY_PARAMETERS = 24
"""Largest number of parameters in an open table. Engineering choice."""
_MOST_COORDINATES = 100
"""Largest number of coordinates in a folded table. Engineering choice."""
_MANY_OUTPUTS = 12
"""Largest number of outputs in the table of the result. Engineering choice."""


def write_study_report(study: PlottedStudy, path: str | Path) -> Path:
    """Write the report of a study to an HTML file and return its path."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(study_report(study).html(), encoding="utf-8")
    return file


def study_report(study: PlottedStudy) -> StudyReport:
    """Return the contents of a report; calls the judge once for each of at most 8 designs."""
    data, plots, header = study_data(study), StudyPlots(study), study.journal.header
    found: Solutions | None = None
    if study.problem is not None and data.completed:
        found = study.solutions(_SHOWN)
    front = _front(study, data)
    designs = _chart(lambda: plots.designs(found)) if found else None
    pictures = designs is not None and any(one.picture is not None for one in designs.panels)
    model, note, explained = _model(study, data, plots)
    findings = replace(_findings(data, found, explained), outlook=_outlook(study))
    steps = next_steps(data, study.problem, findings)
    if front is not None:
        steps += front_steps(data, front, study.hypervolume, study.problem)
    strategy = header["strategy"]["name"]
    size = f"{counted(len(data.trials), 'trial')}, {counted(study.journal.ledger.calls, 'call')}"
    measured = found is not None and any(
        one.judged is not None or one.opinion is not None for one in found
    )
    return StudyReport(
        title=study.name,
        subtitle=f"{header['problem_name']} · {strategy} · {size}",
        result=_result(study, data) if front is None else front_sentences(data, front),
        coordinates=_coordinates(data, pictures),
        solution=_solution(study, data, pictures) if front is None else front_table(data, front),
        solutions=designs,
        verdicts=found.table() if found is not None and measured else None,
        question=_question(study, data),
        course=_charts(plots.optimization_history, *_extra_course(study, data, plots)),
        model=model,
        model_note=note,
        steps=steps,
        trials=_charts(plots.parallel_coordinate, plots.timeline) if data.completed else (),
        details=_details(study, data),
    )


def _chart(make: Callable[[], Plot]) -> Chart | None:
    """Return the chart of a plot; None if there are too few data."""
    with suppress(InvalidInputError):
        return make().chart
    return None


def _charts(*makers: Callable[[], Plot]) -> list[Chart]:
    return [chart for make in makers if (chart := _chart(make)) is not None]


def _front(study: PlottedStudy, data: StudyData) -> ParetoFront | None:
    """Return the front of a study of several criteria with observations."""
    if data.goal.kind != "pareto" or not data.completed:
        return None
    with suppress(InvalidInputError):  # a criterion is code, and the problem is unknown
        return study.front
    return None


def _extra_course(
    study: PlottedStudy, data: StudyData, plots: StudyPlots
) -> Sequence[Callable[[], Plot]]:
    """Return further plots of the course: the front, or the single output of a target."""
    if data.goal.kind == "pareto":
        return (plots.pareto_front,)
    targets = [name for name in study.outputs if data.goal.target_of(name) is not None]
    if len(targets) == 1:
        return (lambda: plots.optimization_history(targets[0]),)
    return ()


def _model(
    study: PlottedStudy, data: StudyData, plots: StudyPlots
) -> tuple[list[Chart], str, float | None]:
    """Return the plots of the model, a remark, and its smallest R^2."""
    try:
        left_out = plot_model(study).left_out()
    except InvalidInputError as reason:
        return [], f"There is no model yet: {reason}", None
    makers: list[Callable[[], Plot]] = [plots.predicted_vs_observed]
    latent = data.domain is not None and data.domain.latent
    if latent:
        makers.append(plots.latent_map)
    criteria: list[str | None] = [None]
    if data.goal.kind == "pareto":
        criteria = [*data.goal.criteria] or [None]
    for target in criteria:
        if len(data.axes) <= _SLICED or not latent:
            makers += [
                partial(plots.param_importances, target=target), partial(plots.slice, target=target)
            ]  # fmt: skip
        if len(data.axes) > 1 and not latent:
            makers.append(partial(plots.contour, target=target))
    note = "" if not latent else "z0, z1, ... are whitened coordinates of the latent space."
    explained = float(left_out.explained.min()) if len(left_out.values) > 4 else None
    return _charts(*makers), note, explained


def _findings(data: StudyData, found: Solutions | None, explained: float | None) -> Findings:
    hit = bool(target_hit(data)) and not data.noisy
    if not found or data.leading is None or data.goal.kind == "pareto":
        return Findings(explained, hit=hit)
    first = found[0]
    judged = first.opinion is not None
    upheld = confirms(data, first.trial, first.judged, first.upheld) if judged else None
    latent = data.domain is not None and (data.domain.latent or data.domain.reference is not None)
    return Findings(explained, upheld, first.plausibility if latent else None, hit)


def _outlook(study: PlottedStudy) -> str:
    """Return a sentence about the gain that further calls can bring; empty if it is undecided."""
    if study.problem is None:
        return ""
    found = study.outlook()
    if not found.decided:
        return ""
    unit = "of the hypervolume" if found.goal.kind == "pareto" else "of the loss"
    if found.goal.is_output:
        unit = f"of {found.goal.label}"
    return (
        f"Outlook: expected further gain {found.expected:.3g} in units {unit}, at most "
        f"{found.bound:.3g} with a probability of 95 %; the next 10 calls improve the result with "
        f"a probability of {found.improves(10):.0%}."
    )


def _result(study: PlottedStudy, data: StudyData) -> list[str]:
    """Return sentences about the result."""
    ended = [trial for trial in data.trials if not trial.state.open]
    if not data.completed:
        why = f"The last error: {ended[-1].reason}" if ended and ended[-1].reason else ""
        return [f"No trial is completed. {why}".strip()]
    trial = data.leading
    if trial is None:
        return [f"No feasible design yet: {why_infeasible(data.trials)}."]
    return [sentence for sentence in (_headline(data, trial), _gain(data, trial)) if sentence]


def _headline(data: StudyData, trial: Trial) -> str:
    assert trial.loss is not None
    goal, unit = data.goal, data.units.get(data.goal.label, "")
    unit = f" {unit}" if unit else ""
    name = "Distance to the target" if goal.kind == "target" else goal.label
    if data.expected is None:
        name = name if goal.kind == "target" else f"Best {name}"
        best = f"{name}: {value_text(goal.value(trial.loss))}{unit} in trial {trial.number}."
        hit = target_hit(data)
        if hit is not None:
            reached = "is reached" if hit else "is not yet reached"
            room = goal.tolerance_text
            best += f" The target {reached}{f' within the tolerance of {room}' if room else ''}."
        return best
    low, middle, high = (goal.value(loss) for loss in data.expected)
    low, high = sorted((low, high))
    times = sum(one.point.tobytes() == trial.point.tobytes() for one in data.completed)
    lucky = min(
        (one for one in data.completed if one.feasible and one.loss is not None),
        key=lambda one: one.loss or 0.0,
    )
    return (
        f"Recommended: trial {trial.number}, expected {name} {value_text(middle)}{unit} (90 % "
        f"interval {value_text(low)} to {value_text(high)}, observed "
        f"{'once' if times == 1 else f'{times} times'}). The oracle is noisy: the best single "
        f"value, {value_text(goal.value(lucky.loss or 0.0))}{unit} in trial {lucky.number}, is "
        "partly luck."
    )


def target_hit(data: StudyData) -> bool | None:
    """Return True if the best trial meets a target within its tolerance; None without one."""
    trial = data.leading
    if data.goal.kind != "target" or trial is None or trial.y is None:
        return None
    target = objective_from_json(data.goal.objective).bind(list(data.outputs))
    return target.satisfied(trial.y) if target.satisfiable else None


def _gain(data: StudyData, trial: Trial) -> str:
    """Compare the result with the past data, or with the first feasible trial."""
    if data.expected is not None or trial.loss is None:
        return ""
    goal = data.goal
    past = [one for one in data.completed if kind_of(one) == "past"]
    losses = [one.loss for one in past if one.loss is not None]
    if losses:
        known = goal.value(min(losses))
        return (
            f"The best of {counted(len(past), 'past observation')} had {value_text(known)}; "
            f"the best of all {len(data.completed)} has {value_text(goal.value(trial.loss))}."
        )
    values = np.array([one.loss for one in data.completed if one.feasible], dtype=float)
    if len(values) < 4:
        return ""
    return (
        f"The median of the feasible trials is {value_text(goal.value(float(np.median(values))))}."
    )


def _folded(data: StudyData, pictures: bool) -> bool:
    """Return True if a table of coordinates would hide the result: pictures, many parameters."""
    domain = data.domain
    return domain is None or domain.latent or pictures or len(domain.parameters) > _MANY_PARAMETERS


def _coordinates(data: StudyData, pictures: bool) -> Table | None:
    """Return a folded table with the coordinates of the design to act on; None if not needed."""
    trial = data.leading
    if trial is None or data.domain is None or not _folded(data, pictures):
        return None
    named = list(data.values(trial).items())[:_MOST_COORDINATES]
    rows = tuple((data.label(name), _plain(value)) for name, value in named)
    kind = "Latent coordinates" if data.domain.latent else "Parameters"
    more = len(data.axes) - len(rows)
    return Table(
        ("name", "value"), rows, f"{kind} of the {data.leading_name} ({trial.number})",
        notes=(f"and {more} more",) if more > 0 else (),
    )  # fmt: skip


def _solution(study: PlottedStudy, data: StudyData, pictures: bool) -> Table | None:
    """Return outputs, and unless they are folded away, parameters of the design to act on."""
    trial = data.leading
    if trial is None or trial.y is None:
        return None
    rows: list[tuple[object, ...]] = []
    named = {} if _folded(data, pictures) else data.values(trial)
    goal_of = None if study.problem is None else study.problem.objective
    before = {}
    if isinstance(goal_of, Nearest):
        before = {name: f"changed from {_text(old)}" for name, old, _ in goal_of.table(trial.point)}
    rows += [
        ("parameter", data.label(name), _plain(value), before.get(name, ""))
        for name, value in named.items()
    ]
    bounds: dict[str, list[str]] = {name: [] for name in study.outputs}
    for one in data.constraints:
        bounds[one.output].append(f"{one.sense} {one.bound:g}")
    expected = _expected(study, data)
    for name, value in list(zip(study.outputs, trial.y.tolist(), strict=True))[:_MANY_OUTPUTS]:
        goal = data.goal.target_of(name)
        remark = "; ".join(
            [*bounds[name], *([f"target {goal:g}"] if goal is not None else []), *expected[name]]
        )
        rows.append(("output", data.label(name), _plain(value), remark))
    caption = f"{data.leading_name[0].upper()}{data.leading_name[1:]} ({trial.number})"
    return Table(("", "name", "value", "remark"), tuple(rows), caption)


def _expected(study: PlottedStudy, data: StudyData) -> dict[str, list[str]]:
    """Return the expected outputs of the recommended design of a noisy oracle as texts."""
    texts: dict[str, list[str]] = {name: [] for name in study.outputs}
    if data.expected is None or study.problem is None:
        return texts
    with suppress(InvalidInputError):
        for name, interval in study.recommend(noisy=True).outputs.items():
            texts[name] = [f"expected {interval}"]
    return texts


def _question(study: PlottedStudy, data: StudyData) -> list[Table]:
    header = study.journal.header["problem"]
    problem = study.problem
    objective = str(problem.objective) if problem is not None else _words(header["objective"])
    rows: list[tuple[object, ...]] = [("objective", objective)]
    listed = ", ".join(map(data.label, study.outputs[:_MANY_OUTPUTS]))
    more = len(study.outputs) - _MANY_OUTPUTS
    rows.append(("outputs", listed + (f" and {more} more" if more > 0 else "")))
    if data.constraints:
        rows.append(("constraints on outputs", ", ".join(map(str, data.constraints))))
    inputs = getattr(data.domain, "constraints", ())
    if inputs:
        rows.append(("constraints on inputs", ", ".join(map(str, inputs))))
    if data.domain is not None and data.domain.latent:
        rows.append(("space", f"latent space of {data.domain.dim} coordinates"))
        if data.domain.floor:
            rows.append(("plausible region", f"{1 - data.domain.floor:.0%} of real designs"))
    if problem is not None and problem.judge is not None:
        rows.append(("judge", "yes: it scores the designs of the result, no search sees it"))
    tables = [Table(("", "value"), tuple(rows), "Objective")]
    if data.domain is not None and data.domain.parameters:
        conditional = any(one.when for one in data.domain.parameters.values())
        parameters = tuple(
            (data.label(name), *_range(one), *_condition(one, conditional))
            for name, one in data.domain.parameters.items()
        )
        columns = ("parameter", "type", "range", *["exists if"] * conditional)
        tables.append(Table(columns, parameters, "Search space"))
    return tables


def _condition(parameter: Parameter, shown: bool) -> list[str]:
    """Return the conditions under which a parameter exists as a cell, if the table shows them."""
    return [" and ".join(map(str, parameter.when))] if shown else []


def _range(parameter: Parameter) -> tuple[str, str]:
    """Return type and range of a parameter."""
    if isinstance(parameter, Choice):
        kind = "ordered choice" if parameter.ordered else "choice"
        return kind, ", ".join(map(str, parameter.values))
    if isinstance(parameter, Fixed):
        return "fixed", value_text(parameter.value)
    kind = "integer" if isinstance(parameter, Int) else "real"
    low, high = value_text(parameter.low), value_text(parameter.high)
    parts = [f"{low} to {high}"] + ["logarithmic"] * parameter.log
    if isinstance(parameter, Float) and parameter.step is not None:
        parts.append(f"step {value_text(parameter.step)}")
    if isinstance(parameter, Float) and parameter.digits is not None:
        parts.append(counted(parameter.digits, "decimal"))
    return kind, ", ".join(parts)


def _details(study: PlottedStudy, data: StudyData) -> list[Table]:
    ledger, header = study.journal.ledger, study.journal.header
    seconds = f"{ledger.seconds:.3g} s in the oracle, {ledger.asking:.3g} s in the strategy"
    past = sum(kind_of(trial) == "past" for trial in data.trials)
    rows: list[tuple[object, ...]] = [
        ("trials", counts_text(data.trials)),
        ("past observations", past),
        ("cost", str(ledger)),
        ("time", seconds),
        ("seed", header["seed"]),
        ("created", str(header["created"])),
    ]
    tables = [Table(("", "value"), tuple(rows), "Cost")]
    versions = provenance_rows(header.get("provenance"))
    if versions:
        tables.append(Table(("", "value"), tuple(versions), "Versions"))
    return tables


def _words(objective: JSON) -> str:
    """Return an objective of a log as words."""
    kind, output = objective.get("type", "objective"), objective.get("output")
    return f"{kind} {output}" if output else str(kind)


def _text(value: object) -> str:
    """Return a value of a parameter as text; None is a parameter that is not active."""
    if value is None:
        return "not active"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _plain(value: object) -> object:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
