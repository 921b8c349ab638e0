"""``study.predict``, ``outlook`` and ``polish``: arguments, cache, copies, refusals."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bo_invert as bi
from bo_invert.errors import InvalidInputError
from bo_invert.models.prediction import fit
from bo_invert.study.predictions import Predictions


def oracle(design: dict) -> dict[str, float]:
    shift = {"water": 0.0, "dmso": 0.5, "thf": 1.0}[design["solvent"]]
    return {"yield": float(np.sin(design["t"] / 20.0) + shift), "cost": float(design["n"])}


def problem() -> bi.Problem:
    space = bi.Box(
        {"t": bi.Float(20, 100), "n": bi.Int(1, 5), "solvent": bi.Choice("water", "dmso", "thf")}
    )
    return bi.Problem(
        space, oracle, bi.Maximize("yield"), outputs=["yield", "cost"], name="reaction",
        constraints=["cost <= 4"],
    )  # fmt: skip


DESIGNS = [{"t": 30.0, "n": 2, "solvent": "thf"}, {"t": 90.0, "n": 5, "solvent": "water"}]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> bi.Study:
    store = f"sqlite:///{tmp_path_factory.mktemp('predicted')}/runs.db"
    return bi.Study.create("predicted", problem(), "random", storage=store).run(30)


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of observations of all fits during a test."""
    counts: list[int] = []
    original = fit.fit_predictor

    def counted(statement, history, *, noisy):
        counts.append(len(history.completed))
        return original(statement, history, noisy=noisy)

    monkeypatch.setattr(fit, "fit_predictor", counted)
    return counts


def test_designs_in_any_form_give_the_same_predictions(study: bi.Study, tmp_path: Path) -> None:
    frame = pd.DataFrame(DESIGNS)
    frame.assign(note="x").to_csv(tmp_path / "points.csv", index=False)
    points = study.problem.space.encode(DESIGNS)
    given = [
        study.predict(DESIGNS), study.predict(frame), study.predict(str(tmp_path / "points.csv")),
        study.predict(tmp_path / "points.csv"), study.predict(points=points),
    ]  # fmt: skip
    for found in given:
        assert np.array_equal(found.points, points)
        assert np.array_equal(found.outputs["yield"].mean, given[0].outputs["yield"].mean)
    single = study.predict(DESIGNS[0])
    assert len(single) == 1
    assert np.isclose(single.loss.median[0], given[0].loss.median[0])


def test_predictions_have_shapes_names_and_units(study: bi.Study) -> None:
    found = study.predict(DESIGNS)
    assert list(found.outputs) == ["yield", "cost"]
    for one in (*found.outputs.values(), found.loss):
        assert one.mean.shape == one.std.shape == one.median.shape == (2,)
        assert ((one.low <= one.median) & (one.median <= one.high)).all()
    assert np.allclose(found.outputs["cost"].median, [2.0, 5.0], atol=0.5)
    assert found.feasible[0] > 0.9 > 0.1 > found.feasible[1]
    assert found.hit is None
    assert found.plausibility is None  # the box has no data
    row = found.to_dataframe().iloc[0]
    assert (row["solvent"], row["n"]) == ("thf", 2)
    assert row["yield.low"] <= row["yield.median"] <= row["yield.high"]
    text = repr(found)
    assert "2 predictions" in text
    assert "Gaussian process" in text


def test_predictions_survive_json(study: bi.Study) -> None:
    found = study.predict(DESIGNS)
    again = Predictions.from_json(found.to_json(), found.domain)
    assert again.records() == found.records()


def test_models_are_fitted_once_until_the_log_grows(fits: list[int]) -> None:
    study = bi.Study.create("cached", problem(), "random").run(12)
    first = study.predict(DESIGNS)
    assert np.array_equal(study.predict(DESIGNS).loss.mean, first.loss.mean)
    study.outlook()
    assert fits == [12]
    (trial,) = study.ask()  # an open trial is no news for a model
    study.predict(DESIGNS)
    assert fits == [12]
    study.tell(trial, oracle(trial.design))
    study.predict(DESIGNS)
    assert fits == [12, 13]
    study.amend(trial, {"yield": 5.0, "cost": 1.0})
    assert study.predict(trial.design).outputs["yield"].median[0] > 1.0
    assert fits == [12, 13, 13]


def test_threads_share_one_fit(fits: list[int]) -> None:
    study = bi.Study.create("threads", problem(), "random").run(12)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: study.predict(DESIGNS).loss.mean.tolist(), range(8)))
    assert fits == [12]
    assert all(one == found[0] for one in found)


def test_copies_and_pickles_have_no_fitted_models(study: bi.Study, fits: list[int]) -> None:
    expected = study.predict(DESIGNS).loss.mean.tolist()
    known = len(fits)
    for other in (copy.copy(study), pickle.loads(pickle.dumps(study))):
        assert other.predict(DESIGNS).loss.mean.tolist() == expected
    assert len(fits) == known + 2


def test_latents_and_targets_have_plausibility_and_a_chance_of_a_hit() -> None:
    study = bi.Study.create("latent", bi.ready_problem("digits"), "prior").run(12)
    found = study.predict(points=np.zeros((3, 8)))
    assert found.plausibility.shape == (3,)
    arm = bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]), lambda x: [x[0], x[1]], bi.Target([0.3, 0.6], tolerance=0.1)
    )
    study = bi.Study.create("hit", arm, "random").run(25, stop_when_hit=False)
    hit = study.predict([[0.3, 0.6], [0.9, 0.1]]).hit
    assert hit[0] > 0.8 > 0.1 > hit[1]


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((), {}, "either designs or points"),
        ((DESIGNS,), {"points": [[0.5] * 5]}, "either designs or points"),
        (([],), {}, "designs must be dicts"),
        (([{"t": 30.0}],), {}, "'n'"),
        (([{"t": 500.0, "n": 2, "solvent": "thf"}],), {}, "'t'"),
        ((), {"points": [[0.5]]}, r"shape \(n, 5\)"),
    ],
)
def test_wrong_designs_are_refused(
    study: bi.Study, arguments: tuple, options: dict, message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        study.predict(*arguments, **options)


def test_too_few_observations_and_a_missing_problem_are_refused(study: bi.Study) -> None:
    fresh = bi.Study.create("fresh", problem(), "random")
    with pytest.raises(InvalidInputError, match="at least 2 observations, got 0"):
        fresh.predict(DESIGNS)
    with pytest.raises(InvalidInputError, match="opened without its problem"):
        bi.Study.open("predicted", study._store).predict(DESIGNS)


def test_a_missing_column_of_a_table_is_named(study: bi.Study, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("t,n\n30,2\n")
    with pytest.raises(InvalidInputError, match=r"\['solvent'\] are missing"):
        study.predict(tmp_path / "points.csv")


def test_the_interval_of_a_suggestion_is_in_its_repr_and_in_tables() -> None:
    box = bi.Problem(
        bi.Box([0.0], [1.0]), lambda x: float(x[0] ** 2), bi.Maximize(), outputs=["speed"]
    )
    study = bi.Study.create("shown", box, "gp").run(8)
    (trial,) = study.ask()
    low, median, high = trial.expected["speed"]
    assert low <= median <= high
    assert f"expected speed before the call={median:.4g} ({low:.4g} to {high:.4g})" in repr(trial)
    assert f"speed {median:.4g}" in repr(study.pending)
    cells = study.to_dataframe().expected
    assert cells.iloc[-1].startswith(f"speed {median:.4g} ({low:.4g} to ")
    assert not isinstance(cells.iloc[0], str)  # a point of the initial design


def test_an_outlook_is_undecided_without_a_model_and_decided_with_one() -> None:
    bowl = bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]), lambda x: float(((x - 0.3) ** 2).sum()), bi.Minimize()
    )
    study = bi.Study.create("bowl", bowl, "gp").run(5)
    found = study.outlook()
    assert not found.decided
    assert "undecided after 5 calls: 5 observations" in str(found)
    assert found.to_json()["bound"] is None
    study.run(60)
    found = study.outlook()
    assert found.decided
    assert found.best == study.best.loss
    assert 0.0 <= found.expected <= found.bound < 0.01
    assert 0.0 <= found.improves(1) <= found.improves(20) <= 1.0
    rng = np.random.default_rng(0)
    noise = bi.Problem(bi.Box([0.0], [1.0]), lambda x: float(rng.normal()), bi.Minimize())
    study = bi.Study.create("noise", noise, "random").run(40)
    assert "explain" in study.outlook().why


@pytest.mark.parametrize("differentiable", [True, False])
def test_polish_refines_the_best_point_in_the_same_log(differentiable: bool) -> None:
    made = bi.ready_problem("hartmann6", differentiable=differentiable)
    study = bi.Study.create("rough", made, "random").run(30)
    before, memo = study.best.loss, study.journal.view(None).memo
    study.polish(20)
    assert study.best.loss < before
    assert study.spent.calls <= 50
    new = study.trials[30:]
    assert new
    assert all(trial.query.meta["why"].startswith("polish: ") for trial in new)
    assert study.journal.view(None).memo == memo
    study.run(study.spent.calls + 2)  # the strategy goes on
    assert study.trials[-1].origin == "random"


def test_polish_reaches_a_target_and_stops() -> None:
    arm = bi.ready_problem("arm", differentiable=False)
    study = bi.Study.create("arm", arm, "random").run(10)
    study.polish(60)
    assert study.best.loss < 1e-6
    with pytest.raises(InvalidInputError, match="no observation to refine"):
        bi.Study.create("none", arm, "random").polish(5)


def test_one_failure_says_nothing_about_its_neighbourhood() -> None:
    problem = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), None, bi.Minimize("y"), outputs=["y"])
    study = bi.Study.create("s", problem, "sobol", seed=0)
    drawn = np.random.default_rng(0).random((20, 2))
    study.add(drawn, Y=[[float(x.sum())] for x in drawn])
    study.tell(study.ask()[0], bi.FailedError("flask dropped"), at=[0.9, 0.5])
    found = study.predict([[0.9, 0.5], [0.95, 0.5], [0.1, 0.1]]).feasible
    assert found == pytest.approx([21 / 23] * 3)


@pytest.mark.parametrize("magnitude", [1e101, 1e150, -1e200])
@pytest.mark.filterwarnings("ignore:study.*must be below:UserWarning")
def test_outputs_too_large_to_model_are_refused(magnitude: float) -> None:
    problem = bi.Problem(
        bi.Box({"x": bi.Float(0, 1)}), lambda v: magnitude * (1 + v["x"]), bi.Minimize()
    )
    study = bi.Study.create("s", problem, "random").run(5)
    with pytest.raises(bi.InvalidInputError, match=r"'y' must be below 1e\+100.*logarithm"):
        study.predict({"x": 0.5})


def test_runs_warn_once_of_outputs_too_large_to_model() -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), lambda x: 1e120 * x[0], bi.Maximize())
    with pytest.warns(UserWarning, match=r"must be below 1e\+100") as caught:
        bi.Study.create("s", problem, "random").run(8)
    assert len(caught) == 1


def test_losses_too_large_to_model_are_refused() -> None:
    objective = bi.Composite(lambda y: np.asarray(y)[..., 0] * 1e99, name="far")
    problem = bi.Problem(bi.Box([0.0], [1.0]), lambda x: 100.0 + x[0], objective, outputs=["y"])
    study = bi.Study.create("s", problem, "random").run(5)
    with pytest.raises(bi.InvalidInputError, match="'loss' must be below"):
        study.predict([[0.5]])


def test_single_outliers_are_clipped_and_named() -> None:
    problem = bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize(), outputs=["y"])
    study = bi.Study.create("s", problem)
    x = np.linspace(0.0, 1.0, 9)[:, None]
    study.add(x, [*x[:-1, 0], 1e300])
    found = study.predict(x[:2])
    assert "1 outlying values clipped" in found.about


def test_designs_outside_of_constraints_are_infeasible() -> None:
    space = bi.Box({"a": bi.Float(0, 1), "b": bi.Float(0, 1)}, constraints=["a + b <= 1"])
    problem = bi.Problem(space, lambda v: v["a"] - v["b"], bi.Minimize())
    study = bi.Study.create("s", problem, "random").run(4)
    found = study.predict([{"a": 0.1, "b": 0.1}, {"a": 0.9, "b": 0.9}])
    assert found.feasible[0] > 0.5
    assert found.feasible[1] == 0.0
    assert "1 of 2 designs cannot be evaluated" in found.notes[0]
    assert "design 1, constraint 'a + b <= 1' is violated" in str(found)
    again = type(found).from_json(found.to_json(), study.domain)
    assert again.notes == found.notes
    assert study.predict({"a": 0.1, "b": 0.1}).notes == ()
