"""Presentation of losses: the output with its own sign and name, or the distance to the target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bo_invert.types import JSON

_DIRECTIONS = {
    "minimize": "minimise: the loss is the output",
    "maximize": "maximise: higher is better",
    "nearest": "least change: the loss is the change of the given design",
    "target": "target: the loss is the mean squared distance",
    "hypervolume": "hypervolume: higher is better",
    "pareto": "several criteria: the loss is their mean",
}


@dataclass(frozen=True)
class Goal:
    """An objective as its JSON in a log describes it.

    Args:
        objective: JSON such as ``{"type": "maximize", "output": "yield"}``; objectives of an
            unknown type are shown by their loss.
        outputs: names of the oracle's outputs, if known.
    """

    objective: JSON
    outputs: Sequence[str] = ()

    @property
    def kind(self) -> str:
        """Type of the objective, such as ``"minimize"``, ``"maximize"`` or ``"target"``."""
        return str(self.objective.get("type", ""))

    @property
    def is_output(self) -> bool:
        """True if the loss is plus or minus one output."""
        return self.kind in ("minimize", "maximize")

    @property
    def is_raised(self) -> bool:
        """True if the output is maximised; reports then show the output, minus the loss."""
        return self.kind in ("maximize", "hypervolume")

    @property
    def label(self) -> str:
        """Name of the number of ``value``."""
        if self.is_output:
            only = self.outputs[0] if len(self.outputs) == 1 else "output"
            return str(self.objective.get("output") or only)
        if self.kind in ("hypervolume", "plausibility"):
            return self.kind
        if self.kind == "nearest":
            return "change"
        if self.kind == "pareto":
            return "mean loss"
        distance = "off by" if len(set(self._scales)) == 1 else "off by (in scales)"
        return distance if self.kind == "target" else "loss"

    @property
    def tolerance_text(self) -> str:
        """Tolerance of a target in words, ``0.01`` or ``0.01 (CL), 0.002 (CM)``; empty without."""
        known = self.objective.get("tolerance") or 0.0
        if not isinstance(known, Sequence):
            return f"{known:g}" if known else ""
        names = [
            *(self.objective.get("outputs") or self.outputs),
            *(self.objective.get("avoid") or {}),
        ]
        return ", ".join(f"{one:g} ({name})" for one, name in zip(known, names, strict=False))

    @property
    def criteria(self) -> list[str]:
        """Outputs that the criteria of several objectives read, in their order."""
        names: list[str] = []
        for one in self.objective.get("objectives") or [self.objective]:
            if one.get("type") == "plausibility":
                names.append("plausibility")
            elif one.get("type") in ("minimize", "maximize"):
                names.append(self._output(one))
            else:
                names += one.get("outputs") or []
        return [name for name in dict.fromkeys(names) if name in self.outputs]

    def _output(self, one: JSON) -> str:
        """Return the output of an objective; the only one needs no name."""
        return str(one.get("output") or (self.outputs[0] if len(self.outputs) == 1 else ""))

    def better(self, output: str) -> int:
        """Return 1 if higher values of an output are better, -1 if lower ones are, else 0."""
        objectives = self.objective.get("objectives") if self.kind == "pareto" else [self.objective]
        for one in objectives or ():
            name = "plausibility" if one.get("type") == "plausibility" else self._output(one)
            if name == output and one.get("type") in ("minimize", "maximize", "plausibility"):
                return -1 if one["type"] == "minimize" else 1
        return 0

    def target_of(self, output: str) -> float | None:
        """Return the target value of an output; None without one."""
        for one in self.objective.get("objectives") or [self.objective]:
            values = one.get("value")
            if one.get("type") != "target" or not isinstance(values, Sequence):
                continue
            names = list(one.get("outputs") or self.outputs)
            known = dict(zip(names, values, strict=False)).get(output)
            if isinstance(known, (int, float)):
                return float(known)
        return None

    def value(self, loss: float) -> float:
        """Convert a loss to the output, or to the distance to the target.

        The distance is the root mean square over outputs, in their unit if they have one scale.
        A loss that is not finite is returned unchanged.
        """
        if not math.isfinite(loss):
            return loss
        if self.kind == "target":
            return math.sqrt(loss) * (self._scales[0] if len(set(self._scales)) == 1 else 1.0)
        return -loss if self.is_raised else loss

    def shown(self, loss: float) -> float:
        """Convert a loss to the number in reports: a maximised output, otherwise the loss."""
        return self.value(loss) if self.is_raised else loss

    def text(self, loss: float) -> str:
        """Return label and value with four digits."""
        return f"{self.label}{' ' if self.kind == 'target' else '='}{self.value(loss):.4g}"

    def words(self) -> str:
        """Return the direction of improvement for captions."""
        return _DIRECTIONS.get(self.kind, "lower loss is better")

    @property
    def _scales(self) -> Sequence[float]:
        return self.objective.get("scale") or (1.0,)
