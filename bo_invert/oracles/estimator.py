"""Estimators with ``predict`` as oracles: scikit-learn, LightGBM, XGBoost and similar."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bo_invert.errors import require
from bo_invert.oracles.base import Oracle, RawOutputs
from bo_invert.types import JSON, Design
from bo_invert.user_data import whole_number
from bo_invert.user_tables import columns, record, require_names, table


class Estimator(Oracle):
    """Oracle that calls a fitted estimator from ``(n, features)`` to ``(n,)`` or ``(n, m)``.

    The oracle has no gradient. Designs with names become a data frame if the estimator was fitted
    on one; the names must be those of the fit, in any order. Otherwise they become rows of numbers
    in the order of their names. Only data frames hold text.

    Forests and boosted trees of scikit-learn, LightGBM and XGBoost predict on ``n_jobs`` threads.
    More threads than processors, started by several workers, slow each other down. The given
    estimator does not change. After early stopping, boosted trees predict with the best iteration.

    Args:
        estimator: fitted estimator, ``lightgbm.Booster`` or ``xgboost.Booster``.
        outputs: names of the outputs. Default with ``"predict_proba"``: names of the classes.
        flatten: reshape designs such as images to rows.
        method: method of the estimator to call, for example ``"predict_proba"``.
        n_jobs: threads of one prediction; None keeps the setting of the estimator.

    Raises:
        InvalidInputError: the estimator has no such method.
    """

    batched = True

    def __init__(
        self,
        estimator: object,
        outputs: Sequence[str] | None = None,
        flatten: bool = True,
        method: str = "predict",
        n_jobs: int | None = 1,
    ) -> None:
        require(
            callable(getattr(estimator, method, None)),
            f"Estimator: method must be one of {type(estimator).__name__}'s, got {method!r}",
        )
        if outputs is None and method == "predict_proba":
            outputs = [str(label) for label in getattr(estimator, "classes_", ())] or None
        n_jobs = (
            None if n_jobs is None else whole_number("Estimator", "n_jobs", n_jobs, least=-(2**31))
        )
        self.estimator: Any = estimator if n_jobs is None else _on_threads(estimator, n_jobs)
        self.n_jobs = n_jobs
        self.outputs = None if outputs is None else tuple(outputs)
        self.flatten = flatten
        self.method = method

    def __call__(self, designs: Sequence[Design]) -> RawOutputs:
        rows = table(designs)
        if rows is not None:
            return self._rows(self._named(rows))
        array = np.asarray(designs)
        flat = array.reshape(len(array), -1) if self.flatten else array
        names = self.input_names
        if names is None or flat.ndim != 2 or flat.shape[1] != len(names):
            return self._rows(flat)
        return self._rows(_frame(flat, names))

    def _rows(self, inputs: object) -> RawOutputs:
        """Predict; outputs without names become an array of numpy."""
        found: RawOutputs = self._predict(inputs)
        named = record(found) is not None or columns(found) is not None
        return found if named else np.asarray(found)

    @property
    def input_names(self) -> tuple[str, ...] | None:
        return _fitted_names(self.estimator)

    def check_design(self, design: Design) -> None:
        kind = type(self.estimator).__name__
        require(
            not _is_unfitted(self.estimator),
            f"Estimator: estimator must be fitted, got {kind} without a fit. Call its fit(X, y) "
            "before",
        )
        named = record(design)
        size = len(named) if named is not None else np.size(np.asarray(design))
        count = _feature_count(self.estimator)
        flat = named is not None or self.flatten or np.ndim(np.asarray(design)) == 1
        require(
            count is None or not flat or size == count,
            f"Estimator: {kind} was fitted with {count} features, and designs of the space have "
            f"{size}. Search the features of the fit, or wrap the estimator in a function of a "
            "design that computes them",
        )

    @property
    def _predict(self) -> Callable[[Any], Any]:
        predict: Callable[..., Any] = getattr(self.estimator, self.method)
        # ``predict`` of xgboost.Booster needs a DMatrix.
        if self.method == "predict" and hasattr(self.estimator, "inplace_predict"):
            last = getattr(self.estimator, "best_iteration", None)
            trees = (0, 0 if last is None else int(last) + 1)
            return lambda table: self.estimator.inplace_predict(table, iteration_range=trees)
        if self.n_jobs is not None and _is_lightgbm(self.estimator):
            return lambda table: predict(table, num_threads=self.n_jobs)
        return predict

    def _named(self, designs: Sequence[Mapping[str, Any]]) -> object:
        fitted = self.input_names
        if fitted is not None:
            require_names("designs: the features of the fit", fitted, designs[0])
            return _frame([[row[name] for name in fitted] for row in designs], fitted)
        names = list(designs[0])
        rows = [[design[name] for name in names] for design in designs]
        text = [name for name in names if not isinstance(designs[0][name], (int, float, np.number))]
        require(
            not text,
            f"{type(self.estimator).__name__} needs numbers, but parameters {text} are not. "
            "Fit a pipeline that encodes them on a data frame, or wrap it in a function.",
        )
        return np.array(rows, dtype=float)

    @property
    def implementation(self) -> object:
        return self.estimator

    def to_json(self) -> JSON:
        return {"type": "estimator", "name": type(self.estimator).__name__, "method": self.method}


# Names that libraries give to the columns of arrays: Column_0 by LightGBM, 0 by CatBoost.
_UNNAMED = re.compile(r"(Column_)?\d+")


def _fitted_names(estimator: object) -> tuple[str, ...] | None:
    """Return the names of the columns of the fit; None if they had none.

    Wrappers such as searches and transformed targets hold the fitted estimator.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None and hasattr(estimator, "inplace_predict"):
        names = getattr(estimator, "feature_names", None)
    if names is None and _is_lightgbm(estimator):
        names = estimator.feature_name()  # type: ignore[attr-defined]  # checked above
    if names is None:
        names = getattr(estimator, "feature_names_", None)  # CatBoost
    if names is None and hasattr(estimator, "steps"):  # a pipeline has the names of its first step
        for _, step in estimator.steps:
            if step not in (None, "passthrough"):
                return _fitted_names(step)
    if names is None:
        for part in ("best_estimator_", "regressor_", "estimator_"):
            if hasattr(estimator, part):
                return _fitted_names(getattr(estimator, part))
    if names is None or all(_UNNAMED.fullmatch(str(name)) for name in names):
        return None
    return tuple(str(name) for name in names)


def _feature_count(estimator: object) -> int | None:
    """Return the number of features of the fit; None if it is unknown."""
    for name in ("n_features_in_", "num_feature", "num_features"):
        try:
            count = getattr(estimator, name, None)
            count = count() if callable(count) else count
        except (ValueError, AttributeError, RuntimeError):  # such as NotFittedError of a property
            continue
        if isinstance(count, (int, np.integer)):
            return int(count)
    return None


# Libraries whose estimators follow scikit-learn's rule that a fit sets attributes ending in ``_``.
_FOLLOWING = ("sklearn", "lightgbm", "xgboost")


def _is_unfitted(estimator: object) -> bool:
    """Return True if an estimator is known to have no fit."""
    is_fitted = getattr(estimator, "is_fitted", None)
    if callable(is_fitted):  # CatBoost
        return not is_fitted()
    follows = type(estimator).__module__.partition(".")[0] in _FOLLOWING
    follows |= hasattr(estimator, "__sklearn_is_fitted__")
    # An estimator of these libraries has imported scikit-learn, if it is installed.
    validation = sys.modules.get("sklearn.utils.validation")
    if not (follows and hasattr(estimator, "fit") and validation is not None):
        return False
    try:
        validation.check_is_fitted(estimator)
    except (ValueError, AttributeError):  # NotFittedError is both
        return True
    return False


def _frame(rows: Sequence[Any] | NDArray[Any], names: Sequence[str]) -> object:
    """Return rows as a data frame with these columns."""
    import pandas as pd

    return pd.DataFrame(rows, columns=list(names))


def _is_lightgbm(estimator: object) -> bool:
    """Recognise a ``lightgbm.Booster`` by its methods."""
    return hasattr(estimator, "num_trees") and callable(getattr(estimator, "feature_name", None))


def _on_threads(estimator: Any, n_jobs: int) -> Any:
    """Return the estimator, or a copy that predicts on ``n_jobs`` threads."""
    if hasattr(estimator, "inplace_predict") and hasattr(estimator, "set_param"):  # xgboost.Booster
        estimator = copy.deepcopy(estimator)
        estimator.set_param({"nthread": n_jobs})
    elif hasattr(estimator, "get_booster") and hasattr(estimator, "set_params"):  # xgboost.XGBModel
        estimator = copy.deepcopy(estimator)
        estimator.set_params(n_jobs=n_jobs)
        estimator.get_booster().set_param({"nthread": n_jobs})
    elif getattr(estimator, "n_jobs", n_jobs) != n_jobs:
        estimator = copy.copy(estimator)  # shares the fitted parameters
        estimator.n_jobs = n_jobs
    return estimator
