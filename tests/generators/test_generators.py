"""Tests of the VAE, the generator files and their cache."""

import json
import logging
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.generators import storage
from bo_invert.generators.base import train_generator
from bo_invert.generators.storage import (
    cache_directory,
    cached_generator,
    load_generator,
    save_generator,
)
from bo_invert.generators.vae import VAE, VAEConfig

CONFIG = VAEConfig((4, 4), 2, hidden=(32,), beta=0.03, epochs=60, batch_size=16)


@pytest.fixture(scope="module")
def designs():
    """Bumps of random position and width: designs with two factors."""
    rng = np.random.default_rng(0)
    centre, width = rng.uniform(0, 3, (300, 1, 1)), rng.uniform(0.7, 2.0, (300, 1, 1))
    rows, columns = np.mgrid[:4, :4]
    return np.exp(-((rows - centre) ** 2 + (columns - 1.5) ** 2) / width**2)


@pytest.fixture(scope="module")
def trained(designs):
    return train_generator(designs, CONFIG)


def weights(vae):
    return torch.cat([value.flatten() for value in vae.state_dict().values()]).numpy()


def test_training_reduces_the_reconstruction_error(trained):
    vae, report = trained
    assert report.figures["reconstruction"] < 0.5 * report.figures["spread"]
    assert not vae.training
    assert f"{report.epochs} epochs" in str(report)


def test_designs_lie_between_zero_and_one(trained):
    made = trained[0](5 * torch.randn(50, 2, generator=torch.Generator().manual_seed(0)))
    assert made.shape == (50, 4, 4)
    assert 0 <= made.min() <= made.max() <= 1


def test_only_the_seed_determines_the_weights(designs, trained):
    short = replace(CONFIG, epochs=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = train_generator(designs, short)[0]
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert_array_equal(weights(one), weights(train_generator(designs, short)[0]))
    assert not np.array_equal(
        weights(one), weights(train_generator(designs, replace(short, seed=1))[0])
    )


def test_patience_stops_training(designs):
    report = train_generator(designs, replace(CONFIG, epochs=500, patience=1))[1]
    assert report.epochs < 500


def test_progress_goes_to_stderr(designs, capsys):
    train_generator(designs, replace(CONFIG, epochs=1), progress=True)
    captured = capsys.readouterr()
    assert "training the VAE" in captured.err
    assert captured.out == ""


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x * 2, r"\[0, 1\]"),
        (lambda x: x - np.nan, "must be finite"),
        (lambda x: x[:, :3], "must have shape"),
        (lambda x: x[:5], "n >= 20"),
    ],
)
def test_designs_that_do_not_fit_are_errors(designs, change, message):
    with pytest.raises(InvalidInputError, match=message):
        train_generator(change(designs), CONFIG)


@pytest.mark.parametrize(
    "options", [{"dim": 0}, {"hidden": (0,)}, {"shape": ()}, {"learning_rate": 0.0}]
)
def test_invalid_config_options_are_errors(options):
    with pytest.raises(InvalidInputError, match="VAEConfig"):
        replace(CONFIG, **options)


def test_a_divergent_training_is_an_error(designs):
    with pytest.raises(InvalidInputError, match="learning_rate"):
        train_generator(designs, replace(CONFIG, learning_rate=1e20))


def test_a_saved_generator_loads_unchanged(trained, tmp_path):
    path = save_generator(*trained, tmp_path / "stored")
    vae, report = load_generator(path)
    assert_array_equal(weights(vae), weights(trained[0]))
    assert report == trained[1]
    assert vae.config == CONFIG
    assert sorted(file.name for file in tmp_path.iterdir()) == ["stored.json", "stored.safetensors"]
    assert json.loads((tmp_path / "stored.json").read_text())["config"]["dim"] == 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match="nothing"):
        load_generator(tmp_path / "nothing")


def fail(*args, **kwargs):
    raise AssertionError("trained although the cache had it")


def test_a_cached_generator_is_not_trained_again(designs, tmp_path, monkeypatch):
    short = replace(CONFIG, epochs=2)
    first = cached_generator(designs, short, "bumps", directory=tmp_path)
    monkeypatch.setattr(VAE, "fit", fail)
    assert_array_equal(
        weights(cached_generator(designs, short, "bumps", directory=tmp_path)[0]), weights(first[0])
    )
    with pytest.raises(AssertionError, match="trained"):
        cached_generator(designs, replace(short, beta=0.2), "bumps", directory=tmp_path)
    with pytest.raises(AssertionError, match="trained"):
        cached_generator(designs * 0.9, short, "bumps", directory=tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04garbage"])
def test_a_damaged_cache_entry_is_trained_again(designs, tmp_path, caplog, suffix, content):
    short = replace(CONFIG, epochs=2)
    first = cached_generator(designs, short, "bumps", directory=tmp_path)
    next(tmp_path.glob(f"*{suffix}")).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        again = cached_generator(designs, short, "bumps", directory=tmp_path)
    assert "is trained again" in caplog.text
    assert_array_equal(weights(again[0]), weights(first[0]))
    assert_array_equal(
        weights(load_generator(next(tmp_path.glob("*.safetensors")))[0]), weights(first[0])
    )


def test_a_cache_that_cannot_be_written_only_warns(designs, tmp_path, caplog):
    (tmp_path / "file").write_text("not a directory")
    with caplog.at_level(logging.WARNING):
        vae, _ = cached_generator(
            designs, replace(CONFIG, epochs=1), "bumps", directory=tmp_path / "file"
        )
    assert isinstance(vae, VAE)
    assert "cannot write the generator" in caplog.text


def test_an_interrupted_write_leaves_no_files(trained, tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(storage.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_generator(*trained, tmp_path / "stored")
    assert list(tmp_path.iterdir()) == []


def test_the_cache_directory_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BO_INVERT_CACHE", str(tmp_path / "here"))
    assert cache_directory() == tmp_path / "here"
    monkeypatch.delenv("BO_INVERT_CACHE")
    assert cache_directory().parts[-2:] == (".cache", "bo_invert")


def test_the_error_names_the_missing_extra(designs, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingExtraError, match=r"bo-invert\[demo\]"):
        cached_generator(designs, CONFIG, "bumps")


def test_convolutions_reduce_the_reconstruction_error(designs):
    config = VAEConfig(
        (4, 4), 2, network="conv", channels=(8, 16), beta=0.03, epochs=40, batch_size=16
    )
    report = train_generator(designs, config)[1]
    assert report.figures["reconstruction"] < 0.6 * report.figures["spread"]
    assert report.figures["active"] == 2


def test_designs_of_any_scale_are_standardised():
    """Six numbers of very different scales depend on two factors; one number is constant."""
    rng = np.random.default_rng(0)
    factors = rng.standard_normal((400, 2))
    vectors = factors @ rng.standard_normal((2, 6)) * [1.0, 1e3, 1e-3, 1.0, 1.0, 0.0] + [
        0.0,
        1e4,
        1.0,
        -5.0,
        0.0,
        7.0,
    ]
    config = VAEConfig((6,), 2, values="real", hidden=(32,), epochs=80, batch_size=32)
    network, report = train_generator(vectors, config)
    assert report.figures["reconstruction"] < 0.3 * report.figures["spread"]
    rebuilt = network(network.encode(torch.tensor(vectors, dtype=torch.float32))).detach().numpy()
    error, spread = (rebuilt - vectors).std(axis=0), vectors.std(axis=0)
    assert (error[:5] < 0.4 * spread[:5]).all()
    assert error[5] < 0.3
    drawn = (
        network(torch.randn(2000, 2, generator=torch.Generator().manual_seed(0))).detach().numpy()
    )
    assert (np.abs(drawn.std(axis=0)[:5] / spread[:5] - 1) < 0.4).all()


def test_posterior_collapse_is_reported(designs):
    report = train_generator(designs, replace(CONFIG, beta=100.0, epochs=10))[1]
    assert report.figures["active"] == 0
    assert "posterior collapse" in str(report)


def test_validity_is_the_accepted_share_of_draws(designs):
    short = replace(CONFIG, epochs=1)
    report = train_generator(designs, short, valid=lambda drawn: np.arange(len(drawn)) % 4 == 0)[1]
    assert report.figures["validity"] == 0.25
    assert "validity" not in train_generator(designs, short)[1].figures


def test_values_outside_the_unit_interval_are_errors_with_a_remedy(designs):
    with pytest.raises(InvalidInputError, match="values='real'"):
        train_generator(designs * 3, CONFIG)


def test_a_description_of_other_weights_is_an_error(designs, tmp_path):
    for seed in (0, 1):
        save_generator(
            *train_generator(designs, replace(CONFIG, epochs=1, seed=seed)), tmp_path / f"{seed}"
        )
    (tmp_path / "0.safetensors").replace(tmp_path / "1.safetensors")
    with pytest.raises(InvalidInputError, match="not the ones described"):
        load_generator(tmp_path / "1")
