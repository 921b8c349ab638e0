"""Differentiable NeuralFoil networks in torch with the published weights.

Sharpe and Hansman 2025, "NeuralFoil: An airfoil aerodynamics analysis tool using physics-informed
machine learning". Eight networks of increasing size approximate XFoil and estimate their own
confidence. The installed package ``neuralfoil`` (MIT licence) provides the weights.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bo_invert.errors import InvalidInputError, one_of, require_package

SIZES = ("xxsmall", "xsmall", "small", "medium", "large", "xlarge", "xxlarge", "xxxlarge")
OUTPUTS = ("L/D", "CL", "CD", "CM", "confidence", "L/D x confidence")
_N_CRIT = 9.0
"""Critical amplification exponent of transition, dimensionless. Defaults of NeuralFoil."""
_FREE_TRANSITION = 1.0
"""Forced transition position, fraction of the chord. Defaults of NeuralFoil: free transition."""
# Inputs: 8 upper weights, 8 lower weights, leading edge, trailing edge, 7 flow variables. The
# mirrored airfoil at angle -alpha has these inputs in the order _MIRROR with the factors _SIGNS.
_MIRROR = [*range(8, 16), *range(8), 16, 17, 18, 19, 20, 21, 22, 24, 23]
# Factors of the mirrored inputs, dimensionless; exact by symmetry.
_SIGNS = [-1.0] * 17 + [1.0, -1.0] + [1.0] * 6
_HEADS = 4
"""Number of retained network outputs: confidence logit, CL, log CD, CM, all scaled.

The other outputs describe boundary layers. Sharpe and Hansman 2025.
"""
_HEAD_SIGNS = [1.0, -1.0, 1.0, -1.0]
"""Factors of these outputs under mirroring, dimensionless; exact by symmetry."""


class NeuralFoil(nn.Module):
    """NeuralFoil network at a fixed angle of attack and Reynolds number, in float64.

    ``forward`` maps Kulfan parameters ``(n, 18)`` to ``(n, 6)`` in the order of ``OUTPUTS``. The
    first 16 parameters are eight weights per surface from the leading edge, upper surface first.
    The last two are the leading-edge weight and the trailing-edge thickness in chords.

    Args:
        size: name of the network, one of ``SIZES``.
        alpha: angle of attack, degrees.
        reynolds: Reynolds number of the chord.

    Raises:
        InvalidInputError: unknown network, or invalid flow.
        MissingExtraError: neuralfoil is not installed.
    """

    def __init__(self, size: str, alpha: float = 4.0, reynolds: float = 1e6) -> None:
        super().__init__()
        one_of("airfoil", "size", size, SIZES)
        if not (math.isfinite(alpha) and math.isfinite(reynolds) and reynolds > 0):
            raise InvalidInputError(
                f"airfoil: alpha must be finite and reynolds positive, got {alpha!r}, {reynolds!r}"
            )
        stored, seen = (
            _read(_folder() / file) for file in (f"nn-{size}.npz", "scaled_input_distribution.npz")
        )
        self.layers = tuple(sorted({int(name.split(".")[1]) for name in stored}))
        rows = {i: slice(_HEADS if i == self.layers[-1] else None) for i in self.layers}
        buffers = {
            f"{kind}{i}": stored[f"net.{i}.{kind}"][rows[i]]
            for i in self.layers
            for kind in ("weight", "bias")
        } | {
            "mean": seen["mean_inputs_scaled"],
            "precision": seen["inv_cov_inputs_scaled"],
            "flow": _flow(alpha, reynolds),
            "signs": _SIGNS,
            "head_signs": _HEAD_SIGNS,
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.as_tensor(np.array(values, dtype=np.float64)))

    def forward(self, kulfan: torch.Tensor) -> torch.Tensor:
        flow = self.get_buffer("flow").expand(len(kulfan), -1)
        inputs = torch.cat([kulfan[:, :17], 50.0 * kulfan[:, 17:], flow], dim=1)
        upright, mirrored = (
            self._heads(inputs),
            self._heads(inputs[:, _MIRROR] * self.get_buffer("signs")),
        )
        trust, lift, drag, moment = (
            0.5 * (upright + mirrored * self.get_buffer("head_signs"))
        ).unbind(1)
        confidence, cl, cd = trust.sigmoid(), lift / 2.0, (2.0 * (drag - 2.0)).exp()
        return torch.stack(
            [cl / cd, cl, cd, moment / 20.0, confidence, cl / cd * confidence], dim=1
        )

    def _heads(self, inputs: torch.Tensor) -> torch.Tensor:
        """Compute the scaled outputs ``(n, 4)``.

        The squared Mahalanobis distance to the training inputs, over twice their number, reduces
        the confidence logit.
        """
        hidden = inputs
        for i in self.layers:
            hidden = hidden @ self.get_buffer(f"weight{i}").T + self.get_buffer(f"bias{i}")
            if i != self.layers[-1]:
                hidden = nn.functional.silu(hidden)
        off = inputs - self.get_buffer("mean")
        distance = (off @ self.get_buffer("precision") * off).sum(1) / (2.0 * inputs.shape[1])
        return torch.cat([hidden[:, :1] - distance[:, None], hidden[:, 1:]], dim=1)


def _flow(alpha: float, reynolds: float) -> list[float]:
    """Compute the seven scaled flow inputs of the networks."""
    angle = math.radians(alpha)
    return [
        math.sin(2.0 * angle), math.cos(angle), 1.0 - math.cos(angle) ** 2,
        (math.log(reynolds) - 12.5) / 3.5, (_N_CRIT - 9.0) / 4.5, _FREE_TRANSITION,
        _FREE_TRANSITION,
    ]  # fmt: skip


def _folder() -> Path:
    with require_package("airfoil", "neuralfoil", "airfoil"):
        import neuralfoil
    return Path(neuralfoil.__file__).parent / "nn_weights_and_biases"


def _read(path: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
