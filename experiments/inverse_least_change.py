"""Least change of a design that reaches a target, beside DiCE and an exhaustive search.

    pip install -c constraints.txt -e ".[counterfactuals]"   # DiCE, for its methods only
    python experiments/inverse_least_change.py run --queries 10   # resumes
    python experiments/inverse_least_change.py table   # writes docs/least_change.md

Three regressors on tables: a support vector machine on Friedman's function (5 numbers), gradient
boosting on a synthetic price list (numbers, integers and choices), and a random forest on the
diabetes data (9 numbers and a choice). A query is a row x0 of the data; the target is a range of
0.2 standard deviations of the outputs, which begins 0.5 above the prediction of x0.

``nearest`` has 60 calls. DiCE (Mothilal, Sharma & Tan 2020) has its default settings and returns
four counterfactuals, of which the one with the least change counts; its calls are the rows that
the regressor predicts. The change is the one of ``bi.Nearest`` for all. The reference is the best
of 300,000 draws around the hits so far, in rounds of falling radius, and of all methods.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from marked_page import replace_marked
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVR

import bo_invert as bi
from bo_invert.types import Array

ROOT = Path(__file__).parents[1]
ROWS = ROOT / "docs" / "benchmarks" / "inverse_least_change.jsonl"
BUDGET = 60
ROUNDS, DRAWS, STARTS = 30, 10_000, 20
METHODS = ("nearest", "nearest few", "dice random", "dice genetic")


class Counted:
    """Regressor that counts the rows that it predicts."""

    def __init__(self, model: Any) -> None:
        self.model, self.rows = model, 0

    def predict(self, rows: pd.DataFrame) -> Array:
        self.rows += len(rows)
        return np.asarray(self.model.predict(rows))


@dataclass(frozen=True)
class Case:
    """Regressor, its data and its parameters."""

    model: Any
    data: pd.DataFrame
    parameters: dict[str, Any]
    shift: float

    def frame(self, designs: list[dict[str, Any]]) -> pd.DataFrame:
        return pd.DataFrame(designs, columns=list(self.parameters))

    def query(self, number: int) -> tuple[dict[str, Any], tuple[float, float]]:
        """Return x0 and the range of the target."""
        order = np.random.default_rng(7).permutation(len(self.data))
        predicted = self.model.predict(self.data)
        # Rows whose target lies inside the range of the predictions.
        rows = [i for i in order if predicted[i] + 0.8 * self.shift < predicted.max()]
        row = self.data.iloc[rows[number]]
        x0 = {
            name: str(row[name]) if isinstance(one, bi.Choice) else
            int(row[name]) if isinstance(one, bi.Int) else float(row[name])
            for name, one in self.parameters.items()
        }  # fmt: skip
        low = float(predicted[rows[number]] + 0.5 * self.shift)
        return x0, (low, low + 0.2 * self.shift)


def friedman() -> Case:
    x, y = make_friedman1(400, 5, noise=0.5, random_state=0)
    data = pd.DataFrame(x, columns=[f"x{i}" for i in range(5)])
    model = make_pipeline(StandardScaler(), SVR(C=10.0)).fit(data, y)
    return Case(model, data, dict.fromkeys(data.columns, bi.Float(0.0, 1.0)), float(y.std()))


def prices() -> Case:
    rng = np.random.default_rng(0)
    n = 600
    data = pd.DataFrame({
        "area": rng.uniform(30.0, 200.0, n), "rooms": rng.integers(1, 8, n),
        "age": rng.uniform(0.0, 90.0, n), "heating": rng.choice(["gas", "oil", "pump"], n),
        "place": rng.choice(["centre", "suburb", "country", "coast"], n),
    })  # fmt: skip
    places = data["place"].map({"centre": 1.5, "suburb": 1.1, "country": 0.8, "coast": 1.4})
    y = data["area"] * places * (1.0 - 0.004 * data["age"]) + 6.0 * data["rooms"]
    y = y + data["heating"].map({"gas": 0.0, "oil": -8.0, "pump": 12.0}) + rng.normal(0, 4, n)
    encode = make_column_transformer(
        (OneHotEncoder(), ["heating", "place"]), remainder="passthrough"
    )
    model = make_pipeline(encode, GradientBoostingRegressor(random_state=0)).fit(data, y)
    parameters = {
        "area": bi.Float(30.0, 200.0), "rooms": bi.Int(1, 7), "age": bi.Float(0.0, 90.0),
        "heating": bi.Choice(["gas", "oil", "pump"]),
        "place": bi.Choice(["centre", "suburb", "country", "coast"]),
    }  # fmt: skip
    return Case(model, data, parameters, float(y.std()))


def diabetes() -> Case:
    data, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    data["sex"] = data["sex"].map({1.0: "a", 2.0: "b"})
    encode = make_column_transformer((OneHotEncoder(), ["sex"]), remainder="passthrough")
    forest = RandomForestRegressor(50, min_samples_leaf=3, random_state=0)
    model = make_pipeline(encode, forest).fit(data, y)
    parameters = {
        name: bi.Choice(["a", "b"]) if name == "sex"
        else bi.Float(float(data[name].min()), float(data[name].max()))
        for name in data.columns
    }  # fmt: skip
    return Case(model, data, parameters, float(y.std()))


CASES: dict[str, Callable[[], Case]] = {
    "friedman, SVM": cache(friedman),
    "prices, boosting": cache(prices),
    "diabetes, forest": cache(diabetes),
}


def problem_of(case: Case, query: int, few: bool, oracle: Any = None) -> bi.Problem:
    x0, ends = case.query(query)
    goal = bi.Nearest(x0, bi.Target({"y": ends}), few=few)
    return bi.Problem(bi.Box(case.parameters), oracle, goal, outputs=["y"])


def measured(case: Case, query: int, designs: list[dict[str, Any]], few: bool) -> dict[str, Any]:
    """Return least change and number of changed parameters of the designs that meet the target."""
    problem = problem_of(case, query, few)
    low, high = case.query(query)[1]
    y = case.model.predict(case.frame(designs)) if designs else np.empty(0)
    hits = [one for one, value in zip(designs, y, strict=True) if low <= value <= high]
    if not hits:
        return {"hit": False, "change": None, "changed": None, "loss": None}
    goal = problem.objective
    assert isinstance(goal, bi.Nearest)
    assert goal.change is not None
    points = problem.space.encode(hits)
    plain = problem_of(case, query, False).objective
    losses = goal.change(points)
    best = int(losses.argmin())
    return {
        "hit": True, "change": float(plain.change(points)[best]),
        "changed": int(goal.change.changed(points)[best].sum()), "loss": float(losses[best]),
    }  # fmt: skip


def reference(case: Case, query: int, few: bool) -> dict[str, Any]:
    """Search around the best hits so far, in rounds of falling radius."""
    problem, rng = problem_of(case, query, few), np.random.default_rng(query)
    domain, goal = problem.domain, problem.objective
    low, high = case.query(query)[1]
    best = np.empty((0, domain.dim))
    for k in range(ROUNDS):
        points = domain.sample(rng, DRAWS)
        if k:
            starts = np.concatenate([best, goal.change.origin[None]])
            near = starts[rng.integers(len(starts), size=DRAWS)]
            step = 0.3 * 0.8**k * rng.standard_normal(points.shape)
            near = near + np.where(rng.random(points.shape) < 0.5, step, 0.0)
            shares = rng.random((DRAWS, 1)) ** 2 * 0.5
            near += shares * (goal.change.origin - near) * (rng.random((DRAWS, 1)) < 0.5)
            for name, own in domain.columns.items():
                if isinstance(case.parameters[name], (bi.Choice, bi.Int)):
                    drawn = rng.random(DRAWS) < 0.1
                    near[drawn, own] = points[drawn, own]
                back = rng.random(DRAWS) < 0.2
                near[back, own] = goal.change.origin[own]
            points = domain.project(near)
        y = case.model.predict(case.frame(domain.values(points)))
        found = np.concatenate([best, points[(y >= low) & (y <= high)]])
        best = found[np.argsort(goal.change(found), kind="stable")[:STARTS]] if len(found) else best
    return measured(case, query, domain.values(best), few)


def nearest(case: Case, query: int, few: bool) -> dict[str, Any]:
    counted = Counted(case.model)
    problem = problem_of(case, query, few, lambda d: float(counted.predict(case.frame([d]))[0]))
    study = bi.Study.create("s", problem, "auto", seed=query).run(BUDGET)
    found = [] if study.best is None else [dict(study.best.design)]
    return {**measured(case, query, found, few), "calls": counted.rows}


def dice(case: Case, query: int, method: str) -> dict[str, Any]:
    import dice_ml

    x0, ends = case.query(query)
    counted = Counted(case.model)
    numbers = [name for name, one in case.parameters.items() if not isinstance(one, bi.Choice)]
    table = case.data.assign(y=case.model.predict(case.data))
    data = dice_ml.Data(dataframe=table, continuous_features=numbers, outcome_name="y")
    model = dice_ml.Model(model=counted, backend="sklearn", model_type="regressor")
    explainer = dice_ml.Dice(data, model, method=method)
    seed = {"random_seed": query} if method == "random" else {}
    try:
        found = explainer.generate_counterfactuals(
            case.frame([x0]), total_CFs=4, desired_range=list(ends), verbose=False, **seed
        )
        frame = found.cf_examples_list[0].final_cfs_df
    except Exception as error:  # DiCE raises if it finds none
        return {"hit": False, "calls": counted.rows, "error": str(error)[:200]}
    rows = [] if frame is None else frame[list(case.parameters)].to_dict("records")
    designs = [
        {
            name: str(row[name]) if isinstance(one, bi.Choice)
            else int(np.clip(round(float(row[name])), one.low, one.high))
            if isinstance(one, bi.Int)
            else float(np.clip(float(row[name]), one.low, one.high))
            for name, one in case.parameters.items()
        }
        for row in rows
    ]  # fmt: skip
    both = {f"few {key}": value for key, value in measured(case, query, designs, True).items()}
    return {**measured(case, query, designs, False), **both, "calls": counted.rows}


def run(queries: int, methods: list[str]) -> None:
    known = {(row["problem"], row["query"], row["method"]) for row in rows()}
    for query in range(queries):
        for name, make in CASES.items():
            for method in methods:
                if (name, query, method) in known:
                    continue
                began, case = time.perf_counter(), make()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    if method.startswith("dice"):
                        found = dice(case, query, method.removeprefix("dice "))
                    elif method.startswith("reference"):
                        found = reference(case, query, method.endswith("few"))
                    else:
                        found = nearest(case, query, method.endswith("few"))
                found["seconds"] = round(time.perf_counter() - began, 2)
                row = {"problem": name, "query": query, "method": method, **found}
                with ROWS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
                print(row, flush=True)


def rows() -> list[dict[str, Any]]:
    if not ROWS.exists():
        return []
    return [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()]


def table() -> None:
    frame = pd.DataFrame(rows())
    head = ["regressor", "method", "queries", "hits", "change / reference, median (largest)"]
    head += ["within 10 %", "changed, median", "calls, median"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name in CASES:
        for method in METHODS:
            few = method.endswith("few")
            own = frame[(frame.problem == name) & (frame.method == method)]
            measure = "loss" if few else "change"
            plain = ["reference", "nearest", "dice random", "dice genetic"]
            same = ["reference few", "nearest few"] if few else plain
            pool = frame[(frame.problem == name) & frame.method.isin(same)]
            least = pool.groupby("query")[measure].min()
            if not len(own):
                continue
            ratio = own.set_index("query")[measure] / least.reindex(own["query"])
            near = int((ratio <= 1.1).sum())
            hits = own[own.hit]
            lines.append(
                f"| {name} | {method} | {len(own)} | {len(hits)} | {ratio.median():.2f} "
                f"({ratio.max():.2f}) | {near} | {hits.changed.median():.0f} | "
                f"{own.calls.median():.0f} |"
            )
    replace_marked(ROOT / "docs" / "least_change.md", "least change", "\n".join(lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--queries", type=int, default=10)
    parser.add_argument("--methods", default=",".join(("reference", "reference few", *METHODS)))
    given = parser.parse_args()
    if given.what == "run":
        run(given.queries, given.methods.split(","))
    else:
        table()
