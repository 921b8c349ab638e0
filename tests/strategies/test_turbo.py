from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.domains.box_domain import BoxDomain
from bo_invert.history import History
from bo_invert.models import fitted_model
from bo_invert.models.acquisition.thompson_sample_paths import thompson_scores
from bo_invert.models.gp.surrogate import fit_surrogate
from bo_invert.models.optim.local_search import TrustRegion, trust_region_sides
from bo_invert.models.optim.trust_region import INITIAL_LENGTH, MIN_LENGTH, TrustRegionState
from bo_invert.strategies.base import Request
from bo_invert.strategies.turbo import Turbo
from bo_invert.types import Array, Outcome, Query, State, Trial

SQUARE = BoxDomain("box", 2, {})
MIXED = bi.Box(
    {"n": bi.Int(1, 9), "r": bi.Float(0.0, 1.0), "kind": bi.Choice("a", "b", "c")}
).domain


class Book:
    """A log written by hand."""

    def __init__(self) -> None:
        self.trials: list[Trial] = []
        self.asks = 0

    def foreign(self, point: Sequence[float], loss: float, violation: float = 0.0) -> Book:
        return self._add([(point, loss)], "user", {}, None, violation)

    def design(self, region: int, *outcomes: tuple[Sequence[float], float | None]) -> Book:
        return self._ask(outcomes, {"region": region, "design": 0})

    def region(
        self, number: int, *losses: float | None, point: Sequence[float] = (0.1, 0.1)
    ) -> Book:
        """One ask: a loss for each query; None while its outcome is open."""
        return self._ask([(point, loss) for loss in losses], {"region": number})

    def trust(self) -> TrustRegionState:
        return TrustRegionState(History(self.trials), SQUARE, "turbo")

    def _ask(
        self, outcomes: Sequence[tuple[Sequence[float], float | None]], meta: dict[str, int]
    ) -> Book:
        self.asks += 1
        return self._add(outcomes, "turbo", meta, self.asks, 0.0)

    def _add(
        self, outcomes: Any, origin: str, meta: dict[str, int], ask: int | None, violation: float
    ) -> Book:
        for point, loss in outcomes:
            outcome = (
                None
                if loss is None
                else Outcome(State.COMPLETED, np.array([loss]), loss, violation)
            )
            state = State.RUNNING if loss is None else State.COMPLETED
            query = Query(np.array(point), origin=origin, meta=meta)
            self.trials.append(Trial(len(self.trials), query, state, ask, outcome=outcome))
        return self


def started() -> Book:
    return Book().foreign([0.1, 0.1], 10.0).foreign([0.9, 0.9], 12.0)


def test_three_successes_in_a_row_double_the_region() -> None:
    book = started().region(0, 9.0).region(0, 8.0)
    assert book.trust().length == INITIAL_LENGTH
    assert book.region(0, 7.0).trust().length == 2 * INITIAL_LENGTH


def test_a_batch_succeeds_or_fails_as_one() -> None:
    book = started()
    for loss in (9.0, 8.0, 7.0):
        book.region(0, 20.0, loss, 30.0)
    assert book.trust().length == 2 * INITIAL_LENGTH


def test_as_many_failed_calls_as_dimensions_at_least_four_halve_it() -> None:
    book = started().region(0, 11.0).region(0, 11.0, 11.0)
    assert book.trust().length == INITIAL_LENGTH
    assert book.region(0, 11.0).trust().length == INITIAL_LENGTH / 2


def test_a_tiny_improvement_is_none() -> None:
    book = started().region(0, 11.0, 9.9999999, 11.0, 11.0)
    assert book.trust().length == INITIAL_LENGTH / 2
    assert book.trust().best == 3, "and is the best point all the same"


def test_lengths_do_not_depend_on_the_level_of_the_loss() -> None:
    def lengths(level: float) -> list[float]:
        book, found = Book().foreign([0.1, 0.1], 10.0 + level), []
        for loss in (9.0, 8.99, 8.98, 8.5, 8.0, 9.0, 9.0, 7.0, 9.0, 9.0):
            found.append(book.region(0, loss + level).trust().length)
        return found

    assert lengths(0.0) == lengths(-1e5)


def test_open_trials_say_nothing_yet() -> None:
    book = started().region(0, 11.0, 11.0, 11.0).region(0, None, None)
    assert book.trust().length == INITIAL_LENGTH


def test_points_of_others_move_the_centre_but_are_no_success() -> None:
    book = started().region(0, 9.0).region(0, 8.0).foreign([0.5, 0.5], 1.0)
    trust = book.trust()
    assert (trust.best, trust.length) == (4, INITIAL_LENGTH)
    assert book.region(0, 2.0).trust().length == INITIAL_LENGTH, (
        "worse than the point of others: it failed"
    )


def test_feasible_comes_before_good() -> None:
    book = Book().foreign([0.1, 0.1], 1.0, violation=2.0).foreign([0.5, 0.5], 5.0)
    assert book.trust().best == 1
    infeasible = (
        Book().foreign([0.1, 0.1], 1.0, violation=2.0).foreign([0.5, 0.5], 5.0, violation=1.0)
    )
    assert infeasible.trust().best == 1
    for loss in (9.0, 8.0, 7.0):
        infeasible.region(0, loss)
    assert infeasible.trust().length == 2 * INITIAL_LENGTH, (
        "what is feasible improves, whatever its loss"
    )


def exhausted() -> Book:
    book = started()
    while book.trust().length >= MIN_LENGTH:
        book.region(0, *[11.0] * 4)
    return book


def test_a_new_region_keeps_away_from_where_the_last_one_ended() -> None:
    book = exhausted()
    trust = book.trust()
    trust.restart(1, with_design=True)
    assert trust.length == INITIAL_LENGTH
    assert trust.best == 1, "the best of those far from (0.1, 0.1)"
    book.design(1, ([0.12, 0.1], 15.0), ([0.8, 0.2], 11.5))
    trust = book.trust()
    assert (trust.number, trust.design_points, trust.length) == (1, 2, INITIAL_LENGTH)
    assert trust.best == len(book.trials) - 1
    assert not trust.eligible[0]
    assert trust.eligible[-2], "its own design counts wherever it lies"


def test_a_region_without_a_design_lies_around_the_best() -> None:
    trust = exhausted().trust()
    trust.restart(1, with_design=False)
    assert trust.best == 0


def test_marks_are_facts() -> None:
    """Check that late outcomes neither undo a restart nor move the new region."""
    book = started().design(1, ([0.9, 0.1], 11.0))
    assert book.trust().number == 1
    for loss in (5.0, 4.0, 3.0):
        book.region(0, loss)
    trust = book.trust()
    assert (trust.number, trust.length) == (1, INITIAL_LENGTH)


def logs(*lengthscales: float) -> np.ndarray:
    return np.log([lengthscales])


def test_looks_stay_in_the_region_and_in_few_coordinates() -> None:
    domain = BoxDomain("box", 100, {})
    region = TrustRegion(domain, np.full(100, 0.05), np.full(100, 0.2))
    looks = region.sample(np.random.default_rng(0), 200)
    assert looks.min() >= 0.0
    assert looks.max() <= 0.15 + 1e-12
    changed = (looks != 0.05).sum(1)
    assert changed.min() >= 1
    assert 15 < changed.mean() < 25


def test_sides_follow_the_lengthscales_within_reason() -> None:
    lengths = trust_region_sides(SQUARE, 0.4, logs(1.0, 4.0))
    assert lengths[1] / lengths[0] == pytest.approx(4.0)
    assert np.prod(lengths) ** 0.5 == pytest.approx(0.4)
    wild = trust_region_sides(SQUARE, 0.4, logs(0.01, 1000.0))
    assert wild[0] >= 0.1
    assert wild[1] <= 1.6


def test_small_regions_still_change_whole_numbers_and_choices() -> None:
    centre = MIXED.encode([{"n": 5, "r": 0.5, "kind": "b"}])[0]
    region = TrustRegion(
        MIXED, centre, trust_region_sides(MIXED, 0.01, logs(1.0, 1.0, 1.0, 1.0, 1.0))
    )
    values = MIXED.values(region.sample(np.random.default_rng(0), 300))
    assert {row["n"] for row in values} == {4, 5, 6}
    assert {row["kind"] for row in values} == {"a", "b", "c"}
    assert max(abs(row["r"] - 0.5) for row in values) < 0.02


def test_gradients_find_the_best_in_the_region_and_no_better() -> None:
    region = TrustRegion(SQUARE, np.array([0.3, 0.3]), np.array([0.2, 0.2]))
    targets = torch.tensor([[0.33, 0.27], [0.9, 0.3]], dtype=torch.float64)

    def scores(inputs: torch.Tensor) -> torch.Tensor:
        return -((inputs - targets.unsqueeze(1)) ** 2).sum(-1)

    first, second = region.rank(scores, region.sample(np.random.default_rng(0), 50), refined=2)
    np.testing.assert_allclose(first[0], [0.33, 0.27], atol=1e-4)
    np.testing.assert_allclose(second[0], [0.4, 0.3], atol=1e-4)


def test_drawn_scores_rank_the_feasible_first() -> None:
    problem = bi.Problem(
        bi.Box([0.0, 0.0], [1.0, 1.0]),
        lambda x: {"cost": float(x.sum()), "room": float(x[0])},
        bi.Minimize("cost"),
        outputs=["cost", "room"],
        constraints=["room >= 0.5"],
    )
    from bo_invert.models.output_transforms import ModelledOutputs

    inputs = np.random.default_rng(0).random((30, 2))
    y = np.stack([inputs.sum(1), inputs[:, 0]], 1)
    outputs = ModelledOutputs(problem.statement, y, y[:, 0])
    scores = thompson_scores(fit_surrogate(inputs, outputs.values), outputs, 3, seed=0)
    found = scores(
        torch.tensor([[0.9, 0.9], [0.6, 0.1], [0.4, 0.1], [0.1, 0.1]], dtype=torch.float64)
    )
    assert found.shape == (3, 4)
    assert (found.argsort(1, descending=True) == torch.tensor([1, 0, 2, 3])).all()


def bowl(x: Array) -> float:
    return float(((x - 0.3) ** 2).sum())


@pytest.mark.parametrize("acquisition", ["thompson", "ei"])
@pytest.mark.slow
def test_finds_the_bottom_of_a_bowl(acquisition: str) -> None:
    problem = bi.Problem(bi.Box([0.0] * 4, [1.0] * 4), bowl, bi.Minimize())
    study = bi.Study.create(
        "s", problem, strategy=Turbo(acquisition=acquisition, kernel="matern"), seed=0
    )
    study.run(32, batch=4)
    assert study.best is not None
    assert study.best.loss is not None
    assert study.best.loss < 1e-3
    points = np.array([trial.point for trial in study.trials])
    assert len(np.unique(points, axis=0)) == len(points)


@pytest.mark.slow
def test_starts_again_far_away_when_nothing_improves() -> None:
    """On a single spike that everybody knows, the region shrinks until it is given up."""
    problem = bi.Problem(
        bi.Box([0.0], [1.0]), lambda x: float(abs(x[0] - 0.1) > 1e-9), bi.Minimize()
    )
    study = bi.Study.create(
        "s", problem, strategy=Turbo(kernel="rbf", warp=False, initial=4), seed=0
    )
    study.add(points=[[0.1]], Y=[[0.0]])
    study.run(60, batch=4)
    second = [trial for trial in study.trials if trial.query.meta.get("region") == 1]
    assert len(second) >= 4
    assert all("design" in trial.query.meta for trial in second[:4])
    assert min(abs(trial.point[0] - 0.1) for trial in second[:4]) >= 6**-0.5 / 2


@pytest.mark.slow
def test_does_not_stay_within_a_step() -> None:
    """A decoder that rounds: most of a small region would be the same few designs."""
    codes = np.random.default_rng(0).standard_normal((4, 5))
    goal = np.array([1.0, -1.0, 2.0, 0.0, 1.0])
    problem = bi.Problem(
        bi.Latent(lambda z: np.round(0.8 * z @ codes), dim=4),
        lambda x: float(((x - goal) ** 2).sum()),
        bi.Minimize(),
    )
    study = bi.Study.create("s", problem, strategy=Turbo(kernel="rbf", warp=False), seed=0)
    study.run(48, batch=4)
    assert len({tuple(trial.design) for trial in study.trials}) > 32


def test_the_process_sees_only_the_nearest_points(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = bi.Problem(bi.Box([0.0] * 3, [1.0] * 3), bowl, bi.Minimize())
    points = np.random.default_rng(0).random((500, 3))
    log = Book()
    for point in points:
        log.foreign(point, bowl(point))
    seen: list[Array] = []
    fit = fit_surrogate

    def watched(inputs: Array, *args: Any, **kwargs: Any) -> Any:
        seen.append(inputs)
        return fit(inputs, *args, **kwargs)

    monkeypatch.setattr(fitted_model, "fit_surrogate", watched)
    strategy = Turbo(local=50, kernel="rbf", warp=False)
    proposal = strategy.ask(problem.statement, log.trials, Request(0, 100, 0))
    assert len(proposal.queries) == 100
    assert [len(inputs) for inputs in seen] == [50]
    centre = points[np.argmin([bowl(point) for point in points])]
    nearest = np.sort(np.linalg.norm(points - centre, axis=1))[49]
    assert np.linalg.norm(seen[0] - centre, axis=1).max() == pytest.approx(nearest)


def test_options_are_checked() -> None:
    with pytest.raises(bi.InvalidInputError, match="acquisition must be one of 'thompson', 'ei'"):
        Turbo(acquisition="ucb")
    with pytest.raises(bi.InvalidInputError, match="at least"):
        Turbo(local=1)
