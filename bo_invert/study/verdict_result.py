"""Verdict on a target and the nearest attainable outputs, with their texts and tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bo_invert.domains.search_domain import Domain
from bo_invert.errors import printable
from bo_invert.report.table import Table
from bo_invert.types import JSON, Array, Design

if TYPE_CHECKING:
    from bo_invert.models.inverse.limiting_factors import Limit


@dataclass(frozen=True, eq=False)
class NearestOutputs:
    """Attainable outputs that are nearest to a target.

    Args:
        outputs: Outputs that the target and the constraints read, by name.
        spread: Standard deviations of these outputs at the nearest points of drawn functions.
        wanted: Wanted value or range of each output, as text.
        excess: Distance from the target region in tolerances; 0 inside of it.
        point: Point of the domain, shape ``(d,)``.
        design: Its design.
        trial: Number of the trial that attained the outputs; None if a model predicts them.
    """

    outputs: Mapping[str, float]
    spread: Mapping[str, float]
    wanted: Mapping[str, str]
    excess: float
    point: Array
    design: Design
    trial: int | None


@dataclass(frozen=True, eq=False, repr=False)
class Verdict:
    """Verdict on the target of a study.

    Args:
        status: ``"reached"`` if a trial meets the target. ``"unreachable"`` if the probability of a
            hit was at most alpha at the latest estimates in a row, with a best hope tried after
            each but the last one. ``"undecided"`` otherwise.
        probability: Probability that some valid design meets the target; None without a model.
        calls: Calls so far.
        nearest: Nearest attainable outputs; None without an observation.
        limits: Limits that keep the outputs from the target.
        why: Reason for ``"undecided"``, or empty.
        domain: Search domain.
    """

    status: str
    probability: float | None
    calls: int
    nearest: NearestOutputs | None
    limits: tuple[Limit, ...]
    why: str
    domain: Domain

    @property
    def limited_by(self) -> tuple[str, ...]:
        """Limits in words."""
        return tuple(_in_words(limit, self.domain) for limit in self.limits)

    @property
    def reason(self) -> str:
        """Status in one line."""
        chance = "" if self.probability is None else f", probability of a hit {self._chance}"
        if self.status == "reached":
            assert self.nearest is not None
            return f"the target is reached in trial {self.nearest.trial}"
        head = f"the target is {self.status}" + (chance if self.status == "unreachable" else "")
        if self.status == "undecided":
            head = f"undecided{chance}"
        text = f"{head}; {self.why}" if self.why else head
        if self.nearest is not None and self.nearest.excess > 0.0:
            text += f"; nearest outputs {self.nearest.excess:.3g} tolerances outside"
        return text + (f"; limited by {', '.join(self.limited_by)}" if self.limits else "")

    @property
    def _chance(self) -> str:
        p = self.probability
        return "unknown" if p is None else f"{p:.0%}" if p >= 0.01 or p == 0.0 else f"{p:.1%}"

    def to_json(self) -> JSON:
        """Return plain data; designs as named values or coordinates."""
        nearest = None
        if self.nearest is not None:
            one = self.nearest
            nearest = {
                "outputs": dict(one.outputs), "spread": dict(one.spread),
                "wanted": dict(one.wanted), "excess": one.excess, "point": one.point.tolist(),
                "values": self.domain.named(one.point, measured=True), "trial": one.trial,
            }  # fmt: skip
        return {
            "status": self.status, "probability": self.probability, "calls": self.calls,
            "nearest": nearest, "limited_by": list(self.limited_by),
            "limits": [vars(limit) for limit in self.limits], "why": self.why,
        }  # fmt: skip

    def table(self) -> Table:
        """Return one row for each output, with status, design and limits around it."""
        caption = f"{self.reason.split('; ')[0]} after {self.calls} calls"
        notes = [self.why] if self.why else []
        rows: list[tuple[object, ...]] = []
        if self.nearest is not None:
            one = self.nearest
            rows = [
                (name, one.wanted.get(name, ""), value, one.spread.get(name))
                for name, value in one.outputs.items()
            ]
            origin = "predicted" if one.trial is None else f"trial {one.trial}"
            where = ", ".join(
                f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
                for name, value in list(self.domain.named(one.point, measured=True).items())[:12]
            )
            notes.append(f"{origin}, {one.excess:.3g} tolerances outside the target: {where}")
        if self.limits:
            notes.append(f"limited by: {', '.join(self.limited_by)}")
        columns = ("output", "wanted", "nearest", "± std")
        return Table(columns, tuple(rows), caption=caption, notes=tuple(notes))

    def __repr__(self) -> str:
        return printable(self.table().text())

    def _repr_html_(self) -> str:
        return self.table().html()


def _in_words(limit: Limit, domain: Domain) -> str:
    """Return a limit in words."""
    if limit.kind in ("output", "outcome constraint"):
        kind = "" if limit.kind == "output" else " (outcome constraint)"
        return f"{limit.name} too {'high' if limit.side > 0 else 'low'}{kind}"
    if limit.kind == "parameter":
        side = "upper" if limit.side > 0 else "lower"
        return f"{limit.name} at its {side} bound{_bound(limit, domain)}"
    if limit.kind == "input constraint":
        return f"the input constraint: {limit.text}"
    if limit.kind == "plausibility":
        return "the least plausibility of designs"
    return "failures of the oracle nearby"


def _bound(limit: Limit, domain: Domain) -> str:
    """Return the value of a bound, for parameters with names."""
    parameter: Any = domain.axes[limit.name]
    value = getattr(parameter, "high" if limit.side > 0 else "low", None)
    return "" if value is None else f" {value:.4g}"
