"""Control regressors: detect designs that exploit errors of a regressor (Renz et al. 2019).

A search also finds designs where the regressor is wrong. A regressor trained on the same data with
another seed measures the error of one training. A regressor trained on other data measures the
error of the data. Held-out real designs calibrate both gaps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from bo_invert.domains.parameters import Parameter
from bo_invert.errors import EvaluationError, InvalidInputError
from bo_invert.oracles.base import Oracle, as_oracle
from bo_invert.oracles.raw_outputs import as_outputs
from bo_invert.report.table import Table
from bo_invert.spaces.box import Box
from bo_invert.types import Array, Designs, Indices
from bo_invert.user_code import own_settings, private, user_settings

Regressor: TypeAlias = Any
"""Trained regressor of any oracle type: an estimator, a torch module, a function or an oracle."""
Train = Callable[[Designs, Array, int], Regressor]
"""``train(X, y, seed)``: train a regressor of ``y`` on designs ``X``."""

_NOTE = (
    "gap: claimed value minus the control's, minus the median of both over real designs of similar "
    "claimed value. rarity: share of those real designs whose gap is as large."
)
# Neighbours among the held-out designs: share, and smallest count. Engineering choice: a median of
# ten values is stable enough to rank gaps.
_NEIGHBOUR_SHARE, _MIN_NEIGHBOURS = 0.05, 10


@dataclass(frozen=True, eq=False, repr=False)
class Gaps:
    """Outputs of n designs by the attacked regressor and by both controls, calibrated.

    Args:
        claimed: outputs of the attacked regressor, shape ``(n, m)``.
        by_model: outputs of the control with another seed, shape ``(n, m)``.
        by_data: outputs of the control with other data, shape ``(n, m)``.
        usual_model: median of ``claimed - by_model`` over held-out designs of similar claimed
            value, shape ``(n, m)``.
        usual_data: median of ``claimed - by_data`` over the same designs, shape ``(n, m)``.
        rarity: share of the same designs whose ``claimed - by_data`` deviates as much from the
            median, shape ``(n, m)``; 0.5 is typical, 0 is unseen.
        outputs: names of the m outputs.
    """

    claimed: Array
    by_model: Array
    by_data: Array
    usual_model: Array
    usual_data: Array
    rarity: Array
    outputs: tuple[str, ...]

    @property
    def model(self) -> Array:
        """Calibrated gap to the control with another seed, shape ``(n, m)``."""
        return self.claimed - self.by_model - self.usual_model

    @property
    def data(self) -> Array:
        """Calibrated gap to the control with other data, shape ``(n, m)``."""
        return self.claimed - self.by_data - self.usual_data

    def table(self) -> Table:
        """Return a table with one row per design and output."""
        columns = {
            "claimed": self.claimed,
            "other seed": self.by_model,
            "other data": self.by_data,
            "gap (seed)": self.model,
            "gap (data)": self.data,
            "rarity": self.rarity,
        }
        several = len(self.outputs) > 1
        rows = tuple(
            (
                i,
                *([self.outputs[j]] if several else []),
                *(float(v[i, j]) for v in columns.values()),
            )
            for i, j in np.ndindex(self.claimed.shape)
        )
        return Table(("design", *(["output"] if several else []), *columns), rows, notes=(_NOTE,))

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()


class Controls:
    """Attacked regressor with two control regressors.

    Attributes:
        attacked: oracle for ``Problem``.
        model: control trained on the same designs with another seed.
        data: control trained on other designs with another seed; use it as ``Problem(judge=...)``.
        real: real designs, the data of ``box``; ``control_regressors`` sets all of them.

    Args:
        attacked: regressor to search, of any oracle type.
        model: control with another seed, of any oracle type.
        data: control with other data, of any oracle type.
        held_out: real designs that no regressor was trained on.
        outputs: names of the outputs.
    """

    def __init__(
        self,
        attacked: Regressor,
        model: Regressor,
        data: Regressor,
        held_out: Designs,
        outputs: Sequence[str],
    ) -> None:
        self.outputs = tuple(outputs)
        self.real = held_out
        self.attacked, self.model, self.data = (as_oracle(one) for one in (attacked, model, data))
        self._claims = self._outputs(self.attacked, held_out)
        self._behind_model = self._claims - self._outputs(self.model, held_out)
        self._behind_data = self._claims - self._outputs(self.data, held_out)

    def box(self, parameters: Mapping[str, Parameter | tuple[float, float]] | None = None) -> Box:
        """Return the box of the real designs, with these as its reference measure.

        Args:
            parameters: parameters by name, if designs are dicts; default: the bounds of vectors.

        Raises:
            InvalidInputError: designs are neither vectors nor dicts of these parameters.
        """
        return Box(parameters, data=self.real)

    @own_settings()
    def gaps(self, designs: Designs) -> Gaps:
        """Compare the regressors on n designs; the calls are in no ledger.

        Raises:
            InvalidInputError: a regressor returns no outputs for a design.
        """
        claimed, by_model, by_data = (
            self._outputs(one, designs) for one in (self.attacked, self.model, self.data)
        )
        usual_model, usual_data, rarity = (np.empty_like(claimed) for _ in range(3))
        near = max(_MIN_NEIGHBOURS, round(_NEIGHBOUR_SHARE * len(self._claims)))
        for i, j in np.ndindex(claimed.shape):
            alike = np.argsort(np.abs(self._claims[:, j] - claimed[i, j]), kind="stable")[:near]
            behind = self._behind_data[alike, j]
            usual_model[i, j] = np.median(self._behind_model[alike, j])
            usual_data[i, j] = np.median(behind)
            far = abs(claimed[i, j] - by_data[i, j] - usual_data[i, j])
            rarity[i, j] = (np.abs(behind - usual_data[i, j]) >= far).mean()
        return Gaps(claimed, by_model, by_data, usual_model, usual_data, rarity, self.outputs)

    def _outputs(self, oracle: Oracle, designs: Designs) -> Array:
        try:
            rows = [
                as_outputs(answer.outputs_or_error, self.outputs)
                for answer in oracle.answers(designs, self.outputs)
            ]
        except EvaluationError as error:
            raise InvalidInputError(
                f"controls: a regressor gives no outputs: {error.reason}"
            ) from None
        return np.array(rows).reshape(-1, len(self.outputs))


@own_settings()
def control_regressors(
    regressor: Regressor | Train,
    X: Designs,
    y: ArrayLike,
    *,
    trained: Regressor | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    outputs: Sequence[str] | None = None,
) -> Controls:
    """Train control regressors from a regressor's own data.

    No regressor is trained on a share ``held_out`` of the designs. The rest is halved. The attacked
    regressor and the control with another seed use one half, the control with other data uses the
    other half. With ``trained``, that regressor is attacked unchanged. The control with another
    seed then uses all but the held-out designs, and the control with other data uses half of
    these. The attacked regressor was trained on all designs, so gaps are underestimated.

    Args:
        regressor: estimator with ``fit`` and ``get_params`` (scikit-learn API), fitted or not;
            it is cloned, and ``random_state`` is set if it exists. Or a function
            ``train(X, y, seed)`` that returns any oracle type, such as a ``torch.nn.Module``.
        X: real designs: an array ``(n, ...)``, a data frame, or a list of n.
        y: their outputs, shape ``(n,)`` or ``(n, m)``.
        trained: trained regressor to attack.
        held_out: share of designs that no regressor is trained on, in (0, 1).
        seed: seed of the split, and first seed of the regressors.
        outputs: names of the m outputs; default: ``y`` or ``y0, y1, ...``.

    Raises:
        InvalidInputError: the regressor can be neither cloned nor called, or designs are too few.
    """
    train = _trainer(regressor)
    targets = np.asarray(y, dtype=np.float64)
    count = len(targets)
    if len(X) != count:
        raise InvalidInputError(
            f"control_regressors: {len(X)} designs and {count} rows of outputs do not match"
        )
    if not 0.0 < held_out < 1.0:
        raise InvalidInputError(f"control_regressors: held_out must be in (0, 1), got {held_out!r}")
    reserved = round(held_out * count)
    if reserved < _MIN_NEIGHBOURS or count - reserved < 2 * _MIN_NEIGHBOURS:
        raise InvalidInputError(
            f"control_regressors: {count} designs give {reserved} held-out and {count - reserved} "
            f"training designs; at least {_MIN_NEIGHBOURS} and {2 * _MIN_NEIGHBOURS} are needed"
        )
    names = outputs or (
        ("y",) if targets.ndim == 1 else tuple(f"y{j}" for j in range(targets.shape[1]))
    )
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(count)
    aside, rest = np.sort(order[:reserved]), order[reserved:]
    half, other = np.sort(rest[: len(rest) // 2]), np.sort(rest[len(rest) // 2 :])

    def trained_on(rows: Indices, number: int) -> Regressor:
        with user_settings():
            return train(private(_rows(X, rows)), private(targets[rows]), number)

    if trained is None:
        attacked, model = trained_on(half, seed), trained_on(half, seed + 1)
    else:
        attacked, model = trained, trained_on(np.sort(rest), seed + 1)
    controls = Controls(attacked, model, trained_on(other, seed + 2), _rows(X, aside), names)
    controls.real = X
    return controls


def _trainer(regressor: Regressor | Train) -> Train:
    if all(callable(getattr(regressor, name, None)) for name in ("fit", "get_params")):
        return partial(_fit_clone, regressor)
    trained = hasattr(regressor, "predict") or hasattr(regressor, "forward")
    if not callable(regressor) or (trained and not isinstance(regressor, type)):
        raise InvalidInputError(
            f"control_regressors: {type(regressor).__name__} cannot be trained again. Pass an "
            "estimator with fit and get_params, or a function train(X, y, seed)."
        )
    return cast(Train, regressor)


def _fit_clone(estimator: Regressor, X: Designs, y: Array, seed: int) -> Regressor:
    """Fit a clone of an estimator with this seed."""
    try:
        from sklearn.base import clone
    except ImportError:
        made = type(estimator)(**estimator.get_params(deep=False))
    else:
        made = clone(estimator)
    if "random_state" in made.get_params(deep=False):
        made.set_params(random_state=seed)
    return made.fit(X, y)


def _rows(designs: Designs, rows: Indices) -> Designs:
    if hasattr(designs, "iloc"):
        return designs.iloc[rows]
    return (
        np.asarray(designs)[rows] if hasattr(designs, "__array__") else [designs[i] for i in rows]
    )
