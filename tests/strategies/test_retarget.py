"""Few calls to a target from earlier observations."""

from __future__ import annotations

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.domains.box_domain import BoxDomain
from bo_invert.history import History
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.target_and_gradient_turns import data_predict
from bo_invert.types import INTERVALS, Array, Outcome, Query, State, Trial


def curve(x: Array) -> list[float]:
    return [float(np.sin(3 * x[0]) + x[1] * x[2]), float(np.exp(x[1]) - x[0] * x[2])]


def study(value: list[float], n: int = 25, wrong: float = 0.0, **options: object) -> bi.Study:
    space = bi.Box([-1.0] * 3, [1.0] * 3)
    made = bi.Problem(space, curve, bi.Target(value, tolerance=2e-3), outputs=["a", "b"])
    found = bi.Study.create("curve", made, options.pop("strategy", "auto"), 0)  # type: ignore[arg-type]
    points = np.random.default_rng(1).random((n, 3))
    y = [curve(2 * point - 1) for point in points]
    found.add(points=points, Y=np.array(y) + wrong)
    return found


@pytest.mark.parametrize("value", [[0.3, 1.5], [-0.7, 0.6], [0.9, 1.1]])
def test_few_calls_without_finite_differences(value: list[float]) -> None:
    found = study(value).run(30)
    asked = [trial for trial in found.trials if trial.ask is not None]
    assert found.best is not None
    assert np.abs(found.best.y - value).max() <= 2e-3  # type: ignore[operator]
    assert len(asked) <= 3
    assert {trial.origin for trial in asked} == {"retarget"}
    assert all(0.0 <= trial.query.meta["hit"] <= 1.0 for trial in asked)


def test_wrong_data_return_the_turn_to_the_usual_search() -> None:
    found = study([0.3, 1.5], wrong=0.7).run(12, stop_when_hit=False)
    origins = [trial.origin for trial in found.trials if trial.ask is not None]
    assert origins[:2] == ["retarget"] * 2
    assert "retarget" not in origins[8:]


def test_points_of_a_batch_differ() -> None:
    asked = study([0.3, 1.5], strategy="retarget").ask(4)
    points = np.array([trial.query.point for trial in asked])
    apart = np.linalg.norm(points[:, None] - points, axis=2)[np.triu_indices(4, 1)]
    assert apart.min() > 0.02


def test_pending_points_are_not_asked_again() -> None:
    made = study([0.3, 1.5], strategy="retarget")
    first, second = made.ask()[0], made.ask()[0]
    assert np.linalg.norm(first.query.point - second.query.point) > 0.02


def test_constraints_and_ranges() -> None:
    space = bi.Box([-1.0] * 3, [1.0] * 3)
    made = bi.Problem(
        space, curve, bi.Target({"a": 0.4}, tolerance=2e-3), outputs=["a", "b"],
        constraints="b <= 0.7",
    )  # fmt: skip
    found = bi.Study.create("c", made, "retarget", 0)
    points = np.random.default_rng(1).random((25, 3))
    found.add(points=points, Y=[curve(2 * point - 1) for point in points])
    found.run(6)
    assert found.best is not None
    assert abs(found.best.y[0] - 0.4) <= 2e-3  # type: ignore[index]
    assert found.best.y[1] <= 0.7  # type: ignore[index]
    ranged = found.retarget(bi.Target({"a": (1.2, None), "b": (0.9, 1.0)}), constraints=())
    ranged.run(6)
    assert ranged.ended


def test_choices_and_integers() -> None:
    def mixed(design: dict[str, object]) -> float:
        a, n = float(design["a"]), int(design["n"])  # type: ignore[arg-type, call-overload]
        return np.sin(2 * a) * n + (3.0 if design["kind"] == "hot" else 0.0)

    space = bi.Box({"a": bi.Float(0, 2), "n": bi.Int(1, 4), "kind": bi.Choice(["cold", "hot"])})
    made = bi.Problem(space, mixed, bi.Target({"y": 4.2}, tolerance=0.02), outputs=["y"])
    found = bi.Study.create("mixed", made, "sobol", 0)
    found.run(25, stop_when_hit=False)
    for value in (5.5, 0.7):
        found = found.retarget({"y": value}, strategy="auto")
        asked = found.run(20).spent.calls
        assert found.best is not None
        assert abs(found.best.y[0] - value) <= 0.02  # type: ignore[index]
        assert asked <= 5


def log(kinds: str, data: int = 6) -> History:
    """Return a log of data and of queries: g gains, i lies in its interval, o outside, f failed."""
    rng, trials, loss = np.random.default_rng(0), [], 1.0
    for number, kind in enumerate("d" * data + kinds):
        loss = loss / 4 if kind == "g" else loss
        own = kind != "d"
        y = float(np.sqrt(loss)) if kind in "dg" else 1.0
        span = [y - 0.1, y, y + 0.1] if kind != "o" else [y + 1.0, y + 2.0, y + 3.0]
        state = State.FAILED if kind == "f" else State.COMPLETED
        meta = {INTERVALS: {"y": span}} if own else {}
        outcome = Outcome(state, None if kind == "f" else [y], None if kind == "f" else y * y)
        query = Query(rng.random(3), origin="retarget" if own else "data", meta=meta)
        trials.append(Trial(number, query, state, number if own else None, outcome=outcome))
    return History(trials)


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ("", True), ("o", True), ("oo", False), ("oio", True), ("go", True), ("gog", True),
        ("iiiii", True), ("iiiiii", False), ("ff", False), ("iigiii", True), ("ooggg", False),
    ],
)  # fmt: skip
def test_turn_ends_when_predictions_fail(kinds: str, expected: bool) -> None:
    objective = bi.Target({"y": 0.0}, tolerance=1e-9).bind(("y",))
    statement = ProblemStatement("s", BoxDomain("box", 3, {}), ("y",), objective)
    assert data_predict(statement, log(kinds)) == expected
    if not kinds:
        assert not data_predict(statement, log(kinds, data=4))
