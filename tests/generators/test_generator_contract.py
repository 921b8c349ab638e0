"""What every registered generator must do; the registry's line buys these tests."""

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
#: Kinds that need third parties or designs of another kind bring tests of their own.
CASES: dict[str, tuple[GeneratorConfig, Any]] = {
    "dense VAE, image": (VAEConfig((5, 7), 3, **SHORT), IMAGES),
    "convolutional VAE, image": (VAEConfig((5, 7), 3, network="conv", **SHORT), IMAGES),
    "convolutional VAE, colours": (VAEConfig((3, 4, 6), 3, network="conv", **SHORT), COLOURED),
    "convolutional VAE, colours of any range": (
        VAEConfig((3, 4, 6), 3, network="conv", values="real", **SHORT), 9 * COLOURED),
    "VAE, vectors": (VAEConfig((6,), 2, values="real", **SHORT), VECTORS),
    "dense GAN, image": (GANConfig((5, 7), 3, **SHORT), IMAGES),
    "convolutional GAN, colours": (GANConfig((3, 4, 6), 3, network="conv", prior="uniform", **SHORT), COLOURED),
    "GAN, vectors": (GANConfig((6,), 2, values="real", prior="sphere", **SHORT), VECTORS),
}  # fmt: skip


def weights(network: Any) -> np.ndarray:
    return torch.cat([value.flatten() for value in network.state_dict().values()]).numpy()


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[GeneratorConfig, Any]:
    return CASES[request.param]


@pytest.fixture(scope="module")
def trained(case: tuple[GeneratorConfig, Any]) -> tuple[Any, Any]:
    return train_generator(case[1], case[0], valid=lambda designs: [True] * len(designs))


def test_every_registered_kind_is_one() -> None:
    for name in registry.names("generators"):
        kind = kind_of(name)
        assert issubclass(kind, Generator)
        assert kind.Config.kind == name


def test_a_config_survives_json(case: tuple[GeneratorConfig, Any]) -> None:
    config = case[0]
    assert type(config).from_json(json.loads(json.dumps(config.to_json()))) == config
    with pytest.raises(FrozenInstanceError):
        config.dim = 7


def test_designs_have_the_shape_of_designs(
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


def test_the_seed_decides_and_the_global_generator_does_not(
    case: tuple[GeneratorConfig, Any], trained: tuple[Any, Any]
) -> None:
    config: Any = case[0]
    before = torch.get_rng_state()
    assert_array_equal(weights(train_generator(case[1], config)[0]), weights(trained[0]))
    assert torch.equal(before, torch.get_rng_state())
    assert not np.array_equal(
        weights(train_generator(case[1], replace(config, seed=1))[0]), weights(trained[0])
    )


def test_saved_and_loaded_it_is_the_same(trained: tuple[Any, Any], tmp_path: Path) -> None:
    before = torch.get_rng_state()
    network, report = load_generator(save_generator(*trained, tmp_path / "kept-0.5"))
    assert torch.equal(before, torch.get_rng_state())
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "kept-0.5.json",
        "kept-0.5.safetensors",
    ]
    assert type(network) is type(trained[0])
    assert network.config == trained[0].config
    assert report == trained[1]
    assert_array_equal(weights(network), weights(trained[0]))
    codes = torch.zeros(2, network.config.dim)
    assert torch.equal(network(codes), trained[0](codes))


def test_a_loaded_network_can_learn_on(trained: tuple[Any, Any], tmp_path: Path) -> None:
    network, _ = load_generator(save_generator(*trained, tmp_path / "kept"))
    network(torch.zeros(2, network.config.dim)).sum().backward()
    torch.optim.SGD(network.parameters(), 0.1).step()
    assert not np.array_equal(weights(network), weights(trained[0]))


def test_its_latent_is_searched(
    case: tuple[GeneratorConfig, Any], trained: tuple[Any, Any]
) -> None:
    """Points of its prior decode to what the network makes of the prior's codes; decodings are found again."""
    network = trained[0]
    space = Latent(network, network.config.dim)
    points = np.random.default_rng(0).standard_normal((4, network.config.dim))
    codes = points if network.prior is None else network.prior.codes(points)
    made = network(torch.as_tensor(codes, dtype=torch.float32)).detach().numpy()
    np.testing.assert_allclose(space.decode(points), made, rtol=1e-4, atol=1e-5)
    assert space.domain.reference is None


def test_ctrl_c_hands_over_the_best_and_keeps_nothing(
    case: tuple[GeneratorConfig, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Any = replace(case[0], epochs=50)  # type: ignore[type-var]
    whole = train_generator(case[1], replace(config, epochs=1))[0]
    bar, done = training._bar, []

    def interrupted(*args: Any) -> Any:
        shown = bar(*args)
        monkeypatch.setattr(shown, "update", lambda: done.append(1))

        def postfix(**_: Any) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(shown, "set_postfix", postfix)
        return shown

    monkeypatch.setattr(training, "_bar", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        cached_generator(case[1], config, "cut", directory=tmp_path)
    assert isinstance(stopped.value, TrainingInterrupted)
    assert stopped.value.report.ended == "interrupted"
    assert stopped.value.report.epochs == len(done) == 1
    assert not stopped.value.network.training
    assert list(tmp_path.iterdir()) == []
    if isinstance(config, GANConfig):  # its steps are of one size whatever the number of epochs
        assert_array_equal(weights(stopped.value.network), weights(whole))


def test_ctrl_c_before_anything_was_learnt_is_a_ctrl_c(
    case: tuple[GeneratorConfig, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_bar", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        train_generator(case[1], case[0])
    assert not isinstance(stopped.value, TrainingInterrupted)


@pytest.mark.parametrize("change", ["few", "shape", "nan", "text"])
def test_designs_that_do_not_fit_are_refused(
    case: tuple[GeneratorConfig, Any], change: str
) -> None:
    config, designs = case
    wrong = {
        "few": designs[:5],
        "shape": designs[..., 1:],
        "nan": designs * np.nan,
        "text": ["CCO"] * 60,
    }[change]
    message = {
        "few": "or more",
        "shape": "of that shape",
        "nan": "not finite",
        "text": "array of numbers",
    }[change]
    with pytest.raises(InvalidInputError, match=message):
        train_generator(wrong, config)


def test_a_divergent_training_says_so(case: tuple[GeneratorConfig, Any]) -> None:
    config: Any = replace(case[0], learning_rate=1e30, epochs=50)  # type: ignore[type-var]
    with pytest.raises(InvalidInputError, match="learning_rate"):
        train_generator(case[1], config)


def test_a_device_that_is_not_there_is_named(case: tuple[GeneratorConfig, Any]) -> None:
    with pytest.raises(InvalidInputError, match="device 'nowhere'"):
        train_generator(case[1], case[0], device="nowhere")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_it_trains_on_a_gpu(case: tuple[GeneratorConfig, Any]) -> None:
    one, _ = train_generator(case[1], case[0], device="cuda")
    assert next(one.parameters()).device.type == "cpu"
    assert_array_equal(weights(one), weights(train_generator(case[1], case[0], device="cuda")[0]))


@pytest.mark.parametrize(
    "options",
    [{"shape": (3, 9), "network": "conv"}, {"shape": (4, 4), "network": "conv", "channels": (8, 8, 8)},
     {"shape": (16,), "network": "conv"}, {"network": "deep"}, {"values": "complex"}, {"dim": 2.5}, {"hidden": (True,)},
     {"seed": -1}],
)  # fmt: skip
@pytest.mark.parametrize("kind", [VAEConfig, GANConfig])
def test_a_config_without_sense_is_refused(kind: Any, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        kind(**{"shape": (8, 8), "dim": 2} | options)


@pytest.mark.parametrize(
    "told",
    [{"kind": "nothing"}, {"kind": ["vae"]}, {"kind": "gan"}, {"config": {"shape": [5, 7], "dim": 10**12}},
     {"config": {"shape": [5, 7], "dim": 3, "hidden": [10**9] * 9}}, {"config": {"shape": [5, 7], "dim": 3, "x": 1}},
     {"config": []}, {"report": {}}, {"report": {"ended": "never"}}, {"format": 1}],
)  # fmt: skip
def test_a_description_that_lies_is_refused(told: dict[str, Any], tmp_path: Path) -> None:
    """And no memory is taken for what the weights do not bear out."""
    network, report = train_generator(IMAGES, CASES["dense VAE, image"][0])
    file = save_generator(network, report, tmp_path / "kept").with_suffix(".json")
    file.write_text(json.dumps(json.loads(file.read_text()) | told))
    with pytest.raises(InvalidInputError, match="cannot load a generator"):
        load_generator(file)


def test_what_is_registered_must_be_a_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.BUILTIN["generators"], "odd", "bo_invert.search_domain:Domain")
    with pytest.raises(InvalidInputError, match="is none"):
        kind_of("odd")
