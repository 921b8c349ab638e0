"""Check that an oracle accepts the designs of a space, by names and number."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from bo_invert.errors import warn_user
from bo_invert.oracles.base import Oracle
from bo_invert.spaces.base import Space
from bo_invert.spaces.box import Box
from bo_invert.types import Design
from bo_invert.user_tables import require_names


def check_inputs(space: Space, oracle: Oracle) -> None:
    """Check names and number of the inputs of an oracle; warn if names match by position only.

    Raises:
        InvalidInputError: names do not match, or calls with designs of the space cannot succeed.
    """
    by_name = designs_by_name(space, oracle)  # raises if names do not match
    if not by_name and oracle.input_names and getattr(space, "unnamed", False):
        warn_user(
            f"Problem: the oracle has the inputs {list(oracle.input_names)}, the box has "
            "no names. They are matched by position. Write Box(..., names=[...])"
        )
    checks = type(oracle).check_design is not Oracle.check_design
    # Designs of conditional parameters have different sizes.
    if not checks or space.domain.conditional:
        return
    designs: list[Design] = []
    with suppress(Exception):  # a decoder that fails is reported by the first calls
        designs = [space.decode(space.sample(np.random.default_rng(0), 1))[0]]
    for design in designs:
        oracle.check_design(design)


def designs_by_name(space: Space, oracle: Oracle) -> bool:
    """Return True if an oracle needs vectors of a box as records of names.

    Raises:
        InvalidInputError: the box and the inputs of the oracle have different names.
    """
    names, box = oracle.input_names, type(space).decode is Box.decode
    if names is None or not box or not isinstance(space, Box):
        return False
    if space.unnamed and set(names) != set(space.domain.parameters):
        if len(names) == len(space.domain.parameters):
            return False  # neither vectors nor bounds have names: by position
        require_names("Box: the inputs of the oracle", names, space.domain.parameters)
    require_names("Box: the inputs of the oracle", names, space.domain.parameters)
    return not space.named
