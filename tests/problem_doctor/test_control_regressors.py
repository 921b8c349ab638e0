"""Would others of the same kind love what one regressor loves?"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import bo_invert as bi

pytest.importorskip("sklearn")
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Ridge
from sklearn.preprocessing import PolynomialFeatures


def data(count: int = 600, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((count, 4))
    return X, X[:, 0] + 0.5 * X[:, 1] ** 2 + 0.3 * rng.standard_normal(count)


class Wiggly:
    """Cubic features: right near the data, and wild beyond."""

    def __init__(self, X: np.ndarray, y: np.ndarray, seed: int) -> None:
        self.features = PolynomialFeatures(5)
        self.model = Ridge(1e-3).fit(self.features.fit_transform(X), y)

    def predict(self, X: np.ndarray) -> np.ndarray:
        return self.model.predict(self.features.transform(X))


def test_each_learns_from_its_own_part() -> None:
    X, y = data(100)
    seen: list[tuple[set[float], int]] = []

    def train(rows: np.ndarray, targets: np.ndarray, seed: int) -> Any:
        assert len(rows) == len(targets) == 40
        seen.append((set(rows[:, 0].tolist()), seed))
        return lambda x: float(x[0])

    controls = bi.realism.control_regressors(train, X, y, seed=3)
    (attacked, first), (model, second), (other, third) = seen
    assert attacked == model
    assert not attacked & other
    assert len({first, second, third}) == 3
    assert len(attacked | other) == 80
    assert len(controls._claims) == 20


def test_real_designs_show_no_gap_and_what_fools_one_does() -> None:
    X, y = data()
    controls = bi.realism.control_regressors(Wiggly, X, y)
    fresh = controls.gaps(data(200, seed=1)[0])
    assert np.abs(np.median(fresh.data)) < 0.1
    assert 0.35 < fresh.rarity.mean() < 0.65
    rng = np.random.default_rng(2)
    far = 3.0 * rng.standard_normal((5000, 4))
    loved = far[np.argsort([-float(v) for v in controls.attacked(far)])[:5]]
    fooled = controls.gaps(loved)
    assert (fooled.claimed > 50).all()
    assert (np.abs(fooled.data) > 100).all(), "others make something else of them"
    assert (fooled.rarity == 0.0).all()
    assert "gap (data)" in repr(fooled)
    assert "<table>" in fooled._repr_html_()


def test_a_forest_is_copied_with_other_seeds_and_stays_as_it_was() -> None:
    X, y = data(200)
    forest = RandomForestRegressor(10, random_state=7, min_samples_leaf=3)
    controls = bi.realism.control_regressors(forest, X, y)
    assert not hasattr(forest, "estimators_")
    assert forest.random_state == 7
    models = [one.estimator for one in (controls.attacked, controls.model, controls.data)]
    assert len({model.random_state for model in models}) == 3
    assert {model.min_samples_leaf for model in models} == {3}
    same = bi.realism.control_regressors(forest, X, y).gaps(X[:5])
    assert np.array_equal(same.claimed, controls.gaps(X[:5]).claimed)


def test_a_trained_one_is_attacked_as_it_is() -> None:
    X, y = data(200)
    mine = RandomForestRegressor(10, random_state=0).fit(X, y)
    controls = bi.realism.control_regressors(RandomForestRegressor(10), X, y, trained=mine)
    assert controls.gaps(X[:5]).claimed[:, 0] == pytest.approx(mine.predict(X[:5]))


def test_the_judge_of_a_problem_and_several_outputs() -> None:
    X, y = data(200)
    controls = bi.realism.control_regressors(
        RandomForestRegressor(10), X, np.column_stack([y, -y]), outputs=["up", "down"]
    )
    problem = bi.Problem(
        bi.Box([-3.0] * 4, [3.0] * 4),
        controls.attacked,
        bi.Maximize("up"),
        outputs=["up", "down"],
        judge=controls.data,
    )
    found = bi.Study.create("s", problem, strategy="random").run(20).solutions(2)
    gaps = controls.gaps([one.design for one in found])
    assert gaps.by_data[:, 0] == pytest.approx([-(one.judged or 0.0) for one in found])
    assert gaps.claimed.shape == (2, 2)
    assert "down" in repr(gaps)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"regressor": 3}, "cannot be trained again"),
        ({"regressor": Wiggly(*data(50), 0)}, "cannot be trained again"),
        ({"X": np.zeros((3, 4))}, "do not match"),
        ({"held_out": 1.0}, "held_out must be in"),
        ({"X": data(20)[0], "y": data(20)[1]}, "at least"),
    ],
)
def test_invalid_arguments_are_refused(given: dict[str, Any], message: str) -> None:
    X, y = data(100)
    with pytest.raises(bi.InvalidInputError, match=message):
        bi.realism.control_regressors(**{"regressor": Wiggly, "X": X, "y": y, **given})
