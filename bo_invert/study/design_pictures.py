"""Pictures of the designs of a problem: by its ``draw``, or of designs that are images."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import numpy as np

from bo_invert.errors import warn_user
from bo_invert.problems.problem import Problem
from bo_invert.report.image_format import ImageFormat, image_format
from bo_invert.report.runs import Picture, as_picture
from bo_invert.types import Design

_SAMPLES = 16
"""Number of designs that show the range of the values. Engineering choice."""
_formats: WeakKeyDictionary[Problem, ImageFormat | None] = WeakKeyDictionary()


def design_picture(problem: Problem, design: Design) -> Picture | None:
    """Return the picture of a design; None if it has none.

    A function ``draw`` or a decoder that fails must not hide the result of a search; the former
    issues a warning.
    """
    try:
        if problem.draw is not None:
            return as_picture(problem.draw(design))
        found = _format(problem)
        return None if found is None else found.picture(design)
    except Exception as error:
        if problem.draw is not None:
            warn_user(
                f"Problem: draw failed with {type(error).__name__}: {error}. It must return an "
                "array (height, width) or (height, width, 3) in [0, 1]"
            )
        return None


def design_pictures(problem: Problem, designs: Sequence[Design]) -> list[Picture] | None:
    """Return the pictures of designs; None if one has none or their shapes differ."""
    pictures: list[Picture] = []
    for design in designs:
        picture = design_picture(problem, design)
        if picture is None or (pictures and picture.shape != pictures[0].shape):
            return None
        pictures.append(picture)
    return pictures or None


def _format(problem: Problem) -> ImageFormat | None:
    """Return the format of the images that the space decodes; None if they are no images."""
    if problem not in _formats:
        space = problem.space
        designs = list(space.decode(space.sample(np.random.default_rng(0), _SAMPLES)))
        _formats[problem] = None if isinstance(designs[0], (str, dict)) else image_format(designs)
    return _formats[problem]
