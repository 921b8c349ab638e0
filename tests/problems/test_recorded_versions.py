"""Provenance: equal digests for equal oracles, different ones otherwise, no secrets."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.hashing import digest, file_digest
from bo_invert.problems.recorded_versions import changes, noted, provenance, provenance_rows

BOX = bi.Box([0.0] * 2, [1.0] * 2)


def made(source: str, tmp_path: Path, name: str = "oracle") -> Callable[..., Any]:
    """Load a function from a separate file."""
    from bo_invert.problems.loading import _module

    path = tmp_path / f"m{abs(hash(source))}.py"
    path.write_text(source)
    return getattr(_module(path), name)


BASE = "def helper(x):\n    return x + 1\n\ndef oracle(x):\n    return 2.0 * helper(x)\n"


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        (BASE.replace("    return 2.0", "    # doubled\n\n    return 2.0"), True),
        (BASE + "\ndef unrelated(x):\n    return x\n", True),
        (BASE.replace("2.0", "3.0"), False),
        (BASE.replace("x + 1", "x + 2"), False),  # in what it calls
    ],
)
def test_a_function_is_its_source_and_that_of_its_helpers(
    changed: str, same: bool, tmp_path: Path
) -> None:
    one, other = (digest(made(source, tmp_path)) for source in (BASE, changed))
    assert one is not None
    assert (one[0] == other[0]) is same
    assert one.of == "source of oracle"


def scaled(by: Any) -> Callable[[Any], Any]:
    return lambda x: x * by


def counting() -> Callable[[Any], Any]:
    calls, rng = [], np.random.default_rng(0)

    def oracle(x: Any) -> float:
        calls.append(x)
        return float(rng.random())

    return oracle


class Machine:
    def __init__(self, speed: float) -> None:
        self.speed, self.calls = speed, 0

    def __call__(self, x: Any) -> float:
        self.calls += 1
        return self.speed * float(x[0])

    def ask(self, x: Any) -> float:
        return self(x)


def test_what_a_function_closes_over_counts() -> None:
    assert digest(scaled(2.0)) == digest(scaled(2.0)) != digest(scaled(3.0))
    assert (
        digest(scaled(np.arange(3))) == digest(scaled(np.arange(3))) != digest(scaled(np.arange(4)))
    )
    assert digest(Machine(2.0)) == digest(Machine(2.0)) != digest(Machine(3.0))
    assert digest(Machine(2.0).ask) == digest(Machine(2.0).ask) != digest(Machine(3.0).ask)
    assert digest(len) is None


@pytest.mark.parametrize("oracle", [counting(), Machine(2.0)], ids=["closure", "object"])
def test_being_asked_makes_no_other_oracle(oracle: Any) -> None:
    before = digest(oracle)
    for _ in range(3):
        oracle(np.ones(2))
    assert digest(oracle) == before is not None


def test_parameters_count() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3), torch.nn.Linear(3, 1)
    ).bfloat16()
    before = digest(network)
    assert before is not None
    network.eval()
    assert digest(network) is not None
    with torch.no_grad():
        network[0].weight[0, 0] += 1.0
    assert digest(network)[0] != before[0]


def test_fitted_estimators_count() -> None:
    from sklearn.ensemble import RandomForestRegressor

    X = np.random.default_rng(0).random((40, 3))
    forests = [RandomForestRegressor(4, random_state=seed).fit(X, X[:, 0]) for seed in (0, 0, 1)]
    digests = [digest(forest) for forest in forests]
    assert digests[0] == digests[1] != digests[2]
    forests[0].predict(X)
    forests[0].n_jobs = 2
    assert digest(forests[0]) == digests[0]
    assert digests[0].of == "fitted RandomForestRegressor"


def test_what_pads_a_record_does_not_count() -> None:
    """scikit-learn's trees are arrays of records, padded with whatever was in memory."""
    kind = np.dtype([("a", "u1"), ("b", "f8")], align=True)
    records = [
        np.frombuffer(bytearray([filling]) * (3 * kind.itemsize), dtype=kind)
        for filling in (0, 255)
    ]
    for record in records:
        record["a"], record["b"] = 1, 2.0
    assert records[0].tobytes() != records[1].tobytes()
    assert digest(scaled(records[0])) == digest(scaled(records[1]))


@pytest.mark.slow
def test_a_process_later_it_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    code = (
        "import bo_invert as bi\n"
        "from sklearn.ensemble import RandomForestRegressor\n"
        "import numpy as np\n"
        "X = np.random.default_rng(0).random((40, 3))\n"
        "oracle = bi.Estimator(RandomForestRegressor(4, random_state=0).fit(X, X[:, 0]))\n"
        "print(oracle.digest().sha256, bi.ready_problem('mixed').oracle.digest().sha256)"
    )
    exec(code, {})
    here = capsys.readouterr().out
    command = [sys.executable, "-c", code]
    there = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert there == here
    assert "None" not in here


def test_programs_and_files(tmp_path: Path) -> None:
    script = tmp_path / "area.awk"
    script.write_text("{ print $1 }")
    first = bi.Command(["awk", "-f", script]).digest()
    script.write_text("{ print $2 }")
    assert bi.Command(["awk", "-f", script]).digest()[0] != first[0]
    assert "area.awk" in first.of
    assert str(tmp_path) not in first.of
    assert (
        bi.Cached(bi.Command(["awk", "-f", script])).digest()
        == bi.Command(["awk", "-f", script]).digest()
    )
    assert file_digest(tmp_path / "none") is None


def test_nothing_secret_goes_into_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BO_INVERT_TOKEN", "hush-hush")
    problem = bi.Problem(BOX, Machine(2.0), bi.Minimize())
    study = bi.Study.create("s", problem)
    header = json.dumps(study.journal.header)
    assert "hush-hush" not in header
    assert str(Path.home()) not in header
    assert str(Path(__file__).parent) not in header
    about = study.journal.header["provenance"]["oracle"]
    assert about["file"] == "test_recorded_versions.py"
    assert about["name"] == "Machine"
    assert len(about["sha256"]) == 64
    assert (
        "source of Machine"
        in dict(provenance_rows(study.journal.header["provenance"]))["fingerprint"]
    )


def test_going_on_with_another_oracle_warns_and_with_the_same_does_not(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'runs.db'}"
    same, other = (bi.Problem(BOX, Machine(speed), bi.Minimize()) for speed in (2.0, 3.0))
    bi.Study.create("s", same, storage=storage, strategy="random").run(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bi.Study.create("s", same, storage=storage, strategy="random", exist_ok=True).run(5)
        bi.Study.open("s", storage, problem=bi.Problem(BOX, None, bi.Minimize()))
    with pytest.warns(UserWarning, match="the oracle is another: sha256"):
        bi.Study.open("s", storage, problem=other).run(6)


def test_going_on_with_a_decoder_that_was_trained_again_warns(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'runs.db'}"

    def problem(seed: int, wrap: Any = lambda network: network) -> bi.Problem:
        torch.manual_seed(seed)
        network = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 4))
        return bi.Problem(bi.Latent(wrap(network), 2), lambda x: float(x[0]), bi.Minimize())

    study = bi.Study.create("s", problem(0), storage=storage, strategy="random").run(3)
    assert "parameters" in dict(provenance_rows(study.journal.header["provenance"]))["decoder"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bi.Study.open("s", storage, problem=problem(0)).run(4)
        bi.Study.open("s", storage, problem=bi.Problem(problem(1).space, None, bi.Minimize()))
    with pytest.warns(UserWarning, match="the decoder is another: sha256"):
        bi.Study.open("s", storage, problem=problem(1))
    with pytest.warns(UserWarning, match="the decoder is another: sha256"):
        bi.Study.open("s", storage, problem=problem(0, lambda network: network[0]))


def test_digests_of_decoders() -> None:
    from sklearn.decomposition import PCA

    data = np.random.default_rng(0).normal(size=(50, 5))
    whole, half = PCA(2).fit(data), PCA(2).fit(data[:25])
    first = bi.Latent(whole.inverse_transform, 2, encoder=whole.transform, data=data).digest()
    again = bi.Latent(PCA(2).fit(data).inverse_transform, 2).digest()
    assert first is not None
    assert first == again
    assert bi.Latent(half.inverse_transform, 2).digest() != first
    assert bi.Box([0.0], [1.0]).digest() is None  # its statement says all


def test_an_older_log_says_nothing(tmp_path: Path) -> None:
    from bo_invert.storage.memory import MemoryStore

    store, problem = MemoryStore(), bi.Problem(BOX, Machine(2.0), bi.Minimize())
    header = dict(bi.Study.create("s", problem).journal.header)
    del header["provenance"]
    store.create("old", header)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bi.Study.open("old", store, problem=problem).run(2)


def test_major_versions_count_and_minor_ones_do_not() -> None:
    now = provenance(None)
    began = json.loads(json.dumps(now))
    began["packages"] |= {
        "numpy": "1.26.4",
        "bo_invert": "0.1.99",
        "torch": now["packages"]["torch"].split(".")[0] + ".0.1",
    }
    assert [change.split()[0] for change in changes(began, now)] == ["numpy"]


@pytest.mark.parametrize(
    "header",
    [None, {}, 3, {"packages": []}, {"packages": {"numpy": 3}}, {"packages": {}, "oracle": 1},
     {"packages": {}, "oracle": {"library": {}, "sha256": [1]}}, {"packages": {}, "decoder": 1},
     {"packages": {}, "decoder": {"sha256": 1}}],
)  # fmt: skip
def test_a_provenance_from_elsewhere_may_be_anything(header: Any) -> None:
    assert noted(header) == {}
    assert provenance_rows(header) == []
    assert changes(header, provenance(None)) == []


def test_what_observations_cost_is_billed() -> None:
    from bo_invert.types import Cost

    problem = bi.Problem(BOX, lambda x: float(x[0]), bi.Minimize())
    study = bi.Study.create("s", problem, strategy="random")
    study.add(
        [[0.1, 0.2], [0.3, 0.4]],
        [0.1, bi.FailedError("no licence")],
        costs=[Cost(2, 1, 0.5), Cost(1)],
    )
    assert (study.spent.values, study.spent.gradients, study.spent.failed) == (3, 1, 1)
    assert study.history.calls == 4
    study.add([[0.5, 0.6]], [0.5])
    assert study.history.calls == 4
    study.run(6)
    assert (study.history.calls, len(study.trials)) == (6, 5)
    with pytest.raises(bi.InvalidInputError, match="costs"):
        study.add([[0.1, 0.2]], [0.1], costs=[])
