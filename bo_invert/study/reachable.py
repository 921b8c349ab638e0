"""Probabilities that many targets can be reached."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import InvalidInputError, printable
from bo_invert.history import History
from bo_invert.models.blas_threads import one_thread
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.target import Target
from bo_invert.report.charts.plot import Plot
from bo_invert.report.charts.reachable_region import reachable_region
from bo_invert.report.table import Table
from bo_invert.study.hopes import too_few
from bo_invert.study.posterior import MIN_OBSERVATIONS, require_target
from bo_invert.types import JSON, Array, Mask
from bo_invert.user_data import real_array
from bo_invert.user_tables import columns, require_names

if TYPE_CHECKING:
    import pandas as pd

    from bo_invert.models.inverse.attainability import Attainability

_GRID = {1: 61, 2: 11}
"""Values of each output in the default targets, by number of outputs. Engineering choice: the
largest number of targets that takes some seconds."""
_BEYOND = 0.25
"""Share of the observed range by which default targets exceed it. Engineering choice."""
_SHOWN = 10
"""Largest number of targets in a printed table. Engineering choice."""


@dataclass(frozen=True, eq=False, repr=False)
class ReachableTargets:
    """Reachability of t targets.

    Args:
        names: Names of the k wanted outputs.
        values: Targets, shape ``(t, k)``.
        probability: Probability that some valid design meets each target, shape ``(t,)``; 1 where a
            trial does.
        verified: Mask of the targets that a trial meets, shape ``(t,)``.
        excess: Distance of the nearest outputs of the posterior mean from each target beyond the
            tolerance, in tolerances, shape ``(t,)``; 0 for reachable ones.
        nearest: These outputs, shape ``(t, k)``.
        points: Their points, shape ``(t, d)``.
        tolerances: Tolerance of each output, in its units, shape ``(k,)``.
        observed: Observed outputs, shape ``(n, k)``.
        why: Reason to doubt the model, or empty.
        domain: Search domain.
    """

    names: tuple[str, ...]
    values: Array
    probability: Array
    verified: Mask
    excess: Array
    nearest: Array
    points: Array
    tolerances: Array
    observed: Array
    why: str
    domain: Domain

    def __len__(self) -> int:
        return len(self.values)

    def records(self) -> list[dict[str, Any]]:
        """Return one dictionary per target.

        Keys are the outputs; ``probability``, ``verified`` and ``excess``; and ``nearest.NAME`` of
        each output.
        """
        found = []
        for row in range(len(self)):
            one: dict[str, Any] = dict(zip(self.names, self.values[row].tolist(), strict=True))
            one |= {
                "probability": float(self.probability[row]),
                "verified": bool(self.verified[row]), "excess": float(self.excess[row]),
            }  # fmt: skip
            nearest = zip(self.names, self.nearest[row].tolist(), strict=True)
            one |= {f"nearest.{name}": value for name, value in nearest}
            found.append(one)
        return found

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per target; the columns are the keys of ``records``."""
        import pandas as pd

        return pd.DataFrame(self.records())

    def to_json(self) -> JSON:
        """Return plain data."""
        return {
            "names": list(self.names), "tolerances": self.tolerances.tolist(), "why": self.why,
            "targets": self.records(), "points": self.points.tolist(),
        }  # fmt: skip

    def plot(self) -> Plot:
        """Plot the probability over the values of one or two outputs.

        Raises:
            InvalidInputError: There are more than two outputs.
        """
        return Plot(
            reachable_region(self.names, self.values, self.probability, self.observed, self.why)
        )

    def table(self) -> Table:
        """Return the first targets with their probabilities and nearest outputs."""
        some = self.records()[:_SHOWN]
        heads = (*self.names, "probability", "excess", *(f"nearest {one}" for one in self.names))
        rows = tuple(
            (
                *(one[name] for name in self.names), f"{one['probability']:.0%}", one["excess"],
                *(one[f"nearest.{name}"] for name in self.names),
            )
            for one in some
        )  # fmt: skip
        rest = len(self) - len(some)
        notes = [f"and {rest} more targets"] if rest > 0 else []
        widths = ", ".join(f"{one:.3g}" for one in dict.fromkeys(self.tolerances.tolist()))
        caption = f"{len(self)} targets, tolerance {widths}"
        return Table(heads, rows, caption=caption, notes=(*notes, *([self.why] * bool(self.why))))

    def __repr__(self) -> str:
        return printable(self.table().text())

    def _repr_html_(self) -> str:
        return self.table().html()


def require_observations(history: History) -> None:
    """Check that there are enough observations for a model.

    Raises:
        InvalidInputError: There are fewer than two.
    """
    if len(history.completed) < MIN_OBSERVATIONS:
        raise InvalidInputError(
            f"reachable: the study must have at least {MIN_OBSERVATIONS} observations, got "
            f"{len(history.completed)}. Run it, or add observations"
        )


@one_thread()
def reachable(
    statement: ProblemStatement, history: History, values: object, estimate: Attainability
) -> ReachableTargets:
    """Return the reachability of targets.

    Args:
        statement: Problem statement with a target.
        history: Trials.
        values: Argument of ``Study.reachable``.
        estimate: Model of the log.

    Raises:
        InvalidInputError: The values are invalid.
    """
    target = require_target(statement, "reachable")
    wanted = target.entries.wanted
    indices = list(target.indices[:wanted])
    names = tuple(statement.outputs[index] for index in indices)
    observed = history.y[:, indices]
    read = _read(values, names, observed)
    found = estimate.reach_targets(read)
    tolerances = np.array(estimate.fit.tolerances[:wanted])
    usable = (history.violations <= 0.0) & _avoiding(target, history.y)
    gaps = (np.abs(observed[usable][None] - read[:, None]) / tolerances).max(-1)  # (t, n)
    verified = gaps.min(1, initial=np.inf) <= 1.0
    nearest = found.outputs[:, [estimate.fit.fitted.outputs.column(index) for index in indices]]
    return ReachableTargets(
        names, read, np.where(verified, 1.0, found.probability), verified,
        np.where(verified, 0.0, np.maximum(found.excess, 0.0)), nearest, found.points, tolerances,
        observed, too_few(statement, history) or estimate.distrust, statement.domain,
    )  # fmt: skip


def _avoiding(target: Target, y: Array) -> Mask:
    """Return a mask ``(n,)`` of the outputs ``(n, m)`` outside of all intervals to avoid."""
    fine = np.ones(len(y), dtype=bool)
    entries = target.entries
    rows = zip(
        target.indices,
        entries.lower,
        entries.upper,
        entries.avoided,
        target.tolerances,
        strict=True,
    )
    for index, low, high, avoided, width in rows:
        if avoided:
            fine &= (y[:, index] <= low + width) | (y[:, index] >= high - width)
    return fine


def _read(values: object, names: tuple[str, ...], observed: Array) -> Array:
    """Return targets ``(t, k)`` of the user."""
    if values is None:
        return _default(names, observed)
    named = columns(values)
    if named is not None:
        require_names("reachable: values", names, named)
        read = [np.atleast_1d(real_array("reachable: values", named[name])) for name in names]
        lengths = {len(one) for one in read}
        if len(lengths) > 1:
            raise InvalidInputError(
                f"reachable: values must be columns of equal length, got {sorted(lengths)}"
            )
        found = np.stack(read, axis=1)
    else:
        found = np.atleast_1d(real_array("reachable: values", values))
        if found.ndim == 1:
            found = found[:, None] if len(names) == 1 else found[None]
    if found.ndim != 2 or found.shape[1] != len(names) or not len(found):
        raise InvalidInputError(
            f"reachable: values must have shape (t, {len(names)}) for the outputs {list(names)}, "
            f"got {found.shape}"
        )
    if not np.isfinite(found).all():
        raise InvalidInputError("reachable: values must be finite numbers")
    return found


def _default(names: tuple[str, ...], observed: Array) -> Array:
    """Return a grid of targets over the observed outputs and beyond."""
    if len(names) not in _GRID:
        raise InvalidInputError(
            f"reachable: values must be given for {len(names)} outputs; a default exists for one "
            "and two"
        )
    low, high = observed.min(0), observed.max(0)
    beyond = _BEYOND * np.maximum(high - low, 1e-12)
    axes = np.linspace(low - beyond, high + beyond, _GRID[len(names)]).T
    return np.stack(np.meshgrid(*axes), axis=-1).reshape(-1, len(names))
