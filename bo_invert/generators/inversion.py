"""Codes of real designs for a decoder that came without an encoder, by gradient descent on the reconstruction error."""

from __future__ import annotations

from typing import Any

import numpy as np

from bo_invert.generators.frozen import Frozen
from bo_invert.types import Array

_ROWS = 512


def invert(
    decoder: Frozen,
    designs: Any,
    dim: int,
    seed: int = 0,
    starts: int = 4,
    steps: int = 300,
    learning_rate: float = 0.05,
) -> tuple[Array, Array]:
    """Codes ``(n, d)`` whose decodings come nearest to n designs, and the mean squared errors left, ``(n,)``.

    Every design gets several starts drawn from N(0, I) and keeps its best; Adam, with the step annealed to zero.

    Args:
        decoder: differentiable.
        designs: shape ``(n, ...)``, as the decoder makes them.
        dim: number of coordinates d of a code.
        seed: of the starts.
        starts: per design.
        steps: of Adam.
        learning_rate: of Adam, in units of the code.
    """
    import torch

    targets = torch.as_tensor(np.asarray(designs)).to(decoder.device, decoder.dtype)
    generator = torch.Generator().manual_seed(seed)
    codes, errors = [], []
    for i in range(0, len(targets), max(1, _ROWS // starts)):
        wanted = targets[i : i + max(1, _ROWS // starts)].repeat_interleave(starts, dim=0)
        z = torch.randn(len(wanted), dim, generator=generator).to(decoder.device, decoder.dtype).requires_grad_()
        optimizer = torch.optim.Adam([z], lr=learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            optimizer.zero_grad()
            _error(decoder.tensor(z), wanted).sum().backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            left = _error(decoder.tensor(z), wanted).reshape(-1, starts)
        best = left.nan_to_num(torch.inf).argmin(dim=1)
        rows = torch.arange(len(best), device=best.device)
        codes.append(z.detach().reshape(-1, starts, dim)[rows, best].cpu().double().numpy())
        errors.append(left[rows, best].cpu().double().numpy())
    return np.concatenate(codes), np.concatenate(errors)


def _error(made: Any, wanted: Any) -> Any:
    return ((made - wanted) ** 2).flatten(1).mean(dim=1)
