"""Tests of ``load_weights``: it loads numbers and refuses code."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bo_invert.errors import InvalidInputError, MissingExtraError
from bo_invert.generators import weights
from bo_invert.generators.weights import load_weights


def network(seed: int = 0) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return net


def numbers(net: nn.Module) -> np.ndarray:
    return np.concatenate([value.numpy().ravel() for value in net.state_dict().values()])


def save_safetensors(values: Any, path: Path) -> None:
    pytest.importorskip("safetensors.torch").save_file(dict(values), path)


def save_old(values: Any, path: Path) -> None:
    """Save in the format before torch 1.6: consecutive pickles."""
    torch.save(values, path, _use_new_zipfile_serialization=False)


SAVERS = {"safetensors": save_safetensors, "pt": torch.save, "pth": save_old}


@pytest.mark.parametrize("suffix", SAVERS)
def test_weights_are_loaded(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"net.{suffix}"
    SAVERS[suffix](network(1).state_dict(), file)
    net = network().train()
    assert load_weights(net, file) is net
    np.testing.assert_array_equal(numbers(net), numbers(network(1)))
    assert net.training


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod."])
def test_prefixes_of_wrappers_are_removed(prefix: str, tmp_path: Path) -> None:
    torch.save(
        {prefix + name: value for name, value in network(1).state_dict().items()},
        tmp_path / "net.pt",
    )
    np.testing.assert_array_equal(
        numbers(load_weights(network(), str(tmp_path / "net.pt"))), numbers(network(1))
    )


def test_part_selects_the_weights_of_a_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "net.ckpt"
    torch.save({"state_dict": network(1).state_dict(), "epoch": 3}, file)
    with pytest.raises(
        InvalidInputError, match=r"'state_dict', 'epoch'. Pass the key of the weights as part="
    ):
        load_weights(network(), file)
    with pytest.raises(InvalidInputError, match="no part 'model'"):
        load_weights(network(), file, part="model")
    np.testing.assert_array_equal(
        numbers(load_weights(network(), file, part="state_dict")), numbers(network(1))
    )


class Canary:
    """Object that writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def bare(content: Any, file: Path) -> None:
    file.write_bytes(pickle.dumps(content))


def script(content: Any, file: Path) -> None:
    """Save an archive marked as TorchScript, which torch passes to another loader."""
    torch.save(content, file)
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/constants.pkl", pickle.dumps(content))


@pytest.mark.filterwarnings("ignore:.*TorchScript")
@pytest.mark.parametrize(
    "save", [torch.save, save_old, bare, script], ids=["zip", "old", "bare", "script"]
)
@pytest.mark.parametrize("suffix", ["pt", "pth", "bin", "safetensors", "json"])
@pytest.mark.parametrize(
    "wrap", [lambda c: c, lambda c: OrderedDict(weight=c), lambda c: {"state_dict": {"a": [c]}}]
)
def test_code_in_files_is_not_run(
    save: Any, suffix: str, wrap: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A notebook may have set this variable for another purpose.
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    file, canary = tmp_path / f"net.{suffix}", tmp_path / "canary"
    save(wrap(Canary(canary)), file)
    before = numbers(network())
    net = network()
    for part in (None, "state_dict"):
        with pytest.raises(InvalidInputError) as refused:
            load_weights(net, file, part)
        assert "weights_only=False" not in str(refused.value)
    assert not canary.exists()
    np.testing.assert_array_equal(numbers(net), before)


def test_the_canary_runs_without_the_restriction(tmp_path: Path) -> None:
    """Shows that the canary of the previous test works."""
    torch.save(Canary(tmp_path / "canary"), tmp_path / "net.pt")
    torch.load(tmp_path / "net.pt", weights_only=False)
    assert (tmp_path / "canary").exists()


def test_a_pickled_network_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "net.pt")
    with pytest.raises(
        InvalidInputError, match=r"needs to run torch\.nn.*save_file\(network\.state_dict\(\)"
    ):
        load_weights(network(), tmp_path / "net.pt")


@pytest.mark.parametrize("version", ["2.5.1", "2.4.0+cpu", "1.13.1", "2.5.0a0+git1"])
def test_old_torch_versions_read_no_pickles(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(network(1).state_dict(), tmp_path / "net.pt")
    save_safetensors(network(1).state_dict(), tmp_path / "net.safetensors")
    monkeypatch.setattr(weights.torch, "__version__", version)
    monkeypatch.setattr(weights.torch, "load", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(InvalidInputError, match=r"CVE-2025-32434.*update torch"):
        load_weights(network(), tmp_path / "net.pt")
    load_weights(network(), tmp_path / "net.safetensors")


def test_the_error_names_the_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_safetensors(network(1).state_dict(), tmp_path / "net.safetensors")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        load_weights(network(), tmp_path / "net.safetensors")


@pytest.mark.parametrize("suffix", SAVERS)
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Linear(2, 4), r"missing: 0.weight, .*; unexpected: "),
        (
            nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)),
            r"0.weight has shape \(4, 3\), not \(4, 2",
        ),
    ],
)
def test_weights_of_another_network_are_errors_and_change_nothing(
    other: nn.Module, message: str, suffix: str, tmp_path: Path
) -> None:
    SAVERS[suffix](other.state_dict(), tmp_path / f"net.{suffix}")
    net = network()
    with pytest.raises(InvalidInputError, match=message):
        load_weights(net, tmp_path / f"net.{suffix}")
    np.testing.assert_array_equal(numbers(net), numbers(network()))


@pytest.mark.parametrize("content", [b"", b"{}", b"\x80\x04garbage", bytes(range(256))])
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_damaged_files_are_errors(content: bytes, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"net.{suffix}").write_bytes(content)
    with pytest.raises(InvalidInputError, match=f"net.{suffix}"):
        load_weights(network(), tmp_path / f"net.{suffix}")


def test_files_without_weights_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="must be an existing file"):
        load_weights(network(), tmp_path / "nothing.pt")
    for held in (torch.zeros(3), {}, {"a": 1}, {1: torch.zeros(2)}):
        stream = io.BytesIO()
        torch.save(held, stream)
        (tmp_path / "net.pt").write_bytes(stream.getvalue())
        with pytest.raises(InvalidInputError, match="is not a state_dict"):
            load_weights(network(), tmp_path / "net.pt")
