"""Oracles from modules, estimators and pairs of both."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression

import bo_invert as bi
from bo_invert.types import Query


def net(inputs: int = 3, outputs: int = 2) -> torch.nn.Module:
    layers = [torch.nn.Linear(inputs, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.5), torch.nn.Linear(8, outputs)]
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
    workers = [threading.Thread(target=oracle.answers, args=([np.array([v])], ("y",))) for v in (-1.0, 1.0)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert module.modes == [False, False]
    assert module.training


def test_gradients_do_not_gather_in_parameters() -> None:
    module = net(outputs=1)
    problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), module, bi.Minimize())
    problem.evaluate([Query([0.1, 0.2, 0.3], gradient=True), Query([0.1, 0.2, 0.3], descent=bi.Descent(4))])
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
    with pytest.raises(bi.InvalidInput, match=r"torch\.nn\.Module"):
        bi.TorchModule(lambda x: x)
    oracle = bi.TorchModule(torch.nn.Unflatten(1, (1, 3)))
    answer = oracle.answers([np.zeros(3)], ("y",))[0]
    assert answer.verdict is not None
    assert "(1, 1, 3)" in answer.verdict.reason
    answer = bi.TorchModule(net()).answers([{"a": 1.0}], ("y",))[0]
    assert "named parameters" in answer.verdict.reason


def test_forest_on_images_flattens_them() -> None:
    rng = np.random.default_rng(0)
    images = rng.random((40, 4, 4))
    forest = RandomForestRegressor(5, random_state=0).fit(images.reshape(40, -1), images.mean((1, 2)))
    oracle = bi.Estimator(forest, outputs=["mean"])
    np.testing.assert_array_equal(oracle(images), forest.predict(images.reshape(40, -1)))
    assert not oracle.differentiable


def test_classifier_names_its_probabilities() -> None:
    x = np.linspace(-1, 1, 20)[:, None]
    model = LogisticRegression().fit(x, np.where(x[:, 0] > 0, "up", "down"))
    problem = bi.Problem(bi.Box([-1.0], [1.0]), bi.Estimator(model, method="predict_proba"), bi.Maximize("up"))
    low, high = problem.evaluate([Query([0.0]), Query([1.0])])
    assert low.loss is not None
    assert high.loss is not None
    assert high.loss < -0.5 < low.loss
    with pytest.raises(bi.InvalidInput, match="no method 'transform'"):
        bi.Estimator(model, method="transform")


def test_dict_designs_of_numbers_words_and_frames() -> None:
    import pandas as pd

    frame = pd.DataFrame({"b": [0.0, 1.0, 2.0], "a": [1.0, 0.0, 5.0]})
    on_frame = bi.Estimator(LinearRegression().fit(frame, frame["a"]))
    np.testing.assert_allclose(on_frame([{"a": 3.0, "b": 7.0}]), [3.0], atol=1e-9)
    on_array = bi.Estimator(LinearRegression().fit(frame.to_numpy(), frame["b"]))
    np.testing.assert_allclose(on_array([{"b": 3.0, "a": 7.0}]), [3.0], atol=1e-9)
    with pytest.raises(bi.InvalidInput, match="'kind'"):
        on_array([{"b": 3.0, "kind": "x"}])
    with pytest.raises(bi.InvalidInput, match="features"):
        on_frame([{"b": 3.0}])


def test_twin_takes_values_from_the_truth_and_gradients_from_the_stand_in() -> None:
    twin = bi.Twin(lambda x: float(x.sum()), torch.nn.Linear(2, 1), outputs=["s"])
    assert twin.outputs == ("s",)
    assert twin.differentiable
    assert not twin.exact_forward
    answers = twin.answers([np.array([1.0, 2.0])], ("s",))
    np.testing.assert_array_equal(answers[0].y, [3.0])
    inner = torch.zeros(4, 2)
    assert twin.forward(inner).shape == (4, 1)
    with pytest.raises(bi.InvalidInput, match="differentiable"):
        bi.Twin(lambda x: 0.0, lambda x: 0.0)
