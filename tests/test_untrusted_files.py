"""Tests of untrusted files: loading runs no code and raises a clear error."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.benchmark.compare import Comparison
from bo_invert.benchmark.results import Key, Results
from bo_invert.cli import main as cli
from bo_invert.generators.base import TrainingReport
from bo_invert.generators.storage import load_generator, save_generator
from bo_invert.generators.vae import VAE, VAEConfig
from bo_invert.problems.loading import load_problem
from bo_invert.report.benchmark_tables import fill_page
from bo_invert.service.access_tokens import TokenFile
from bo_invert.service.registered_problems import RegisteredProblems
from bo_invert.service.server import ServerSettings, serve, watch
from bo_invert.storage.export_import import export_study, import_study
from bo_invert.storage.memory import MemoryStore
from bo_invert.storage.open import open_store


class Canary:
    """Object that writes a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.file,)


def pickled(canary: Canary) -> bytes:
    return pickle.dumps(canary)


def objects(canary: Canary) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array([canary], dtype=object), allow_pickle=True)
    return stream.getvalue()


def torch_file(canary: Canary) -> bytes:
    import torch

    stream = io.BytesIO()
    torch.save({"weights": canary}, stream)
    return stream.getvalue()


def joblib_file(canary: Canary) -> bytes:
    joblib = pytest.importorskip("joblib")
    stream = io.BytesIO()
    joblib.dump(canary, stream)
    return stream.getvalue()


PICKLES = {"pkl": pickled, "npy": objects, "pt": torch_file, "joblib": joblib_file}
PLAIN: dict[str, bytes] = {
    "deep.json": b"[" * 100_000,
    "deep.toml": b"a = " + b"[" * 10_000,
    "number.json": b"9" * 5000,
    "null.json": b"null",
    "bytes": bytes(range(256)),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_the_canary_sings_where_pickles_are_read(kind: str, tmp_path: Path) -> None:
    """Without this the tests below would show nothing."""
    content = io.BytesIO(PICKLES[kind](Canary(tmp_path / "canary")))
    if kind == "pt":
        import torch

        torch.load(content, weights_only=False)
    elif kind == "npy":
        np.load(content, allow_pickle=True)
    elif kind == "joblib":
        pytest.importorskip("joblib").load(content)
    else:
        pickle.load(content)
    assert (tmp_path / "canary").exists()


def tokens(file: Path) -> None:
    file.chmod(0o600)
    TokenFile(file).all()


def module(file: Path) -> None:
    source = file.with_name(f"source_of_{file.name.replace('.', '_')}.py")
    source.write_bytes(file.read_bytes())
    load_problem(f"{source}:problem", {})


def weights(file: Path) -> None:
    """Weights that are the ones described beside them."""
    network = VAE(VAEConfig((4, 4), 2, hidden=(8,)))
    saved = save_generator(network, TrainingReport(0, 0.0, "epochs", 0.0), file.with_suffix(""))
    described = saved.with_suffix(".json")
    changed = json.loads(described.read_bytes()) | {
        "weights": hashlib.sha256(file.read_bytes()).hexdigest()
    }
    described.write_text(json.dumps(changed))
    described.with_suffix(".safetensors").write_bytes(file.read_bytes())
    load_generator(described)


def description(file: Path) -> None:
    file.with_suffix(".json").write_bytes(file.read_bytes())
    file.with_suffix(".safetensors").write_bytes(b"")
    load_generator(file)


def others_weights(file: Path) -> None:
    from torch import nn

    from bo_invert.generators.weights import load_weights

    load_weights(nn.Linear(2, 2), file)


def comparison(file: Path) -> None:
    (file.parent / "comparison.json").write_bytes(file.read_bytes())
    Comparison.load(file.parent)


DOORS: dict[str, Callable[[Path], object]] = {
    "import": lambda file: import_study(MemoryStore(), file),
    "sqlite": lambda file: open_store(f"sqlite:///{file}").names(),
    "serve": lambda file: serve(ServerSettings(str(file), tokens=file.with_name("tokens.json"))),
    "serve --config": lambda file: RegisteredProblems.load(file),
    "serve --tokens": tokens,
    "watch": lambda file: watch(str(file), 0),
    "problem": lambda file: load_problem(str(file), {}),
    "problem of a name": lambda file: load_problem(f"{file}:problem", {}),
    "problem.py": module,
    "weights": weights,
    "their description": description,
    "weights of others": others_weights,
    "comparison": comparison,
    "page of the bench": lambda file: fill_page(file, "tables"),
}


@pytest.mark.parametrize("kind", [*PICKLES, *PLAIN])
@pytest.mark.parametrize("door", DOORS)
def test_no_file_runs_code_and_each_is_refused_in_words(
    door: str, kind: str, tmp_path: Path
) -> None:
    file = tmp_path / f"given.{kind}"
    file.write_bytes(PICKLES[kind](Canary(tmp_path / "canary")) if kind in PICKLES else PLAIN[kind])
    with pytest.raises(bi.BoInvertError, match=r".{20}") as refused:
        DOORS[door](file)
    assert "Traceback" not in str(refused.value)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("kind", [*PICKLES, *PLAIN])
def test_runs_that_cannot_be_read_are_runs_that_are_not_there(kind: str, tmp_path: Path) -> None:
    key = Key("problem", "method", {"name": "random"}, 0, 1, 1)
    file = tmp_path / key.path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(PICKLES[kind](Canary(tmp_path / "canary")) if kind in PICKLES else PLAIN[kind])
    assert Results(tmp_path).runs([key]) == {}
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("kind", PICKLES)
def test_the_command_line_says_so(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"given.{kind}"
    file.write_bytes(PICKLES[kind](Canary(tmp_path / "canary")))
    storage = f"sqlite:///{tmp_path}/runs.db"
    monkeypatch.setenv("BO_INVERT_TOKENS", str(tmp_path / "tokens.json"))
    for words in (
        ["import", str(file), "--storage", storage],
        ["serve", "--storage", storage, "--config", str(file), "--port", "0"],
        ["run", str(file), "--budget", "1"],
    ):
        monkeypatch.setattr("sys.argv", ["bo-invert", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert ended.value.code == 2, words
        assert capsys.readouterr().err.startswith("bo-invert: ")
    assert not (tmp_path / "canary").exists()


def exported(folder: Path) -> tuple[Path, list[dict[str, Any]]]:
    store = MemoryStore()
    space = bi.Box({"x": bi.Float(0.0, 1.0)})
    study = bi.Study.create(
        "s", bi.Problem(space, lambda d: d["x"], bi.Minimize()), "random", storage=store
    )
    study.run(2)
    export_study(store, "s", folder / "s.jsonl")
    return folder / "s.jsonl", [
        json.loads(line) for line in (folder / "s.jsonl").read_text().splitlines()
    ]


HEADS: dict[str, Callable[[dict[str, Any]], object]] = {
    "no header": lambda head: head.pop("header"),
    "a header of text": lambda head: head.update(header="x"),
    "no problem": lambda head: head["header"].pop("problem"),
    "a domain that is a number": lambda head: head["header"]["problem"]["space"].update(domain=3),
    "half a parameter": lambda head: head["header"]["problem"]["space"]["domain"]["parameters"][
        "x"
    ].pop("low"),
    "no strategy": lambda head: head["header"].update(strategy=None),
    "outputs of numbers": lambda head: head["header"]["problem"].update(outputs=[1]),
    "scales of text": lambda head: head["header"]["problem"]["objective"].update(scale=["a"]),
    "a seed of text": lambda head: head["header"].update(seed="0"),
    "a name that is no text": lambda head: head.update(name=["s"]),
    "half a character": lambda head: head["header"].update(problem_name="\ud800"),
    "a number without end": lambda head: head["header"].update(seed=float("inf")),
}


@pytest.mark.parametrize("what", HEADS)
def test_a_study_that_could_not_be_shown_is_not_imported(what: str, tmp_path: Path) -> None:
    file, lines = exported(tmp_path)
    HEADS[what](lines[0])
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    store = MemoryStore()
    with pytest.raises(bi.InvalidInputError, match="import: "):
        import_study(store, file)
    assert store.names() == []


@pytest.mark.parametrize(
    "point", ["[1e999]", "[1" + "0" * 400 + "]", '["\\ud800"]', '"x"', "{}", "[[[0]]]", "null"]
)
def test_events_are_read_as_data(point: str, tmp_path: Path) -> None:
    file, lines = exported(tmp_path)
    texts = [json.dumps(line) for line in lines]
    number, known = next(
        (i, line["queries"][0]["point"]) for i, line in enumerate(lines) if "queries" in line
    )
    texts[number] = texts[number].replace(json.dumps(known), point, 1)
    file.write_text("\n".join(texts))
    with pytest.raises(bi.InvalidInputError, match=f"line {number + 1} "):
        import_study(MemoryStore(), file)
