"""Check of the pictures of designs: by the ``draw`` of the user, or of designs that are images."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.problem_doctor.findings import Finding, attempt, ok, warning
from bo_invert.problems.problem import Problem
from bo_invert.report.image_format import image_format
from bo_invert.types import Design

_CONTRAST = 0.02
"""Least difference of the grey levels of a picture, as a share of the range. Engineering choice: 5
of 255 levels are hardly visible."""


def check_display(problem: Problem, designs: Sequence[Design]) -> list[Finding]:
    """Check how designs are shown: functions of the user, and pictures that are drawn without one.

    Args:
        problem: problem to check.
        designs: some designs.
    """
    faults = {
        name: attempt(_check_shown, name, function, designs)[1]
        for name, function in (("draw", problem.draw), ("plausibility", problem.plausibility))
        if function is not None
    }
    found = [
        warning(
            f"{name}.fails",
            f"{name} raises {type(fault).__name__}: {fault}",
            f"Correct Problem({name}=...)",
        )
        for name, fault in faults.items()
        if fault is not None
    ]
    return found if problem.draw is not None else [*found, *_check_images(designs)]


def _check_shown(name: str, function: Callable[..., ArrayLike], designs: Sequence[Design]) -> None:
    shown = np.asarray(function(designs[0] if name == "draw" else designs), dtype=np.float64)
    if name == "draw" and shown.ndim not in (2, 3):
        raise ValueError(f"expected shape (height, width) or (height, width, 3), got {shown.shape}")
    if name == "plausibility" and (
        shown.shape != (len(designs),) or (shown < 0).any() or (shown > 1).any()
    ):
        raise ValueError(f"expected one number in [0, 1] per design, got {shown!r:.60}")


def _check_images(designs: Sequence[Design]) -> list[Finding]:
    """Check the pictures of designs that look like images; reports draw them without ``draw``."""
    finite = [one for one in designs if image_format([one]) is not None]
    known = image_format(finite) if finite else None
    if known is None:
        return []
    remedy = "Return finite images of one shape, or pass Problem(draw=...)"
    if len(finite) < len(designs):
        text = f"{len(designs) - len(finite)} of {len(designs)} images are not finite and not drawn"
        return [warning("draw.missing", text, remedy)]
    pictures = [picture for one in finite if (picture := known.picture(one)) is not None]
    size = "x".join(map(str, pictures[0].shape[:2]))
    text = (
        f"designs are drawn as images of {size} pixels, with values from {known.low:.3g} to "
        f"{known.high:.3g}"
    )
    spread = max(int(picture.max()) - int(picture.min()) for picture in pictures) / 255
    if spread < _CONTRAST:
        return [
            warning(
                "draw.blank",
                f"{text}, and look blank: their grey levels differ by {spread:.1%}",
                "Pass Problem(draw=...), a function from a design to an array in [0, 1]",
            )
        ]
    return [ok("draw.images", text)]
