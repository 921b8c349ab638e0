"""Reuse of known designs: no call for a design that the log holds at another point."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from bo_invert.errors import warn_user
from bo_invert.storage.journal_base import JournalBase
from bo_invert.types import Array, Cost, Outcome, Query, State, Trial


class RepeatedDesigns:
    """Answers to proposals of known designs from the log, at no cost.

    If a design has two different answers, the oracle is noisy and every proposal gets a call.

    Args:
        journal: Journal of the study.
        identify: Function from points ``(n, d)`` to names of designs, equal for equal designs.
        size: Number of designs.
        patience: Number of proposals of known designs in a row after which the run ends.
    """

    def __init__(
        self,
        journal: JournalBase,
        identify: Callable[[Array], list[str]],
        size: float = math.inf,
        patience: int = 100,
    ) -> None:
        self._journal = journal
        self._identify = identify
        self._size = size
        self._patience = patience
        self._seen = 0
        self._names: dict[bytes, str | None] = {}
        self._answers: dict[str, Outcome] = {}
        self._observed: dict[str, dict[int, Outcome]] = {}
        self._under_way: set[str | None] = set()
        self._different: set[str] = set()  # designs with different answers

    def fresh(
        self, start: Callable[[int], list[Trial]], count: int, limit: int | None = None
    ) -> list[Trial]:
        """Return up to ``count`` trials that need a call.

        Args:
            start: Function that starts a number of trials.
            count: Number of trials, at least 1.
            limit: Number of trials of the study from which each one needs a call; see
                ``Study.run``. The number of known designs in a row is then not limited.
        """
        found: list[Trial] = []
        repeats = 0
        while len(found) < count and (limit is not None or repeats < self._patience):
            trials = start(count - len(found))
            if not trials:
                return found
            settled = self.settle(trials, limit)
            found += settled
            repeats = 0 if settled else repeats + len(trials)
            if repeats and len(self._answers.keys() | self._under_way) >= self._size:
                break  # all designs are known
        if repeats and not found and not self._under_way:  # else a new observation is near
            known = (
                f"all {self._size:,.0f} designs are known"
                if len(self._answers) >= self._size
                else f"{len(self._answers)} designs are known"
            )
            warn_user(
                f"study {self._journal.name!r}: the last {repeats} proposals were known designs "
                f"({known}), so the run ends here. Continue with another strategy, or with "
                "run(reuse_limit=0) to evaluate known designs again",
            )
        return found

    def settle(self, trials: Sequence[Trial], limit: int | None = None) -> list[Trial]:
        """Answer running trials of known designs; return the others.

        A known design gets the same outcome. A design that another trial evaluates now is cancelled
        at no cost. Points of the user, descents and gradients always get a call, and so do trials
        whose number is not below ``limit``.
        """
        self._learn()
        if self._different:
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
            beyond = limit is not None and trial.number >= limit
            if name is None or trial.ask is None or beyond or not _plain(trial.query):
                fresh.append(trial)
            elif name in self._answers:
                self._journal.finish(trial.number, self._answers[name], attempt)
            elif name in under_way:
                self._journal.release(trial.number, attempt, Cost())
                self._journal.cancel(
                    trial.number,
                    f"its design is that of trial {under_way[name]}, which is running",
                )
            else:
                fresh.append(trial)
                under_way[name] = trial.number
        self._under_way = set(under_way)
        return fresh

    def _learn(self) -> None:
        """Read the outcomes that are new or amended in the log."""
        changed, self._seen = self._journal.changed(self._seen)
        for trial in changed:
            if trial.amendments:
                self._forget(trial.number)
        observed = [
            trial
            for trial in changed
            if trial.state in (State.COMPLETED, State.INFEASIBLE) and not trial.outside
        ]
        for trial, name in zip(observed, self._named(observed), strict=True):
            if name is None or trial.outcome is None:
                continue
            answer = replace(
                trial.outcome, cost=Cost(), point=None, gradient=None, trace=None, design=None,
                extra={},
            )  # fmt: skip
            self._observed.setdefault(name, {})[trial.number] = answer
            if _differ(self._answers.setdefault(name, answer), answer):
                self._different.add(name)

    def _forget(self, number: int) -> None:
        """Remove the outcome of an amended trial."""
        for name in [name for name, answers in self._observed.items() if number in answers]:
            answers = self._observed[name]
            del answers[number]
            self._different.discard(name)
            if not answers:
                del self._observed[name], self._answers[name]
                continue
            first = self._answers[name] = next(iter(answers.values()))
            if any(_differ(first, other) for other in answers.values()):
                self._different.add(name)

    def _named(self, trials: Sequence[Trial]) -> list[str | None]:
        """Return the name of the design of each trial; None without one."""
        new = {
            trial.point.tobytes(): trial.point
            for trial in trials
            if trial.point.tobytes() not in self._names
        }
        names: Sequence[str | None] = [None] * len(new)
        with suppress(Exception):  # the evaluation reports the error of the decoder
            names = self._identify(np.array(list(new.values()))) if new else []
        self._names.update(zip(new, [name or None for name in names], strict=True))
        return [self._names[trial.point.tobytes()] for trial in trials]


def _differ(one: Outcome, other: Outcome) -> bool:
    if one.y is None or other.y is None:
        return one.state is not other.state
    return not np.array_equal(one.y, other.y)


def _plain(query: Query) -> bool:
    return query.descent is None and not query.gradient
