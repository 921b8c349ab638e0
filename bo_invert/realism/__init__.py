"""How plausible a point or a design is: measured, calibrated reference measures, and second opinions of regressors."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOME = {
    "Controls": "controls",
    "DesignRealism": "designs",
    "Gaps": "controls",
    "Measure": "reference",
    "control_regressors": "controls",
    "fit_measure": "reference",
}

__all__ = [*_HOME]

if TYPE_CHECKING:
    from bo_invert.realism.controls import Controls as Controls
    from bo_invert.realism.controls import Gaps as Gaps
    from bo_invert.realism.controls import control_regressors as control_regressors
    from bo_invert.realism.designs import DesignRealism as DesignRealism
    from bo_invert.realism.reference import Measure as Measure
    from bo_invert.realism.reference import fit_measure as fit_measure


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'bo_invert.realism' has no attribute {name!r}")
    return getattr(import_module(f"bo_invert.realism.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
