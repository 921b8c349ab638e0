"""Tests of pCN: prior invariance, calibrated probabilities and plausible queries."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp, kstest, multivariate_normal

import bo_invert as bi
from bo_invert.models.acquisition.acquisition_data import AcquisitionData
from bo_invert.models.acquisition.probability_of_improvement import log_probability_of_improvement
from bo_invert.models.design_features import principal_components
from bo_invert.models.gp.surrogate import Surrogate, fit_surrogate
from bo_invert.models.optim.pcn_sampler import sample_pcn
from bo_invert.models.output_transforms import ModelledOutputs
from bo_invert.objectives.problem_statement import ProblemStatement
from bo_invert.strategies.base import Request, from_spec
from bo_invert.strategies.pcn import _ChordCoordinates
from bo_invert.types import Array


def flat(z: Array) -> Array:
    return np.zeros(len(z))


@pytest.mark.parametrize("start", ["prior", "one point"])
def test_a_flat_likelihood_leaves_the_prior(start: str) -> None:
    rng = np.random.default_rng(0)
    here = rng.standard_normal((3000, 6)) if start == "prior" else np.full((3000, 6), 2.0)
    z = sample_pcn(flat, here, rng, steps=40)
    assert kstest((z**2).sum(1), "chi2", args=(6,)).pvalue > 1e-3
    np.testing.assert_allclose(z.mean(0), 0.0, atol=0.1)
    np.testing.assert_allclose(np.cov(z.T), np.eye(6), atol=0.12)


def test_walks_sample_the_posterior() -> None:
    """A normal likelihood at 2 with deviation 1/2 makes N(1.6, 0.2) of the first coordinate."""
    rng = np.random.default_rng(1)
    z = sample_pcn(
        lambda z: -2.0 * (z[:, 0] - 2.0) ** 2, rng.standard_normal((3000, 4)), rng, steps=80
    )
    assert abs(z[:, 0].mean() - 1.6) < 0.05
    assert abs(z[:, 0].var() - 0.2) < 0.03
    assert abs(z[:, 1:].var() - 1.0) < 0.06


def test_walks_leave_forbidden_places_and_never_return() -> None:
    rng = np.random.default_rng(2)
    z = sample_pcn(
        lambda z: np.where(z[:, 0] > 0, 0.0, -np.inf), rng.standard_normal((500, 3)), rng, steps=80
    )
    assert (z[:, 0] > 0).all()


def test_appearance_keeps_distances() -> None:
    rng = np.random.default_rng(3)
    draws, turn = rng.standard_normal((200, 3)), rng.standard_normal((3, 50))
    seen = principal_components(lambda z: 7.0 + z @ turn, draws, explained_share=1.0)
    assert seen is not None
    inputs = seen(draws)
    assert inputs.shape == (200, 3)
    assert ((inputs > 0) & (inputs < 1)).mean() > 0.99
    apart = np.linalg.norm(inputs[:100] - inputs[100:], axis=1)
    truly = np.linalg.norm((draws[:100] - draws[100:]) @ turn, axis=1)
    np.testing.assert_allclose(apart / truly, apart[0] / truly[0])
    assert seen(draws[:0]).shape == (0, 3)
    assert principal_components(lambda z: np.ones((len(z), 4)), draws) is None


def statement_of(
    objective: bi.Objective, outputs: tuple[str, ...] = ("y",), constraints: tuple = ()
) -> ProblemStatement:
    space = bi.Latent(lambda z: z, dim=2)
    return bi.Problem(space, None, objective, outputs=outputs, constraints=constraints).statement


def believed(
    statement: ProblemStatement, y: Array, x: Array
) -> tuple[Surrogate, ModelledOutputs, AcquisitionData]:
    losses = np.asarray(statement.objective.loss(y), dtype=float)
    excess = np.array([[float(c.excess(row)) for c in statement.constraints] for row in y]).reshape(
        len(y), -1
    )
    outputs = ModelledOutputs(statement, y, losses)
    known = AcquisitionData(losses, (excess <= 0).all(1), np.empty((0, 2)))
    return fit_surrogate(x, outputs.values), outputs, known


def test_probability_in_closed_form_and_sampled_agree() -> None:
    rng = np.random.default_rng(4)
    x = rng.random((12, 2))
    y = np.column_stack([np.sin(5 * x[:, 0]) + x[:, 1], x[:, 0]])
    at = torch.tensor(rng.random((200, 2)))
    limits = ("b <= 0.6",)
    plain = believed(statement_of(bi.Minimize("a"), ("a", "b"), limits), y, x)
    sampled = believed(statement_of(bi.Composite(lambda y: y[..., 0]), ("a", "b"), limits), y, x)
    closed = log_probability_of_improvement(*plain, seed=0)(at).exp()
    counted = log_probability_of_improvement(*sampled, seed=0, samples=1024)(at).exp()
    assert plain[1].loss_column is not None
    assert sampled[1].loss_column is None
    assert closed.max() > 0.2
    np.testing.assert_allclose(closed, counted, atol=0.02)
    free = log_probability_of_improvement(
        *believed(statement_of(bi.Minimize("a"), ("a", "b")), y, x), seed=0
    )(at).exp()
    beyond = at[:, 0] > 0.75
    assert closed[beyond].max() < 0.05
    assert free[beyond].max() > 0.2


def observed(problem: bi.Problem, strategy: str, n: int, seed: int = 0) -> bi.Study:
    study = bi.Study.create("s", problem, strategy=strategy, seed=seed)
    points = problem.space.sample(np.random.default_rng(seed), n)
    study.add(points=points, Y=[problem.evaluate([bi.Query(point)])[0].y for point in points])
    return study


def test_queries_concentrate_where_improvement_is_likely() -> None:
    goal = np.array([1.2, -0.8, 0.0])
    problem = bi.Problem(
        bi.Latent(lambda z: z, dim=3), lambda x: float(((x - goal) ** 2).sum()), bi.Minimize()
    )
    study = observed(problem, "pcn", 30)
    proposed = [trial.point for trial in study.ask(8)]
    best = study.best.loss
    losses = [problem.evaluate([bi.Query(point)])[0].loss for point in proposed]
    drawn = [
        problem.evaluate([bi.Query(p)])[0].loss
        for p in problem.space.sample(np.random.default_rng(9), 200)
    ]
    assert np.median(losses) < np.quantile(drawn, 0.1)
    assert min(losses) < best
    assert len({tuple(point) for point in proposed}) == 8


@pytest.mark.slow
def test_queries_keep_to_a_measured_reference() -> None:
    """Check that queries stay on a thin ring of codes while the loss falls off it."""
    rng = np.random.default_rng(5)
    angle = rng.uniform(0, 2 * np.pi, 2000)
    codes = np.column_stack([np.cos(angle), np.sin(angle)]) * (
        1 + 0.03 * rng.standard_normal((2000, 1))
    )
    space = bi.Latent(lambda z: z, dim=2, codes=codes)
    problem = bi.Problem(space, lambda x: float(x @ x + x[0]), bi.Minimize(), realism=None)
    walked, greedy = (
        observed(problem, name, 12).run(9, batch=3).trials[12:] for name in ("pcn", "gp")
    )
    dense, sparse = (
        space.domain.reference.log_density(np.array([t.point for t in s])) for s in (walked, greedy)
    )
    lowest = space.domain.reference.quantiles[0]
    assert np.median(dense) > lowest - 5.0
    assert np.median(sparse) < lowest - 15.0


def test_designs_are_compared_where_they_can_be_seen() -> None:
    """The oracle sees one of 30 latent directions: in designs, a few points tell it all."""
    d, rng = 30, np.random.default_rng(6)
    direction = rng.standard_normal(d) / np.sqrt(d)

    def decode(z: Array) -> Array:
        return np.tanh(z @ direction)[:, None] * np.ones((1, 4)) + 0.001 * z[:, :4]

    problem = bi.Problem(bi.Latent(decode, dim=d), lambda x: float(x.mean()), bi.Target(0.5))
    assert problem.statement.features is not None
    proposals = {}
    for kind in ("design", "latent"):
        study = observed(problem, "pcn", 20)
        request = Request(0, 4, 0, 100)
        strategy = from_spec("pcn", surrogate=kind)
        queries = strategy.ask(problem.statement, study.trials, request).queries
        proposals[kind] = np.median([outcome.loss for outcome in problem.evaluate(queries)])
    assert proposals["design"] < 0.2 * proposals["latent"]


def test_without_features_points_are_compared() -> None:
    problem = bi.Problem(
        bi.Latent(lambda z: z, dim=2), lambda x: float(x @ x), bi.Minimize(), name="plain"
    )
    study = observed(problem, "pcn", 8)
    blind = dataclasses.replace(problem.statement, features=None)
    assert from_spec("pcn").ask(blind, study.trials, Request(0, 2)).queries
    with pytest.raises(bi.UnsuitableStrategyError, match=r"'pcn' .*'plain'.*surrogate='latent'"):
        from_spec("pcn", surrogate="design").check(blind)
    words = bi.Latent(lambda z: [f"{row[0]:.1f}" for row in z], dim=2)
    assert words.features is None
    with pytest.raises(bi.InvalidInputError, match="surrogate must be one of"):
        from_spec("pcn", surrogate="both")


def test_what_cannot_be_evaluated_is_avoided() -> None:
    def oracle(x: Array) -> float:
        if x[0] > 0:
            raise bi.InfeasibleError("too far right")
        return float(x[1])

    problem = bi.Problem(bi.Latent(lambda z: z, dim=2), oracle, bi.Minimize())
    late = [
        trial.state is bi.State.COMPLETED
        for seed in range(2)
        for trial in bi.Study.create("s", problem, "pcn", seed=seed).run(44, batch=4).trials[24:]
    ]
    assert np.mean(late) > 0.7


def test_density_ratio_is_that_of_the_reference() -> None:
    from bo_invert.strategies.pcn import _NormalCoordinates

    space = bi.Latent(
        lambda z: z, dim=2, codes=np.random.default_rng(7).standard_normal((400, 2)) ** 3
    )
    z = space.sample(np.random.default_rng(8), 50)
    expected = space.domain.reference.log_density(z) - multivariate_normal(np.zeros(2)).logpdf(z)
    ratio = _NormalCoordinates(space.domain).log_ratio(z) - expected
    np.testing.assert_allclose(ratio, ratio[0])
    assert np.isneginf(_NormalCoordinates(space.domain).log_ratio(np.array([[50.0, 0.0]]))).all()


def test_chord_steps_keep_the_uniform_prior() -> None:
    """Chords are straight in values, and the prior is uniform in coordinates of the log scale."""
    parameters = {"a": bi.Float(1e-2, 1, log=True), "b": bi.Float(0, 1), "c": bi.Float(0, 1)}
    domain = bi.Box(parameters, constraints="a + b + c <= 1").domain
    rng = np.random.default_rng(0)
    normal = _ChordCoordinates(domain)
    start = np.repeat(normal.draws(rng, 1), 1500, axis=0)
    ends = sample_pcn(
        normal.log_ratio, start, rng, steps=150,
        propose=lambda z, b, own: domain.draws.chord_steps(own, z, b),
    )  # fmt: skip
    box = rng.random((8000, 3))
    prior = box[0.01 ** (1.0 - box[:, 0]) + box[:, 1] + box[:, 2] <= 1.0]
    for found, expected in zip(normal.points(ends).T, prior.T, strict=True):
        assert ks_2samp(found, expected).pvalue > 1e-3


@pytest.mark.parametrize(
    "constraints",
    [
        ["a + b + c == 1", "a <= 2 b"],
        ["a + b + n == 2", "o + n >= 3"],
        [bi.AtMost(2, of=["a", "b", "c", "n"]), "a + b + c <= 1"],
        [bi.Exactly(2, of=["a", "b", "c"]), "a + b + c + n == 2"],
        ["a + b == 1", bi.Feasible(lambda v: v["c"] > 0.5 * v["a"])],
    ],
    ids=["mixture", "integers", "count", "count and integers", "function"],
)  # fmt: skip
def test_chains_stay_inside_constraints(constraints: list[object]) -> None:
    parameters = {
        "a": bi.Float(0, 1), "b": bi.Float(0, 1), "c": bi.Float(0, 1), "n": bi.Int(0, 4),
        "o": bi.Choice(1, 2, 4, ordered=True), "s": bi.Choice("u", "v"),
    }  # fmt: skip
    domain = bi.Box(parameters, constraints=constraints).domain
    normal, rng = _ChordCoordinates(domain), np.random.default_rng(1)
    start = normal.draws(rng, 200)
    ends = sample_pcn(normal.log_ratio, start, rng, steps=40, propose=normal.propose)
    points = normal.points(ends)
    assert domain.satisfied(points).all()
    # Chains move, and they also reach other discrete values.
    assert (ends != start).any(axis=1).mean() > 0.95
    others = np.flatnonzero(~domain.feasible.real_columns)
    assert (points != normal.points(start))[:, others].any(axis=1).mean() > 0.2
