"""Contract of every place where numbers come in, and of designs of the user in every place out."""

from __future__ import annotations

import csv
import datetime
import io
import json
import math
from array import array
from collections import deque, namedtuple
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from inside import Inside

import bo_invert as bi
from bo_invert import registry
from bo_invert.domains.constrained_box import stored_domain
from bo_invert.generators.design_plausibility import DesignRealism
from bo_invert.generators.latent_plausibility import fit_measure
from bo_invert.generators.vae import VAEConfig
from bo_invert.problems.problem import Problem
from bo_invert.report.csv_export import records_csv
from bo_invert.report.dataframe import trial_record
from bo_invert.service.client import RemoteStore
from bo_invert.storage.export_import import export_study, import_study
from bo_invert.storage.memory import MemoryStore
from bo_invert.strategies.base import from_spec
from bo_invert.types import Cost

WHOLE: dict[str, Callable[[int], Any]] = {
    "int64": np.int64,
    "uint8": np.uint8,
    "array of no dimension": np.array,
    "array of length one": lambda n: np.array([n]),
    "tensor": torch.tensor,
    "series": lambda n: pd.Series([n]),
}
REAL: dict[str, Callable[[float], Any]] = {
    "float64": np.float64,
    "float32": np.float32,
    "float16": np.float16,
    "int64": lambda x: np.int64(math.ceil(x)),
    "array of no dimension": np.array,
    "array of length one": lambda x: np.array([x]),
    "tensor": lambda x: torch.tensor(x, requires_grad=True),
    "half tensor": lambda x: torch.tensor(x, dtype=torch.bfloat16),
    "fraction": Fraction,
    "decimal": Decimal,
    "extended precision": np.longdouble,
}
SPACE = bi.Box([0.0, 0.0], [1.0, 1.0])


def bowl(x: Any) -> float:
    return float(((x - 0.3) ** 2).sum())


def study(problem: Problem | None = None, strategy: Any = "random", **options: Any) -> bi.Study:
    problem = problem or bi.Problem(SPACE, bowl, bi.Minimize())
    made = bi.Study.create("s", problem, strategy, **options)
    json.dumps([made.journal.header, problem.to_json()])
    return made


def stored(made: bi.Study) -> bi.Study:
    """Check that the log consists of plain JSON."""
    store = made.journal._store
    json.dumps([store.header(made.name), store.events(made.name)], allow_nan=False)
    return made


def tell_one(made: bi.Study, **options: Any) -> None:
    (trial,) = made.ask(1)
    made.tell(options.pop("trial", trial.number), 1.0, **options)


WHOLE_ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "Int": lambda n: study(
        bi.Problem(bi.Box({"n": bi.Int(n, 9)}), lambda d: d["n"], bi.Minimize())
    ),
    "Choice": lambda n: study(
        bi.Problem(bi.Box({"n": bi.Choice(n, 9)}), lambda d: d["n"], bi.Minimize())
    ),
    "Latent dim, seed": lambda n: study(
        bi.Problem(bi.Latent(lambda z: z, dim=n, seed=n), bowl, bi.Minimize())
    ),
    "Pixels": lambda n: study(
        bi.Problem(bi.Pixels((n, n), jitter=n), lambda x: float(x.sum()), bi.Minimize())
    ),
    "Problem outputs": lambda n: study(
        bi.Problem(SPACE, lambda x: [1.0] * 3, bi.Minimize("y0"), outputs=n)
    ),
    "create seed": lambda n: study(seed=n),
    "ask": lambda n: stored(study()).ask(n, budget=n),
    "tell attempt": lambda n: tell_one(study(), attempt=0 * n),
    "tell trial": lambda n: tell_one(study(), trial=0 * n),
    "cancel": lambda n: (made := study(), made.ask(1), made.cancel(0 * n)),
    "run": lambda n: stored(study().run(n, batch=n, retries=n, reuse_limit=n)),
    "add costs": lambda n: stored(study()).add([[0.5, 0.5]], [1.0], costs=[Cost(n, n, n)]),
    "solutions": lambda n: study().run(3).solutions(n),
    "compare": lambda n: bi.compare(
        bi.Problem(SPACE, bowl, bi.Minimize()), ["random"], budget=n, seeds=n, batch=n, keep=n
    ),
    "compare seeds": lambda n: bi.compare(
        bi.Problem(SPACE, bowl, bi.Minimize()), ["random"], budget=3, seeds=[n]
    ),
    "doctor": lambda n: bi.doctor(bi.Problem(SPACE, bowl, bi.Minimize()), calls=n, seed=n),
    "Descent": lambda n: json.dumps(bi.Descent(n).to_json()),
    "query meta": lambda n: json.dumps(bi.Query([0.5], meta={"n": n, "m": {"n": n}}).to_json()),
    "Isolated": lambda n: json.dumps(bi.Isolated(bowl, threads=n).to_json()),
    "Command": lambda n: bi.Command(["true"], infeasible=n, limit=n).infeasible == {3},
    "Http": lambda n: bi.Http("http://localhost:1", infeasible=[n], retries=n, limit=n),
    "Estimator": lambda n: bi.Estimator(type("E", (), {"predict": len, "n_jobs": 1})(), n_jobs=n),
    "VAE": lambda n: json.dumps(VAEConfig((4,), dim=n, hidden=(n,), seed=n).to_json()),
    "ready problem": lambda n: study(bi.ready_problem("ackley10", seed=n)),
}
REAL_ARGUMENTS: dict[str, Callable[[Any], Any]] = {
    "Float": lambda x: study(
        bi.Problem(bi.Box({"x": bi.Float(x, 9.0)}), lambda d: d["x"], bi.Minimize())
    ),
    "Box of pairs": lambda x: study(
        bi.Problem(bi.Box({"x": (x, 9)}), lambda d: d["x"], bi.Minimize())
    ),
    "Box of vectors": lambda x: study(bi.Problem(bi.Box([x], [9.0]), bowl, bi.Minimize())),
    "Target": lambda x: study(
        bi.Problem(SPACE, bowl, bi.Target({"y": x}, tolerance=x, scale=x))
    ).run(2),
    "constraint": lambda x: stored(
        study(
            bi.Problem(
                SPACE, bowl, bi.Minimize("y"), constraints=[bi.OutcomeConstraint("y", "<=", x)]
            )
        ).run(2)
    ),
    "realism": lambda x: study(
        bi.Problem(bi.Latent(lambda z: z, 2), bowl, bi.Minimize(), realism=x)
    ),
    "level": lambda x: study(bi.Problem(bi.Latent(lambda z: z, 2, level=x), bowl, bi.Minimize())),
    "Pixels": lambda x: study(
        bi.Problem(
            bi.Pixels((2, 2), bounds=(-x, x), cutoff=x, rotation=x, tv=x, l2=x),
            lambda x: float(x.sum()), bi.Minimize(),
        )
    ),
    "enqueue": lambda x: stored(study()).enqueue([x, x]),
    "enqueue point": lambda x: stored(study()).enqueue(point=[x, x]),
    "add": lambda x: stored(study()).add([[x, x]], [x]),
    "add points": lambda x: stored(study()).add(points=[[x, x]], Y=[x]),
    "tell": lambda x: (made := study(), made.tell(made.ask()[0], x), stored(made)),
    "timeout": lambda x: study().run(2, timeout=x, executor="threads"),
    "Isolated": lambda x: json.dumps(bi.Isolated(bowl, timeout=x, grace=x, startup=x).to_json()),
    "Command": lambda x: bi.Command(["true"], timeout=x).timeout + 1.0,
    "Http": lambda x: bi.Http("http://localhost:1", timeout=x, backoff=x),
    "Descent": lambda x: json.dumps(bi.Descent(3, learning_rate=x).to_json()),
    "doctor": lambda x: bi.doctor(bi.Problem(SPACE, bowl, bi.Minimize()), calls=3, timeout=9 * x),
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
@pytest.mark.parametrize("argument", WHOLE_ARGUMENTS)
def test_whole_numbers(argument: str, kind: str) -> None:
    assert WHOLE_ARGUMENTS[argument](WHOLE[kind](3)) is not False


@pytest.mark.filterwarnings("ignore:executor")
@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("argument", REAL_ARGUMENTS)
def test_real_numbers(argument: str, kind: str) -> None:
    REAL_ARGUMENTS[argument](REAL[kind](0.5))


def options_of(name: str) -> dict[str, Any]:
    spec = from_spec(name).spec()["options"]
    return {
        key: value for key, value in spec.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    }  # fmt: skip


@pytest.mark.parametrize("name", sorted(registry.BUILTIN["strategies"]))
def test_options_of_strategies(name: str) -> None:
    try:
        known = options_of(name)
    except bi.errors.MissingExtraError:
        pytest.skip("its package is not installed")
    for make in np.asarray, lambda value: np.asarray(value)[()]:
        given = {key: make(value) for key, value in known.items()}
        built = from_spec(name, **given)
        direct = type(built)(**given)
        assert json.dumps(built.spec()) == json.dumps(direct.spec()) == json.dumps(
            from_spec(name).spec()
        )  # fmt: skip


MISSING: dict[str, Any] = {
    "masked": np.ma.masked,
    "masked mean": np.ma.masked_all(5).mean(),
    "masked array": np.ma.array([-9999.0], mask=[True]),
    "NA": pd.NA,
    "NaT": pd.NaT,
    "NaT of numpy": np.datetime64("NaT"),
    "nan": math.nan,
    "None": None,
    "NA of Int64": pd.array([None], dtype="Int64"),
}


class Quantity:
    """Stub of a quantity of pint."""

    def __init__(self, magnitude: float) -> None:
        self.magnitude, self.units = magnitude, "metre"

    def __float__(self) -> float:
        return self.magnitude

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(self.magnitude)


class UnitArray(np.ndarray):
    """Stub of a quantity of astropy: an array with a unit."""

    unit = "metre"
    value = 1.0


WRONG: dict[str, Any] = {
    "complex": 1.0 + 0.0j,
    "complex64": np.complex64(1.0),
    "complex, extended precision": np.clongdouble(1.0),
    "complex array": np.array([1.0 + 2.0j]),
    "complex tensor": torch.tensor([1.0 + 2.0j]),
    "timedelta": datetime.timedelta(1),
    "timedelta64": np.timedelta64(3, "s"),
    "array of timedelta64": np.array([3], dtype="m8[s]"),
    "Timedelta": pd.Timedelta(3),
    "Timestamp": pd.Timestamp("2020-01-01"),
    "datetime64": np.datetime64("2020-01-01"),
    "pint": Quantity(1.0),
    "astropy": np.array([1.0]).view(UnitArray),
    "text": "1.0",
    "array of text": np.array(["1.0"]),
    "set": {1.0},
}
with suppress(ImportError):
    import pint

    WRONG["quantity of pint"] = pint.UnitRegistry().Quantity(1.0, "m")
    WRONG["array of pint"] = pint.UnitRegistry().Quantity(np.array([1.0]), "m")
with suppress(ImportError):
    import astropy.units
    from astropy.utils.masked import Masked

    WRONG["quantity of astropy"] = 1.0 * astropy.units.m
    WRONG["masked, of astropy"] = Masked(1.0 * astropy.units.m, mask=True)
with suppress(ImportError):
    import pyarrow

    WRONG["duration of pyarrow"] = pyarrow.scalar(3, pyarrow.duration("s"))
CONTAINERS: dict[str, Callable[[Any, Any], Any]] = {
    "dict": lambda a, b: {"p": a, "q": b},
    "tuple": lambda a, b: (a, b),
    "list": lambda a, b: [a, b],
    "namedtuple": namedtuple("Row", ["p", "q"]),
    "series": lambda a, b: pd.Series({"p": a, "q": b}, dtype=object),
    "object array": lambda a, b: _objects(a, b),
}


def _objects(*values: Any) -> np.ndarray:
    array = np.empty(len(values), dtype=object)
    for i, value in enumerate(values):
        array[i] = value
    return array


def named_study(oracle: Any = None) -> bi.Study:
    return study(bi.Problem(SPACE, oracle, bi.Minimize("p"), outputs=["p", "q"]))


@pytest.mark.filterwarnings("ignore:study ")
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("value", [*MISSING])
class TestMissing:
    def test_answers_of_an_oracle_fail(self, value: str, container: str) -> None:
        made = named_study(lambda x: CONTAINERS[container](MISSING[value], 2.0)).run(1)
        assert (made.trials[0].state, made.trials[0].y) == (bi.State.FAILED, None)
        assert "finite" in made.trials[0].reason

    def test_answers_of_a_person_fail(self, value: str, container: str) -> None:
        made = named_study()
        given = CONTAINERS[container](2.0, MISSING[value])
        assert made.tell(made.ask()[0], given).state is bi.State.FAILED
        assert made.add([[0.1, 0.2]], [given])[0].state is bi.State.FAILED


@pytest.mark.filterwarnings("ignore:study ")
@pytest.mark.parametrize("value", [name for name in MISSING if name != "None"])
def test_missing_numbers_alone(value: str) -> None:
    given = MISSING[value]
    made = study(bi.Problem(SPACE, lambda x: given, bi.Minimize())).run(1)
    assert made.trials[0].state is bi.State.FAILED
    (trial,) = made.ask()
    assert made.tell(trial, given).state is bi.State.FAILED
    for entry in (
        lambda: bi.Float(0.0, given), lambda: bi.Box([0.0], [given]), lambda: bi.Target(given),
        lambda: bi.Target({"y": given}), lambda: bi.Target(1.0, tolerance=given),
        lambda: bi.OutcomeConstraint("y", "<=", given), lambda: made.enqueue([given, 0.5]),
        lambda: made.enqueue(point=[given, 0.5]), lambda: made.add([[given, 0.5]], [1.0]),
        lambda: made.run(3, timeout=given, executor="threads"), lambda: made.ask(given),
        lambda: bi.Choice(given, 1.0),
    ):  # fmt: skip
        with pytest.raises(bi.InvalidInputError):
            entry()


@pytest.mark.filterwarnings("ignore:study ")
@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("value", WRONG)
def test_complex_numbers_and_units_are_an_error(value: str, container: str) -> None:
    given = CONTAINERS[container](WRONG[value], 2.0)
    made = named_study(lambda x: given).run(1)
    assert made.trials[0].y is None
    assert any(word in made.trials[0].reason for word in ("complex", "unit", "not a number"))
    (trial,) = made.ask()
    with pytest.raises(bi.InvalidInputError, match=r"complex|unit|not a number"):
        made.tell(trial, given)
    with pytest.raises(bi.InvalidInputError, match=r"complex|unit|not a number"):
        made.add([[0.1, 0.2]], [given])


@pytest.mark.parametrize("value", WRONG)
@pytest.mark.parametrize("argument", [
    name for name in REAL_ARGUMENTS if name not in ("doctor", "tell")
])  # fmt: skip
def test_complex_arguments_are_an_error(argument: str, value: str) -> None:
    with pytest.raises((bi.InvalidInputError, TypeError)):
        REAL_ARGUMENTS[argument](WRONG[value])


@pytest.mark.filterwarnings("ignore:study ")
@pytest.mark.parametrize("value", [np.ma.masked, math.nan, 1j, np.datetime64("NaT")])
@pytest.mark.parametrize("entry", ["objective", "constraint"])
def test_losses_and_violations_that_are_no_numbers_fail(entry: str, value: Any) -> None:
    class Excess(bi.OutcomeConstraint):
        """Constraint of a user."""

        def excess(self, y: Any) -> Any:
            return value

    problem = bi.Problem(
        SPACE, bowl, bi.Composite(lambda y: value) if entry == "objective" else bi.Minimize("y"),
        outputs=["y"], constraints=[Excess("y", "<=", 9.0)] if entry == "constraint" else (),
    )  # fmt: skip
    (trial,) = study(problem).run(1).trials
    assert trial.state is bi.State.FAILED
    assert any(word in trial.reason for word in ("nan", "complex"))


@pytest.mark.parametrize(
    "make", [np.array, lambda x: torch.tensor(x, requires_grad=True), torch.tensor]
)
def test_pictures_and_plausibility_of_any_kind(make: Any) -> None:
    picture, shares = make([[0.0, 1.0], [0.5, 0.25]]), make([0.5, 0.5])
    problem = bi.Problem(
        SPACE, bowl, bi.Minimize(), draw=lambda x: picture, plausibility=lambda designs: shares
    )
    made = study(problem).run(2)
    assert "img" in made._repr_html_()
    assert [one.plausibility for one in made.solutions(2)] == [0.5, 0.5]
    problem = bi.Problem(SPACE, bowl, bi.Minimize(), plausibility=lambda designs: 0.5)
    with pytest.raises(bi.InvalidInputError, match=r"each of 2 designs, got shape \(\)"):
        study(problem).run(2).solutions(2)


LATENT = {
    "codes": lambda bad: bi.Latent(lambda z: z, 2, codes=bad),
    "draws": lambda bad: bi.Latent(lambda z: z, 2, prior=lambda rng, n: bad),
    "encoder": lambda bad: bi.Latent(lambda z: z, 2, encoder=lambda x: bad, data=np.ones((40, 3))),
    "data": lambda bad: bi.Box(data=bad),
    "real": lambda bad: DesignRealism(
        lambda x: x, lambda z: z, fit_measure(np.random.default_rng(0).normal(size=(60, 2))), bad
    ),
}


@pytest.mark.parametrize("entry", LATENT)
@pytest.mark.parametrize("kind", ["masked", "complex", "durations"])
def test_arrays_of_codes_and_designs(entry: str, kind: str) -> None:
    good = np.random.default_rng(0).normal(size=(40, 2))
    bad = {
        "masked": np.ma.array(good, mask=np.arange(80).reshape(40, 2) == 5),
        "complex": good + 0j,
        "durations": (1000 * good).astype("m8[s]"),
    }[kind]
    with pytest.raises(bi.InvalidInputError):
        LATENT[entry](bad)


TENSORS: dict[str, Callable[[float], Any]] = {
    "gradient": lambda x: torch.tensor(x, requires_grad=True) * 1.0,
    "half": lambda x: torch.tensor(x, dtype=torch.float16),
    "bfloat16": lambda x: torch.tensor(x, dtype=torch.bfloat16),
    "length one": lambda x: torch.tensor([x]),
    "array of length one": lambda x: np.array([x]),
    "two dimensions": lambda x: np.array([[x]]),
    "series of length one": lambda x: pd.Series([x], index=[7]),
    "float32": np.float32,
    "bool": lambda x: np.bool_(x),
    "extended precision": np.longdouble,
    "buffer": lambda x: array("d", [x]),
    "queue": lambda x: deque([x]),
}
with suppress(ImportError):
    import polars

    TENSORS["column of polars"] = lambda x: polars.Series([x])
    TENSORS["array of pyarrow"] = lambda x: pyarrow.array([x])
    TENSORS["scalar of pyarrow"] = pyarrow.scalar


@pytest.mark.parametrize("container", [*CONTAINERS, "stack"])
@pytest.mark.parametrize("kind", TENSORS)
def test_tensors_and_arrays_of_length_one(kind: str, container: str) -> None:
    def answer(x: Any) -> Any:
        one, other = TENSORS[kind](1.0), TENSORS[kind](0.0)
        if container != "stack":
            return CONTAINERS[container](one, other)
        stack = torch.stack if hasattr(one, "detach") else np.stack
        return stack([one, other]).reshape(2)

    made = named_study(answer).run(1)
    assert made.trials[0].y is not None, made.trials[0].reason
    assert made.trials[0].y.tolist() == [1.0, 0.0]
    assert made.tell(made.ask()[0], answer(None)).y.tolist() == [1.0, 0.0]
    assert bi.Target(CONTAINERS["dict"](*answer(None))).value == (1.0, 0.0) \
        if container == "list" else True  # fmt: skip


LOW, HIGH = 0.1, 0.7
LOWER_PRECISION: dict[str, Callable[[float], Any]] = {
    "float32": np.float32,
    "float16": np.float16,
    "tensor": lambda x: torch.tensor(x, dtype=torch.float32),
    "half tensor": lambda x: torch.tensor(x, dtype=torch.float16),
    "bfloat16": lambda x: torch.tensor(x, dtype=torch.bfloat16),
    "list of float32": lambda x: np.float32(x).tolist(),
}
BOUNDED: dict[str, Callable[[], Any]] = {
    "named": lambda: bi.Box({"x": bi.Float(LOW, HIGH)}),
    "log": lambda: bi.Box({"x": bi.Float(LOW, HIGH, log=True)}),
    "steps": lambda: bi.Box({"x": bi.Choice(LOW, 0.3, HIGH, ordered=True)}),
    "choice": lambda: bi.Box({"x": bi.Choice(LOW, 0.3, HIGH)}),
    "vector": lambda: bi.Box([LOW], [HIGH], names=["x"]),
}


@pytest.mark.parametrize("end", [LOW, HIGH])
@pytest.mark.parametrize("space", BOUNDED)
@pytest.mark.parametrize("precision", LOWER_PRECISION)
def test_a_bound_in_lower_precision_is_inside(precision: str, space: str, end: float) -> None:
    made = study(bi.Problem(BOUNDED[space](), None, bi.Minimize()))
    value = LOWER_PRECISION[precision](end)
    trials = [*made.add([{"x": value}], [1.0]), made.enqueue({"x": value})]
    if space == "vector":
        trials += [*made.add([[value]], [1.0]), made.enqueue([value])]
    for trial in trials:
        (asked,) = trial.design.values() if isinstance(trial.design, dict) else trial.design
        assert made.problem.space.domain.parameters["x"].read(asked) == asked
        assert asked == pytest.approx(end, rel=0.01)
    wide = [np.float32(LOW), *np.linspace(0.2, 0.6, 20), np.float32(HIGH)]
    if space in ("named", "vector"):
        assert bi.Box({"x": (LOW, HIGH)}, data=[{"x": x} for x in wide]).domain.reference


@pytest.mark.parametrize("outside", [LOW - 1e-6, HIGH + 1e-6, HIGH + 1e-9, np.float32(0.70001)])
@pytest.mark.parametrize("space", ["named", "log", "vector"])
def test_other_values_outside_are_not_inside(space: str, outside: float) -> None:
    made = study(bi.Problem(BOUNDED[space](), None, bi.Minimize()))
    with pytest.raises(bi.InvalidInputError, match="not a number in"):
        made.add([{"x": outside}], [1.0])


def test_outputs_in_single_precision_at_a_bound() -> None:
    limits = ["y <= 0.1", "z >= 0.7"]
    problem = bi.Problem(
        SPACE, lambda x: np.array([0.1, 0.7], dtype=np.float32), bi.Target({"y": 0.0}, 0.1),
        constraints=limits, outputs=["y", "z"],
    )  # fmt: skip
    made = study(problem).run(5)
    assert len(made.trials) == 1, "the run ends: the target is within its tolerance"
    assert made.trials[0].feasible
    assert problem.broken(made.trials[0].y) == ()
    assert problem.violation(np.array([0.1 + 1e-6, 0.7])) > 0.0


def echo(design: Any) -> float:
    return float(np.ravel(list(design.values()) if isinstance(design, dict) else design)[0])


WANTED = [0.003, 0.05, 0.1, 0.77, 0.9, 1e-17, 1.0 / 3.0, math.pi / 4.0]
EXACT: dict[str, tuple[Callable[[], bi.Problem], list[Any]]] = {
    "linear": (lambda: boxed(bi.Float(-273.15, 1500.0)), [{"x": x} for x in WANTED]),
    "log": (lambda: boxed(bi.Float(1e-18, 1.0, log=True)), [{"x": x} for x in WANTED]),
    "vector": (
        lambda: bi.Problem(bi.Box([-273.15], [1500.0]), echo, bi.Minimize()),
        [np.array([x]) for x in WANTED],
    ),
    "integers": (lambda: boxed(bi.Int(0, 2**53)), [{"x": x} for x in (0, 3, 2**53 - 1, 2**53)]),
    "integers, log": (lambda: boxed(bi.Int(1, 10**6, log=True)), [{"x": x} for x in (1, 7, 999)]),
    "steps": (
        lambda: boxed(bi.Choice(0.1, 0.25, 1.0 / 3.0, ordered=True)), [{"x": 1.0 / 3.0}, {"x": 0.1}]
    ),
    "choices": (lambda: boxed(bi.Choice(3, 1.0 / 3.0, True)), [{"x": 1.0 / 3.0}, {"x": True}]),
    "latent": (
        lambda: bi.Problem(
            bi.Latent(lambda z: 3.0 * z + 0.1, 2, encoder=lambda x: (np.asarray(x) - 0.1) / 3.0),
            echo, bi.Minimize(),
        ),
        [np.array([x, -x]) for x in WANTED],
    ),
}  # fmt: skip


def boxed(parameter: Any) -> bi.Problem:
    return bi.Problem(bi.Box({"x": parameter}), echo, bi.Minimize())


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, dict):
        return one == other and list(map(type, one.values())) == list(map(type, other.values()))
    return np.asarray(one).tolist() == np.asarray(other).tolist()


def check(made: bi.Study, wanted: list[Any], calls: list[Any] | None) -> None:
    designs = [trial.design for trial in made.trials]
    assert all(map(equal, designs, [*wanted, *wanted]))
    if calls is not None:
        assert all(map(equal, calls, wanted))
    for trial, design in zip(made.trials, [*wanted, *wanted], strict=True):
        vector = not isinstance(design, dict)
        assert (str(np.asarray(design)[0]) if vector else f"x={design['x']!r}") in repr(trial)


@pytest.mark.filterwarnings("ignore:study .* continues with changes")
@pytest.mark.parametrize("kind", EXACT)
def test_designs_of_the_user_are_exact(kind: str, tmp_path: Path) -> None:
    make, wanted = EXACT[kind]
    calls: list[Any] = []
    problem = make()
    inner = problem.oracle.fn

    def oracle(design: Any) -> float:
        calls.append(design)
        return float(inner(design))

    problem.oracle.fn = oracle
    made = study(problem, storage=f"sqlite:///{tmp_path}/runs.db")
    for design in wanted:
        made.enqueue(design)
    made.run(len(wanted))
    made.add(wanted, [1.0] * len(wanted))
    check(made, wanted, calls)
    check(bi.Study.open("s", f"sqlite:///{tmp_path}/runs.db", problem=make()), wanted, None)
    target = MemoryStore()
    export_study(made.journal._store, "s", tmp_path / "study.jsonl")
    import_study(target, tmp_path / "study.jsonl")
    check(bi.Study.open("s", target, problem=make()), wanted, None)
    if kind in ("latent",):
        return
    name = next(iter(problem.domain.parameters))
    domain = stored_domain(made.journal.header["problem"])
    records = [trial_record(trial, ["y"], domain) for trial in made.journal.trials]
    read = list(csv.DictReader(io.StringIO(records_csv(records))))
    sent = json.loads(json.dumps(records))
    for design, frame, row, line in zip(
        [*wanted, *wanted], made.to_dataframe()[name], sent, read, strict=True
    ):
        value = design["x"] if isinstance(design, dict) else design.item()
        assert frame == row[name] == value
        assert line[name] == str(value)


@pytest.mark.parametrize("kind", EXACT)
def test_designs_of_the_user_are_exact_over_http(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, wanted = EXACT[kind]
    inside = Inside(tmp_path)

    def request(_: Any, method: str, path: str, **options: Any) -> Any:
        sent = {key: value for key, value in options.items() if key in ("json", "params")}
        answer = inside.request(method, path, **sent)
        assert answer.status_code < 300, answer.text
        return answer.json() if answer.content else None

    monkeypatch.setattr(RemoteStore, "request", request)
    store = RemoteStore("http://localhost:1", "secret")
    made = bi.Study.create("s", make(), "random", storage=store)
    for design in wanted:
        made.enqueue(design)
    made.run(len(wanted))
    made.add(wanted, [1.0] * len(wanted))
    check(made, wanted, None)
    if isinstance(wanted[0], dict):
        listed = inside.request("GET", "/v1/studies/s/trials").json()["trials"]
        assert [trial["parameters"] for trial in listed] == [*wanted, *wanted]
        body = {"parameters": wanted[-1]}
        posted = inside.request("POST", "/v1/studies/s/enqueue", json=body).json()
        assert posted["parameters"] == wanted[-1]
        point = posted["point"]
        for false in {"x": wanted[0]["x"]}, {"other": 1.0}, [wanted[0]["x"]], "text", 5:
            body = {"point": point, "design": false}
            assert inside.request("POST", "/v1/studies/s/enqueue", json=body).status_code == 422
