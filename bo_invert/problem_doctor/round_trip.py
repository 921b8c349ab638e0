"""Round trip of designs through the encoder, and calibration of the reference measure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.problem_doctor.design_distance import is_same, numbers_of
from bo_invert.problem_doctor.findings import Finding, attempt, first, note, ok, share, warning
from bo_invert.spaces.base import Space
from bo_invert.types import Design


def round_trip(space: Space, designs: Sequence[Design]) -> list[Finding]:
    """Measure the reconstruction error of encoded and decoded designs."""
    back, fault = attempt(lambda: space.decode(space.encode(designs)))
    if back is None:
        return first(
            (
                isinstance(fault, InvalidInputError),
                note(
                    "space.no_way_back",
                    "the space has no encoder for designs",
                    "Pass known designs as points (study.add(points=...)), or give the space an "
                    "encoder",
                ),
            ),
            (
                True,
                warning(
                    "space.way_back_fails",
                    f"encode raises {type(fault).__name__}: {fault}",
                    "Correct the encoder; study.add and study.enqueue need it for designs",
                ),
            ),
        )
    a, b = numbers_of(designs), numbers_of(back)
    if a is None or b is None or a.shape != b.shape:
        same = sum(is_same(x, y) for x, y in zip(designs, back, strict=True))
        text = f"{share(same, len(designs))} designs are reconstructed"
        return first(
            (2 * same >= len(designs), ok("space.round_trip", text, same=same)),
            (
                True,
                warning(
                    "space.round_trip", text, "The encoder does not match the decoder", same=same
                ),
            ),
        )
    spread = np.sqrt(((a - a.mean(axis=0)) ** 2).mean()) or 1.0
    loss = float(np.sqrt(((a - b) ** 2).mean()) / spread)
    words = "exact" if loss < 1e-6 else f"within {loss:.1%} of the designs' spread"
    return first(
        (
            loss > 0.5,
            warning(
                "space.round_trip",
                f"the reconstruction error is {loss:.0%} of the designs' spread",
                "The encoder does not match the decoder, so the reference measure and added "
                "designs are wrong",
                error=loss,
            ),
        ),
        (True, ok("space.round_trip", f"the reconstruction of designs is {words}", error=loss)),
    )


def calibration(space: Space, rng: np.random.Generator) -> list[Finding]:
    """Check the calibration of a latent reference measure on its own draws."""
    if not space.domain.latent:
        return []
    if space.domain.reference is None:
        return [
            note(
                "space.assumed",
                "the distribution of codes is assumed to be N(0, I)",
                "Pass data=, codes= or prior= to bi.Latent to calibrate plausibility",
            )
        ]
    outer = float((space.plausibility(space.sample(rng, 2000)) < 0.05).mean())
    text = f"{outer:.1%} of draws from the reference measure have a plausibility below 0.05"
    return first(
        (
            outer > 0.2,
            warning(
                "space.calibration",
                f"{text}, against 5 % of held-out codes: draws differ from real designs",
                "Pass more codes, or another prior",
                outer=outer,
            ),
        ),
        (
            not 0.02 <= outer <= 0.1,
            note(
                "space.calibration",
                f"{text}, against 5 % of held-out codes: the measure is "
                f"{'wider' if outer > 0.05 else 'narrower'} than the codes",
                outer=outer,
            ),
        ),
        (True, ok("space.calibration", f"{text}, close to 5 %", outer=outer)),
    )
