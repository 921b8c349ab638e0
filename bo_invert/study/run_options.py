"""Options of a run."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from bo_invert.oracles.base import time_limit
from bo_invert.study.stop import Stopping
from bo_invert.types import Array, Trial
from bo_invert.user_data import whole_number

Take = Callable[..., list[Trial]]
"""Function that starts trials; see ``Study.take``."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options of ``Study.run``. A progress bar is shown if there is a ``label``.

    Args:
        suits: Function that is True of the points whose trials can end the run by a hit; None for
            all points.
    """

    budget: int
    batch: int = 1
    executor: Executor | str | None = None
    retries: int = 0
    stop_when_hit: bool = True
    label: str = ""
    stop: Stopping | None = None
    timeout: float | None = None
    suits: Callable[[Array], bool] | None = None

    def __post_init__(self) -> None:
        for name, least in (("budget", 1), ("batch", 1), ("retries", 0)):
            object.__setattr__(self, name, whole_number("run", name, getattr(self, name), least))
        object.__setattr__(self, "timeout", time_limit("run", "timeout", self.timeout))
