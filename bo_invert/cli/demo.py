"""The main job: invert a frozen regressor of handwritten digits with every method, on one ledger and one budget."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from bo_invert.benchmark.compare import Comparison
from bo_invert.benchmark.run import run_one
from bo_invert.errors import InvalidInputError
from bo_invert.problems.examples.digits import materials, problem
from bo_invert.report.table import Table


@dataclass(frozen=True)
class Method:
    """A row of the demo: a strategy, and the space it works in."""

    label: str
    strategy: Any
    space: Literal["latent", "pixels"] = "latent"


METHODS = {
    "gp": Method("BO in the latent", "gp"),
    "polish": Method("BO, then gradients", "polish"),
    "gradient": Method("gradients in the latent", "gradient"),
    "pixels": Method("gradients in pixels (Deep Dream)", "gradient", "pixels"),
    "amortized": Method("amortised inverse network", "amortized"),
    "cmaes": Method("CMA-ES in the latent", "cmaes"),
    "prior": Method("best of N from the prior", "prior"),
    "random": Method("random", "random"),
}


def run_demo(
    *,
    target: float | None = None,
    goal: Literal["maximize", "minimize"] = "maximize",
    budget: int = 150,
    seed: int = 0,
    out: Path = Path("demo"),
    oracle: Literal["forest", "network"] = "forest",
    methods: Sequence[str] | None = None,
    progress: bool = True,
) -> Comparison:
    """Train (or load) the pieces, run every method, write ``result.json``, ``report.html`` and ``gallery.png``.

    Args:
        target: the slant to hit; None for the most or the least of it.
        goal: ``"maximize"`` or ``"minimize"``, without a target.
        budget: calls of each method: values plus gradients.
        seed: every random choice follows from it.
        out: folder for the results, made if it is not there.
        oracle: what is inverted: ``"forest"`` (its gradients come from a twin network) or ``"network"``.
        methods: keys of ``METHODS``; default: all.
        progress: show bars on stderr.

    Returns:
        All runs, five designs of each.

    Raises:
        InvalidInputError: an option is none of the above.
        MissingExtraError: scikit-learn or safetensors is not installed.
    """
    chosen = list(METHODS) if methods is None else list(methods)
    unknown = [name for name in chosen if name not in METHODS]
    if unknown or not chosen:
        raise InvalidInputError(f"demo: methods are {list(METHODS)}, got {chosen}")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    options: dict[str, Any] = {"target": target, "goal": goal, "oracle": oracle, "seed": seed}
    spaces = {
        space: problem(**options, space=space, progress=progress)
        for space in dict.fromkeys(METHODS[name].space for name in chosen)
    }
    trained = time.perf_counter()
    runs = []
    for name in chosen:
        method = METHODS[name]
        runs.append(
            run_one(
                method.label,
                spaces[method.space],
                method.strategy,
                budget,
                seed,
                name="digits",
                keep=5,
                progress=progress,
            )
        )
    comparison = Comparison(tuple(runs))
    seconds = {"training": trained - began, "searching": time.perf_counter() - trained}
    _write(folder, comparison, options | {"budget": budget}, seconds)
    return comparison


def _write(
    folder: Path, comparison: Comparison, options: dict[str, Any], seconds: dict[str, float]
) -> None:
    from bo_invert.report.gallery import gallery_png
    from bo_invert.report.html import write_report

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
    (folder / "result.json").write_text(
        json.dumps(result, indent=1, allow_nan=False), encoding="utf-8"
    )
    picture = gallery_png(comparison.runs, made.images)
    if picture is not None:
        (folder / "gallery.png").write_bytes(picture)
    pieces = Table(
        ("piece", "taught on", "R² on held-out digits"),
        (
            ("random forest", "450 digits", round(scores["forest"], 3)),
            (
                "network, its differentiable twin",
                "the same 450 digits",
                round(scores["network"], 3),
            ),
            ("judge, which no search sees", "450 other digits", round(scores["judge"], 3)),
        ),
        "The regressors of slant",
    )
    paragraphs = [
        summary,
        (
            "The property is the slant of a digit, scaled so that real digits span 0 to 1; an upright one has 0.57. "
            "Every method had the same number of calls: oracle values plus gradients, all training included."
        ),
    ]
    write_report(
        folder / "report.html",
        comparison.runs,
        title="Inverting a regressor of handwritten digits",
        paragraphs=paragraphs,
        gallery_png=picture,
        extra_tables=[pieces],
    )


def print_demo(comparison: Comparison, folder: Path) -> None:
    """The table and the paragraph on stdout, and where the files lie."""
    print(comparison.table())
    print()
    print(comparison.summary())
    print(
        f"\nwritten: {', '.join(str(folder / name) for name in ('report.html', 'result.json', 'gallery.png'))}"
    )
    sys.stdout.flush()
