"""Control regressors: would others of the same kind love what one regressor loves? (Renz et al. 2019).

A search finds where a regressor is right about a good design, and also where it is only wrong. A regressor that learnt
the same task from the same data with another seed tells the errors of one training, one that learnt it from other data
those of the data. Real designs show how much such regressors differ anyhow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.errors import InvalidInputError
from bo_invert.oracles.base import Oracle, as_oracle, as_outputs
from bo_invert.report.table import Table
from bo_invert.types import Array

Train = Callable[[Any, Any, int], Any]
"""``train(X, y, seed)``: a regressor that learnt ``y`` from designs ``X``."""

_NOTE = (
    "Gaps: claimed less control, less what real designs of nearly the same claim show. Rarity: share of those that are "
    "as far from their median."
)
_LEAST = 10
_SHARE = 0.05
"""Of the held-out designs, so many are compared with, and ``_LEAST`` at least."""


@dataclass(frozen=True, eq=False, repr=False)
class Gaps:
    """What is claimed of n designs, and how far controls stay behind that.

    Args:
        claimed: by the attacked regressor, shape ``(n, m)``.
        by_model: the same outputs by the one of another seed, shape ``(n, m)``.
        by_data: by the one of other data, shape ``(n, m)``.
        usual_model: median of ``claimed - by_model`` over the held-out real designs of nearly the same claim.
        usual_data: the same for ``claimed - by_data``.
        rarity: share of those real designs whose ``claimed - by_data`` is as far from the median, shape ``(n, m)``:
            0.5 is ordinary, 0 was never seen.
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
        """How much of a claim is owed to one training, beyond what real designs show, shape ``(n, m)``."""
        return self.claimed - self.by_model - self.usual_model

    @property
    def data(self) -> Array:
        """How much of a claim is owed to the data, beyond what real designs show, shape ``(n, m)``."""
        return self.claimed - self.by_data - self.usual_data

    def table(self) -> Table:
        """One row per design and output."""
        several = len(self.outputs) > 1
        rows = []
        for i in range(len(self.claimed)):
            for j, name in enumerate(self.outputs):
                told = (
                    self.claimed,
                    self.by_model,
                    self.by_data,
                    self.model,
                    self.data,
                    self.rarity,
                )
                rows.append(
                    (i, *([name] if several else []), *(float(values[i, j]) for values in told))
                )
        columns = ("design", *(["output"] if several else []), "claimed", "other seed", "other data",
                   "gap (seed)", "gap (data)", "rarity")  # fmt: skip
        return Table(
            columns,
            tuple(rows),
            notes=(_NOTE,),
        )

    def __repr__(self) -> str:
        return self.table().text()

    def _repr_html_(self) -> str:
        return self.table().html()


class Controls:
    """A regressor to be searched, and two that tell what of its claims to believe.

    Attributes:
        attacked: the oracle for ``Problem``.
        model: learnt from the same designs with another seed.
        data: learnt from other designs with another seed; the one for ``Problem(judge=...)``.

    Args:
        attacked: regressor, anything that can be an oracle; so are the next two.
        model: of another seed.
        data: of other data.
        held_out: real designs that none of them learnt from.
        outputs: names of the outputs.
    """

    def __init__(
        self, attacked: Any, model: Any, data: Any, held_out: Any, outputs: Sequence[str]
    ) -> None:
        self.outputs = tuple(outputs)
        self.attacked, self.model, self.data = (as_oracle(one) for one in (attacked, model, data))
        self._claims = self._told(self.attacked, held_out)
        self._behind_model = self._claims - self._told(self.model, held_out)
        self._behind_data = self._claims - self._told(self.data, held_out)

    def gaps(self, designs: Any) -> Gaps:
        """How far controls stay behind what is claimed of n designs; no call of these is in a ledger.

        Raises:
            InvalidInputError: a regressor gives no outputs of a design.
        """
        claimed, by_model, by_data = (
            self._told(one, designs) for one in (self.attacked, self.model, self.data)
        )
        usual_model, usual_data, rarity = (np.empty_like(claimed) for _ in range(3))
        near = min(len(self._claims), max(_LEAST, round(_SHARE * len(self._claims))))
        for i, j in np.ndindex(claimed.shape):
            alike = np.argsort(np.abs(self._claims[:, j] - claimed[i, j]), kind="stable")[:near]
            behind = self._behind_data[alike, j]
            usual_model[i, j] = np.median(self._behind_model[alike, j])
            usual_data[i, j] = np.median(behind)
            far = abs(claimed[i, j] - by_data[i, j] - usual_data[i, j])
            rarity[i, j] = (np.abs(behind - usual_data[i, j]) >= far).mean()
        return Gaps(claimed, by_model, by_data, usual_model, usual_data, rarity, self.outputs)

    def _told(self, oracle: Oracle, designs: Any) -> Array:
        rows = []
        for answer in oracle.answers(designs, self.outputs):
            if answer.verdict is not None:
                raise InvalidInputError(
                    f"controls: a regressor gives no outputs: {answer.verdict.reason}"
                )
            rows.append(as_outputs(answer.y, self.outputs))
        return np.array(rows).reshape(len(rows), len(self.outputs))


def control_regressors(
    regressor: Any,
    X: Any,
    y: Any,
    *,
    trained: Any = None,
    held_out: float = 0.2,
    seed: int = 0,
    outputs: Sequence[str] | None = None,
) -> Controls:
    """Train what a search needs beside a regressor, from the regressor's own data.

    A share ``held_out`` of the designs is kept from all of them. The rest is halved: the attacked regressor and the one
    of another seed learn from one half, the one of other data from the other half. With ``trained``, a regressor that
    knows all of ``X`` is attacked as it is, the one of another seed learns from all but the held-out designs and the
    one of other data from half of these; that half, and what is held out, it has seen, so gaps come out too small.

    Args:
        regressor: an estimator with ``fit`` and ``get_params`` (of scikit-learn and those like it), fitted or not;
            it is copied, and ``random_state`` is set where it has one. Or ``train(X, y, seed)``, which returns
            anything that can be an oracle, such as a ``torch.nn.Module``.
        X: real designs: an array ``(n, ...)``, a data frame, or a list of n.
        y: their outputs, shape ``(n,)`` or ``(n, m)``.
        trained: the regressor to attack, where it is trained already.
        held_out: share of the designs that nobody learns from, in (0, 1).
        seed: of the split, and the first of the regressors' seeds.
        outputs: names of the m outputs; default: ``y`` or ``y0, y1, ...``.

    Raises:
        InvalidInputError: the regressor can be neither copied nor called, or there are too few designs.
    """
    train = _trainer(regressor)
    targets = np.asarray(y, dtype=np.float64)
    count = len(targets)
    if len(X) != count:
        raise InvalidInputError(
            f"control_regressors: {len(X)} designs and {count} rows of outputs do not match"
        )
    if not 0.0 < held_out < 1.0:
        raise InvalidInputError(
            f"control_regressors: held_out is a share in (0, 1), got {held_out!r}"
        )
    kept = round(held_out * count)
    if kept < _LEAST or count - kept < 2 * _LEAST:
        raise InvalidInputError(
            f"control_regressors: of {count} designs {kept} would be held out and {count - kept} learnt from; at least "
            f"{_LEAST} and {2 * _LEAST} are needed"
        )
    names = outputs or (
        ("y",) if targets.ndim == 1 else tuple(f"y{j}" for j in range(targets.shape[1]))
    )
    order = np.random.default_rng(np.random.SeedSequence(seed)).permutation(count)
    aside, rest = np.sort(order[:kept]), order[kept:]
    half, other = np.sort(rest[: len(rest) // 2]), np.sort(rest[len(rest) // 2 :])

    def learnt(rows: Any, number: int) -> Any:
        return train(_rows(X, rows), targets[rows], number)

    if trained is None:
        attacked, model = learnt(half, seed), learnt(half, seed + 1)
    else:
        attacked, model = trained, learnt(np.sort(rest), seed + 1)
    return Controls(attacked, model, learnt(other, seed + 2), _rows(X, aside), names)


def _trainer(regressor: Any) -> Train:
    if callable(getattr(regressor, "fit", None)) and callable(
        getattr(regressor, "get_params", None)
    ):

        def train(X: Any, y: Any, seed: int) -> Any:
            made = _copied(regressor)
            if "random_state" in made.get_params(deep=False):
                made.set_params(random_state=seed)
            return made.fit(X, y)

        return train
    trained = hasattr(regressor, "predict") or hasattr(regressor, "forward")
    if not callable(regressor) or (trained and not isinstance(regressor, type)):
        raise InvalidInputError(
            f"control_regressors: {type(regressor).__name__} cannot be trained again from here; give an estimator with "
            "fit and get_params, or a function train(X, y, seed) that returns a regressor"
        )
    function: Train = regressor
    return function


def _copied(estimator: Any) -> Any:
    """Another one with the same parameters that has learnt nothing."""
    try:
        from sklearn.base import clone
    except ImportError:
        return type(estimator)(**estimator.get_params(deep=False))
    return clone(estimator)


def _rows(designs: Any, rows: Any) -> Any:
    if hasattr(designs, "iloc"):
        return designs.iloc[rows]
    return (
        np.asarray(designs)[rows] if hasattr(designs, "__array__") else [designs[i] for i in rows]
    )
