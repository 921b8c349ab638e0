"""The generator of inversion problems around frozen regressors."""

from __future__ import annotations

import argparse
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def scripts() -> Any:
    import frozen_models
    import frozen_regressors
    import frozen_spaces

    return argparse.Namespace(
        models=frozen_models, regressors=frozen_regressors, spaces=frozen_spaces
    )


def test_every_kind_has_every_goal_in_two_boxes_and_two_latents(scripts: Any) -> None:
    generator = scripts.regressors
    for seed in range(20):
        cards = generator.cards(seed)
        assert len({(card.kind, card.goal) for card in cards}) == 20 == len(cards)
        latents = Counter((card.kind, card.latent) for card in cards)
        made = Counter((card.kind, card.source in generator.MADE) for card in cards)
        assert set(latents.values()) == set(made.values()) == {2}
    assert generator.cards(0) != generator.cards(1)


@pytest.mark.parametrize("kind", ["random", "extra", "boosted"])
def test_converted_trees_answer_like_scikit_learn(scripts: Any, kind: str) -> None:
    from sklearn import ensemble

    models, rng = scripts.models, np.random.default_rng(0)
    x, y = rng.random((80, 5)), rng.random((80, 2))
    fresh = rng.random((50, 5))
    if kind == "boosted":
        made = models.fit_boosted(x, y, 3, depth=2)
        theirs = [
            ensemble.GradientBoostingRegressor(
                n_estimators=models.BOOSTED, max_depth=2, subsample=0.7, random_state=3
            )
            .fit(x, one)
            .predict(fresh)
            for one in y.T
        ]
        expected = np.stack(theirs, axis=1)
    else:
        made = models.fit_forest(x, y, 3, extra=kind == "extra")
        name = "ExtraTreesRegressor" if kind == "extra" else "RandomForestRegressor"
        forest = getattr(ensemble, name)(
            models.FOREST, min_samples_leaf=2, max_features=0.5, random_state=3
        )
        expected = forest.fit(x, y).predict(fresh)
    np.testing.assert_allclose(made(fresh), expected, rtol=1e-10)


# Small data sets, and not the seed of the published results: texts in a latent, vectors in a box.
@pytest.mark.parametrize(("seed", "number"), [(8, 13), (5, 11)])
def test_problems_are_equal_in_another_process_and_have_data_and_a_judge(
    scripts: Any, seed: int, number: int
) -> None:
    generator = scripts.regressors
    made = generator.problem(seed, number)
    source = generator.sources(seed)[made.name]
    generator.problem.cache_clear()
    again = pickle.loads(pickle.dumps(source))(7)
    copy = pickle.loads(pickle.dumps(made))
    points = made.space.sample(np.random.default_rng(0), 5)
    queries = [scripts.regressors.bi.Query(point) for point in points]
    losses = [[one.loss for one in each.evaluate(queries)] for each in (made, again, copy)]
    assert losses[0] == losses[1] == losses[2]
    assert made.to_json() == again.to_json()
    claimed, judged = made.best_of_data(20, 0)
    assert np.isfinite([claimed, judged]).all()
    assert claimed <= made.best_of_data(10, 0)[0]


def test_texts_and_one_hot_rows_are_the_same_designs(scripts: Any) -> None:
    alphabet = scripts.spaces.OneHot(positions=3, classes=4)
    rows = alphabet(["abd", "ccc"])
    assert rows.shape == (2, 12)
    assert alphabet.texts(rows) == ["abd", "ccc"]
    np.testing.assert_array_equal(alphabet(0.3 * rows + 0.1), rows)
