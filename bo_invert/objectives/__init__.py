"""Objectives: functions from the outputs of an oracle to a loss; see ``base``."""

from __future__ import annotations

import sys
from warnings import warn


def __getattr__(name: str) -> object:
    package = sys.modules["bo_invert"]
    if package._HOME.get(name, "").startswith("objectives."):
        warn(f"use bo_invert.{name}", DeprecationWarning, stacklevel=2)
        return getattr(package, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
