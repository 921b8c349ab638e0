"""``bo-invert plot``: one plot of a study as HTML, PNG or SVG file, or as CSV data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bo_invert.cli.options import (
    ProblemOption,
    Settings,
    Storage,
    StudyName,
    parse_settings,
    readable_study,
)
from bo_invert.cli.output import say
from bo_invert.errors import InvalidInputError
from bo_invert.study.plots import StudyPlots

Kind = StrEnum("Kind", list(StudyPlots.NAMES))  # type: ignore[misc]
"""Names of the plots."""
_MODELLED = ("slice", "contour", "parallel_coordinate", "param_importances")
_WITH_PARAMS = (*_MODELLED, "posterior")
_WITH_TARGET = (*_MODELLED, "optimization_history", "latent_map")


def plot(
    name: StudyName,
    kind: Annotated[Kind, typer.Argument(metavar="PLOT", help=", ".join(StudyPlots.NAMES) + ".")],
    storage: Storage,
    out: Annotated[
        Path, typer.Option(help="File ending in .html, .png, .svg or .csv (the data).")
    ] = Path("plot.html"),
    param: Annotated[
        list[str] | None, typer.Option(help="Parameter to show; repeatable. Default: all.")
    ] = None,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="Output to show; pareto_front: OUTPUT=minimize or =maximize, repeatable."
        ),
    ] = None,
    width: Annotated[int, typer.Option(min=300, help="Width of a picture in pixels.")] = 1200,
    problem: ProblemOption = None,
    settings: Settings = None,
) -> None:
    """Draw a plot of a study to an HTML, PNG or SVG file.

    PNG and SVG need no browser.
    """
    study = readable_study(name, storage, problem, settings)
    drawn = getattr(study.plot, kind.value)(**_options(kind.value, param, target))
    if out.suffix.lower() == ".csv":
        out.parent.mkdir(parents=True, exist_ok=True)
        drawn.data.to_csv(out, index=False)
    else:
        drawn.save(out, width=width)
    for note in drawn.notes:
        say(note)
    say(f"written to {out}")


def _options(kind: str, params: list[str] | None, targets: list[str] | None) -> dict[str, Any]:
    """Return the arguments of a plot.

    Raises:
        InvalidInputError: the plot has no such option.
    """
    options: dict[str, Any] = {}
    if params:
        if kind not in _WITH_PARAMS:
            raise InvalidInputError(f"plot: --param is an option of {', '.join(_WITH_PARAMS)}")
        options["params"] = params
    if targets and kind == "pareto_front":
        options["targets"] = {
            str(key): str(way) for key, way in parse_settings(targets, "--target").items()
        }
    elif targets:
        if kind not in _WITH_TARGET or len(targets) > 1:
            raise InvalidInputError(
                f"plot: --target is one output, an option of {', '.join(_WITH_TARGET)}"
            )
        options["target"] = targets[0]
    return options
