"""Contract of every place where data with names come in: matched by name, a mismatch is an error.

All data here hold the names in another order than the problem, so that a match by position is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from containers import COLUMNS, RECORDS, TABLES, Values
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bo_invert as bi

SPACES: dict[str, Callable[[], bi.Box]] = {
    "named": lambda: bi.Box({"a": (0.0, 10.0), "b": (0.0, 10.0)}),
    "vector": lambda: bi.Box([0.0, 0.0], [10.0, 10.0], names=["a", "b"]),
}
DESIGNS: list[Values] = [{"b": 2.0, "a": 1.0}, {"b": 6.0, "a": 5.0}, {"b": 8.0, "a": 7.0}]
ANSWERS: list[Values] = [{"q": 20.0, "p": 10.0}, {"q": 60.0, "p": 50.0}, {"q": 80.0, "p": 70.0}]


def study(space: bi.Box | None = None, oracle: Any = None) -> bi.Study:
    space = SPACES["named"]() if space is None else space
    problem = bi.Problem(space, oracle, bi.Minimize("p"), outputs=["p", "q"])
    return bi.Study.create("s", problem, "random")


def values(design: Any) -> list[float]:
    return list(design.values()) if isinstance(design, Mapping) else list(design)


def other(names: Values) -> Values:
    """Return the same values under other names."""
    return {f"{name}x": value for name, value in names.items()}


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("record", RECORDS)
class TestDesigns:
    def test_enqueued(self, record: str, space: str) -> None:
        trial = study(SPACES[space]()).enqueue(RECORDS[record](DESIGNS[0]))
        assert values(trial.design) == [1.0, 2.0]

    def test_added_alone(self, record: str, space: str) -> None:
        (trial,) = study(SPACES[space]()).add(RECORDS[record](DESIGNS[0]), [10.0, 20.0])
        assert values(trial.design) == [1.0, 2.0]

    @pytest.mark.parametrize("way", ["enqueue", "add"])
    def test_other_names_are_an_error(self, record: str, space: str, way: str) -> None:
        given, made = RECORDS[record](other(DESIGNS[0])), study(SPACES[space]())
        with pytest.raises(bi.InvalidInputError, match=r"'a', 'b'.*(?s:.)*'bx'|'ax'"):
            made.enqueue(given) if way == "enqueue" else made.add(given, [10.0, 20.0])
        assert not made.trials


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("table", TABLES)
def test_added_tables(table: str, space: str) -> None:
    added = study(SPACES[space]()).add(TABLES[table](DESIGNS), TABLES[table](ANSWERS))
    assert [values(trial.design) for trial in added] == [[1.0, 2.0], [5.0, 6.0], [7.0, 8.0]]
    assert [trial.y.tolist() for trial in added] == [[10.0, 20.0], [50.0, 60.0], [70.0, 80.0]]


@pytest.mark.parametrize("side", ["X", "Y"])
@pytest.mark.parametrize("table", TABLES)
def test_added_tables_with_other_names_are_an_error(table: str, side: str) -> None:
    X, Y = DESIGNS, ANSWERS
    X = [other(row) for row in X] if side == "X" else X
    Y = [other(row) for row in Y] if side == "Y" else Y
    made = study()
    with pytest.raises(bi.InvalidInputError, match=r"x'"):
        made.add(TABLES[table](X), TABLES[table](Y))
    assert not made.trials


def test_rows_are_matched_by_their_labels() -> None:
    X, Y = pd.DataFrame(DESIGNS), pd.DataFrame(ANSWERS).iloc[[2, 0, 1]]
    assert [trial.y[0] for trial in study().add(X, Y)] == [10.0, 50.0, 70.0]
    with pytest.raises(bi.InvalidInputError, match=r"row labels, got \[0, 1, 2\] and \[3, 4, 5\]"):
        study().add(X, Y.set_axis([3, 4, 5]))


def test_columns_are_matched_by_their_row_labels() -> None:
    """A dict of Series is read as pandas reads it."""
    X = {"b": pd.Series([6.0, 2.0], index=["second", "first"]),
         "a": pd.Series([1.0, 5.0], index=["first", "second"])}  # fmt: skip
    Y = {"q": pd.Series([20.0, 60.0], index=["first", "second"]),
         "p": pd.Series([50.0, 10.0], index=["second", "first"])}  # fmt: skip
    added = study().add(X, Y)
    assert [values(trial.design) for trial in added] == [[5.0, 6.0], [1.0, 2.0]]
    assert [trial.y.tolist() for trial in added] == [[50.0, 60.0], [10.0, 20.0]]
    with pytest.raises(bi.InvalidInputError, match=r"different row labels.*'third'"):
        study().add({**X, "a": pd.Series([1.0, 5.0], index=["first", "third"])}, Y)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_column_has_the_name_of_the_output(column: str) -> None:
    problem = bi.Problem(SPACES["named"](), None, bi.Minimize("p"))
    made = bi.Study.create("s", problem, "random")
    make = COLUMNS[column]
    added = made.add(DESIGNS, make("p", [10.0, 50.0, 70.0]))
    assert [trial.y[0] for trial in added] == [10.0, 50.0, 70.0]
    with pytest.raises(bi.InvalidInputError, match=r"\['p'\], got \['q'\]"):
        made.add(DESIGNS, make("q", [10.0, 50.0, 70.0]))


@pytest.mark.parametrize("names", [["z0", "z1"], ["a", "b"]])
def test_points_are_matched_by_name(names: list[str]) -> None:
    space = bi.Latent(lambda z: z, 2) if names[0] == "z0" else SPACES["vector"]()
    made = study(space)
    frame = pd.DataFrame([[0.2, 0.1]], columns=names[::-1])
    (trial,) = made.add(points=frame, Y=[[1.0, 2.0]])
    assert trial.point.tolist() == [0.1, 0.2]
    assert made.enqueue(point=frame.iloc[0]).point.tolist() == [0.1, 0.2]
    with pytest.raises(bi.InvalidInputError, match=r"got .*'other'"):
        made.add(points=frame.rename(columns={names[0]: "other"}), Y=[[1.0, 2.0]])


@pytest.mark.parametrize("record", RECORDS)
class TestOutputs:
    def test_of_an_oracle(self, record: str) -> None:
        made = study(oracle=lambda design: RECORDS[record](ANSWERS[0])).run(1)
        assert made.trials[0].y.tolist() == [10.0, 20.0]

    @pytest.mark.filterwarnings("ignore:study ")
    def test_of_an_oracle_with_other_names(self, record: str) -> None:
        made = study(oracle=lambda design: RECORDS[record](other(ANSWERS[0])))
        made.run(1)
        assert made.trials[0].state is bi.State.FAILED
        assert all(name in made.trials[0].reason for name in ("'p'", "'px'"))

    def test_of_a_tell(self, record: str) -> None:
        made = study()
        assert made.tell(made.ask()[0], RECORDS[record](ANSWERS[0])).y.tolist() == [10.0, 20.0]
        with pytest.raises(bi.InvalidInputError, match=r"'p'.*'px'"):
            made.tell(made.ask()[0], RECORDS[record](other(ANSWERS[0])))

    def test_of_a_target(self, record: str) -> None:
        target = bi.Target(RECORDS[record]({"q": 20.0, "p": 10.0}), scale=RECORDS[record](
            {"p": 1.0, "q": 2.0}
        )).bind(["p", "q"])  # fmt: skip
        assert target.loss(np.array([10.0, 20.0])) == 0.0
        assert target.loss(np.array([10.0, 24.0])) == 2.0
        with pytest.raises(bi.InvalidInputError, match=r"'qx'|'px'"):
            bi.Target(RECORDS[record](other(ANSWERS[0]))).bind(["p", "q"])
        with pytest.raises(bi.InvalidInputError, match=r"\['q', 'p'\], got \['px', 'qx'\]"):
            bi.Target({"q": 1.0, "p": 1.0}, scale=RECORDS[record]({"px": 1.0, "qx": 1.0}))


@pytest.mark.parametrize("table", TABLES)
def test_batched_oracles_return_tables(table: str) -> None:
    oracle = bi.Function(lambda batch: TABLES[table](ANSWERS[: len(batch)]), batched=True)
    made = study(oracle=oracle).run(3, batch=3)
    assert [trial.y.tolist() for trial in made.trials] == [[10, 20], [50, 60], [70, 80]]


def test_names_of_an_oracle_in_another_order() -> None:
    """A vector of outputs has the names of the oracle, not those of the problem."""
    oracle = bi.Function(lambda design: [20.0, 10.0], outputs=["q", "p"])
    assert study(oracle=oracle).run(1).trials[0].y.tolist() == [10.0, 20.0]
    only = bi.Problem(SPACES["named"](), oracle, bi.Minimize("p"), outputs=["p"])
    assert bi.Study.create("s", only, "random").run(1).trials[0].y.tolist() == [10.0]
    for wrapped in bi.Cached(oracle), bi.Isolated(oracle):
        assert study(oracle=wrapped).run(1).trials[0].y.tolist() == [10.0, 20.0]
    with pytest.raises(bi.InvalidInputError, match=r"\['q', 'p'\], got \['p', 'r'\]"):
        bi.Problem(SPACES["named"](), oracle, bi.Minimize("p"), outputs=["p", "r"])
    with pytest.raises(bi.InvalidInputError, match=r"\['q', 'p'\], got \['p', 'r'\]"):
        bi.Problem(
            SPACES["named"](), None, bi.Minimize("p"), outputs=["p", "r"], judge=oracle
        )  # fmt: skip


def test_gradients_follow_the_names_of_the_outputs() -> None:
    import torch

    net = torch.nn.Linear(2, 2).double()
    space, names = bi.Box([-1.0, -1.0], [1.0, 1.0]), ["q", "p"]
    found = []
    for oracle in (
        bi.TorchModule(net, outputs=names),
        bi.GradientProxy(
            lambda x: dict(zip(names, net(torch.as_tensor(x)), strict=True)),
            bi.TorchModule(net, outputs=names),
            outputs=["p", "q"],
        ),
    ):
        problem = bi.Problem(space, oracle, bi.Minimize("p"), outputs=["p", "q"])
        (outcome,) = problem.evaluate([bi.Query([0.3, 0.6], gradient=True)])
        found.append((outcome.y, outcome.gradient))
    slope = 2.0 * net.weight[1].detach().numpy()  # the box has width 2
    for y, gradient in found:
        np.testing.assert_allclose(y[0], problem.oracle.twin.module(
            torch.tensor([-0.4, 0.2], dtype=torch.float64))[1].item())  # fmt: skip
        np.testing.assert_allclose(gradient, slope)


FRAME = pd.DataFrame({"b": np.linspace(0.0, 1.0, 60) ** 2, "a": np.linspace(0.0, 10.0, 60)})
FITS: dict[str, Callable[[], Any]] = {
    "linear": LinearRegression,
    "forest": lambda: RandomForestRegressor(3, random_state=0),
    "pipeline": lambda: make_pipeline(StandardScaler(), LinearRegression()),
    "columns by name": lambda: make_pipeline(
        ColumnTransformer([("b", StandardScaler(), ["b"])], remainder="passthrough"),
        LinearRegression(),
    ),
    "search": lambda: GridSearchCV(LinearRegression(), {"fit_intercept": [True]}, cv=2),
    "target": lambda: TransformedTargetRegressor(LinearRegression()),
    "several outputs": lambda: MultiOutputRegressor(LinearRegression()),
    "pipeline without a first step": lambda: make_pipeline(
        "passthrough", StandardScaler(), LinearRegression()
    ),
}
WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "alone": lambda model: model,
    "estimator": bi.Estimator,
    "cached": bi.Cached,
    "isolated": bi.Isolated,
    "method": lambda model: model.predict,
    "function of a batch": lambda model: bi.Function(model.predict, batched=True),
}


def fitted(model: str) -> Any:
    y = FRAME["a"] + 100.0 * FRAME["b"]
    return FITS[model]().fit(FRAME, pd.concat([y, y], axis=1) if model == "several outputs" else y)


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("model", FITS)
def test_inputs_of_estimators(model: str, space: str, wrapper: str) -> None:
    if wrapper == "isolated" and (model, space) != ("linear", "vector"):
        pytest.skip("one start of a worker process suffices")
    estimator = fitted(model)
    count = 2 if model == "several outputs" else 1
    judge = WRAPPERS[wrapper](estimator)
    problem = bi.Problem(
        SPACES[space](), WRAPPERS[wrapper](estimator), bi.Minimize("y0" if count == 2 else "y"),
        outputs=count, judge=judge,
    )  # fmt: skip
    made = bi.Study.create("s", problem, "random").run(3, batch=3)
    for trial in made.trials:
        named = pd.DataFrame([dict(zip("ab", values(trial.design), strict=True))])[["b", "a"]]
        np.testing.assert_allclose(trial.y, np.ravel(estimator.predict(named)))
    assert made.solutions(1)[0].judged == pytest.approx(made.best.loss)


@pytest.mark.parametrize("make", [lambda names: bi.Box(dict.fromkeys(names, (0.0, 1.0))),
                                  lambda names: bi.Box([0.0] * len(names), [1.0] * len(names),
                                                       names=names)])  # fmt: skip
@pytest.mark.parametrize("names", [["a", "c"], ["a"], ["a", "b", "c"]])
def test_other_inputs_of_estimators_are_an_error(make: Any, names: list[str]) -> None:
    estimator = fitted("linear")
    for oracle, judge in ((estimator, None), (None, estimator)):
        with pytest.raises(bi.InvalidInputError, match=r"\['b', 'a'\], got"):
            bi.Problem(make(names), oracle, bi.Minimize(), judge=judge)


@pytest.mark.parametrize("record", [name for name in RECORDS if name not in ("dict", "mapping")])
def test_bounds(record: str) -> None:
    make = RECORDS[record]
    low, high = make({"b": 0.0, "a": 1.0}), make({"a": 3.0, "b": 2.0})
    assert bi.Box(low, high).domain.parameters == {"b": bi.Float(0.0, 2.0), "a": bi.Float(1.0, 3.0)}
    with pytest.raises(bi.InvalidInputError, match=r"'[ab]', '[ab]'\], got \['ax', 'bx'\]"):
        bi.Box(low, make({"ax": 3.0, "bx": 2.0}))
    with pytest.raises(bi.InvalidInputError, match="names"):
        bi.Box(low, [1.0, 2.0])
    ordered = bi.Box(low, high, names=["a", "b"]).domain.parameters
    assert list(ordered.items()) == [("a", bi.Float(1.0, 3.0)), ("b", bi.Float(0.0, 2.0))]


def test_bounds_of_dicts() -> None:
    box = bi.Box({"b": 0.0, "a": 1.0}, {"a": 3.0, "b": 2.0})  # type: ignore[dict-item]
    assert box.named
    assert box.domain.parameters == {"b": bi.Float(0.0, 2.0), "a": bi.Float(1.0, 3.0)}


@pytest.mark.parametrize("table", TABLES)
def test_data_of_a_box(table: str) -> None:
    rng = np.random.default_rng(0)
    rows = [{"b": 10.0 + x, "a": y} for x, y in rng.random((40, 2)).tolist()]
    make = TABLES[table]
    box = bi.Box({"a": (0.0, 1.0), "b": (10.0, 11.0)}, data=make(rows))
    vector = bi.Box([0.0, 10.0], [1.0, 11.0], names=["a", "b"], data=make(rows))
    assert box.domain.reference.rows.tolist() == vector.domain.reference.rows.tolist()
    if table == "frame":
        frame = pd.DataFrame(rows)
        lower = pd.Series({"a": -1.0, "b": 9.0})
        own = bi.Box(lower, data=frame).domain.parameters
        assert own["a"] == bi.Float(-1.0, frame["a"].max())
        assert own["b"] == bi.Float(9.0, frame["b"].max())
    with pytest.raises(bi.InvalidInputError, match="'c'"):
        bi.Box({"a": (0.0, 1.0), "c": (10.0, 11.0)}, data=make(rows))


def test_codes_of_a_latent() -> None:
    codes = np.random.default_rng(0).normal([0.0, 5.0], [1.0, 3.0], size=(200, 2))
    frame = pd.DataFrame(codes[:, ::-1], columns=["z1", "z0"])
    by_name, by_position = (bi.Latent(lambda z: z, 2, codes=one) for one in (frame, codes))
    np.testing.assert_allclose(by_name.measure.mean, by_position.measure.mean)
    with pytest.raises(bi.InvalidInputError, match=r"\['z0', 'z1'\], got \['z1', 'w'\]"):
        bi.Latent(lambda z: z, 2, codes=frame.rename(columns={"z0": "w"}))


@pytest.mark.filterwarnings("ignore:study ")
def test_names_that_occur_twice_are_an_error() -> None:
    twice = pd.DataFrame([[1.0, 2.0, 3.0]], columns=["a", "b", "a"])
    with pytest.raises(bi.InvalidInputError, match="more than once"):
        study().add(twice, [[1.0, 2.0]])
    made = study(oracle=lambda design: pd.Series([1.0, 2.0, 3.0], index=["p", "q", "p"])).run(1)
    assert "more than once" in made.trials[0].reason


def test_arrays_without_names_are_matched_by_position() -> None:
    made = study(SPACES["vector"](), lambda x: np.array([10.0, 20.0]))
    made.add(pd.DataFrame([[1.0, 2.0]]), pd.DataFrame([[10.0, 20.0]]))
    made.enqueue(pd.Series([3.0, 4.0]))
    made.run(1)
    assert [values(trial.design) for trial in made.trials] == [[1.0, 2.0], [3.0, 4.0]]
    assert [trial.y.tolist() for trial in made.trials] == [[10.0, 20.0]] * 2


def test_a_box_without_names_is_matched_by_position_with_a_warning() -> None:
    model = fitted("linear")
    with pytest.warns(UserWarning, match=r"inputs \['b', 'a'\], the box has no names"):
        problem = bi.Problem(bi.Box([0.0, 0.0], [1.0, 10.0]), model, bi.Minimize())
    trial = bi.Study.create("s", problem, "random").run(1).trials[0]
    expected = model.predict(pd.DataFrame([trial.design], columns=["b", "a"]))
    np.testing.assert_allclose(trial.y, expected)
    with pytest.raises(bi.InvalidInputError, match=r"\['b', 'a'\], got \['x0'\]"):
        bi.Problem(bi.Box([0.0], [1.0]), model, bi.Minimize())
