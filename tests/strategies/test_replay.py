from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.strategies.replay import key, projected, replay, start_trial
from bo_invert.types import Array, Outcome, Query, State, Trial


def pattern_search(evaluate: Callable[[Sequence[Array]], list[float]]) -> None:
    """Looks at four neighbours at once; moves or halves its step."""
    x, step = np.array([0.0, 0.0]), 0.5
    (best,) = evaluate([x])
    while step > 0.1:
        around = [x + step * np.array(shift) for shift in ((1, 0), (-1, 0), (0, 1), (0, -1))]
        losses = evaluate(around)
        if min(losses) < best:
            best, x = min(losses), around[int(np.argmin(losses))]
        else:
            step /= 2


def loss(point: Array) -> float:
    return float(((point - [0.6, -0.4]) ** 2).sum())


def test_an_optimiser_comes_to_its_end_question_by_question() -> None:
    answers: dict[bytes, float] = {}
    sizes = []
    while missing := replay(pattern_search, answers):
        sizes.append(len(missing))
        answers.update({key(point): loss(point) for point in missing})
    asked: list[Array] = []

    def direct(points: Sequence[Array]) -> list[float]:
        asked.extend(points)
        return [loss(point) for point in points]

    pattern_search(direct)
    assert set(answers) == {key(point) for point in asked}
    assert sizes[:2] == [1, 4], "what was asked for together is missing together"
    assert sum(sizes) < len(asked), "no point is asked for twice"


def test_half_answered_questions_leave_the_other_half() -> None:
    answers = {key(point): loss(point) for point in replay(pattern_search, {})}
    stencil = replay(pattern_search, answers)
    answers.update({key(point): loss(point) for point in stencil[::2]})
    assert [key(p) for p in replay(pattern_search, answers)] == [key(p) for p in stencil[1::2]]


def test_a_point_asked_for_twice_at_once_is_missing_once() -> None:
    assert len(replay(lambda evaluate: evaluate([np.zeros(2), np.zeros(2)]), {})) == 1


def test_errors_of_the_optimiser_are_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        replay(lambda evaluate: 1 // 0, {})


def observed(number: int, loss: float, origin: str = "", **meta: int | None) -> Trial:
    outcome = Outcome(State.COMPLETED, y=[loss], loss=loss)
    return Trial(number, Query([0.0], origin=origin, meta=meta), State.COMPLETED, outcome=outcome)


def test_the_first_run_begins_at_the_best_given_trial() -> None:
    assert start_trial([], "me", 0) is None
    chosen = start_trial([observed(0, 2.0), observed(1, 1.0, "sobol")], "me", 0)
    assert chosen is not None
    assert chosen.number == 1


def test_what_becomes_known_later_does_not_move_a_beginning() -> None:
    log = [observed(0, 2.0), observed(1, 3.0, "me", **{"start": 0, "from": 0}), observed(2, 0.5)]
    chosen = start_trial(log, "me", 0)
    assert chosen is not None
    assert chosen.number == 0
    assert (
        start_trial(
            [observed(0, 3.0, "me", **{"start": 0, "from": None}), observed(1, 0.5)], "me", 0
        )
        is None
    )


def test_a_later_run_begins_at_a_better_gift_only_once() -> None:
    log = [observed(0, 2.0, "me", **{"start": 0, "from": None}), observed(1, 0.5)]
    chosen = start_trial(log, "me", 1)
    assert chosen is not None
    assert chosen.number == 1
    assert start_trial([*log, observed(2, 0.7, "me", **{"start": 1, "from": 1})], "me", 2) is None
    assert (
        start_trial([*log, observed(2, 0.1, "me", **{"start": 0, "from": None})], "me", 1) is None
    ), "it has better itself"


def test_a_replay_projects_each_point_once(monkeypatch: pytest.MonkeyPatch) -> None:
    box = bi.Box({"a": bi.Float(0, 1), "n": bi.Int(0, 4)}, constraints=["a + n == 2.5"])
    domain, kind = box.domain, type(box.domain)
    counts: list[int] = []
    project = kind.project

    def counted(self: object, points: Array) -> Array:
        counts.append(np.size(points))
        return project(domain, points)

    points = list(np.random.default_rng(0).random((6, 2)))
    expected = [domain.project(point) for point in points]
    monkeypatch.setattr(kind, "project", counted)
    for _ in range(3):
        found = [projected(domain, point) for point in points]
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(one, other)
            one[:] = np.nan  # changes of an answer do not reach later replays
    assert counts == [2] * len(points)
