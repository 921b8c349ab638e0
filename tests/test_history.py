from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from bo_invert.history import History, best_so_far
from bo_invert.types import Attempt, Cost, Descent, Outcome, Query, State, Trial

ONE = Cost(1)


def trial(
    number: int,
    loss: float | None = None,
    state: State = State.COMPLETED,
    violation: float = 0.0,
    **extra: Any,
) -> Trial:
    """A trial at the point ``(number, number)`` that took one attempt."""
    outcome = None
    if state is State.COMPLETED:
        outcome = Outcome(state, y=[loss], loss=loss, violation=violation, cost=ONE)
    elif state in (State.FAILED, State.INFEASIBLE):
        outcome = Outcome(state, reason="no", cost=ONE)
    attempts = () if outcome is None else (Attempt("w", number, number + 0.5, ONE, state),)
    fields: dict[str, Any] = {"attempts": attempts, "outcome": outcome, **extra}
    return Trial(number, Query([number, number]), state, number, **fields)


LOG = [
    trial(0, 3.0),
    trial(1, state=State.FAILED),
    trial(2, 1.0, violation=0.2),
    trial(3, 2.0),
    trial(4, state=State.RUNNING),
    trial(5, state=State.INFEASIBLE),
    trial(6, state=State.LOST),
    trial(7, state=State.CANCELLED),
    trial(8, 5.0, violation=0.1),
]


def test_the_log_as_arrays() -> None:
    history = History(LOG)
    assert [t.number for t in history.completed] == [0, 2, 3, 8]
    assert [t.number for t in history.pending] == [4, 6], "a lost trial will be asked again"
    assert [t.number for t in history.failed] == [1, 5]
    assert history.points.tolist() == [[0, 0], [2, 2], [3, 3], [8, 8]]
    assert history.y.tolist() == [[3.0], [1.0], [2.0], [5.0]]
    assert history.losses.tolist() == [3.0, 1.0, 2.0, 5.0]
    assert history.violations.tolist() == [0.0, 0.2, 0.0, 0.1]
    assert history.pending_points.tolist() == [[4, 4], [6, 6]]


def test_an_empty_log() -> None:
    history = History([])
    assert history.points.shape == history.y.shape == history.pending_points.shape == (0, 0)
    assert history.losses.shape == (0,)
    assert history.best is None
    assert history.ranking == ()
    assert (history.calls, history.committed) == (0, 0)


def test_feasible_trials_rank_before_all_others() -> None:
    assert [t.number for t in History(LOG).ranking] == [3, 0, 8, 2]
    best = History(LOG).best
    assert best is not None
    assert best.number == 3
    assert History([trial(0, 1.0, violation=0.1)]).best is None


@given(
    st.lists(st.tuples(st.floats(-10, 10), st.floats(0, 1) | st.just(0.0)), min_size=1, max_size=8)
)
def test_ranking_is_by_violation_then_by_loss(rows: list[tuple[float, float]]) -> None:
    log = [trial(i, loss, violation=violation) for i, (loss, violation) in enumerate(rows)]
    history = History(log)
    order = [(rows[t.number][1], rows[t.number][0]) for t in history.ranking]
    assert order == sorted((violation, loss) for loss, violation in rows)
    feasible = [loss for loss, violation in rows if violation == 0]
    assert (history.best.loss if history.best else None) == (min(feasible) if feasible else None)


def test_of_equals_the_first_is_best() -> None:
    best = History([trial(0, 1.0), trial(1, 1.0)]).best
    assert best is not None
    assert best.number == 0


def test_calls_count_one_attempt_per_trial() -> None:
    twice = (Attempt("w", 0.0, 1.0, ONE, State.LOST), Attempt("w", 1.0, 2.0, ONE, State.COMPLETED))
    history = History(
        [trial(0, 1.0, attempts=twice), trial(1, state=State.FAILED), trial(2, state=State.QUEUED)]
    )
    assert history.trials[0].cost.calls == 2
    assert history.calls == 2
    assert history.committed == 3


def test_an_open_descent_is_committed_in_full() -> None:
    descent = Trial(0, Query([0.0], descent=Descent(10)), State.RUNNING)
    gradient = Trial(1, Query([0.0], gradient=True), State.QUEUED)
    assert History([descent, gradient]).committed == 22


def test_a_descent_is_placed_where_it_arrived() -> None:
    outcome = Outcome(State.COMPLETED, y=[1.0], loss=1.0, cost=Cost(5, 5), point=[7.0, 7.0])
    assert History([trial(0, 1.0, outcome=outcome)]).points.tolist() == [[7.0, 7.0]]


def test_the_curve_falls_over_calls() -> None:
    calls, losses = best_so_far(LOG)
    assert calls.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert losses.tolist() == [np.inf, 3.0, 3.0, 3.0, 2.0, 2.0, 2.0]


def test_the_curve_follows_the_order_of_ending() -> None:
    late = (Attempt("w", 0.0, 9.0, ONE, State.COMPLETED),)
    calls, losses = best_so_far([trial(0, 1.0, attempts=late), trial(1, 4.0)])
    assert (calls.tolist(), losses.tolist()) == ([0, 1, 2], [np.inf, 4.0, 1.0])


def test_the_curve_is_moved_along_by_lost_attempts() -> None:
    twice = (Attempt("w", 0.0, 1.0, ONE, State.LOST), Attempt("w", 1.0, 2.0, ONE, State.COMPLETED))
    calls, losses = best_so_far([trial(0, 1.0, attempts=twice)])
    assert (calls[-1], losses[-1]) == (2, 1.0)
    assert losses[calls < 2].tolist() == [np.inf]


def test_the_curve_starts_at_what_was_given() -> None:
    calls, losses = best_so_far([trial(0, 2.0, attempts=()), trial(1, 1.0)])
    assert (calls.tolist(), losses.tolist()) == ([0, 1], [2.0, 1.0])


def test_the_curve_goes_down_along_a_descent() -> None:
    cost = Cost(4, 4)
    outcome = Outcome(
        State.COMPLETED,
        y=[1.0],
        loss=1.0,
        cost=cost,
        point=[1.0, 1.0],
        trace=[4.0, np.nan, 3.0, 1.0],
    )
    calls, losses = best_so_far(
        [trial(0, 1.0, outcome=outcome, attempts=(Attempt("w", 0.0, 1.0, cost),))]
    )
    assert calls.tolist() == [0, 2, 4, 6, 8, 8]
    assert losses.tolist() == [np.inf, 4.0, 4.0, 3.0, 1.0, 1.0]


@given(st.lists(st.one_of(st.none(), st.floats(-5, 5)), max_size=12))
def test_the_curve_is_monotone_and_ends_at_the_best(rows: list[float | None]) -> None:
    log = [
        trial(i, loss) if loss is not None else trial(i, state=State.FAILED)
        for i, loss in enumerate(rows)
    ]
    calls, losses = best_so_far(log)
    assert calls[-1] == len(rows)
    assert (np.diff(calls) >= 0).all()
    assert all(later <= earlier for earlier, later in itertools.pairwise(losses))
    assert losses[-1] == min([loss for loss in rows if loss is not None], default=np.inf)


def test_a_curve_of_infeasible_trials_stays_infinite() -> None:
    assert best_so_far([trial(0, 1.0, violation=0.5)])[1].tolist() == [np.inf, np.inf]


@pytest.mark.parametrize("state", list(State))
def test_every_state_is_open_or_closed(state: State) -> None:
    assert state.open == (state in (State.QUEUED, State.RUNNING, State.LOST))


@pytest.mark.parametrize(("again", "differs"), [(2.0, False), (2.0 + 4e-7, False), (2.01, True)])
def test_answers_differ_beyond_the_rounding_of_single_precision(
    again: float, differs: bool
) -> None:
    first = [trial(0, 1.0), trial(1, 2.0), trial(2, 3.0)]
    assert not History(first).noise_observed
    second = dataclasses.replace(trial(3, again), query=first[1].query)
    assert History([*first, second]).noise_observed is differs
