"""Contract of the environment: results do not depend on the settings of torch around a call.

User code runs under the settings of its caller, in this process and in others.
"""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
import torch
from botorch.models import SingleTaskGP

import bo_invert as bi
from bo_invert.generators.base import sampled, train_generator
from bo_invert.generators.design_plausibility import DesignRealism
from bo_invert.generators.gan import GANConfig
from bo_invert.generators.latent_plausibility import fit_measure
from bo_invert.generators.vae import VAEConfig
from bo_invert.models.botorch_adapter import fit_botorch, from_botorch, to_botorch
from bo_invert.models.diagnostics import diagnose
from bo_invert.models.prediction_intervals import interval_coverage

DATA = np.random.default_rng(0).random((60, 4))


class Bowl(torch.nn.Module):
    """Squared distance from a centre, a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.centre = torch.nn.Parameter(torch.full((2,), 0.3, dtype=torch.float64, device="cpu"))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return ((x - self.centre) ** 2).sum(1)


class Decoder(torch.nn.Module):
    """Decoder with a parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(2, dtype=torch.float64, device="cpu"))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return (self.scale * z).sigmoid()


def problem(space: bi.Box | bi.Latent | None = None) -> bi.Problem:
    return bi.Problem(space or bi.Box([-1, -1], [2, 2]), Bowl(), bi.Minimize())


def studied(strategy: str, budget: int = 8, **options: Any) -> bi.Study:
    study = bi.Study.create("s", problem(), strategy=strategy, seed=1, **options).run(budget)
    assert not study.spent.failed, study.trials[-1].reason
    return study


def points(study: bi.Study) -> np.ndarray:
    return np.array([trial.point for trial in study.trials])


def asked_and_answered() -> np.ndarray:
    study = bi.Study.create("s", problem(), strategy="gp", seed=1)
    study.add([[0.0, 0.0], [1.0, 1.0]], [1.0, 2.0])
    study.enqueue([0.5, 0.5])
    for _ in range(5):
        (trial,) = study.ask()
        study.tell(trial, torch.as_tensor(trial.point, device="cpu").sum())
    return points(study)


def observed() -> bi.Study:
    study = bi.Study.create("s", problem(), strategy="random", seed=1)
    study.add(DATA[:12, :2], DATA[:12, 2])
    return study


SCORES = DATA[:12, 2:3] - DATA[:12, 2:3].mean()
BOTORCH = SingleTaskGP(
    torch.from_numpy(DATA[:12, :2]),
    torch.from_numpy(SCORES / SCORES.std(ddof=1)),
    outcome_transform=None,
)


def fitted_lengthscales() -> np.ndarray:
    model = fit_botorch(copy.deepcopy(BOTORCH))
    return model.covar_module.lengthscale.detach().numpy()


def weights(config: Any) -> np.ndarray:
    network, _ = train_generator(DATA, config)
    drawn = sampled(network, np.random.default_rng(0), 3)
    first = next(network.parameters())
    assert first.dtype is torch.float32
    assert not first.is_inference()
    return np.concatenate([first.detach().numpy().ravel(), np.asarray(drawn).ravel()])


def measured() -> np.ndarray:
    space = bi.Latent(Decoder(), 2, encoder=Decoder(), codes=DATA[:, :2])
    found = space.invert(space.decode(np.zeros((2, 2))))
    return np.concatenate([found.points, space.encode(DATA[:2, :2])])


ENTRIES: dict[str, Callable[[], Any]] = {
    **{
        f"run {name}": lambda name=name: points(studied(name))
        for name in ("gp", "turbo", "spherical", "auto", "gradient", "pcn")
    },
    "run botorch": lambda: points(studied("botorch", 6)),
    "ask, tell, add, enqueue": asked_and_answered,
    "recommend": lambda: observed().recommend(noisy=True).loss.expected,
    "solutions": lambda: [one.plausibility for one in observed().solutions(2)],
    "to_dataframe": lambda: observed().to_dataframe()["x0"].to_numpy(),
    "doctor": lambda: len(bi.doctor(problem(), calls=6).codes),
    "compare": lambda: [
        run.best.loss if run.best else None
        for run in bi.compare(problem(), strategies=["sobol"], budget=3, seeds=[0]).runs
    ],
    "latent of a module": lambda: points(
        bi.Study.create("s", problem(bi.Latent(Decoder(), 2)), strategy="gradient").run(9)
    ),
    "measured latent, inversion": measured,
    "pixels": lambda: np.asarray(bi.Pixels((2, 2)).decode(np.ones((1, 4)))),
    "design realism": lambda: DesignRealism(
        Decoder(), Decoder(), fit_measure(DATA[:, :2]), DATA[:, :2]
    )(DATA[:3, :2]),
    "VAE": lambda: weights(VAEConfig(shape=(4,), dim=2, hidden=(4,), epochs=1)),
    "GAN": lambda: weights(GANConfig(shape=(4,), dim=2, hidden=(4,), epochs=1)),
    "diagnose": lambda: diagnose(observed().statement, observed().trials).values,
    "interval coverage": lambda: str(interval_coverage(observed().statement, observed().trials)),
    "fit_botorch": lambda: (
        fit_botorch(copy.deepcopy(BOTORCH)).covar_module.lengthscale.detach().numpy()
    ),
    "botorch there and back": lambda: to_botorch(from_botorch(BOTORCH)).train_targets.numpy(),
}


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@contextlib.contextmanager
def default_device(device: str) -> Iterator[None]:
    torch.set_default_device(device)
    try:
        yield
    finally:
        torch.set_default_device(None)


SETTINGS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference mode": torch.inference_mode,
    "no_grad": torch.no_grad,
    "default device": lambda: default_device("meta"),
    "device context": lambda: torch.device("meta"),
    "double": lambda: default_dtype(torch.float64),
    "half": lambda: default_dtype(torch.float16),
}
_expected: dict[str, Any] = {}
CHEAP = ("ask, tell, add, enqueue", "latent of a module", "run gradient", "VAE", "pixels")


def same(entry: str, settings: Sequence[str]) -> bool:
    """Return True if an entry has the same result within the settings."""
    with warnings.catch_warnings(), contextlib.ExitStack() as stack:
        warnings.simplefilter("ignore")
        if entry not in _expected:
            _expected[entry] = ENTRIES[entry]()
        for one in settings:
            stack.enter_context(SETTINGS[one]())
        found = ENTRIES[entry]()
    return np.array_equal(found, _expected[entry])


@pytest.mark.parametrize("entry", ENTRIES)
def test_settings_of_the_caller_change_no_result(entry: str) -> None:
    assert same(entry, ("inference mode", "default device", "double"))


@pytest.mark.parametrize("entry", CHEAP)
@pytest.mark.parametrize("settings", SETTINGS)
def test_each_setting_of_the_caller(entry: str, settings: str) -> None:
    assert same(entry, (settings,))
