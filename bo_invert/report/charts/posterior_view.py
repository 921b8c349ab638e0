"""Posterior of designs as charts read it: samples by branch, verified designs. numpy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np

from bo_invert.domains.parameters import VariedParameter
from bo_invert.domains.search_domain import Domain
from bo_invert.report.runs import Picture
from bo_invert.types import Array, Indices

NAMED_BRANCHES = 5
"""Number of branches with a colour of their own. Engineering choice: more look alike."""


class PosteriorView(Protocol):
    """Samples of the posterior of designs; see ``Posterior``."""

    @property
    def points(self) -> Array: ...
    @property
    def hit(self) -> Array: ...
    @property
    def outputs(self) -> Mapping[str, Array]: ...
    @property
    def branches(self) -> Indices: ...
    @property
    def branch_masses(self) -> Array: ...
    @property
    def verified(self) -> Array: ...
    @property
    def domain(self) -> Domain: ...
    @property
    def axes(self) -> Mapping[str, VariedParameter]: ...
    @property
    def units(self) -> Mapping[str, str]: ...
    @property
    def pictures(self) -> Callable[[Array], list[Picture] | None] | None: ...
    @property
    def summary(self) -> tuple[str, ...]: ...


class Branch(NamedTuple):
    """Samples of one branch, or of all small ones.

    Args:
        role: Key of ``palette.STYLES``.
        name: Text of the legend.
        rows: Positions of the samples.
    """

    role: str
    name: str
    rows: Indices


def branches(view: PosteriorView) -> Iterator[Branch]:
    """Yield the branches with samples, the largest first; small ones are one at the end."""
    masses = view.branch_masses
    for branch in range(min(NAMED_BRANCHES, len(masses))):
        rows = np.flatnonzero(view.branches == branch)
        if len(rows):
            name = f"branch {branch} ({masses[branch]:.0%})"
            yield Branch(f"branch {branch + 1}", name, rows)
    rows = np.flatnonzero(view.branches >= NAMED_BRANCHES)
    if len(rows):
        rest = masses[NAMED_BRANCHES:]
        name = f"{int((rest > 0.0).sum())} more branches ({rest.sum():.0%})"
        yield Branch("other branches", name, rows)


def label(view: PosteriorView, name: str) -> str:
    """Return a name with its unit."""
    unit = view.units.get(name)
    return f"{name} [{unit}]" if unit else name


def named_rows(domain: Domain, points: Array) -> list[dict[str, Any]]:
    """Return the parameters of points ``(n, d)`` by name; None for inactive ones."""
    if not domain.parameters:
        return [domain.named(point) for point in points]
    rows = domain.values(points, measured=True)
    return [{name: row.get(name) for name in domain.axes} for row in rows]


def columns(view: PosteriorView) -> dict[str, list[Any]]:
    """Return parameters, outputs, ``hit`` and ``branch`` of samples and verified designs."""
    count, more = len(view.points), len(view.verified)
    rows = named_rows(view.domain, np.concatenate([view.points, view.verified]))
    found: dict[str, list[Any]] = {"class": ["sample"] * count + ["verified design"] * more}
    for name in view.axes:
        found[name] = [row.get(name) for row in rows]
    values = {**view.outputs, "hit": view.hit, "branch": view.branches}
    for name, one in values.items():
        found[name] = [*one.tolist(), *[None] * more]
    return found
