from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.domains.box_domain import BoxDomain
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.domains.reference_measure import Reference
from bo_invert.history import History
from bo_invert.models.acquisition.linear_thompson import fit_linear_feasibility, thompson_score
from bo_invert.models.base import to_unit
from bo_invert.models.linear import spherical_gp as spherical
from bo_invert.models.linear.running_gram import RunningGram
from bo_invert.models.linear.sphere import SphereProjection, minimise_distance, minimise_linear
from bo_invert.models.linear.spherical_gp import (
    Spectrum,
    SphericalLinearGP,
    SphericalSettings,
    fit_spherical_gp,
)
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.objectives.single_output import Maximize
from bo_invert.objectives.target import Target
from bo_invert.strategies.base import Request
from bo_invert.strategies.spherical import Spherical
from bo_invert.types import Outcome, Query, State, Trial

CHARTS = [SphereProjection(4), SphereProjection(4, 0.7), SphereProjection(4, 3.0)]
each_chart = pytest.mark.parametrize("chart", CHARTS, ids=["directions", "short", "long"])


def vectors(chart: SphereProjection, points: np.ndarray) -> np.ndarray:
    """The definition, written out once more."""
    if chart.lengthscale is None:
        return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))
    z = points / (chart.lengthscale * np.sqrt(chart.dim))
    s = (z**2).sum(1, keepdims=True)
    return np.concatenate([2 * z, s - 1], axis=1) / (1 + s)


def dense(chart: SphereProjection, share: float, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(share + (1 - share) * vectors(chart, a) @ vectors(chart, b).T)


def observed(n: int = 30, d: int = 4, k: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((n, d))
    return points, np.sin(points @ rng.standard_normal((d, k))) + 3.0 + 0.1 * rng.standard_normal(
        (n, k)
    )


def given(
    chart: SphereProjection,
    share: float,
    ratios: tuple[float, ...],
    points: np.ndarray,
    values: np.ndarray,
) -> Any:
    offset, spread = values.mean(0), values.std(0)
    settings = SphericalSettings(share, chart.lengthscale, ratios)
    return SphericalLinearGP(
        chart, settings, points, (values - offset) / spread, offset, spread, None
    )


@each_chart
@pytest.mark.parametrize("n", [3, 30])
def test_posterior_is_that_of_the_dense_process(chart: SphereProjection, n: int) -> None:
    points, values = observed(n)
    model = given(chart, 0.2, (1e-3, 0.1), points, values)
    fresh = np.random.default_rng(1).standard_normal((7, 4)) * 2
    mean, variance = model.posterior(fresh)
    for j, ratio in enumerate(model.settings.ratios):
        score = (values[:, j] - values[:, j].mean()) / values[:, j].std()
        K = dense(chart, 0.2, points, points) + ratio * np.eye(n)
        cross = dense(chart, 0.2, fresh, points)
        amplitude = (score @ np.linalg.solve(K, score) + 2.0) / (n + 2.0)
        assert model.amplitudes[j] == pytest.approx(amplitude, rel=1e-8)
        expected = values[:, j].mean() + values[:, j].std() * cross @ np.linalg.solve(K, score)
        np.testing.assert_allclose(mean[:, j], expected, atol=1e-8)
        covariance = dense(chart, 0.2, fresh, fresh) - cross @ np.linalg.solve(K, cross.T)
        np.testing.assert_allclose(
            variance[:, j], amplitude * values[:, j].var() * np.diag(covariance), atol=1e-8
        )


@each_chart
@pytest.mark.parametrize("n", [4, 40])
def test_evidence_is_that_of_the_dense_process(chart: SphereProjection, n: int) -> None:
    """Compare the evidence with a dense GP up to a constant, for few and many points."""
    from scipy.stats import multivariate_normal

    points, values = observed(n)
    scores = (values - values.mean(0)) / values.std(0)
    spectrum = Spectrum(chart, points, scores)

    def expected(share: float, ratio: float, score: np.ndarray) -> float:
        K = dense(chart, share, points, points) + ratio * np.eye(n)
        amplitude = (score @ np.linalg.solve(K, score) + 2.0) / (n + 2.0)
        likelihood = multivariate_normal(cov=amplitude * K).logpdf(score)
        prior = -np.log(amplitude) - 1.0 / amplitude
        return float(likelihood + prior + 0.5 * n * np.log(2 * np.pi))

    for share, ratio in ((0.1, 1e-3), (0.7, 0.2)):
        wanted = [expected(share, ratio, score) for score in scores.T]
        np.testing.assert_allclose(
            spectrum.evidence(share, [1.0, ratio])[1], wanted, rtol=1e-8, atol=1e-7
        )


@each_chart
def test_left_out_predictions_are_those_of_refits(chart: SphereProjection) -> None:
    points, values = observed(12)
    model = given(chart, 0.1, (1e-2, 0.3), points, values)
    mean, variance = model.leave_one_out()
    for i in range(12):
        rest = np.arange(12) != i
        for j, ratio in enumerate(model.settings.ratios):
            K = dense(chart, 0.1, points[rest], points[rest]) + ratio * np.eye(11)
            cross = dense(chart, 0.1, points[i : i + 1], points[rest])[0]
            score = model.scores[rest, j]
            expected = model.offset[j] + model.spread[j] * cross @ np.linalg.solve(K, score)
            assert mean[i, j] == pytest.approx(expected, abs=1e-8)
            own = dense(chart, 0.1, points[i : i + 1], points[i : i + 1])[0, 0] + ratio
            spread = model.amplitudes[j] * model.spread[j] ** 2
            assert variance[i, j] == pytest.approx(
                spread * (own - cross @ np.linalg.solve(K, cross)), rel=1e-7
            )


@each_chart
def test_samples_have_the_posterior_mean_and_covariance(chart: SphereProjection) -> None:
    points, values = observed(6)
    model = given(chart, 0.3, (1e-2, 1e-1), points, values)
    fresh = np.random.default_rng(2).standard_normal((5, 4))
    weights = model.sample(np.random.default_rng(0), 20000)
    drawn = np.einsum("nf,qkf->qnk", chart.features(fresh), weights)
    mean, variance = model.posterior(fresh)
    deviation = np.sqrt(variance)
    assert (np.abs(drawn.mean(0) - mean) < 5 * deviation / np.sqrt(20000)).all()
    np.testing.assert_allclose(drawn.std(0), deviation, rtol=0.03)
    K = dense(chart, 0.3, points, points) + 1e-2 * np.eye(6)
    cross = dense(chart, 0.3, fresh, points)
    covariance = dense(chart, 0.3, fresh, fresh) - cross @ np.linalg.solve(K, cross.T)
    correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    np.testing.assert_allclose(np.corrcoef(drawn[:, :, 0].T), correlation, atol=0.03)
    assert abs(np.corrcoef(drawn[:, 0, 0], drawn[:, 0, 1])[0, 1]) < 0.03, "outputs are independent"


def test_localised_samples_meet_what_is_near_and_leave_what_is_far() -> None:
    points, values = observed(40, 6, 3)
    points[1] = points[0] + 0.01
    values[1] = values[0] + 0.02
    chart = SphereProjection(6)
    model = given(chart, 0.1, (0.05, 0.3, 0.3), points, values)
    sample = model.sample(np.random.default_rng(0), 1)[0]
    moved = model.condition_locally(sample, chart.features(points[:1])[0, :-1])
    before, after = (
        np.abs(chart.features(points) @ weights.T - values) for weights in (sample, moved)
    )
    np.testing.assert_allclose(after[:2], 0.0, atol=1e-3)
    assert before[:2].max() > 0.05
    far = np.argsort(vectors(chart, points) @ vectors(chart, points[:1])[0])[:10]
    assert after[far].mean() > 0.05, "the misfit of far points is left as it is"


def test_hyperparameters_follow_the_data_and_the_memo() -> None:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((200, 10))
    linear = SphereProjection(10).features(points)[:, :-1] @ rng.standard_normal(10)
    values = np.column_stack([linear, linear + linear.std() * rng.standard_normal(200)])
    model = fit_spherical_gp(points, values, directions=True)
    clean, noisy = model.settings.ratios
    assert clean == spherical.RATIOS[0]
    share = noisy * model.amplitudes[1] / model.scores[:, 1].var()
    assert 0.35 < share < 0.7, "half of the variance is noise"
    later = fit_spherical_gp(points[:209], values[:209] ** 3, model.memo, directions=True)
    assert later.settings == model.settings
    assert (
        fit_spherical_gp(points, values, {**model.memo, "n": 150}, directions=True).memo["n"] == 200
    )
    assert fit_spherical_gp(points, values[:, :1], model.memo, directions=True).memo["n"] == 200
    assert fit_spherical_gp(points, values, model.memo).settings.lengthscale is not None
    constant = fit_spherical_gp(points[:2], np.ones((2, 1)), directions=True)
    np.testing.assert_allclose(constant.posterior(points[:5])[0], 1.0)


def test_cached_sums_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    points, values = observed(200, 4, 1)
    warm = fit_spherical_gp(points[:70], values[:70], directions=True)
    warm.sample(np.random.default_rng(0), 1)
    others = [
        fit_spherical_gp(points[:n], values[:n], warm.memo, directions=True)
        for n in (71, 128, 150, 64, 200)
    ]
    seen = [model.sample(np.random.default_rng(1), 1) for model in others]
    for model, sample in zip(others, seen, strict=True):
        fresh = RunningGram()
        monkeypatch.setattr(spherical, "gram_of", fresh)
        again = SphericalLinearGP(
            model.projection,
            model.settings,
            model.points,
            model.scores,
            model.offset,
            model.spread,
            None,
        )
        np.testing.assert_array_equal(again.sample(np.random.default_rng(1), 1), sample)
        assert len(fresh.sums) == 1


def test_the_cache_of_sums_is_keyed_by_content_and_bounded() -> None:
    grams, chart = RunningGram(max_sums=2), SphereProjection(3)
    rng = np.random.default_rng(0)
    sets = [rng.standard_normal((100, 3)) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda own=own: [grams(chart, own) for _ in range(20)])
        for own in sets
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(grams.sums) <= 2
    changed = sets[-1].copy()
    changed[0, 0] += 1.0
    for points in (*sets, changed):
        for other in (chart, SphereProjection(3, 1.0)):
            rows = other.features(points)
            np.testing.assert_allclose(grams(other, points), rows.T @ rows)
            np.testing.assert_allclose(other.features_dot(points, points), rows.T @ points)


@each_chart
def test_charts_lead_back(chart: SphereProjection) -> None:
    points = np.random.default_rng(0).standard_normal((20, 4)) * 3
    lifted = chart.features(points)[:, :-1]
    np.testing.assert_allclose(np.linalg.norm(lifted, axis=1), 1.0)
    np.testing.assert_allclose(lifted, vectors(chart, points), atol=1e-12)
    back = chart.unproject(lifted)
    if chart.lengthscale is None:
        back = back * np.linalg.norm(points, axis=1, keepdims=True) / 2.0
    else:
        radius = float(np.linalg.norm(points[0]))
        assert chart.max_height(radius) == pytest.approx(lifted[0, -1])
    np.testing.assert_allclose(back, points, rtol=1e-9)


def on_cap(rng: np.random.Generator, n: int, size: int, height: float) -> np.ndarray:
    p = rng.standard_normal((n, size))
    p /= np.linalg.norm(p, axis=1, keepdims=True)
    rim = p.copy()
    rim[:, :-1] *= np.sqrt(1 - height**2) / np.linalg.norm(p[:, :-1], axis=1, keepdims=True)
    rim[:, -1] = height
    return np.concatenate([p[p[:, -1] <= height], rim]) if height < 1 else p


@pytest.mark.parametrize("height", [1.0, 0.3, -0.5])
def test_lowest_is_lower_than_any_other(height: float) -> None:
    rng = np.random.default_rng(0)
    everywhere = on_cap(rng, 100_000, 3, height)
    for _ in range(20):
        slope = rng.standard_normal(3)
        p = minimise_linear(slope, height)
        assert np.linalg.norm(p) == pytest.approx(1.0)
        assert p[-1] <= height + 1e-12
        reached = float((everywhere @ slope).min())
        assert reached - 1e-2 < slope @ p <= reached + 1e-12


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("reach", [0.1, 1.0, 10.0])
def test_nearest_is_nearer_than_any_other(k: int, reach: float) -> None:
    rng = np.random.default_rng(k)
    everywhere = on_cap(rng, 200_000, 3, 1.0)
    for _ in range(10):
        slopes, wanted, near = (
            rng.standard_normal((k, 3)),
            reach * rng.standard_normal(k),
            rng.standard_normal(3),
        )
        p = minimise_distance(slopes, wanted, near)
        assert np.linalg.norm(p) == pytest.approx(1.0, abs=1e-12)
        reached = float(((everywhere @ slopes.T - wanted) ** 2).sum(1).min())
        assert ((slopes @ p - wanted) ** 2).sum() <= reached + 1e-10


def test_nearest_in_the_hard_case() -> None:
    """Check the hard case: of several solutions with one multiplier the nearest is returned."""
    slopes, wanted = np.diag([2.0, 1.0, 0.5]), np.array([1.0, 0.2, 0.0])
    grid = on_cap(np.random.default_rng(0), 500_000, 3, 1.0)
    reached = ((grid @ slopes.T - wanted) ** 2).sum(1).min()
    up, down = (
        minimise_distance(slopes, wanted, np.array([0.0, 0.0, sign])) for sign in (1.0, -1.0)
    )
    for p in (up, down):
        assert ((slopes @ p - wanted) ** 2).sum() <= reached
        assert np.linalg.norm(p) == pytest.approx(1.0, abs=1e-12)
    np.testing.assert_allclose(up * [1, 1, -1], down)
    assert up[2] > 0.5
    # just off the hard case the answer hardly moves
    almost = minimise_distance(slopes, wanted + np.array([0, 0, 1e-9]), np.zeros(3))
    np.testing.assert_allclose(almost, up, atol=1e-6)


def test_nearest_meets_what_is_within_reach() -> None:
    rng = np.random.default_rng(0)
    slopes, near = rng.standard_normal((3, 40)), rng.standard_normal(40)
    wanted = slopes @ (0.5 * near / np.linalg.norm(near))
    p = minimise_distance(slopes, wanted, near)
    np.testing.assert_allclose(slopes @ p, wanted, atol=1e-10)
    for _ in range(20):  # other solutions lie farther from ``near``
        other = minimise_distance(slopes, wanted, rng.standard_normal(40))
        assert other @ near < p @ near
    for height in (0.3, -0.2):
        capped = minimise_distance(slopes, wanted, np.eye(40)[-1], height)
        assert capped[-1] <= height + 1e-12
        np.testing.assert_allclose(slopes @ capped, wanted, atol=1e-9)
    np.testing.assert_allclose(
        minimise_distance(np.zeros((2, 3)), np.ones(2), np.array([0, 2.0, 0])), [0, 1, 0]
    )


def regression(d: int, m: int = 1) -> Any:
    rng = np.random.default_rng(5)
    hidden, out = rng.standard_normal((d, d)) / np.sqrt(d), rng.standard_normal((d, m)) / np.sqrt(d)
    return lambda z: np.tanh(1.5 * np.atleast_2d(z) @ hidden) @ out


def trials(points: np.ndarray, y: np.ndarray, losses: np.ndarray) -> list[Trial]:
    return [
        Trial(i, Query(x), State.COMPLETED, 0, (), Outcome(State.COMPLETED, row, float(loss)))
        for i, (x, row, loss) in enumerate(zip(points, y, losses, strict=True))
    ]


def search(
    statement: ProblemStatement, f: Any, calls: int, count: int = 1, **options: Any
) -> list[Trial]:
    done: list[Trial] = []
    memo = None
    while len(done) < calls:
        request = Request(len(done), count, seed=3, budget=calls, memo=memo)
        proposal = Spherical(**options).ask(statement, done, request)
        memo = proposal.memo
        points = np.array([query.point for query in proposal.queries])
        np.testing.assert_allclose(statement.domain.project(points), points, atol=1e-9)
        y = f(points)
        whole = [*[t.point for t in done], *points]
        rows = np.concatenate([*[np.atleast_2d(t.y) for t in done], y])
        done = trials(np.array(whole), rows, statement.objective.loss(rows))
    return done


def latent(d: int, objective: Any, m: int = 1, **options: Any) -> ProblemStatement:
    outputs = tuple(f"y{i}" for i in range(m))
    domain = gaussian_domain(d, radius=np.sqrt(d) + 2.5, **options)
    return ProblemStatement("latent", domain, outputs, objective.bind(outputs))


@pytest.mark.parametrize("chart", ["directions", "stereographic"])
def test_a_large_latent_is_climbed_far_beyond_its_best_draws(chart: str) -> None:
    f = regression(100)
    found = search(latent(100, Maximize()), f, 60, count=4, chart=chart)
    draws = f(np.random.default_rng(0).standard_normal((3000, 100)))
    assert -min(t.loss for t in found) > draws.max()
    assert len({t.point.tobytes() for t in found}) == len(found)
    if chart == "directions":
        norms = [np.linalg.norm(t.point) for t in found if t.number >= 20]
        np.testing.assert_allclose(norms, 10.0)


@pytest.mark.parametrize("m", [1, 5])
def test_targets_in_a_latent_are_met(m: int) -> None:
    f = regression(60, m)
    truth = np.random.default_rng(8).standard_normal((1, 60))
    found = search(latent(60, Target(f(truth)[0]), m), f, 60)
    drawn = ((f(np.random.default_rng(0).standard_normal((60, 60))) - f(truth)) ** 2).mean(1).min()
    assert min(t.loss for t in found) < 1e-2 * drawn


def test_exploration_bounds_how_far_samples_stray() -> None:
    points, values = observed(20, 50, 2)
    model = fit_spherical_gp(points, values, directions=True)
    mean = model.mean
    for sample in model.sample(np.random.default_rng(0), 5):
        assert Spherical(exploration=None)._shorten(sample, mean) is sample
        for share in (0.0, 0.5):
            strayed = Spherical(exploration=share)._shorten(sample, mean) - mean
            allowed = share * np.linalg.norm(mean[:, :-1], axis=1)
            np.testing.assert_allclose(np.linalg.norm(strayed[:, :-1], axis=1), allowed, atol=1e-12)
        np.testing.assert_allclose(Spherical(exploration=1e6)._shorten(sample, mean), sample)


def test_a_point_that_is_known_is_not_asked_for_again() -> None:
    f = regression(20)
    statement = latent(20, Maximize())
    points = np.random.default_rng(0).standard_normal((25, 20))
    done = trials(points, f(points), -f(points)[:, 0])
    strategy = Spherical(exploration=0.0)
    queries = strategy.ask(statement, done, Request(count=3)).queries
    assert len({query.point.tobytes() for query in queries}) == 3
    pending = Trial(25, queries[0], State.RUNNING)
    following = strategy.ask(statement, [*done, pending], Request(number=1, count=1)).queries
    assert not np.allclose(following[0].point, queries[0].point)


def test_asks_are_pure_and_cope_with_failures_and_a_measured_reference() -> None:
    reference = Reference(
        np.ones(1), np.zeros((1, 30)), np.eye(30)[None], np.linspace(-60, -30, 50)
    )
    statement = latent(30, Maximize(), reference=reference)
    f = regression(30)
    points = np.random.default_rng(0).standard_normal((70, 30))
    done = trials(points, f(points), -f(points)[:, 0])
    failed = Trial(
        70, Query(np.ones(30)), State.FAILED, 0, (), Outcome(State.FAILED, reason="crashed")
    )
    asks = [
        Spherical().ask(statement, [*done, failed], Request(number=7, count=2)) for _ in range(2)
    ]
    assert asks[0].memo == asks[1].memo
    for one, other in zip(asks[0].queries, asks[1].queries, strict=True):
        np.testing.assert_array_equal(one.point, other.point)


@pytest.mark.slow
def test_constraints_and_composites_are_searched() -> None:
    problem = bi.Problem(
        bi.Box(np.full(6, -1.0), np.full(6, 1.0)),
        lambda x: {"gain": float(np.tanh(x.sum())), "load": float(x[:3].sum())},
        bi.Maximize("gain"),
        constraints=["load <= 0.5"],
    )
    study = bi.Study.create("s", problem, strategy="spherical", seed=0).run(40, batch=4)
    drawn = bi.Study.create("s", problem, strategy="prior", seed=0).run(40, batch=4)
    assert study.best is not None
    assert drawn.best is not None
    assert study.best.feasible
    assert study.best.loss < drawn.best.loss
    f = regression(30, 2)
    composite = bi.Composite(lambda y: ((y - 0.3) ** 2).sum(-1), name="distance")
    found = search(latent(30, composite, 2), f, 40, count=4)
    assert min(t.loss for t in found[12:]) < 0.5 * min(t.loss for t in found[:12])


@pytest.mark.parametrize("options", [{"chart": "flat"}, {"exploration": -1.0}, {"initial": 0}])
def test_options_are_checked(options: dict[str, Any]) -> None:
    with pytest.raises(bi.InvalidInputError, match="spherical"):
        Spherical(**options)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["half", "slab"])
def test_failures_are_learned(kind: str) -> None:
    """Check that the search leaves a failing half of the latent or all but a slab."""
    rng = np.random.default_rng(0)
    wall, slope = np.linalg.qr(rng.standard_normal((48, 2)))[0].T

    def oracle(x: np.ndarray) -> float:
        beyond = x @ wall > 0.0 if kind == "half" else abs(x @ wall) > 0.8
        if beyond:
            raise bi.InfeasibleError("beyond the wall")
        return float(x @ slope + 0.7 * x @ wall)

    problem = bi.Problem(bi.Latent(lambda z: z, dim=48), oracle, bi.Maximize())
    study = bi.Study.create("s", problem, strategy="spherical", seed=0).run(60, batch=10)
    late = [trial.state is State.INFEASIBLE for trial in study.trials[30:]]
    assert sum(late) <= 14, "more than 22 of 30 without learning"
    assert study.best is not None
    assert study.best.loss < -3.0


def test_what_fails_is_a_line_away() -> None:
    """The linear model of labels extrapolates, and is the more certain the more it saw."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((120, 20))
    fine = points[:, 0] < 0.3
    known = trials(points, np.zeros((120, 1)), np.zeros(120))
    lost = Outcome(State.INFEASIBLE, reason="beyond")
    known = [
        trial if ok else Trial(trial.number, trial.query, State.INFEASIBLE, 0, (), lost)
        for trial, ok in zip(known, fine, strict=True)
    ]
    domain = latent(20, Maximize()).domain
    fresh = rng.standard_normal((400, 20))
    scores = []
    for n in (30, 120):
        score, memo = fit_linear_feasibility(domain, History(known[:n]), None, directions=True)
        assert score is not None
        again, _ = fit_linear_feasibility(domain, History(known[:n]), memo, directions=True)
        assert again is not None
        inputs = torch.tensor(to_unit(domain, fresh))
        torch.testing.assert_close(score(inputs), again(inputs))
        chance = score(inputs).exp().numpy()
        scores.append(np.where(fresh[:, 0] < 0.3, chance, 1.0 - chance).mean())
    assert 0.6 < scores[0] < scores[1]
    assert scores[1] > 0.8
    assert (
        fit_linear_feasibility(
            domain,
            History(trials(points, np.zeros((120, 1)), np.zeros(120))),
            None,
            directions=True,
        )[0]
        is None
    )


@each_chart
def test_deviations_are_those_of_the_posterior(chart: SphereProjection) -> None:
    points, values = observed(12)
    model = given(chart, 0.1, (1e-2, 0.3), points, values)
    fresh = np.random.default_rng(2).standard_normal((5, 4))
    for j in range(2):
        norms = np.linalg.norm(chart.features(fresh) @ model.covariance_root(j), axis=1)
        np.testing.assert_allclose(norms, np.sqrt(model.posterior(fresh)[1][:, j]))


@pytest.mark.parametrize("geometry", ["box", "gaussian"])
def test_scores_see_the_features_of_the_chart(geometry: str) -> None:
    domain = gaussian_domain(4, radius=3.0) if geometry == "gaussian" else BoxDomain("box", 4, {})
    objective = Maximize().bind(("y",))
    points = domain.sample(np.random.default_rng(0), 6)
    y = np.random.default_rng(1).standard_normal((6, 1))
    outputs = ModelledOutputs(ProblemStatement("p", domain, ("y",), objective), y, -y[:, 0])
    for chart in CHARTS:
        weights = np.random.default_rng(2).standard_normal((1, chart.size + 1))
        score = thompson_score(weights, chart, outputs, None)(
            torch.tensor(to_unit(domain, points))
        ).numpy()
        expected = chart.features(domain.centred(points)) @ weights[0]
        np.testing.assert_allclose(score * y.std(ddof=1), expected)
