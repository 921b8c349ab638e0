"""Oracles from modules, estimators and pairs of both."""

from __future__ import annotations

import pickle
import threading
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

import bo_invert as bi
from bo_invert.oracles.base import as_oracle
from bo_invert.types import Query


def net(inputs: int = 3, outputs: int = 2) -> torch.nn.Module:
    layers = [
        torch.nn.Linear(inputs, 8),
        torch.nn.BatchNorm1d(8),
        torch.nn.Dropout(0.5),
        torch.nn.Linear(8, outputs),
    ]
    module = torch.nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


def test_module_is_asked_in_evaluation_mode_and_left_as_it_was() -> None:
    module = net()
    module[1].eval()  # a mixture of modes must come back as a mixture
    before = {name: value.clone() for name, value in module.state_dict().items()}
    oracle = bi.TorchModule(module)
    designs = np.random.default_rng(0).random((5, 3))
    first, again = oracle(designs), oracle(list(designs))
    np.testing.assert_array_equal(first, again)  # dropout is off
    assert first.shape == (5, 2)
    assert [part.training for part in module] == [True, False, True, True]
    assert module.training
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_mode_comes_back_after_an_exception_and_after_concurrent_calls() -> None:
    class Waiting(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = threading.Barrier(2)
            self.modes: list[bool] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.gate.wait(timeout=10)
            self.modes.append(self.training)
            if x[0, 0] > 0:
                raise RuntimeError("no")
            return x.sum(1)

    module = Waiting()
    oracle = bi.TorchModule(module)
    workers = [
        threading.Thread(target=oracle.answers, args=([np.array([v])], ("y",))) for v in (-1.0, 1.0)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert module.modes == [False, False]
    assert module.training


def test_gradients_do_not_gather_in_parameters() -> None:
    module = net(outputs=1)
    problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), module, bi.Minimize())
    problem.evaluate(
        [Query([0.1, 0.2, 0.3], gradient=True), Query([0.1, 0.2, 0.3], descent=bi.Descent(4))]
    )
    assert all(p.grad is None and p.requires_grad for p in module.parameters())


def test_placement_follows_parameters_and_formulas_get_float64() -> None:
    class Formula(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, 0] + 1e-12

    assert bi.TorchModule(net()).placement["dtype"] is torch.float32
    oracle = bi.TorchModule(Formula())
    assert oracle.placement["dtype"] is torch.float64
    assert oracle(np.array([[1.0]]))[0, 0] == 1.0 + 1e-12


def test_module_says_what_is_wrong() -> None:
    with pytest.raises(bi.InvalidInputError, match=r"torch\.nn\.Module"):
        bi.TorchModule(lambda x: x)
    oracle = bi.TorchModule(torch.nn.Unflatten(1, (1, 3)))
    answer = oracle.answers([np.zeros(3)], ("y",))[0]
    assert answer.error is not None
    assert "(1, 1, 3)" in answer.error.reason
    answer = bi.TorchModule(net()).answers([{"a": 1.0}], ("y",))[0]
    assert "named parameters" in answer.error.reason


def test_forest_on_images_flattens_them() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((40, 4, 4))
    forest = RandomForestRegressor(5, random_state=0).fit(
        images.reshape(40, -1), images.mean((1, 2))
    )
    oracle = bi.Estimator(forest, outputs=["mean"])
    np.testing.assert_array_equal(oracle(images), forest.predict(images.reshape(40, -1)))
    assert not oracle.differentiable


def test_classifier_names_its_probabilities() -> None:
    x = np.linspace(-1, 1, 20)[:, None]
    model = LogisticRegression().fit(x, np.where(x[:, 0] > 0, "up", "down"))
    problem = bi.Problem(
        bi.Box([-1.0], [1.0]), bi.Estimator(model, method="predict_proba"), bi.Maximize("up")
    )
    low, high = problem.evaluate([Query([0.0]), Query([1.0])])
    assert low.loss is not None
    assert high.loss is not None
    assert high.loss < -0.5 < low.loss
    with pytest.raises(bi.InvalidInputError, match="got 'transform'"):
        bi.Estimator(model, method="transform")


def test_dict_designs_of_numbers_words_and_frames() -> None:
    import pandas as pd

    frame = pd.DataFrame({"b": [0.0, 1.0, 2.0], "a": [1.0, 0.0, 5.0]})
    on_frame = bi.Estimator(LinearRegression().fit(frame, frame["a"]))
    np.testing.assert_allclose(on_frame([{"a": 3.0, "b": 7.0}]), [3.0], atol=1e-9)
    on_array = bi.Estimator(LinearRegression().fit(frame.to_numpy(), frame["b"]))
    np.testing.assert_allclose(on_array([{"b": 3.0, "a": 7.0}]), [3.0], atol=1e-9)
    with pytest.raises(bi.InvalidInputError, match="'kind'"):
        on_array([{"b": 3.0, "kind": "x"}])
    with pytest.raises(bi.InvalidInputError, match="features"):
        on_frame([{"b": 3.0}])


def test_twin_takes_values_from_the_truth_and_gradients_from_the_stand_in() -> None:
    twin = bi.GradientProxy(lambda x: float(x.sum()), torch.nn.Linear(2, 1), outputs=["s"])
    assert twin.outputs == ("s",)
    assert twin.differentiable
    assert not twin.exact_forward
    answers = twin.answers([np.array([1.0, 2.0])], ("s",))
    np.testing.assert_array_equal(answers[0].y, [3.0])
    inner = torch.zeros(4, 2)
    assert twin.forward(inner).shape == (4, 1)
    with pytest.raises(bi.InvalidInputError, match="differentiable"):
        bi.GradientProxy(lambda x: 0.0, lambda x: 0.0)


def boosted() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.random((300, 3))
    y = np.sin(6 * x[:, 0]) + x[:, 1] + 0.5 * rng.standard_normal(300)
    return x[:200], y[:200], x[200:], y[200:]


LIGHT = {
    "objective": "regression",
    "num_leaves": 15,
    "learning_rate": 0.3,
    "verbosity": -1,
    "deterministic": True,
}


def test_boosted_trees_raw_and_as_estimators_stop_where_training_was_best() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    x, y, held, truth = boosted()
    stop = lightgbm.early_stopping(10, verbose=False)
    data = lightgbm.Dataset(x, y)
    raw = lightgbm.train(
        LIGHT,
        data,
        200,
        valid_sets=[lightgbm.Dataset(held, truth, reference=data)],
        callbacks=[stop],
        keep_training_booster=True,
    )
    wrapped = lightgbm.LGBMRegressor(n_estimators=200, n_jobs=-1, **LIGHT)
    wrapped.fit(x, y, eval_set=[(held, truth)], callbacks=[stop])
    for model, best in ((raw, raw.best_iteration), (wrapped, wrapped.best_iteration_)):
        oracle = as_oracle(model)
        assert isinstance(oracle, bi.Estimator)
        answers = oracle.answers(held, ("y",))
        values = np.array([answer.y for answer in answers])[:, 0]
        np.testing.assert_array_equal(values, model.predict(held, num_iteration=best))
        if model is raw:  # which kept the trees that early stopping came too late for
            assert best < raw.num_trees()
            assert not np.array_equal(values, raw.predict(held, num_iteration=raw.num_trees()))
        again = pickle.loads(pickle.dumps(oracle))
        np.testing.assert_array_equal([a.y[0] for a in again.answers(held, ("y",))], values)
    assert wrapped.n_jobs == -1, "the user's own estimator is left alone"
    problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), raw, bi.Minimize())
    assert bi.Study.create("trees", problem, strategy="random").run(5).spent.values == 5


def test_every_prediction_of_trees_has_one_thread() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    x, y, held, _ = boosted()
    asked: list[int | None] = []

    class Spied(lightgbm.Booster):
        def predict(self, data: np.ndarray, **options: object) -> np.ndarray:
            asked.append(options.get("num_threads"))
            return super().predict(data, **options)

    trained = lightgbm.train(LIGHT, lightgbm.Dataset(x, y), 5)
    bi.Estimator(Spied(model_str=trained.model_to_string()))(held)
    bi.Estimator(Spied(model_str=trained.model_to_string()), n_jobs=3)(held)
    bi.Estimator(Spied(model_str=trained.model_to_string()), n_jobs=None)(held)
    assert asked == [1, 3, None]
    assert bi.Estimator(lightgbm.LGBMRegressor(**LIGHT).fit(x, y)).estimator.n_jobs == 1
    forest = RandomForestRegressor(3, n_jobs=-1).fit(x, y)
    single = bi.Estimator(forest)
    assert (forest.n_jobs, single.estimator.n_jobs) == (-1, 1)
    assert single.estimator.estimators_ is forest.estimators_, (
        "what was fitted is shared, not copied"
    )
    np.testing.assert_allclose(single(held), forest.predict(held))


def test_boosted_trees_take_dict_designs_by_name() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    import pandas as pd

    x, y, held, _ = boosted()
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    named = lightgbm.train(LIGHT, lightgbm.Dataset(frame, y), 5)
    designs = [dict(zip("cba", row[::-1].tolist(), strict=True)) for row in held]
    np.testing.assert_array_equal(bi.Estimator(named)(designs), named.predict(held))
    for model in (
        lightgbm.train(LIGHT, lightgbm.Dataset(x, y), 5),
        lightgbm.LGBMRegressor(**LIGHT).fit(x, y),
    ):
        designs = [dict(zip("pqr", row.tolist(), strict=True)) for row in held]
        np.testing.assert_array_equal(bi.Estimator(model)(designs), model.predict(held))
    with pytest.raises(bi.InvalidInputError, match="features"):
        bi.Estimator(named)([{"a": 1.0}])


class XgboostBooster:
    """Stub of ``xgboost.Booster``: ``predict`` takes a DMatrix, ``best_iteration`` is optional."""

    def __init__(self, best: int | None) -> None:
        self.parameters: dict[str, int] = {}
        self.ranges: list[tuple[int, int]] = []
        self._best = best

    @property
    def best_iteration(self) -> int:
        if self._best is None:
            raise AttributeError("`best_iteration` is only defined when early stopping is used.")
        return self._best

    feature_names = None

    def predict(self, data: object) -> None:
        raise TypeError(f"Expecting data to be a DMatrix object, got: {type(data)}")

    def inplace_predict(
        self, data: np.ndarray, iteration_range: tuple[int, int] = (0, 0)
    ) -> np.ndarray:
        self.ranges.append(iteration_range)
        return data.sum(axis=1)

    def set_param(self, parameters: dict[str, int]) -> None:
        self.parameters |= parameters


@pytest.mark.parametrize(("best", "trees"), [(None, (0, 0)), (6, (0, 7))])
def test_a_booster_of_xgboost_is_asked_in_place(best: int | None, trees: tuple[int, int]) -> None:
    booster = XgboostBooster(best)
    oracle = as_oracle(booster)
    assert isinstance(oracle, bi.Estimator)
    np.testing.assert_array_equal(oracle(np.ones((2, 3))), [3.0, 3.0])
    np.testing.assert_array_equal(oracle([{"a": 1.0, "b": 2.0}]), [3.0])
    assert oracle.estimator.ranges == [trees, trees]
    assert oracle.estimator.parameters == {"nthread": 1}
    assert booster.parameters == {}, "the user's own is left alone"


def regressor(features: int) -> Any:
    from sklearn.linear_model import Ridge

    rng = np.random.default_rng(0)
    return Ridge().fit(rng.random((20, features)), rng.random(20))


def estimators_that_cannot_answer() -> dict[str, Any]:
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return {
        "unfitted": RandomForestRegressor(),
        "unfitted pipeline": make_pipeline(StandardScaler(), RandomForestRegressor()),
        "more features": regressor(4),
        "proxy": bi.GradientProxy(bi.Estimator(regressor(2)), net(3, 1)),
        "isolated": bi.Isolated(bi.Estimator(regressor(2))),
    }


@pytest.mark.parametrize("kind", estimators_that_cannot_answer())
def test_estimators_that_cannot_answer_are_refused_before_any_call(kind: str) -> None:
    estimator = estimators_that_cannot_answer()[kind]
    message = "must be fitted" if "unfitted" in kind else "features, and designs .* have 3"
    with pytest.raises(bi.InvalidInputError, match=message):
        bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), estimator, bi.Minimize())
    with pytest.raises(bi.InvalidInputError, match=message):
        bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), None, bi.Minimize(), judge=estimator)


def test_an_estimator_of_another_library_without_marks_of_a_fit_is_accepted() -> None:
    class Own:
        def fit(self, x: Any, y: Any) -> Own:
            return self

        def predict(self, x: Any) -> Any:
            return x.sum(1)

    problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), Own(), bi.Minimize())
    assert bi.Study.create("s", problem, "random").run(3).best is not None


@pytest.mark.parametrize("kind", ["unfitted", "more features"])
def test_functions_around_such_estimators_end_a_run_after_three_calls(kind: str) -> None:
    estimator = estimators_that_cannot_answer()[kind]
    problem = bi.Problem(
        bi.Box([0.0] * 3, [1.0] * 3), lambda x: estimator.predict([x])[0], bi.Minimize()
    )
    study = bi.Study.create("s", problem, "random")
    with pytest.warns(UserWarning, match="more calls cannot help"):
        study.run(30)
    assert len(study.trials) == 3
