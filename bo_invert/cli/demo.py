"""``bo-invert demo``: inversion of a regressor of handwritten digits with several methods."""

from __future__ import annotations

import json
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from bo_invert.benchmark.compare import Comparison
from bo_invert.benchmark.single_run import run_one
from bo_invert.cli.demo_inversion import inversion_text
from bo_invert.cli.options import Calls, Quiet, Seed, Shape
from bo_invert.cli.output import emit, require_result, show, split
from bo_invert.errors import InvalidInputError
from bo_invert.problems.examples.digits import materials, problem
from bo_invert.report.gallery import gallery_png
from bo_invert.report.html import write_report
from bo_invert.report.table import Table, terminal_width


@dataclass(frozen=True)
class Method:
    """Strategy of the demo and the space in which it searches."""

    label: str
    strategy: Any
    space: Literal["latent", "pixels"] = "latent"


METHODS = {
    "gp": Method("BO in the latent space", "gp"),
    "polish": Method("BO, then gradients", "polish"),
    "gradient": Method("gradients in the latent space", "gradient"),
    "pixels": Method("gradients in pixels (Deep Dream)", "gradient", "pixels"),
    "amortized": Method("amortised inverse network", "amortized"),
    "cmaes": Method("CMA-ES in the latent space", "cmaes"),
    "prior": Method("best of N prior samples", "prior"),
    "random": Method("random", "random"),
}


def demo(
    target: Annotated[
        str | None,
        typer.Option(help="Target slant, or a range 0.4:0.6 or 0.8:; 0.57 is an upright digit."),
    ] = None,
    goal: Annotated[
        Literal["minimize", "maximize"] | None,
        typer.Option(help="Direction without --target; default: maximize."),
    ] = None,
    budget: Calls = 150,
    seed: Seed = 0,
    out: Annotated[
        Path, typer.Option(help="Folder for report.html, result.json and gallery.png.")
    ] = Path("demo"),
    oracle: Annotated[
        Literal["forest", "network"],
        typer.Option(help="Regressor to invert; a forest has no gradients."),
    ] = "forest",
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated methods; default: all.")
    ] = None,
    short: Annotated[
        bool, typer.Option("--short", help="Use at most 24 calls per method, as a quick test.")
    ] = False,
    how: Shape = "table",
    quiet: Quiet = False,
) -> None:
    """Invert a regressor of handwritten digits.

    Every method searches for an image with the largest, smallest or target slant, in the latent
    space of a VAE or in pixels, with the same number of calls. The last part searches all inputs of
    a small function that reach a target.
    """
    if target is not None and goal is not None:
        raise typer.BadParameter("--target and --goal must not both be given")

    comparison = run_demo(
        target=None if target is None else _number_or_range(target),
        goal=goal or "maximize",
        budget=min(budget, 24) if short else budget,
        seed=seed,
        out=out,
        oracle=oracle,
        methods=None if methods is None else split(methods),
        progress=not quiet,
    )
    if how == "table":
        print_demo(comparison, out)
        show("\n" + inversion_text(seed))
    else:
        emit(comparison.records(), how)
    require_result(comparison)


def _number_or_range(text: str) -> float | tuple[float | None, float | None]:
    """Read ``0.5``, ``0.4:0.6``, ``0.8:`` or ``:0.2``."""
    low, colon, high = text.partition(":")
    try:
        if not colon:
            return float(low)
        return (float(low) if low.strip() else None, float(high) if high.strip() else None)
    except ValueError:
        raise typer.BadParameter(
            f"--target must be a number, or a range such as 0.4:0.6 or 0.8:, got {text!r}"
        ) from None


def run_demo(
    *,
    target: float | tuple[float | None, float | None] | None,
    goal: str,
    budget: int,
    seed: int,
    out: Path,
    oracle: str,
    methods: Sequence[str] | None,
    progress: bool,
) -> Comparison:
    """Train the models, run every method, write ``result.json``, report and gallery.

    Args:
        target: target slant, or a range; None to maximise or minimise it.
        goal: ``"maximize"`` or ``"minimize"``, without a target.
        budget: calls of each method, values plus gradients.
        seed: random seed.
        out: folder of the results, created if it does not exist.
        oracle: ``"forest"`` (with gradients of a proxy network) or ``"network"``.
        methods: keys of ``METHODS``; None for all.
        progress: show progress bars on stderr.

    Returns:
        All runs with five designs each.

    Raises:
        InvalidInputError: a method is unknown, or there is none.
        MissingExtraError: safetensors is not installed.
    """
    chosen = list(METHODS) if methods is None else methods
    if not chosen or not METHODS.keys() >= set(chosen):
        raise InvalidInputError(f"demo: methods must be some of {list(METHODS)}, got {chosen}")
    out.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    options: dict[str, Any] = {"target": target, "goal": goal, "oracle": oracle, "seed": seed}
    spaces = {
        space: problem(**options, space=space, progress=progress)
        for space in dict.fromkeys(METHODS[name].space for name in chosen)
    }
    trained = time.perf_counter()
    common: dict[str, Any] = {"name": "digits", "keep": 5, "progress": progress}
    runs = [
        run_one(method.label, spaces[method.space], method.strategy, budget, seed, **common)
        for method in (METHODS[name] for name in chosen)
    ]
    comparison = Comparison(tuple(runs))
    seconds = {"training": trained - began, "searching": time.perf_counter() - trained}
    _write(out, comparison, options | {"budget": budget}, seconds)
    return comparison


def _write(
    folder: Path, comparison: Comparison, options: dict[str, Any], seconds: dict[str, float]
) -> None:
    made = materials(options["seed"])
    scores = made.scores()
    summary = comparison.summary()
    result = {
        "options": options,
        "summary": summary,
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "r_squared": scores,
        "methods": comparison.records(),
        "runs": [run.to_json() for run in comparison.runs],
    }
    text = json.dumps(result, indent=1, allow_nan=False)
    (folder / "result.json").write_text(text, encoding="utf-8")
    picture = gallery_png(comparison.runs, made.images)
    if picture is not None:
        (folder / "gallery.png").write_bytes(picture)
    models = Table(
        ("model", "training data", "R² on held-out digits"),
        (
            ("random forest", "450 digits", round(scores["forest"], 3)),
            ("network, gradient proxy", "the same 450 digits", round(scores["network"], 3)),
            ("judge, unknown to every search", "450 other digits", round(scores["judge"], 3)),
        ),
        "Regressors of the slant",
    )
    task = (
        "The property is the slant of a digit, scaled so that real digits span 0 to 1; an upright "
        "digit has 0.57. Every method has the same number of calls: oracle values plus gradients, "
        "training included."
    )
    write_report(
        folder / "report.html",
        comparison.runs,
        title="Inverting a regressor of handwritten digits",
        paragraphs=[summary, task],
        gallery_png=picture,
        extra_tables=[models],
    )


def print_demo(comparison: Comparison, folder: Path) -> None:
    """Print table, summary and the paths of the files."""
    width = terminal_width()
    files = ", ".join(str(folder / name) for name in ("report.html", "result.json", "gallery.png"))
    summary = textwrap.fill(comparison.summary(), width)
    show("\n\n".join([comparison.table(width), summary, f"written: {files}"]))
