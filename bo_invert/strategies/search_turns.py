"""Turns of ``gp``, ``turbo``, ``forest`` and wide samples in the search of ``auto``; numpy only."""

from __future__ import annotations

import math
from bisect import insort
from collections import deque
from collections.abc import Sequence
from statistics import median

import numpy as np

from bo_invert.history import History
from bo_invert.types import JSON

# Engineering choice: share of the distance between the median of the latest 20 losses and the
# incumbent that counts as an improvement.
_IMPROVEMENT = 0.05
# Engineering choice: share of the distance between the median of all losses and the incumbent
# below which no improvement counts. The latest losses alone shrink with the trust region.
_NEGLIGIBLE = 1e-3
# Engineering choice: wide samples that may be owed; a single known output causes none.
_ALLOWED_DEBT = 2.0
# Engineering choice: largest share of the asks of ``forest``. A process extrapolates, a forest does
# not.
_MAX_SHARE = 0.75
# Samples of ``pcn`` that an ask without a gain owes in a box with data. Engineering choice: on
# boxes of experiments/frozen_regressors.py, seed 1, claims are equal and judged values better than
# with 0.
_DATA_DEBT = 0.25
_PATIENT = ("gp", "turbo")
WIDE: dict[str, JSON] = {
    "pcn": {"name": "pcn"},
    # Engineering choice: number of candidates for a point far from all known ones.
    "prior": {"name": "prior", "options": {"candidates": 32}},
    "elsewhere": {"name": "gp", "options": {"elsewhere": True}},
}


def wide_sampler(history: History, *, data: bool = False, choices: bool = False) -> str | None:
    """Return the key of a wide sample in ``WIDE`` if asks bring nothing new since the latest gain.

    Under a function with steps, ``gp`` and ``turbo`` follow a posterior mean that is smooth, and
    stay within the plateau of the incumbent. Each known output owes two samples of ``pcn``. Near a
    local optimum they refine digits while other basins are unknown. The posterior does not expect
    these, so a negligible change owes one draw of ``prior``, far from all known points.

    In a box with data, ``gp`` and ``turbo`` move along the edge of the plausible part, where
    regressors extrapolate. Each of their asks without a gain owes a part of a sample of ``pcn``,
    which draws promising points as frequent as the data are.

    With unordered choices, a negligible change owes two asks of ``gp`` for other choices than those
    of the incumbent instead.

    Args:
        history: log.
        data: True for a box with data.
        choices: True for a box with unordered choices.
    """
    best, level, losses = math.inf, math.inf, list[float]()
    known, owed = set[bytes](), dict.fromkeys(WIDE, 0.0)
    for trial in history.completed:
        loss = math.inf if trial.loss is None else trial.loss
        insort(losses, loss)
        y = np.asarray(trial.y).tobytes()
        kind = "elsewhere" if "elsewhere" in trial.query.meta else trial.origin
        best = min(best, loss if trial.feasible else math.inf)
        negligible = _negligible(losses, best)
        if best < level - negligible or level == math.inf:
            level, owed = best, dict.fromkeys(WIDE, 0.0)
        elif kind in owed:
            owed[kind] -= 1.0
        elif trial.origin in (*_PATIENT, "forest") and "design" not in trial.query.meta:
            refined = 1.0 * (y not in known and loss < best + negligible)
            if choices:
                owed["elsewhere"] += 2.0 * refined
            else:
                owed["pcn"] += 2.0 * (y in known) + _DATA_DEBT * data
                owed["prior"] += refined
        known.add(y)
    return next((name for name, debt in owed.items() if debt > _ALLOWED_DEBT), None)


def _negligible(losses: Sequence[float], best: float) -> float:
    """Return the largest negligible difference of sorted losses; 0 without a feasible one."""
    # ``median`` sorts, which takes linear time for a sorted list.
    return _NEGLIGIBLE * (median(losses) - best) if best < math.inf else 0.0


def search_turn(history: History, dim: int) -> str:
    """Return ``"gp"`` or ``"turbo"``, the strategy whose turn it is.

    A strategy loses its turn after ``patience`` calls without an improvement. A trust region
    needs about ``dim`` unsuccessful calls to halve, so ``turbo`` has twice the patience.
    """
    patience = {"gp": max(12, dim), "turbo": max(24, 2 * dim)}
    turn, unsuccessful, best, level = "gp", 0, math.inf, math.inf
    recent: deque[float] = deque(maxlen=20)
    losses: list[float] = []
    for trial in history.completed:
        loss = trial.loss if trial.loss is not None else math.inf
        best = min(best, loss if trial.feasible else math.inf)
        recent.append(loss)
        insort(losses, loss)
        if best < math.inf and (
            level == math.inf
            or best < level - max(_IMPROVEMENT * (median(recent) - best), _negligible(losses, best))
        ):
            unsuccessful, level = 0, best
            turn = trial.origin if trial.origin in patience else turn
        elif trial.origin in (turn, *WIDE) and "design" not in trial.query.meta:
            unsuccessful += 1
        if unsuccessful >= patience[turn]:
            turn, unsuccessful, level = "turbo" if turn == "gp" else "gp", 0, best
    return turn


def share_of_forest(history: History, comparison: JSON) -> float:
    """Return the share of asks of ``forest``: that of the comparison, corrected by gains.

    The factor is 2 g_f / (g_f + g), with g_f and g the shares of improvements among the calls of
    ``forest`` and of the others since its first one, each with one improvement in five added.
    """
    if comparison is None or comparison["share"] <= 0.0:
        return 0.0
    calls, gains = {True: 5, False: 5}, {True: 1, False: 1}
    best, begun, losses = math.inf, False, list[float]()
    for trial in history.completed:
        loss = math.inf if trial.loss is None or not trial.feasible else trial.loss
        insort(losses, loss)
        stepped = trial.origin == "forest" and "design" not in trial.query.meta
        begun = begun or stepped
        if begun and (stepped or trial.origin in _PATIENT):
            calls[stepped] += 1
            gains[stepped] += loss < best - _negligible(losses, best)
        best = min(best, loss)
    rates = {stepped: gains[stepped] / calls[stepped] for stepped in calls}
    share: float = comparison["share"] * 2.0 * rates[True] / (rates[True] + rates[False])
    return min(share, _MAX_SHARE)
