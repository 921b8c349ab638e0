"""Contract of every place where user code runs: private copies in, snapshots out.

Each callable works in place, as user code often does. Nothing that the study asks, records or shows
may change by this, and no object of the user.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

import bo_invert as bi
from bo_invert.domains.gaussian_domain import gaussian_domain
from bo_invert.generators.design_plausibility import DesignRealism
from bo_invert.generators.latent_plausibility import fit_measure
from bo_invert.generators.priors import Prior
from bo_invert.problem_doctor.control_regressors import control_regressors
from bo_invert.spaces.base import Space
from bo_invert.user_code import private

RNG = np.random.default_rng(0)
DATA = RNG.normal(size=(40, 3))


def spoil(thing: Any) -> None:
    """Overwrite all numbers of a design or a batch in place."""
    if isinstance(thing, dict):
        for name, value in thing.items():
            thing[name] = -1.0 if isinstance(value, float) else value
            spoil(value)
    elif isinstance(thing, (list, tuple)):
        for one in thing:
            spoil(one)
        if isinstance(thing, list):
            thing[:] = [-1.0 if isinstance(one, float) else one for one in thing]
    elif isinstance(thing, (np.ndarray, torch.Tensor)):
        thing *= 0
        thing -= 1


def total(design: Any) -> float:
    """Return the sum of the numbers of a design."""
    if isinstance(design, dict):
        return sum(map(total, design.values()))
    return float(torch.as_tensor(np.asarray(design)).double().sum())


class SpoilingModule(torch.nn.Module):
    """Sum of the coordinates, computed in place."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x *= 2.0
        return x.sum(1)


class SpoilingEstimator:
    """Estimator that scales its table in place."""

    def predict(self, table: Any) -> Any:
        rows = np.array(table, dtype=float).sum(axis=1)
        spoil(table)
        return rows


class SpoilingOracle(bi.Oracle):
    """Oracle of a user's class."""

    batched = True

    def __call__(self, designs: Any) -> Any:
        sums = [total(design) for design in designs]
        spoil(designs)
        return sums


def one_by_one(x: Any) -> float:
    found = total(x)
    spoil(x)
    return found


def batch_that_fails(X: Any) -> Any:
    sums = np.array([total(x) for x in X])
    spoil(X)
    if len(X) > 1:
        raise RuntimeError("one case at a time")
    return sums


ORACLES: dict[str, Callable[[], Any]] = {
    "function": lambda: one_by_one,
    "batched function that fails": lambda: bi.Function(batch_that_fails, batched=True),
    "estimator": SpoilingEstimator,
    "oracle of a user's class": SpoilingOracle,
    "cached": lambda: bi.Cached(one_by_one),
    "proxy": lambda: bi.GradientProxy(one_by_one, SpoilingModule()),
}


class SpoilingDecoder(torch.nn.Module):
    """Decoder that scales its codes in place."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        z *= 2.0
        return z + 1.0


def decode(z: Any) -> Any:
    z *= 2.0
    z += 1.0
    return z


_buffer = np.empty((3, 2))


def decode_into_buffer(z: Any) -> Any:
    """Return a view of one array for all calls."""
    if len(z) > len(_buffer):
        return 2.0 * z + 1.0
    _buffer[: len(z)] = 2.0 * z + 1.0
    return _buffer[: len(z)]


class OwnSpace(Space):
    """Space of a user, with methods that work in place."""

    def __init__(self) -> None:
        self.domain = gaussian_domain(2, 3.0)

    def decode(self, points: Any) -> Any:
        points *= 2.0
        points += 1.0
        return points

    def plausibility(self, points: Any) -> Any:
        spoil(points)
        return np.ones(len(points))

    @property
    def features(self) -> Callable[[Any], Any]:
        return self.decode


SPACES: dict[str, Callable[[], Space]] = {
    "function": lambda: bi.Latent(decode, 2),
    "function with a buffer": lambda: bi.Latent(decode_into_buffer, 2),
    "module": lambda: bi.Latent(SpoilingDecoder(), 2),
    "space of a user": OwnSpace,
}


@pytest.mark.parametrize("kind", ORACLES)
@pytest.mark.parametrize("named", [False, True], ids=["vectors", "dicts"])
def test_an_oracle_gets_private_designs(kind: str, named: bool) -> None:
    bounds = {"a": (0.0, 1.0), "b": (0.0, 1.0)}
    space = bi.Box(bounds) if named else bi.Box([0, 0], [1, 1])  # type: ignore[arg-type]
    problem = bi.Problem(space, ORACLES[kind](), bi.Minimize("y"), outputs=["y"])
    study = bi.Study.create("s", problem, strategy="random").run(3, batch=3)
    assert not study.spent.failed
    for trial in study.trials:
        assert trial.y is not None
        assert trial.y[0] == pytest.approx(total(trial.design))


def test_a_process_gets_copies() -> None:
    designs = np.ones((2, 2))
    results = bi.Isolated(one_by_one).answers(designs, ["y"])
    assert [float(result.y[0]) for result in results if result.y is not None] == [2.0, 2.0]
    assert designs.min() == 1.0


@pytest.mark.parametrize("kind", SPACES)
def test_a_decoder_gets_private_points(kind: str) -> None:
    problem = bi.Problem(SPACES[kind](), one_by_one, bi.Minimize("y"), judge=one_by_one)
    study = bi.Study.create("s", problem, strategy="gp", seed=0).run(5, batch=2)
    assert not study.spent.failed
    for trial in study.trials:
        assert np.allclose(trial.design, 2.0 * trial.point + 1.0)
        assert trial.y is not None
        assert trial.y[0] == pytest.approx(total(trial.design))
    designs = [trial.design for trial in study.trials]
    assert len({tuple(design) for design in designs}) == 5  # no shared buffer
    for one in study.solutions(3):
        assert one.judged == one.loss


@pytest.mark.parametrize("space", [bi.Box([-1, -1], [1, 1]), bi.Latent(SpoilingDecoder(), 2)])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_descent_clones(space: Space, optimizer: str) -> None:
    """Modules, decoders and objectives of a descent work in place on parts of the graph."""

    def square(y: Any) -> Any:
        y -= 1.0
        return (y**2).sum(-1)

    problem = bi.Problem(space, SpoilingModule(), bi.Composite(square), outputs=["y"])
    query = bi.Query(np.array([0.4, 0.3]), descent=bi.Descent(12, optimizer))
    (outcome,) = problem.evaluate([query])
    assert outcome.reason == ""
    assert outcome.y is not None
    assert outcome.loss == pytest.approx((outcome.y[0] - 1.0) ** 2)
    assert outcome.trace is not None
    assert outcome.trace[-1] < outcome.trace[0]
    (slope,) = problem.evaluate([bi.Query(query.point, gradient=True)])
    assert slope.gradient is not None
    assert np.abs(slope.gradient).min() > 0.0


class Shifted(bi.Minimize):
    """Objective of a user's class."""

    def loss(self, y: Any) -> Any:
        y -= 5.0
        return y[..., self.index]


class Tight(bi.OutcomeConstraint):
    """Constraint of a user's class."""

    def excess(self, y: Any) -> Any:
        y *= 0.0
        return y[..., self.index] - 1.0


def spoiling_loss(y: Any) -> Any:
    y -= 5.0
    return y.sum(-1)


@pytest.mark.parametrize(
    "objective", [bi.Composite(spoiling_loss), Shifted("y")], ids=["function", "class"]
)
@pytest.mark.parametrize("strategy", ["random", "gp", "turbo"])
def test_an_objective_gets_private_outputs(objective: Any, strategy: str) -> None:
    problem = bi.Problem(
        bi.Box([0, 0], [1, 1]), one_by_one, objective, outputs=["y"],
        constraints=[Tight("y", "<=", 9.0)],
    )  # fmt: skip
    study = bi.Study.create("s", problem, strategy=strategy).run(8)
    taken = study.ask()[0]
    answer = np.array([0.5])
    study.tell(taken, answer)
    assert answer.tolist() == [0.5]
    for trial in study.trials[:-1]:
        assert trial.y is not None
        assert trial.y[0] == pytest.approx(total(trial.design))
        assert trial.loss == pytest.approx(trial.y[0] - 5.0)


class SpoilingPrior(Prior):
    """Prior of a user, that maps in place."""

    def codes(self, points: Any) -> Any:
        points *= 3.0
        return points

    def points(self, codes: Any) -> Any:
        codes /= 3.0
        return codes

    def tensor(self, points: Any) -> Any:
        return points.mul_(3.0)


def encode(x: Any) -> Any:
    x -= 1.0
    x /= 2.0
    return x


def spoiling_features(designs: Any) -> Any:
    rows = np.array(designs, dtype=float)
    spoil(designs)
    return rows


class Data(NamedTuple):
    """Call with data of the user."""

    make: Callable[[Any], Any]
    data: Any


DATA_USES: dict[str, Data] = {
    "Latent(data=), encoder": Data(lambda x: bi.Latent(decode, 3, encode, data=x), DATA),
    "Latent(data=), module": Data(lambda x: bi.Latent(SpoilingDecoder(), 3, data=x), DATA[:8]),
    "Latent(codes=), prior": Data(
        lambda x: bi.Latent(decode, 3, codes=x, prior=SpoilingPrior()), DATA
    ),
    "Latent.encode": Data(lambda x: bi.Latent(decode, 3, encode).encode(x), DATA),
    "Latent.invert": Data(lambda x: bi.Latent(SpoilingDecoder(), 3).invert(x), DATA[:3]),
    "Box(data=)": Data(lambda x: bi.Box(data=x), DATA),
    "Box(data=frame)": Data(lambda x: bi.Box(data=x), pd.DataFrame(DATA, columns=list("abc"))),
    "Pixels(data=)": Data(lambda x: bi.Pixels((2, 2), data=x), RNG.random((12, 2, 2))),
    "DesignRealism": Data(
        lambda x: DesignRealism(encode, decode, fit_measure(DATA), x)(x), DATA[:9]
    ),
    "control_regressors": Data(
        lambda x: control_regressors(_train, x, x[:, 0]), RNG.random((300, 3))
    ),
    "study.add": Data(lambda x: _study().add(x, spoiling_features(private(x))[:, 0]), DATA[:4]),
    "study.enqueue": Data(lambda x: _study().enqueue(x[0]), DATA[:2]),
    "oracle.answers": Data(lambda x: bi.Function(one_by_one).answers(x, ["y"]), DATA[:4]),
}


def _train(X: Any, y: Any, seed: int) -> Any:
    spoil(X)
    spoil(y)
    return one_by_one


def _study() -> bi.Study:
    problem = bi.Problem(bi.Latent(decode, 3, encode), one_by_one, bi.Minimize("y"))
    return bi.Study.create("s", problem, strategy="random")


@pytest.mark.parametrize("use", DATA_USES)
def test_data_of_the_user_stay(use: str) -> None:
    make, data = DATA_USES[use]
    given = copy.deepcopy(data)
    make(given)
    assert np.array_equal(given, data)


def test_functions_for_pictures_and_plausibility_get_private_designs() -> None:
    def draw(x: Any) -> Any:
        picture = np.full((2, 2), x.sum() % 1.0)
        spoil(x)
        return picture

    def plausible(designs: Any) -> Any:
        scores = np.array([min(1.0, abs(x.sum())) for x in designs])
        spoil(designs)
        return scores

    space = bi.Latent(decode, 2, features=spoiling_features)
    problem = bi.Problem(space, one_by_one, bi.Minimize("y"), draw=draw, plausibility=plausible)
    study = bi.Study.create("s", problem, strategy="pcn").run(6)
    found = study.solutions(3)
    assert [one.plausibility for one in found] == [
        min(1.0, abs(one.trial.design.sum())) for one in found
    ]
    points = np.array([trial.point for trial in study.trials])
    assert problem.statement.features is not None
    before = points.copy()
    assert np.allclose(problem.statement.features(points), 2.0 * points + 1.0)
    assert np.array_equal(points, before)
    assert "img" in study._repr_html_()


def test_a_draw_of_a_prior_is_a_snapshot() -> None:
    codes = RNG.normal(size=(12_000, 2))
    space = bi.Latent(decode, 2, prior=lambda rng, n: codes[:n])
    measured = space.to_json()
    codes[:] = 0.0
    assert space.to_json() == measured


def test_answers_are_snapshots() -> None:
    """An oracle may return one array for all its calls."""
    answer = np.zeros(2)

    def simulate(x: Any) -> Any:
        answer[:] = x
        return answer

    problem = bi.Problem(bi.Box([0, 0], [1, 1]), simulate, bi.Minimize("a"), outputs=["a", "b"])
    study = bi.Study.create("s", problem, strategy="random").run(4, batch=4)
    cached = bi.Cached(simulate)
    results = cached.answers(np.array([[1.0, 2.0], [3.0, 4.0]]), ["a", "b"])
    assert [result.y.tolist() for result in results if result.y is not None] == [[1, 2], [3, 4]]
    assert all(
        np.array_equal(trial.y, trial.design) for trial in study.trials if trial.y is not None
    )
    taken = study.ask()[0]
    answer[:] = 7.0
    recorded = study.tell(taken, answer)
    answer[:] = 0.0
    assert recorded.y is not None
    assert recorded.y.tolist() == [7.0, 7.0]
    assert study.trials[-1].y is not None
    assert study.trials[-1].y.tolist() == [7.0, 7.0]


class Remembering(bi.Strategy):
    """Strategy of a user that keeps one point and one note for all its queries."""

    name = "remembering"

    def __init__(self) -> None:
        self.point, self.notes = np.zeros(2), [-1]

    def ask(self, statement: Any, trials: Any, request: Any) -> bi.Proposal:
        self.point += 0.1
        self.notes.append(len(trials))
        return bi.Proposal((bi.Query(self.point, origin="own", meta={"notes": self.notes}),))


def test_queries_are_snapshots() -> None:
    problem = bi.Problem(bi.Box([0, 0], [1, 1]), one_by_one, bi.Minimize("y"))
    study = bi.Study.create("s", problem, strategy=Remembering()).run(3)
    assert [len(trial.query.meta["notes"]) for trial in study.trials] == [2, 3, 4]
    assert [round(trial.point[0], 9) for trial in study.trials] == [0.1, 0.2, 0.3]


def test_results_of_a_cache_are_read_only() -> None:
    cached, design = bi.Cached(one_by_one), np.array([[1.0, 2.0]])
    (result,) = cached.answers(design, ["y"])
    assert result.y is not None
    with pytest.raises(ValueError, match="read-only"):
        result.y[:] = 7.0
    assert cached.answers(design, ["y"])[0].y == result.y


def test_a_design_that_was_asked_belongs_to_the_user() -> None:
    study = _study()
    trial = study.ask()[0]
    shown = trial.design
    spoil(shown)
    assert np.allclose(trial.design, 2.0 * trial.point + 1.0)


def test_boxes_are_unchanged_by_later_changes_of_the_data() -> None:
    data = DATA.copy()
    box = bi.Box(data=data)
    rows, described = box.sample(np.random.default_rng(0), 5), box.to_json()
    data[:] = 0.0
    assert np.array_equal(box.sample(np.random.default_rng(0), 5), rows)
    assert box.to_json() == described
