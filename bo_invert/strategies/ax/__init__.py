"""Ax integration: Ax as a strategy, studies as Ax clients, strategies in an Ax loop.

Raises:
    MissingExtraError: Ax is not installed.
"""

from importlib.util import find_spec

from bo_invert.errors import MissingExtraError

if find_spec("ax") is None:
    raise MissingExtraError(
        "ax: the package ax-platform must be installed. "
        "Install it with: pip install 'bo-invert[ax]'"
    )

from bo_invert.strategies.ax.strategy import Ax as Ax
