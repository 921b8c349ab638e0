"""Results of one run of one method, the input of reports and comparisons.

A run summarises a study's log. Reading it requires numpy only, neither problem nor strategy.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bo_invert.history import Ledger
from bo_invert.types import JSON, Array, frozen
from bo_invert.user_data import real_array

Picture = NDArray[np.uint8]
_Key = TypeVar("_Key")


class Status(StrEnum):
    """Outcome of a run."""

    FINISHED = "finished"
    REFUSED = "refused"
    ERROR = "error"
    STOPPED = "stopped"  # by the user, before its end; it can be resumed


def as_picture(values: ArrayLike) -> Picture:
    """Convert values in [0, 1] to read-only bytes; NaN becomes 0.

    Args:
        values: grey levels ``(height, width)`` or colours ``(height, width, 3)``.
    """
    levels = np.clip(np.nan_to_num(real_array("picture", values)), 0.0, 1.0)
    if levels.ndim not in (2, 3) or (levels.ndim == 3 and levels.shape[2] != 3):
        raise ValueError(f"a picture must have shape (height, width[, 3]), got {levels.shape}")
    picture: Picture = np.round(255 * levels).astype(np.uint8)
    picture.setflags(write=False)
    return picture


@dataclass(frozen=True, eq=False)
class Find:
    """One design of a run.

    Args:
        number: number of its trial.
        point: coordinates, shape ``(d,)``.
        y: raw outputs, shape ``(m,)``.
        loss: loss by the oracle of the search.
        feasible: True if all outcome constraints hold.
        hit: True if a target is met within its tolerance; None without a tolerance.
        judged: loss by the judge, an oracle that no search uses; None without one or if it failed.
        plausibility: plausibility in [0, 1]; None if it is not measured.
        picture: picture of the design, bytes ``(height, width[, 3])``.
        text: short text of the design, or empty.
        upheld: True if all outcome constraints hold by the judge's outputs; None without outputs.
    """

    number: int
    point: Array
    y: Array
    loss: float
    feasible: bool = True
    hit: bool | None = None
    judged: float | None = None
    plausibility: float | None = None
    picture: Picture | None = None
    text: str = ""
    upheld: bool | None = None

    def to_json(self) -> JSON:
        image = self.picture
        packed = None if image is None else {
            "shape": list(image.shape), "bytes": base64.b64encode(image.tobytes()).decode("ascii"),
        }  # fmt: skip
        return vars(self) | {"point": self.point.tolist(), "y": self.y.tolist(), "picture": packed}

    @staticmethod
    def from_json(data: JSON) -> Find:
        packed = data["picture"]
        image = None if packed is None else np.frombuffer(
            base64.b64decode(packed["bytes"]), np.uint8
        ).reshape(packed["shape"])  # fmt: skip
        arrays = {"point": frozen(data["point"]), "y": frozen(data["y"]), "picture": image}
        return Find(**data | arrays)


@dataclass(frozen=True, eq=False)
class Run:
    """One method on one problem with one seed.

    Args:
        label: name of the method in tables.
        problem: name of the problem in tables.
        seed: random seed; runs with the same problem and seed are paired.
        strategy: spec of the strategy, ``{"name": ..., "options": {...}}``.
        budget: allowed calls.
        goal: objective as JSON, ``{"type": "target", ...}``.
        calls: numbers of calls of the best-so-far curve, shape ``(k,)``, increasing.
        losses: lowest feasible loss after these calls, shape ``(k,)``, decreasing; infinite
            before the first feasible trial.
        bill: cost of the run.
        finds: best distinct designs, best first; infeasible ones only if no design is feasible.
        status: outcome; a run is refused if the strategy does not support the problem.
        ended: reason of the end; the message of a refusal or an error.
        ask_seconds: median wall-clock time of one ask in seconds; None without an ask.
        criteria: losses of several criteria over calls, for hypervolumes; empty for one objective.
        code: provenance, if recorded: fingerprints of ``method`` and ``problem``, ``commit`` and
            ``versions``.
    """

    label: str
    problem: str
    seed: int
    strategy: JSON
    budget: int
    goal: JSON = field(default_factory=dict)
    calls: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    losses: Array = field(default_factory=lambda: np.zeros(0))
    bill: Ledger = field(default_factory=Ledger)
    finds: tuple[Find, ...] = ()
    status: Status = Status.FINISHED
    ended: str = ""
    ask_seconds: float | None = None
    code: JSON = field(default_factory=dict)
    criteria: JSON = field(default_factory=dict)

    @property
    def best(self) -> Find | None:
        """Feasible design of the lowest loss; None if there is none."""
        return self.finds[0] if self.finds and self.finds[0].feasible else None

    @property
    def loss(self) -> float:
        """Lowest claimed loss; infinite without a feasible design."""
        return math.inf if self.best is None else self.best.loss

    @property
    def start(self) -> float:
        """First finite loss of the curve; infinite if there is none."""
        return next((float(loss) for loss in self.losses if math.isfinite(loss)), math.inf)

    @property
    def lowest(self) -> float:
        """Last loss of the curve; infinite without a feasible trial."""
        return float(self.losses[-1]) if len(self.losses) else math.inf

    def calls_to(self, loss: float) -> float:
        """Return the calls until the curve reaches this loss; infinite if it does not."""
        return float(next(iter(self.calls[self.losses <= loss]), math.inf))

    def loss_at(self, calls: ArrayLike) -> Array:
        """Return the best loss after each number of calls; infinite before a feasible trial."""
        position = np.searchsorted(self.calls, np.asarray(calls), side="right") - 1
        # Position -1, before the first call, reads the infinite entry.
        return np.asarray(np.append(self.losses, math.inf)[position], dtype=float)

    def record(self) -> dict[str, Any]:
        """Return the run as one flat row of plain values."""
        best = self.best
        return {
            "problem": self.problem,
            "method": self.label,
            "strategy": self.strategy.get("name", ""),
            "seed": self.seed,
            "status": str(self.status),
            "budget": self.budget,
            "loss": None if best is None else best.loss,
            "judged": None if best is None else best.judged,
            "plausibility": None if best is None else best.plausibility,
            "hit": None if best is None else best.hit,
            **asdict(self.bill),
            "ended": self.ended,
        }

    def to_json(self) -> JSON:
        """Return strict JSON that restores all floats exactly."""
        fields = {name: one for name, one in vars(self).items() if name != "criteria" or one}
        return fields | {
            "calls": self.calls.tolist(),
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses.tolist()],
            "bill": asdict(self.bill),
            "finds": [find.to_json() for find in self.finds],
            "status": str(self.status),
        }

    @staticmethod
    def from_json(data: JSON) -> Run:
        losses = [math.inf if loss is None else loss for loss in data["losses"]]
        values = {
            "calls": np.array(data["calls"], dtype=np.int64),
            "losses": np.array(losses, dtype=float),
            "bill": Ledger(**data["bill"]),
            "finds": tuple(map(Find.from_json, data["finds"])),
            "status": Status(data["status"]),
        }
        return Run(**data | values)


def grouped(runs: Iterable[Run], key: Callable[[Run], _Key]) -> dict[_Key, list[Run]]:
    """Group runs by the value of ``key``, in the order of their first runs."""
    groups: dict[_Key, list[Run]] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return groups
