"""The gest-api generator inside libEnsemble and optimas, where these are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("gest_api")

from gest_api.vocs import VOCS  # after the check for an optional package

from bo_invert.integrations.gest import BoInvertGenerator

EVALUATIONS = 12
pytestmark = pytest.mark.filterwarnings("ignore")  # those of the frameworks


def generator() -> BoInvertGenerator:
    vocs = VOCS(variables={"x": [0.0, 10.0], "y": [-5.0, 5.0]}, objectives={"f": "MINIMIZE"})
    return BoInvertGenerator(vocs, "random", seed=0)


def value(point: dict[str, Any]) -> float:
    return float((point["x"] - 3) ** 2 + point["y"] ** 2)


def simulate(point: dict[str, Any]) -> dict[str, float]:
    return {"f": value(point)}


def evaluate(point: dict[str, Any], outputs: dict[str, Any]) -> None:
    outputs["f"] = value(point)


def check(made: BoInvertGenerator) -> None:
    done = [trial for trial in made.study.trials if trial.loss is not None]
    assert len(done) == EVALUATIONS
    assert all(trial.loss == pytest.approx(value(trial.design)) for trial in done)


def test_libensemble_evaluates_its_points(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("libensemble")
    from libensemble import Ensemble
    from libensemble.alloc_funcs.start_only_persistent import only_persistent_gens
    from libensemble.specs import AllocSpecs, ExitCriteria, GenSpecs, LibeSpecs, SimSpecs

    monkeypatch.chdir(tmp_path)
    made = generator()
    ensemble = Ensemble(
        libE_specs=LibeSpecs(
            nworkers=2, comms="local", gen_on_manager=True, final_gen_send=True,
            disable_log_files=True,
        ),
        gen_specs=GenSpecs(
            generator=made, initial_batch_size=4, batch_size=2, vocs=made.vocs,
            persis_in=["x", "y", "f"], out=[("x", float), ("y", float)],
        ),
        sim_specs=SimSpecs(simulator=simulate, vocs=made.vocs),
        exit_criteria=ExitCriteria(sim_max=EVALUATIONS),
        alloc_specs=AllocSpecs(alloc_f=only_persistent_gens),
    )  # fmt: skip
    _, _, flag = ensemble.run()
    assert flag == 0
    check(made)


def test_optimas_evaluates_its_points(tmp_path: Path) -> None:
    pytest.importorskip("optimas")
    from optimas.evaluators import FunctionEvaluator
    from optimas.explorations import Exploration
    from optimas.generators import ExternalGenerator

    made = generator()
    exploration = Exploration(
        generator=ExternalGenerator(made, vocs=made.vocs),
        evaluator=FunctionEvaluator(function=evaluate), max_evals=EVALUATIONS, sim_workers=2,
        exploration_dir_path=str(tmp_path / "exploration"),
    )  # fmt: skip
    exploration.run()
    check(made)
