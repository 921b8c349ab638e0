"""Tests of diagnostics and prediction intervals."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.models import prediction_intervals
from bo_invert.models.base import MAX_INDEPENDENT_OUTPUTS
from bo_invert.models.diagnostics import Forecasts, diagnose, forecast, leave_one_out
from bo_invert.models.gp.hyperparameter_fit import EXACT, NOISY
from bo_invert.models.gp.model_selection import ModelSearchSpace
from bo_invert.models.gp.output_warp import Warp
from bo_invert.models.gp.posterior import condition
from bo_invert.models.gp.surrogate import Surrogate, fit_surrogate
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.models.prediction_intervals import (
    IntervalCoverage,
    interval_coverage,
    predict_intervals,
)
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.types import Outcome, Query, State, Trial

RNG = np.random.default_rng


def bowl(outputs: int = 1, **options: Any) -> bi.Problem:
    slopes = RNG(0).random(outputs)

    def f(x: Any) -> Any:
        return ((x - 0.3) ** 2).sum() + x[0] * slopes

    names = ["y"] if outputs == 1 else [f"y{j}" for j in range(outputs)]
    objective = options.pop("objective", bi.Minimize())
    return bi.Problem(
        bi.Box([0.0] * 2, [1.0] * 2), bi.Function(f, outputs=names), objective, **options
    )


def test_forecasts_of_the_right_model_are_calibrated() -> None:
    rng = RNG(1)
    centre, std = rng.normal(size=(4000, 2)), np.exp(rng.normal(size=(4000, 2)))
    forecasts = Forecasts(("a", "b"), centre + std * rng.standard_normal((4000, 2)), centre, std)
    assert forecasts.coverage(0.9) == pytest.approx([0.9, 0.9], abs=0.02)
    assert forecasts.coverage(0.5) == pytest.approx([0.5, 0.5], abs=0.03)
    assert forecasts.z.std(0) == pytest.approx([1.0, 1.0], abs=0.03)
    low, high = forecasts.interval(0.9)
    inside = (low <= forecasts.values) & (forecasts.values <= high)
    assert (inside.mean(0) == forecasts.coverage(0.9)).all()
    shy = Forecasts(("a", "b"), forecasts.values, centre, 2.0 * std)
    assert (shy.log_density < forecasts.log_density).all()


def test_a_warped_forecast_is_a_density() -> None:
    one = torch.tensor([1.0], dtype=torch.float64)
    warp = Warp(one, 2.0 * one, 0.5 * one)
    grid = np.linspace(-60.0, 5000.0, 400_001)[:, None]
    at = np.full_like(grid, 3.0), np.full_like(grid, 1.2)
    forecasts = Forecasts(("y",), grid, *at, warp)
    density = np.exp(
        [
            Forecasts(("y",), grid[i : i + 1], at[0][:1], at[1][:1], warp).log_density[0]
            for i in (0, 9000)
        ]
    )
    normal = -0.5 * forecasts.z**2 - np.log(1.2) - 0.5 * math.log(2.0 * math.pi)
    everywhere = np.exp(normal[:, 0] + warp.log_slope(torch.tensor(grid)).numpy()[:, 0])
    assert density == pytest.approx(everywhere[[0, 9000]])
    assert np.trapezoid(everywhere, grid[:, 0]) == pytest.approx(1.0, abs=1e-3)
    low, high = (float(end[0, 0]) for end in forecasts.interval(0.9))
    held = (grid[:, 0] >= low) & (grid[:, 0] <= high)
    assert np.trapezoid(everywhere[held], grid[held, 0]) == pytest.approx(0.9, abs=1e-3)
    assert low < float(forecasts.median[0, 0]) < high


def test_leave_one_out_forecasts_equal_refits() -> None:
    rng = RNG(2)
    x = rng.random((12, 2))
    y = np.column_stack([np.sin(5 * x[:, 0]) * 7 + 3, x[:, 1] ** 2]) + 0.1 * rng.standard_normal(
        (12, 2)
    )
    surrogate = fit_surrogate(x, y, search_space=ModelSearchSpace(noise_priors=(NOISY,)))
    forecasts = leave_one_out(surrogate, y, ("a", "b"))
    process, spread = surrogate.gp, surrogate.weights.diagonal()
    for i in (0, 7):
        others = np.arange(12) != i
        scores = ((torch.tensor(y) - surrogate.offset) / spread)[others]
        rest = condition(
            process.kernel,
            process.log_lengthscales,
            process.noise[:, 0],
            process.inputs[others],
            scores,
            process.constant,
        )
        mean, variance = rest(process.inputs[i : i + 1])
        assert forecasts.centre[i] == pytest.approx((mean[0] * spread + surrogate.offset).numpy())
        assert forecasts.std[i] == pytest.approx(
            ((variance[0] + process.noise[:, 0]).sqrt() * spread).numpy()
        )


def test_components_are_scored_in_units_of_the_outputs() -> None:
    x = RNG(3).random((30, 2))
    y = np.sin(3.0 * x[:, :1] + np.linspace(0.0, 3.0, 40)) * np.linspace(1.0, 100.0, 40)
    surrogate = fit_surrogate(x[:20], y[:20])
    forecasts = forecast(surrogate, x[20:], y[20:])
    assert forecasts.values.shape == (10, 40)
    assert (forecasts.explained > 0.99).all()
    assert (forecasts.rmse < 0.1 * np.linspace(1.0, 100.0, 40)).all()
    words = str(forecasts)
    assert "worst of 40" in words
    assert f"of {40} outputs" in words
    assert len(words.splitlines()) < 20


def test_diagnose_a_study() -> None:
    study = bi.Study.create("a", bowl(2, objective=bi.Target([0.2, 0.3]), name="bowl"), "sobol")
    study.run(2)
    with pytest.raises(bi.InvalidInputError, match="at least 3"):
        diagnose(study.statement, study.trials)
    study.run(25)
    forecasts = diagnose(study.statement, study.trials)
    assert forecasts.names == study.statement.outputs
    assert (forecasts.explained > 0.999).all()
    assert "rbf" in str(forecasts)
    assert all(name in str(forecasts) for name in forecasts.names)


def test_diagnose_detects_unpredictable_outputs() -> None:
    points, noise = RNG(3).random((25, 2)), RNG(4).standard_normal(25)
    trials = [
        Trial(
            i,
            Query(point),
            State.COMPLETED,
            outcome=Outcome(State.COMPLETED, noise[i : i + 1], noise[i]),
        )
        for i, point in enumerate(points)
    ]
    forecasts = diagnose(bowl().statement, trials)
    assert forecasts.explained[0] < 0.5
    assert 0.7 <= forecasts.coverage(0.9)[0] <= 1.0


def completed(number: int, note: Any, y: Any, loss: float = 0.0) -> Trial:
    query = Query(np.zeros(2), meta=note)
    return Trial(
        number, query, State.COMPLETED, outcome=Outcome(State.COMPLETED, np.atleast_1d(y), loss)
    )


def surrogate_of(
    statement: ProblemStatement, seed: int = 5, n: int = 8
) -> tuple[Surrogate, ModelledOutputs]:
    rng = RNG(seed)
    y = rng.standard_normal((n, len(statement.outputs)))
    outputs = ModelledOutputs(statement, y, np.asarray(statement.objective.loss(y)))
    return fit_surrogate(
        rng.random((n, 2)),
        outputs.values,
        search_space=ModelSearchSpace(noise_priors=(EXACT,)),
    ), outputs


def test_initial_intervals_are_wider_towards_bad_values() -> None:
    statement = bowl().statement
    surrogate, outputs = surrogate_of(statement)
    inputs = RNG(6).random((3, 2))
    notes = predict_intervals(surrogate, outputs, statement, [], inputs)
    forecasts = forecast(surrogate, inputs, np.zeros((3, 1)))
    low, high = forecasts.interval(0.9)
    for i, note in enumerate(notes):
        assert json.loads(json.dumps(note)) == note
        below, middle, above = note["foretold"]["y"]
        assert middle - below == pytest.approx(1.5 * (middle - low[i, 0]))
        assert middle == pytest.approx(forecasts.median[i, 0])
        assert above - middle == pytest.approx(3.0 * (high[i, 0] - middle))


def test_a_missed_end_widens_and_the_other_shrinks() -> None:
    statement = bowl().statement
    surrogate, outputs = surrogate_of(statement)
    at = np.full((1, 2), 0.5)

    def intervals(trials: list[Trial]) -> tuple[float, float]:
        low, middle, high = predict_intervals(surrogate, outputs, statement, trials, at)[0][
            "foretold"
        ]["y"]
        return middle - low, high - middle

    below, above = intervals([])
    interval = {"foretold": {"y": [-1.0, 0.0, 1.0]}}
    stretched, shortened = intervals([completed(0, interval, -2.0)])
    assert stretched == pytest.approx(below * math.exp(0.7 * 0.95))
    assert shortened == pytest.approx(above * math.exp(-0.7 * 0.05))
    open_one = Trial(0, Query(np.zeros(2), meta=interval), State.RUNNING)
    assert intervals([open_one, completed(1, {}, 9.0), completed(2, {"design": 3}, 9.0)]) == (
        below,
        above,
    )


@pytest.mark.parametrize("wrong", [0.2, 1.0, 8.0])
def test_long_run_coverage_is_nominal_for_any_model(wrong: float) -> None:
    statement = bowl().statement
    surrogate, outputs = surrogate_of(statement)
    rng = RNG(7)
    trials: list[Trial] = []
    for number in range(300):
        x = rng.random((1, 2))
        predicted = forecast(surrogate, x, np.zeros((1, 1)))
        came = predicted.centre[0] + wrong * predicted.std[0] * (rng.standard_normal() + 0.5)
        trials.append(
            completed(number, predict_intervals(surrogate, outputs, statement, trials, x)[0], came)
        )
    known = interval_coverage(statement, trials)["y"]
    assert known.below + known.inside + known.above == 300
    assert 0.86 <= known.coverage <= 0.94
    assert interval_coverage(statement, trials[200:])["y"].coverage == pytest.approx(0.9, abs=0.07)


def test_a_selection_of_many_outputs_is_predicted() -> None:
    problem = bowl(201, objective=bi.Target([0.2] * 201))
    surrogate, outputs = surrogate_of(problem.statement, n=20)
    intervals = predict_intervals(surrogate, outputs, problem.statement, [], np.zeros((1, 2)))[0][
        "foretold"
    ]
    assert len(intervals) == MAX_INDEPENDENT_OUTPUTS
    assert {problem.statement.outputs[0], problem.statement.outputs[-1]} <= set(intervals)


def test_a_modelled_loss_is_predicted() -> None:
    problem = bowl(2, objective=bi.Composite(lambda y: np.abs(np.asarray(y)).max(-1)))
    surrogate, outputs = surrogate_of(problem.statement)
    assert outputs.modelled_losses
    note = predict_intervals(surrogate, outputs, problem.statement, [], np.zeros((1, 2)))[0]
    assert list(note["foretold"]) == ["loss"]
    low, _, high = note["foretold"]["loss"]
    assert (
        interval_coverage(problem.statement, [completed(0, note, [0.0, 0.0], low - 1.0)])[
            "loss"
        ].below
        == 1
    )
    assert (
        interval_coverage(problem.statement, [completed(0, note, [0.0, 0.0], high + 1.0)])[
            "loss"
        ].above
        == 1
    )


@pytest.mark.parametrize("strategy", ["gp", "turbo"])
def test_queries_hold_prediction_intervals(strategy: str) -> None:
    study = bi.Study.create("a", bowl(), strategy, initial=5)
    study.run(13, batch=2)
    designed = [trial for trial in study.trials if "design" in trial.query.meta]
    assert len(designed) >= 5
    assert not any("foretold" in trial.query.meta for trial in designed)
    rest = [trial for trial in study.trials if "design" not in trial.query.meta]
    assert all(len(trial.query.meta["foretold"]["y"]) == 3 for trial in rest)
    known = interval_coverage(study.statement, study.trials)["y"]
    assert known.below + known.inside + known.above == len(rest) > 0


def test_former_names_are_deprecated() -> None:
    for name, now in {"record": interval_coverage, "Record": IntervalCoverage}.items():
        with pytest.warns(DeprecationWarning, match=now.__name__):
            assert getattr(prediction_intervals, name) is now
    with pytest.raises(AttributeError, match="nothing"):
        getattr(prediction_intervals, "nothing")  # noqa: B009
