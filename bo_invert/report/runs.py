"""What one run of one method left behind: all that reports and comparisons look at. numpy only.

A run is a summary of a study's log that needs neither problem nor strategy to be read again.
"""

from __future__ import annotations

import base64
import math
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bo_invert.types import JSON, Array, Ledger, frozen

Picture = NDArray[np.uint8]


class Status(StrEnum):
    """What became of a run."""

    FINISHED = "finished"
    REFUSED = "refused"
    ERROR = "error"
    STOPPED = "stopped"  # before its end, by whoever ran it; it can be resumed


def as_picture(values: ArrayLike) -> Picture:
    """Grey ``(height, width)`` or colour ``(height, width, 3)`` in [0, 1], as read-only bytes. NaN becomes 0."""
    levels = np.clip(np.nan_to_num(np.asarray(values, dtype=float)), 0.0, 1.0)
    if levels.ndim not in (2, 3) or (levels.ndim == 3 and levels.shape[2] != 3):
        raise ValueError(
            f"a picture has shape (height, width) or (height, width, 3), got {levels.shape}"
        )
    picture: Picture = np.round(255 * levels).astype(np.uint8)
    picture.setflags(write=False)
    return picture


@dataclass(frozen=True, eq=False)
class Find:
    """One design that a run came up with.

    Args:
        number: of its trial.
        point: shape ``(d,)``.
        y: raw outputs, shape ``(m,)``.
        loss: what the oracle the search could see makes of it.
        feasible: whether all outcome constraints hold.
        hit: whether a target is met within its tolerance; None where there is no tolerance.
        judged: the loss by a judge no search has seen; None without one, or where it failed.
        plausibility: in [0, 1]; None where there is no measure.
        picture: of the design, bytes ``(height, width[, 3])``.
        text: the design in words, if it is short enough for that.
        upheld: whether all outcome constraints hold by the judge's outputs too; None where it gave none.
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
        picture = None
        if self.picture is not None:
            packed = base64.b64encode(self.picture.tobytes()).decode("ascii")
            picture = {"shape": list(self.picture.shape), "bytes": packed}
        return {
            "number": self.number,
            "point": self.point.tolist(),
            "y": self.y.tolist(),
            "loss": self.loss,
            "feasible": self.feasible,
            "hit": self.hit,
            "judged": self.judged,
            "upheld": self.upheld,
            "plausibility": self.plausibility,
            "picture": picture,
            "text": self.text,
        }

    @staticmethod
    def from_json(data: JSON) -> Find:
        picture = data["picture"]
        if picture is not None:
            picture = np.frombuffer(base64.b64decode(picture["bytes"]), np.uint8).reshape(
                picture["shape"]
            )
        return Find(
            **{**data, "point": frozen(data["point"]), "y": frozen(data["y"]), "picture": picture}
        )


@dataclass(frozen=True, eq=False)
class Run:
    """One method on one problem with one seed.

    Args:
        label: the method's name in tables.
        problem: the problem's name in tables.
        seed: runs with the same problem and seed are paired.
        strategy: its spec, ``{"name": ..., "options": {...}}``.
        budget: calls it was allowed.
        goal: the objective as JSON (``{"type": "target", ...}``).
        calls: abscissae of the best-so-far curve, shape ``(k,)``, rising.
        losses: lowest feasible loss by then, shape ``(k,)``, falling; infinite until something feasible is seen.
        bill: what it spent.
        finds: the best different designs, best first; infeasible ones only if nothing else was found.
        status: finished, refused (the strategy cannot work on the problem) or error.
        ended: why it stopped, in words; the sentence of a refusal or an error.
        ask_seconds: median wall-clock time of one ask; None where nothing was asked.
        code: what made it, where that was noted: fingerprints of ``method`` and ``problem``, ``commit``, ``versions``.
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

    @property
    def best(self) -> Find | None:
        """The feasible design of lowest loss; None when there is none."""
        return self.finds[0] if self.finds and self.finds[0].feasible else None

    @property
    def loss(self) -> float:
        """The lowest loss claimed; infinite when nothing feasible was found."""
        return math.inf if self.best is None else self.best.loss

    @property
    def start(self) -> float:
        """The first finite loss of the curve: where the search began. Infinite when there is none."""
        finite = self.losses[np.isfinite(self.losses)]
        return float(finite[0]) if len(finite) else math.inf

    @property
    def lowest(self) -> float:
        """The last loss of the curve. Infinite when nothing feasible was seen."""
        return float(self.losses[-1]) if len(self.losses) else math.inf

    def calls_to(self, loss: float) -> float:
        """Calls until the curve was at this loss or below; infinite if it never was."""
        there = np.flatnonzero(self.losses <= loss)
        return float(self.calls[there[0]]) if len(there) else math.inf

    def loss_at(self, calls: ArrayLike) -> Array:
        """The lowest loss claimed within so many calls, same shape as ``calls``; infinite where there was none."""
        position = np.searchsorted(self.calls, np.asarray(calls), side="right") - 1
        padded = np.append(
            self.losses, math.inf
        )  # position -1, before the first call, reads the infinite entry
        return np.asarray(padded[position], dtype=float)

    def record(self) -> dict[str, Any]:
        """The run as one flat row of plain values."""
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
        """Strict JSON; floats come back exactly."""
        return {
            "label": self.label,
            "problem": self.problem,
            "seed": self.seed,
            "strategy": self.strategy,
            "budget": self.budget,
            "goal": self.goal,
            "calls": self.calls.tolist(),
            "losses": [loss if math.isfinite(loss) else None for loss in self.losses.tolist()],
            "bill": asdict(self.bill),
            "finds": [find.to_json() for find in self.finds],
            "status": str(self.status),
            "ended": self.ended,
            "ask_seconds": self.ask_seconds,
            "code": self.code,
        }

    @staticmethod
    def from_json(data: JSON) -> Run:
        return Run(
            **{
                **data,
                "calls": np.array(data["calls"], dtype=np.int64),
                "losses": np.array(
                    [math.inf if v is None else v for v in data["losses"]], dtype=float
                ),
                "bill": Ledger(**data["bill"]),
                "finds": tuple(Find.from_json(find) for find in data["finds"]),
                "status": Status(data["status"]),
            }
        )
