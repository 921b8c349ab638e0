"""Loss of a problem and its gradient at a batch of points, computed on the oracle's device."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from bo_invert.errors import FailedError
from bo_invert.spaces.base import Space
from bo_invert.user_code import user_settings


class MinimisedLoss(Protocol):
    """Part of a problem that gradients need; ``bo_invert.Problem`` implements it."""

    space: Space
    outputs: tuple[str, ...]

    def loss_tensor(self, outputs: Tensor) -> Tensor:
        """Return the penalised loss of outputs ``(n, m)``, shape ``(n,)``."""


class Evaluation(NamedTuple):
    """Outputs ``(n, m)``, minimised losses ``(n,)``, and their gradients ``(n, d)`` or NaN."""

    y: Tensor
    total: Tensor
    gradient: Tensor


class LossGradient:
    """Minimised loss and its gradient as a function of points ``(n, d)``.

    It never waits for the device unless the space, the oracle or the objective do.

    Args:
        problem: problem with a differentiable space.
        forward: forward pass of the oracle, from designs to outputs ``(n, m)``.
    """

    def __init__(self, problem: MinimisedLoss, forward: Callable[[Tensor], Tensor]) -> None:
        self._problem, self._forward = problem, forward
        self._shape = (len(problem.outputs),)
        self._augmented = self.augments(problem.space)
        self._penalised = type(problem.space).penalty_tensor is not Space.penalty_tensor
        self.clean = True
        """No evaluation has augmented its designs so far."""

    @staticmethod
    def augments(space: Space) -> bool:
        """Return True if the space may augment designs."""
        return type(space).augment_tensor is not Space.augment_tensor

    def __call__(
        self,
        points: Tensor,
        *,
        slope: bool = True,
        regular: bool = False,
        seed: int | None = None,
        truth: Tensor | None = None,
    ) -> Evaluation:
        """Evaluate points ``(n, d)``.

        Given ``truth``, the gradient is J^T grad L(truth) with the Jacobian J of the forward pass,
        so the error of a proxy affects only J.

        Args:
            points: points to evaluate.
            slope: compute the gradient.
            regular: add the penalty of the space.
            seed: seed of the augmentation of the designs; None for no augmentation.
            truth: known outputs ``(n, m)`` of the points.

        Raises:
            FailedError: outputs or losses have another shape.
        """
        points = points.detach().requires_grad_(slope)
        space, n = self._problem.space, len(points)
        with torch.set_grad_enabled(slope):
            designs = shown = space.decode_tensor(points)
            if seed is not None and self._augmented:
                shown = space.augment_tensor(designs, torch.Generator().manual_seed(seed))
                self.clean = self.clean and shown is designs
            with user_settings(modes=False):  # the oracle may work in place
                y = self._forward(shown.clone())
            if y.shape != (n, *self._shape):
                raise FailedError(
                    f"the oracle returned outputs of shape {tuple(y.shape)}, "
                    f"expected {(n, *self._shape)}"
                )
            if truth is not None:
                y = y + (truth.to(y) - y).detach()
            total = self._problem.loss_tensor(y)
            if total.shape != (n,):
                raise FailedError(
                    f"the objective returned a loss of shape {tuple(total.shape)}, expected ({n},)"
                )
            if regular and self._penalised:
                total = total + space.penalty_tensor(points, designs).to(total)
            # Each point has its own loss, so the gradient of the sum holds all gradients.
            gradient = (
                torch.autograd.grad(total, points, torch.ones_like(total))[0]
                if slope
                else torch.full_like(points, torch.nan)
            )
        return Evaluation(y.detach(), total.detach(), gradient)
