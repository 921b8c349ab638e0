"""Designs that the log knows: what was paid for under one point is not paid again under another."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from bo_invert.storage.journal_base import JournalBase
from bo_invert.types import Array, Cost, Outcome, Query, State, Trial

_IN_VAIN = 100
"""Proposals of known designs, one after another, after which nothing new is expected."""


class RepeatedDesigns:
    """Answers proposals of known designs from the log, at no cost.

    Once a design was answered in two ways, answers are noisy, and every proposal is worth its call again.

    Args:
        journal: of the study.
        identify: names of the designs at points ``(n, d)``, equal for equal ones.
        size: how many designs there are.
    """

    def __init__(
        self, journal: JournalBase, identify: Callable[[Array], list[str]], size: float = math.inf
    ) -> None:
        self._journal = journal
        self._identify = identify
        self._size = size
        self._seen = 0
        self._names: dict[bytes, str | None] = {}
        self._answers: dict[str, Outcome] = {}
        self._under_way: set[str | None] = set()
        self._noisy = False

    def fresh(self, begin: Callable[[int], list[Trial]], count: int) -> list[Trial]:
        """Up to ``count`` trials that need a call.

        Args:
            begin: starts so many trials.
            count: at least 1.
        """
        found: list[Trial] = []
        in_vain = 0
        while len(found) < count and in_vain < _IN_VAIN:
            trials = begin(count - len(found))
            if not trials:
                return found
            settled = self.settle(trials)
            found += settled
            in_vain = 0 if settled else in_vain + len(trials)
            if (
                in_vain and len(self._answers.keys() | self._under_way) >= self._size
            ):  # there are no others
                break
        if in_vain and not found and not self._under_way:  # else there may be news soon
            known = (
                f"all {self._size:,.0f}"
                if len(self._answers) >= self._size
                else f"the {len(self._answers)}"
            )
            warnings.warn(
                f"study {self._journal.name!r}: the last {in_vain} proposals were of designs that are known, {known} "
                "of them; nothing new was found to ask for, so the run ends here. Go on with another strategy, or with "
                "Problem(reuse=False) to measure them again",
                stacklevel=3,
            )
        return found

    def settle(self, trials: Sequence[Trial]) -> list[Trial]:
        """Those of the running ``trials`` that need a call.

        A design that the log knows gets the same outcome; one that is under way in another trial is cancelled, at no
        cost. Points of the user's, descents and gradients are always worth their calls.
        """
        self._learn()
        if self._noisy:
            return list(trials)
        mine = {trial.number for trial in trials}
        others = [
            trial
            for trial in self._journal.running
            if trial.number not in mine and _plain(trial.query)
        ]
        under_way = {
            name: trial.number for trial, name in zip(others, self._named(others), strict=True)
        }
        fresh = []
        for trial, name in zip(trials, self._named(trials), strict=True):
            attempt = len(trial.attempts) - 1
            if name is None or trial.ask is None or not _plain(trial.query):
                fresh.append(trial)
            elif name in self._answers:
                self._journal.finish(trial.number, self._answers[name], attempt)
            elif name in under_way:
                self._journal.release(trial.number, attempt, Cost())
                self._journal.cancel(
                    trial.number,
                    f"its design is that of trial {under_way[name]}, which is under way",
                )
            else:
                fresh.append(trial)
                under_way[name] = trial.number
        self._under_way = set(under_way)
        return fresh

    def _learn(self) -> None:
        """Take in what was told since the last time."""
        changed, self._seen = self._journal.changed(self._seen)
        told = [trial for trial in changed if trial.state in (State.COMPLETED, State.INFEASIBLE)]
        for trial, name in zip(told, self._named(told), strict=True):
            if name is None or trial.outcome is None:
                continue
            known = self._answers.setdefault(
                name, replace(trial.outcome, cost=Cost(), point=None, gradient=None, trace=None)
            )
            self._noisy |= _differ(known, trial.outcome)

    def _named(self, trials: Sequence[Trial]) -> list[str | None]:
        """Names of designs; None where the decoder fails."""
        new = {
            trial.point.tobytes(): trial.point
            for trial in trials
            if trial.point.tobytes() not in self._names
        }
        for key, name in zip(new, self._tried(np.array(list(new.values()))), strict=True):
            self._names[key] = name
        return [self._names[trial.point.tobytes()] for trial in trials]

    def _tried(self, points: Array) -> Sequence[str | None]:
        try:
            return self._identify(points) if len(points) else []
        except Exception:  # the decoder's fault, of which the evaluation will tell
            return [None] * len(points)


def _differ(one: Outcome, other: Outcome) -> bool:
    if one.y is None or other.y is None:
        return one.state is not other.state
    return not np.array_equal(one.y, other.y)


def _plain(query: Query) -> bool:
    return query.descent is None and not query.gradient
