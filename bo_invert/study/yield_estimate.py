"""Quality of a design under noise of its inputs, with an interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class YieldEstimate:
    """Quality of a design under noise of its inputs, with a central 90 % interval.

    Args:
        expected: Expected value under the model.
        low: Lower end.
        high: Upper end.
        kind: ``"yield"``, the probability that a manufactured design meets the target and the
            constraints; or ``"expected loss"``.
    """

    expected: float
    low: float
    high: float
    kind: str

    def __str__(self) -> str:
        values = (self.expected, self.low, self.high)
        texts = [f"{v:.0%}" if self.kind == "yield" else f"{v:.4g}" for v in values]
        return f"{self.kind} {texts[0]} ({texts[1]} to {texts[2]})"
