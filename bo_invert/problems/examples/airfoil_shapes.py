"""Airfoils as shapes: Kulfan numbers and the surfaces they stand for, and the 2,174 real airfoils of aerosandbox.

Kulfan 2008, "Universal parametric geometry representation method" (class and shape functions), with the leading-edge
term of her note of 2020, eight weights a side: the numbers that NeuralFoil eats.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from math import comb
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.types import Array, frozen

KULFAN = (
    *(f"upper{i}" for i in range(1, 9)),
    *(f"lower{i}" for i in range(1, 9)),
    "leading_edge",
    "trailing_edge",
)
#: Where surfaces are looked at, in chords from the leading edge.
STATIONS = frozen(np.linspace(0.0, 1.0, 201))
#: Fitted to real airfoils the surfaces cross by up to 0.0016 chords, at thin trailing edges.
CROSSING = 0.002


def basis(stations: ArrayLike = STATIONS) -> Array:
    """Heights of both surfaces per Kulfan number, shape ``(2 m, 18)``: the upper surface first, then the lower one.

    Args:
        stations: shape ``(m,)``, in chords from the leading edge.
    """
    x = np.asarray(stations, dtype=float)
    bumps = np.stack([comb(7, i) * x**i * (1.0 - x) ** (7 - i) for i in range(8)], axis=1)
    side = (np.sqrt(x) * (1.0 - x))[:, None] * bumps
    none, edge, wedge = np.zeros_like(side), (x * (1.0 - x) ** 8.5)[:, None], 0.5 * x[:, None]
    return np.block([[side, none, edge, wedge], [none, side, edge, -wedge]])


_BASIS = basis()


def surfaces(designs: ArrayLike) -> Array:
    """Heights of the upper and the lower surface at ``STATIONS``, in chords, shape ``(n, 2, 201)``.

    Args:
        designs: Kulfan numbers, shape ``(n, 18)``.

    Raises:
        InvalidInputError: another shape.
    """
    rows = np.asarray(designs, dtype=float)
    if rows.ndim != 2 or rows.shape[1] != len(KULFAN):
        raise InvalidInputError(
            f"airfoils are Kulfan numbers of shape (n, {len(KULFAN)}), got {rows.shape}"
        )
    return (rows @ _BASIS.T).reshape(len(rows), 2, len(STATIONS))


def thickness(designs: ArrayLike) -> Array:
    """Largest distance between the surfaces, in chords, shape ``(n,)``."""
    upper, lower = surfaces(designs).swapaxes(0, 1)
    largest: Array = (upper - lower).max(axis=1)
    return largest


def crossing(designs: ArrayLike) -> Array:
    """How far the upper surface dips below the lower one, in chords, shape ``(n,)``; 0 where a shape can be built."""
    upper, lower = surfaces(designs).swapaxes(0, 1)
    deepest: Array = np.maximum(0.0, (lower - upper).max(axis=1))
    return deepest


@dataclass(frozen=True, eq=False)
class Database:
    """The airfoils that come with aerosandbox, most of them from the UIUC collection.

    Args:
        names: of the airfoils.
        designs: their Kulfan numbers, shape ``(2174, 18)``.
        errors: root mean square of what the fit leaves, in chords, shape ``(2174,)``.
    """

    names: tuple[str, ...]
    designs: Array
    errors: Array

    def __getitem__(self, name: str) -> Array:
        """Kulfan numbers ``(18,)`` of the airfoil of a name.

        Raises:
            InvalidInputError: there is none.
        """
        if name not in self.names:
            near = get_close_matches(str(name), self.names)
            hint = f"; near to it: {', '.join(near)}" if near else ""
            raise InvalidInputError(
                f"airfoil: none of the {len(self.names):,} airfoils has the name {name!r}{hint}"
            )
        found: Array = self.designs[self.names.index(name)]
        return found

    def nearest(self, designs: ArrayLike) -> list[int]:
        """Number of the real airfoil whose surfaces are nearest to each design's."""
        mine = surfaces(designs).reshape(len(np.asarray(designs)), -1)
        real = surfaces(self.designs).reshape(len(self.designs), -1)
        return [int(((real - row) ** 2).sum(axis=1).argmin()) for row in mine]


@cache
def database() -> Database:
    """All real airfoils, fitted; a few seconds, once per process.

    None is left out: each fit is a linear least squares, the worst leaves 0.0033 chords, half of them less than 0.0002.

    Raises:
        MissingExtraError: aerosandbox is not installed.
    """
    try:
        import aerosandbox
    except ImportError:
        raise MissingExtraError("the airfoils are aerosandbox's, which is not installed; pip install 'bo-invert[airfoil]'"
                           ) from None  # fmt: skip
    folder = Path(aerosandbox.__file__).parent / "geometry" / "airfoil" / "airfoil_database"
    names, designs, errors = [], [], []
    for name in sorted(path.stem for path in folder.glob("*.dat")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of lists of coordinates that are closed twice
            real = aerosandbox.Airfoil(name).normalize()
            fit = real.to_kulfan_airfoil(
                n_weights_per_side=8, normalize_coordinates=False
            ).kulfan_parameters
        numbers = np.concatenate([fit["upper_weights"], fit["lower_weights"],
                                  [fit["leading_edge_weight"], fit["TE_thickness"]]]).astype(float)  # fmt: skip
        names.append(name)
        designs.append(numbers)
        errors.append(_left(numbers, np.asarray(real.coordinates, dtype=float)))
    return Database(tuple(names), frozen(np.array(designs)), frozen(np.array(errors)))


def _left(numbers: Array, coordinates: Array) -> float:
    """Root mean square distance in height of the fitted surfaces from the given points ``(k, 2)``."""
    x, y = coordinates.T
    fitted = basis(np.clip(x, 0.0, 1.0)) @ numbers
    upper = np.arange(len(x)) <= x.argmin()
    return float(np.sqrt(np.mean((np.where(upper, fitted[: len(x)], fitted[len(x) :]) - y) ** 2)))


def draw(design: ArrayLike, width: int = 180) -> Array:
    """An airfoil as a picture ``(0.4 width, width, 3)`` in [0, 1]: dark on white, red where the surfaces cross.

    One chord fills most of the width; what is thicker or more cambered than 0.2 chords either way is cut off.
    """
    height = round(0.4 * width)
    x = np.linspace(-0.03, 1.03, width)
    pitch = x[1] - x[0]
    y = pitch * ((height - 1) / 2 - np.arange(height))[:, None]
    inside = (x >= 0.0) & (x <= 1.0)
    upper, lower = np.split(basis(np.clip(x, 0.0, 1.0)) @ np.asarray(design, dtype=float), 2)
    picture = np.ones((height, width, 3))
    for top, bottom, ink in (
        (upper, lower, (0.17, 0.24, 0.38)),
        (lower, upper, (0.85, 0.15, 0.15)),
    ):
        shown = inside & (top - bottom > (CROSSING if top is lower else -CROSSING))
        least = 0.5 * pitch * (top is upper)  # a sharp trailing edge keeps a hairline
        cover = np.clip((top + least - y) / pitch + 0.5, 0, 1) * np.clip(
            (y - bottom + least) / pitch + 0.5, 0, 1
        )
        cover = (cover * shown)[..., None]
        picture = picture * (1.0 - cover) + np.array(ink) * cover
    return picture
