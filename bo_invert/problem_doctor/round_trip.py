"""From a design back to a point, and whether draws look as real designs do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.problem_doctor.design_distance import is_same, numbers_of
from bo_invert.problem_doctor.findings import Finding, note, ok, share, warning
from bo_invert.spaces.base import Space


def round_trip(space: Space, designs: Sequence[Any]) -> list[Finding]:
    """How near designs come back that are encoded and decoded."""
    try:
        back = space.decode(space.encode(designs))
    except InvalidInputError:
        return [
            note(
                "space.no_way_back",
                "a design cannot be turned into a point",
                "Known designs are given as points: study.add(points=...), or give the space an encoder",
            )
        ]
    except Exception as fault:
        return [
            warning(
                "space.way_back_fails",
                f"encode raises {type(fault).__name__}: {fault}",
                "Mend the encoder; study.add and study.enqueue need it for designs",
            )
        ]
    a, b = numbers_of(designs), numbers_of(back)
    if a is None or b is None or a.shape != b.shape:
        same = sum(is_same(x, y) for x, y in zip(designs, back, strict=True))
        fits = 2 * same >= len(designs)
        return [
            (ok if fits else warning)(
                "space.round_trip",
                f"{share(same, len(designs))} designs come back from a round trip",
                "" if fits else "The encoder does not fit the decoder",
                {"same": same},
            )
        ]
    spread = np.sqrt(((a - a.mean(axis=0)) ** 2).mean()) or 1.0
    loss = float(np.sqrt(((a - b) ** 2).mean()) / spread)
    if loss > 0.5:
        return [
            warning(
                "space.round_trip",
                f"a design comes back from a round trip off by {loss:.0%} of the designs' spread",
                "The encoder does not fit the decoder: the reference measure, and designs given to the study, "
                "are of other designs than meant",
                {"error": loss},
            )
        ]
    words = "exactly" if loss < 1e-6 else f"off by {loss:.1%} of the designs' spread"
    return [
        ok(
            "space.round_trip",
            f"a design comes back from a round trip {words}",
            "",
            {"error": loss},
        )
    ]


def calibration(space: Space, rng: np.random.Generator) -> list[Finding]:
    """Where the reference measure of a latent comes from, and how its draws rank in it."""
    if not space.domain.latent:
        return []
    if space.domain.reference is None:
        return [
            note(
                "space.assumed",
                "where real designs lie is assumed: codes follow N(0, I)",
                "Pass data=, codes= or prior= to bi.Latent, and it is measured: plausibility then means something",
            )
        ]
    outer = float((space.plausibility(space.sample(rng, 2000)) < 0.05).mean())
    said = f"{outer:.1%} of draws from the reference measure have a plausibility below 0.05"
    if outer > 0.2:
        return [
            warning(
                "space.calibration",
                f"{said}, where 5 % of held-out codes have: draws are not what real designs look like",
                "Give more codes to measure from, or another prior",
                {"outer": outer},
            )
        ]
    if not 0.02 <= outer <= 0.1:
        return [
            note(
                "space.calibration",
                f"{said}, where 5 % of held-out codes have: the measure is {'wider' if outer > 0.05 else 'narrower'} "
                "than the codes",
                "",
                {"outer": outer},
            )
        ]
    return [ok("space.calibration", f"{said}, as 5 % of held-out codes have", "", {"outer": outer})]
