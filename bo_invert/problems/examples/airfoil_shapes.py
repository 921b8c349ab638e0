"""Airfoil shapes: Kulfan parameters, surfaces and the 2,174 real airfoils of aerosandbox.

Kulfan 2008, "Universal parametric geometry representation method" (class and shape functions). The
inputs of NeuralFoil add the leading-edge term of Kulfan 2020 and have eight weights per side.
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

from bo_invert.errors import InvalidInputError, require_package
from bo_invert.types import Array, frozen

KULFAN = (
    *(f"upper{i}" for i in range(1, 9)),
    *(f"lower{i}" for i in range(1, 9)),
    "leading_edge",
    "trailing_edge",
)
# Chordwise positions of surface heights, in chords from the leading edge.
STATIONS = frozen(np.linspace(0.0, 1.0, 201))
# Accepted crossing of the surfaces, in chords. Fits of real airfoils cross by up to 0.0016 chords
# at thin trailing edges.
CROSSING = 0.002


def basis(stations: ArrayLike = STATIONS) -> Array:
    """Compute surface heights per unit Kulfan parameter, shape ``(2 m, 18)``.

    The first m rows belong to the upper surface, the others to the lower one. The weights multiply
    ``sqrt(x) (1 - x) B_i(x)`` with Bernstein polynomials ``B_i`` of degree 7. The leading-edge term
    is ``x (1 - x)^8.5``, the trailing-edge term ``x / 2``.

    Args:
        stations: positions ``(m,)`` in chords from the leading edge.
    """
    x = np.asarray(stations, dtype=float)
    bumps = np.stack([comb(7, i) * x**i * (1.0 - x) ** (7 - i) for i in range(8)], axis=1)
    side = (np.sqrt(x) * (1.0 - x))[:, None] * bumps
    none, edge, wedge = np.zeros_like(side), (x * (1.0 - x) ** 8.5)[:, None], 0.5 * x[:, None]
    return np.block([[side, none, edge, wedge], [none, side, edge, -wedge]])


_BASIS = basis()


def surfaces(designs: ArrayLike) -> Array:
    """Compute upper and lower surface heights at ``STATIONS``, chords, ``(n, 2, 201)``.

    Args:
        designs: Kulfan parameters, shape ``(n, 18)``.

    Raises:
        InvalidInputError: ``designs`` has another shape.
    """
    rows = np.asarray(designs, dtype=float)
    if rows.ndim != 2 or rows.shape[1] != len(KULFAN):
        raise InvalidInputError(
            f"airfoil: designs must have the shape (n, {len(KULFAN)}), got {rows.shape}"
        )
    return (rows @ _BASIS.T).reshape(len(rows), 2, len(STATIONS))


def thickness(designs: ArrayLike) -> Array:
    """Compute the maximum thickness in chords, shape ``(n,)``."""
    return np.asarray(np.subtract(*surfaces(designs).swapaxes(0, 1)).max(axis=1))


def crossing(designs: ArrayLike) -> Array:
    """Compute the maximum crossing of the surfaces in chords, ``(n,)``; 0 for valid shapes."""
    lower_beyond_upper = np.diff(surfaces(designs), axis=1)[:, 0]
    return np.asarray(lower_beyond_upper.max(axis=1).clip(min=0.0))


@dataclass(frozen=True, eq=False)
class Database:
    """Real airfoils of aerosandbox, mostly from the UIUC collection.

    Args:
        names: names of the airfoils.
        designs: Kulfan parameters, shape ``(2174, 18)``.
        errors: root mean square errors of the fits in chords, shape ``(2174,)``.
    """

    names: tuple[str, ...]
    designs: Array
    errors: Array

    def __getitem__(self, name: str) -> Array:
        """Return the Kulfan parameters ``(18,)`` of an airfoil.

        Raises:
            InvalidInputError: unknown name.
        """
        if name not in self.names:
            similar = ", ".join(get_close_matches(str(name), self.names)) or "none"
            raise InvalidInputError(
                f"airfoil: name must be one of {len(self.names):,} airfoils, got {name!r}. "
                f"Similar names: {similar}."
            )
        return np.asarray(self.designs[self.names.index(name)])

    def nearest(self, designs: ArrayLike) -> list[int]:
        """Return the index of the real airfoil with the nearest surfaces to each design."""
        real = surfaces(self.designs)
        return [int(((real - one) ** 2).sum(axis=(1, 2)).argmin()) for one in surfaces(designs)]


@cache
def database() -> Database:
    """Fit Kulfan parameters to all real airfoils; a few seconds, once per process.

    Each fit is a linear least-squares problem. The greatest error is 0.0033 chords, the median is
    below 0.0002 chords.

    Raises:
        MissingExtraError: aerosandbox is not installed.
    """
    with require_package("airfoil", "aerosandbox", "airfoil"):
        import aerosandbox
    folder = Path(aerosandbox.__file__).parent / "geometry" / "airfoil" / "airfoil_database"
    names = sorted(path.stem for path in folder.glob("*.dat"))

    def fitted(name: str) -> tuple[Array, float]:
        """Fit Kulfan parameters; also return the root mean square height error in chords."""
        real = aerosandbox.Airfoil(name).normalize()
        kulfan = real.to_kulfan_airfoil(n_weights_per_side=8, normalize_coordinates=False)
        fit = kulfan.kulfan_parameters
        edges = [fit["leading_edge_weight"], fit["TE_thickness"]]
        numbers = np.concatenate([fit["upper_weights"], fit["lower_weights"], edges]).astype(float)
        x, y = np.asarray(real.coordinates, dtype=float).T
        heights = np.split(basis(np.clip(x, 0.0, 1.0)) @ numbers, 2)
        upper = np.arange(len(x)) <= x.argmin()
        return numbers, float(np.sqrt(np.mean((np.where(upper, *heights) - y) ** 2)))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about doubly closed coordinate lists
        designs, errors = zip(*map(fitted, names), strict=True)
    return Database(tuple(names), frozen(np.array(designs)), frozen(np.array(errors)))


def draw(design: ArrayLike, width: int = 180) -> Array:
    """Draw an airfoil, ``(0.4 width, width, 3)`` in [0, 1], dark on white.

    Crossing surfaces are red. One chord spans most of the width. Heights beyond 0.2 chords are
    clipped.
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
        least = 0.5 * pitch * (top is upper)  # minimum line width at a sharp trailing edge
        cover = np.clip((top + least - y) / pitch + 0.5, 0, 1) * np.clip(
            (y - bottom + least) / pitch + 0.5, 0, 1
        )
        cover = (cover * shown)[..., None]
        picture = picture * (1.0 - cover) + np.array(ink) * cover
    return picture
