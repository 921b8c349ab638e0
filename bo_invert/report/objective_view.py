"""A loss as its user would say it: the output with its own sign and name, or the distance from the target."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bo_invert.types import JSON


@dataclass(frozen=True)
class Goal:
    """What is looked for, as an objective in a log tells it.

    Args:
        objective: as JSON, ``{"type": "maximize", "output": "yield"}``; anything unknown is told by its loss.
        outputs: names of the oracle's outputs, where they are known.
    """

    objective: JSON
    outputs: Sequence[str] = ()

    @property
    def kind(self) -> str:
        """``"minimize"``, ``"maximize"``, ``"target"`` or whatever else the objective calls itself."""
        return str(self.objective.get("type", ""))

    @property
    def is_output(self) -> bool:
        """Whether the loss is plus or minus one output."""
        return self.kind in ("minimize", "maximize")

    @property
    def is_raised(self) -> bool:
        """Whether higher is better: then reports tell the output, and not the loss, which is minus that."""
        return self.kind == "maximize"

    @property
    def label(self) -> str:
        """What the number of ``value`` is called."""
        if self.is_output:
            return str(
                self.objective.get("output")
                or (self.outputs[0] if len(self.outputs) == 1 else "output")
            )
        if self.kind == "target":
            return "off by" if len(set(self._scales)) == 1 else "off by (in scales)"
        return "loss"

    def value(self, loss: float) -> float:
        """The output; or the root of the mean squared distance from the target, in the outputs' unit if they share one.

        A loss that is not finite stays as it is: it stands for nothing found.
        """
        if not math.isfinite(loss):
            return loss
        if self.kind == "target":
            return math.sqrt(loss) * (self._scales[0] if len(set(self._scales)) == 1 else 1.0)
        return -loss if self.is_raised else loss

    def told(self, loss: float) -> float:
        """What reports say of a loss: the output where that is raised, otherwise the loss."""
        return self.value(loss) if self.is_raised else loss

    def text(self, loss: float) -> str:
        """Label and value, to four digits."""
        return f"{self.label}{' ' if self.kind == 'target' else '='}{self.value(loss):.4g}"

    def words(self) -> str:
        """What is better, for captions."""
        if self.kind == "minimize":
            return "minimise: the loss is the output"
        if self.kind == "maximize":
            return "maximise: higher is better"
        if self.kind == "target":
            return "target: the loss is the mean squared distance"
        return "lower loss is better"

    @property
    def _scales(self) -> Sequence[float]:
        return self.objective.get("scale") or (1.0,)
