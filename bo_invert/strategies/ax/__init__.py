"""Ax as a strategy, and conversions between studies and Ax clients."""

from bo_invert.strategies.ax.strategy import Ax as Ax
