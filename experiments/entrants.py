"""Entrants, cells and files of overhead.py and scaling.py."""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple


@dataclass(frozen=True)
class Entrant:
    """A strategy as given on the command line: ``gp`` or ``optuna:{"sampler": "gp"}``."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def parse(text: str) -> Entrant:
        name, colon, rest = text.partition(":")
        try:
            options = json.loads(rest) if colon else {}
        except json.JSONDecodeError as error:
            raise argparse.ArgumentTypeError(
                f"{text!r}: what follows the colon is no JSON: {error}"
            ) from None
        if not name or not isinstance(options, dict):
            raise argparse.ArgumentTypeError(
                f'{text!r}: a strategy is name or name:{{"option": value}}'
            )
        return Entrant(name, options)

    @property
    def text(self) -> str:
        """Text form that ``parse`` accepts."""
        return f"{self.name}:{json.dumps(self.options)}" if self.options else self.name

    @property
    def label(self) -> str:
        chosen = ", ".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}({chosen})" if chosen else self.name


class Cell(NamedTuple):
    """Benchmark cell: dimension d, observations n and batch size q."""

    d: int
    n: int
    q: int

    @staticmethod
    def parse(text: str) -> Cell:
        try:
            d, n, q = (int(part) for part in text.split(","))
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text!r}: a cell is d,n,q, for example 16,100,4"
            ) from None
        if min(d, q) < 1 or n < 0:
            raise argparse.ArgumentTypeError(f"{text!r}: d and q are at least 1, n at least 0")
        return Cell(d, n, q)

    def within(self, other: Cell) -> bool:
        """Return True if this cell exceeds the other in no respect."""
        return all(a <= b for a, b in zip(self, other, strict=True))

    def __str__(self) -> str:
        return f"d = {self.d}, n = {self.n}, q = {self.q}"


def add_arguments(parser: argparse.ArgumentParser, cells: Sequence[str]) -> None:
    """Add the arguments of both scripts."""
    parser.add_argument(
        "strategies",
        nargs="+",
        type=Entrant.parse,
        help='names, or name:{"option": value}; all in the same rounds',
    )
    parser.add_argument(
        "--cells", nargs="+", type=Cell.parse, help="d,n,q of each; or give --d, --n and --q"
    )
    for name in ("d", "n", "q"):
        parser.add_argument(
            f"--{name}", nargs="+", type=int, help=f"values of {name}: the grid is their product"
        )
    parser.set_defaults(default_cells=[Cell.parse(text) for text in cells])
    parser.add_argument(
        "--space",
        choices=("box", "latent"),
        default="box",
        help="unit cube, or latent with N(0, I)",
    )
    parser.add_argument(
        "--outputs", type=int, default=1, help="one is minimised; several have to reach a target"
    )
    parser.add_argument("--seed", type=int, default=0)


def cells_of(options: argparse.Namespace) -> list[Cell]:
    """Return the requested cells, from small to large."""
    if options.cells:
        return sorted(set(options.cells))
    axes = (options.d, options.n, options.q)
    if not any(axes):
        return list(options.default_cells)
    if not all(axes):
        raise SystemExit("a grid needs all of --d, --n and --q")
    return [Cell(*values) for values in product(*map(sorted, axes))]


def conditions() -> dict[str, Any]:
    """Return the environment that determines the figures besides the code."""
    packages = (
        "bo-invert",
        "numpy",
        "scipy",
        "torch",
        "gpytorch",
        "botorch",
        "ax-platform",
        "optuna",
    )
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    threads = {key: os.environ.get(key) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return {
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "threads": threads,
        "versions": found,
    }


def seconds(value: float) -> str:
    """Two significant digits, without exponents."""
    if value >= 10:
        return f"{value:.0f}"
    digits = 2 if value >= 1 else 3 if value >= 0.1 else 4
    return f"{value:.{digits - 1}f}" if value >= 0.01 else f"{value:.2g}"


def write(
    path: Path,
    records: Sequence[Mapping[str, Any]],
    options: argparse.Namespace,
    names: Sequence[str],
) -> None:
    """Versions, the settings of these names, and raw figures, one record a line."""
    head = json.dumps(
        {"conditions": conditions(), "settings": {name: getattr(options, name) for name in names}}
    )
    lines = ",\n".join(json.dumps(record) for record in records)
    path.write_text(f'{head[:-1]}, "records": [\n{lines}\n]}}\n', encoding="utf-8")
