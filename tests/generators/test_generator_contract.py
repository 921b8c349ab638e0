"""Contract tests of all registered generators."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from bo_invert import registry
from bo_invert.errors import InvalidInputError
from bo_invert.generators import training
from bo_invert.generators.base import (
    Generator,
    GeneratorConfig,
    TrainingInterrupted,
    kind_of,
    sampled,
    train_generator,
)
from bo_invert.generators.gan import GANConfig
from bo_invert.generators.storage import cached_generator, load_generator, save_generator
from bo_invert.generators.vae import VAEConfig
from bo_invert.spaces.latent import Latent

RNG = np.random.default_rng(0)
IMAGES = np.clip(RNG.random((60, 1, 1)) + 0.1 * RNG.standard_normal((60, 5, 7)), 0, 1)
COLOURED = np.clip(RNG.random((60, 3, 1, 1)) + 0.1 * RNG.standard_normal((60, 3, 4, 6)), 0, 1)
VECTORS = (
    RNG.standard_normal((60, 2)) @ RNG.standard_normal((2, 6)) * [1, 10, 1e3, 1e-3, 1, 1] + 5.0
)
SHORT: dict[str, Any] = {"epochs": 2, "hidden": (8,), "channels": (4, 6)}
# Kinds with optional dependencies or other designs have their own tests.
CASES: dict[str, tuple[GeneratorConfig, Any]] = {
    "dense VAE, image": (VAEConfig((5, 7), 3, **SHORT), IMAGES),
    "convolutional VAE, image": (VAEConfig((5, 7), 3, network="conv", **SHORT), IMAGES),
    "convolutional VAE, colours": (VAEConfig((3, 4, 6), 3, network="conv", **SHORT), COLOURED),
    "convolutional VAE, colours of any range": (
        VAEConfig((3, 4, 6), 3, network="conv", values="real", **SHORT),
        9 * COLOURED,
    ),
    "VAE, vectors": (VAEConfig((6,), 2, values="real", **SHORT), VECTORS),
    "dense GAN, image": (GANConfig((5, 7), 3, **SHORT), IMAGES),
    "convolutional GAN, colours": (
        GANConfig((3, 4, 6), 3, network="conv", prior="uniform", **SHORT),
        COLOURED,
    ),
    "GAN, vectors": (GANConfig((6,), 2, values="real", prior="sphere", **SHORT), VECTORS),
}


def weights(network: Any) -> np.ndarray:
    return torch.cat([value.flatten() for value in network.state_dict().values()]).numpy()


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[GeneratorConfig, Any]:
    return CASES[request.param]


@pytest.fixture(scope="module")
def trained(case: tuple[GeneratorConfig, Any]) -> tuple[Any, Any]:
    return train_generator(case[1], case[0], valid=lambda designs: [True] * len(designs))


def test_registered_kinds_are_generators() -> None:
    for name in registry.names("generators"):
        kind = kind_of(name)
        assert issubclass(kind, Generator)
        assert kind.Config.kind == name


def test_a_config_round_trips_through_json(case: tuple[GeneratorConfig, Any]) -> None:
    config = case[0]
    assert type(config).from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(FrozenInstanceError):
        config.dim = 7


def test_draws_have_the_shape_and_range_of_designs(
    case: tuple[GeneratorConfig, Any], trained: tuple[Any, Any]
) -> None:
    config, designs = case
    network, report = trained
    drawn = sampled(network, np.random.default_rng(0), 5).numpy()
    assert drawn.shape == (5, *designs.shape[1:])
    assert not network.training
    assert report.epochs == 2
    assert report.ended == "epochs"
    assert report.figures["validity"] == 1.0
    assert 0 <= report.figures["precision"] <= 1
    if config.to_json()["values"] == "unit":
        assert 0 <= drawn.min() <= drawn.max() <= 1
    else:  # in the designs' own units
        assert (np.abs(drawn - designs.mean(axis=0)) / designs.std(axis=0)).max() < 6


def test_only_the_seed_determines_the_weights(
    case: tuple[GeneratorConfig, Any], trained: tuple[Any, Any]
) -> None:
    config: Any = case[0]
    before = torch.get_rng_state()
    assert_array_equal(weights(train_generator(case[1], config)[0]), weights(trained[0]))
    assert torch.equal(before, torch.get_rng_state())
    assert not np.array_equal(
        weights(train_generator(case[1], replace(config, seed=1))[0]), weights(trained[0])
    )


def test_a_saved_generator_loads_unchanged(trained: tuple[Any, Any], tmp_path: Path) -> None:
    before = torch.get_rng_state()
    network, report = load_generator(save_generator(*trained, tmp_path / "stored-0.5"))
    assert torch.equal(before, torch.get_rng_state())
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "stored-0.5.json",
        "stored-0.5.safetensors",
    ]
    assert type(network) is type(trained[0])
    assert network.config == trained[0].config
    assert report == trained[1]
    assert_array_equal(weights(network), weights(trained[0]))
    codes = torch.zeros(2, network.config.dim)
    assert torch.equal(network(codes), trained[0](codes))


def test_a_loaded_network_is_trainable(trained: tuple[Any, Any], tmp_path: Path) -> None:
    network, _ = load_generator(save_generator(*trained, tmp_path / "stored"))
    network(torch.zeros(2, network.config.dim)).sum().backward()
    torch.optim.SGD(network.parameters(), 0.1).step()
    assert not np.array_equal(weights(network), weights(trained[0]))


def test_latent_decodes_like_the_network(
    case: tuple[GeneratorConfig, Any], trained: tuple[Any, Any]
) -> None:
    """Points decode like the codes of the network's prior."""
    network = trained[0]
    space = Latent(network, network.config.dim)
    points = np.random.default_rng(0).standard_normal((4, network.config.dim))
    codes = points if network.prior is None else network.prior.codes(points)
    made = network(torch.as_tensor(codes, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(space.decode(points), made, rtol=1e-4, atol=1e-5)
    assert space.domain.reference is None


def test_ctrl_c_raises_with_the_best_network_and_stores_nothing(
    case: tuple[GeneratorConfig, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Any = replace(case[0], epochs=50)  # type: ignore[type-var]
    whole = train_generator(case[1], replace(config, epochs=1))[0]
    bar, done = training.tqdm, []

    def interrupted(**options: Any) -> Any:
        shown = bar(**options)
        monkeypatch.setattr(shown, "update", lambda: done.append(1))

        def postfix(**_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(shown, "set_postfix", postfix)
        return shown

    monkeypatch.setattr(training, "tqdm", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        cached_generator(case[1], config, "cut", directory=tmp_path)
    assert isinstance(stopped.value, TrainingInterrupted)
    assert stopped.value.report.ended == "interrupted"
    assert stopped.value.report.epochs == len(done) == 1
    assert not stopped.value.network.training
    assert list(tmp_path.iterdir()) == []
    if isinstance(config, GANConfig):  # its step size is independent of the number of epochs
        assert_array_equal(weights(stopped.value.network), weights(whole))


def test_ctrl_c_before_the_first_epoch_is_a_plain_interrupt(
    case: tuple[GeneratorConfig, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(**_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "tqdm", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train_generator(case[1], case[0])
    assert not isinstance(stopped.value, TrainingInterrupted)


@pytest.mark.parametrize("change", ["few", "shape", "nan", "text"])
def test_designs_that_do_not_fit_are_errors(case: tuple[GeneratorConfig, Any], change: str) -> None:
    config, designs = case
    wrong = {
        "few": designs[:5],
        "shape": designs[..., 1:],
        "nan": designs * np.nan,
        "text": ["CCO"] * 60,
    }[change]
    message = {
        "few": "with n >= ",
        "shape": "must have shape",
        "nan": "must be finite",
        "text": "array of numbers",
    }[change]
    with pytest.raises(InvalidInputError, match=message):
        train_generator(wrong, config)


def test_a_divergent_training_is_an_error(case: tuple[GeneratorConfig, Any]) -> None:
    config: Any = replace(case[0], learning_rate=1e30, epochs=50)  # type: ignore[type-var]
    with pytest.raises(InvalidInputError, match="learning_rate"):
        train_generator(case[1], config)


def test_an_unavailable_device_is_an_error(case: tuple[GeneratorConfig, Any]) -> None:
    with pytest.raises(InvalidInputError, match=r"device must be .* got 'nowhere'"):
        train_generator(case[1], case[0], device="nowhere")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_it_trains_on_a_gpu(case: tuple[GeneratorConfig, Any]) -> None:
    one, _ = train_generator(case[1], case[0], device="cuda")
    assert next(one.parameters()).device.type == "cpu"
    assert_array_equal(weights(one), weights(train_generator(case[1], case[0], device="cuda")[0]))


@pytest.mark.parametrize(
    "options",
    [
        {"shape": (3, 9), "network": "conv"},
        {"shape": (4, 4), "network": "conv", "channels": (8, 8, 8)},
        {"shape": (16,), "network": "conv"},
        {"network": "deep"},
        {"values": "complex"},
        {"dim": 2.5},
        {"hidden": (True,)},
        {"seed": -1},
    ],
)
@pytest.mark.parametrize("kind", [VAEConfig, GANConfig])
def test_invalid_config_options_are_errors(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        kind(**{"shape": (8, 8), "dim": 2} | options)


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "nothing"},
        {"kind": ["vae"]},
        {"kind": "gan"},
        {"config": {"shape": [5, 7], "dim": 10**12}},
        {"config": {"shape": [5, 7], "dim": 3, "hidden": [10**9] * 9}},
        {"config": {"shape": [5, 7], "dim": 3, "x": 1}},
        {"config": []},
        {"report": {}},
        {"report": {"ended": "never"}},
        {"format": 1},
    ],
)
def test_an_inconsistent_description_is_an_error(changed: dict[str, Any], tmp_path: Path) -> None:
    """Parameters take no memory before the weights are read."""
    network, report = train_generator(IMAGES, CASES["dense VAE, image"][0])
    file = save_generator(network, report, tmp_path / "stored").with_suffix(".json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))
    with pytest.raises(InvalidInputError, match="cannot load a generator"):
        load_generator(file)


def test_a_registered_class_must_be_a_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        registry.BUILTIN["generators"], "odd", "bo_invert.domains.search_domain:Domain"
    )
    with pytest.raises(InvalidInputError, match="must be a subclass of Generator"):
        kind_of("odd")
