"""Inversion problems around frozen regressors: twenty problems, a function of a seed only.

The rule was written before any search ran on a drawn problem.

1. Twenty problems: each of five kinds of model with each of four goals. Kinds: ``forest`` (two
   random forests, two forests of extra trees), ``boosted`` (gradient boosted trees), ``network``
   (a small network), ``argmax`` (one of the former behind an argmax per position), ``rounded`` (one
   of the former with outputs rounded to a tenth, a quarter or half of their standard deviation).
   Goals: ``maximum``, ``minimum``, ``target`` (one output), ``targets`` (two to four outputs).
2. Boxes of the data and latent spaces alternate like the fields of a chess board of kinds and
   goals; the seed draws the colour of the first field. A latent decodes principal components of the
   standardized data, as many as explain 90 % of the variance (2 to 12), clipped to the data's box.
3. Two problems of each kind have data of scikit-learn (breast_cancer, diabetes, digits, wine), two
   have made data (Friedman's functions 1 to 3, sparse functions of 8, 16, 24 or 32 inputs). The
   deck of data sets of either origin is shuffled and dealt without repetition until it is empty.
   linnerud has too few rows, 20, for a regressor and a judge, and iris too few inputs, 2 or 3.
   Made inputs are correlated (Gaussian copula), outputs have noise of 10 % of their standard
   deviation. Several outputs of Friedman's functions differ in the roles of the inputs.
4. Outputs of scikit-learn's data: diabetes' own target, scores of drawn classes of digits, drawn
   columns elsewhere; the other columns are the inputs. More outputs of diabetes are columns.
5. ``argmax``: each input is cut into classes at its quantiles, the classes are shuffled, and the
   regressor reads them one-hot: 16 to 64 numbers. In a box the search moves these numbers, and the
   oracle takes the argmax of each position. A latent decodes principal components of the one-hot
   rows; its designs are texts, with the one-hot rows as ``features`` in one of two problems.
6. ``control_regressors`` splits the data: the oracle learns 40 %, the judge another 40 % with
   another seed.
7. A target is the oracle's output at a real design: one output at the 99 % or 1 % quantile over
   the data, whichever is farther from the median; several outputs at one of the 5 % of rows that
   are farthest from the mean, in standard deviations. Latents need not reach it exactly. The unit
   of each output is its standard deviation.

Development uses any seed except ``ACCEPTANCE_SEED``.

    python experiments/frozen_regressors.py --seed 1        # list the problems of a seed
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from frozen_data import Data, data_of
from frozen_models import Model, fit_boosted, fit_forest, fit_network
from frozen_spaces import classes, vectors

import bo_invert as bi
from bo_invert.types import Array

DEVELOPMENT_SEED = 1
#: Draws the problems of the published results; no search ran on them before.
ACCEPTANCE_SEED = 20261129

KINDS = ("forest", "boosted", "network", "argmax", "rounded")
GOALS = ("maximum", "minimum", "target", "targets")
REAL = ("breast_cancer", "diabetes", "digits", "wine")
#: Quantile of a target of one output, and share of the rows from which several are drawn.
EXTREME, FAR = 0.99, 0.05
MADE = ("friedman1", "friedman2", "friedman3", "sparse", "sparse")


@dataclass(frozen=True)
class Card:
    """Assignment of one problem by the seed, before any data are drawn."""

    number: int
    kind: str
    goal: str
    latent: bool
    source: str
    variant: int

    @property
    def name(self) -> str:
        domain = "latent" if self.latent else "box"
        return f"{self.number:02d} {self.kind}, {self.goal}, {domain}, {self.source}"


class FrozenRegressor(bi.Problem):
    """Problem with the real designs of its regressor.

    Attributes:
        card: kind, goal, domain and data set.
        data: real designs, of which the oracle learnt 40 % and the judge another 40 %.
    """

    card: Card
    data: Any

    def best_of_data(self, count: int, seed: int) -> tuple[float, float]:
        """Return the oracle's and the judge's loss of the best of ``count`` drawn real designs."""
        rows = np.random.default_rng(seed).permutation(len(self.data))[:count]
        designs = [self.data[row] for row in rows]
        claimed = _losses(self, self.oracle, designs)
        best = int(np.argmin(claimed))
        return float(claimed[best]), float(_losses(self, self.judge, [designs[best]])[0])


def _losses(problem: bi.Problem, oracle: Any, designs: Sequence[Any]) -> Array:
    y = np.array([answer.y for answer in oracle.answers(designs, problem.outputs)])
    return np.asarray(problem.objective.loss(y))


@cache
def cards(seed: int) -> tuple[Card, ...]:
    """Deal kinds, goals, domains and data sets."""
    rng = np.random.default_rng(np.random.SeedSequence(seed))
    first = int(rng.integers(2))
    decks: dict[bool, list[str]] = {True: [], False: []}
    dealt = []
    for k, kind in enumerate(KINDS):
        real = rng.permutation([True, True, False, False]).tolist()
        variants = rng.permutation([0, 0, 1, 1]).tolist()
        for g, goal in enumerate(GOALS):
            deck = decks[real[g]]
            if not deck:
                deck += rng.permutation(REAL if real[g] else MADE).tolist()
            latent = (k + g + first) % 2 == 1
            dealt.append(Card(len(dealt), kind, goal, latent, deck.pop(), variants[g]))
    return tuple(dealt)


def draw(seed: int) -> list[FrozenRegressor]:
    """Draw the twenty problems of a seed."""
    return [problem(seed, number) for number in range(len(KINDS) * len(GOALS))]


@cache
def problem(seed: int, number: int, measured: bool = False) -> FrozenRegressor:
    """Draw one problem of a seed; the others need not be drawn for it.

    Args:
        seed: seed of the set.
        number: number of the problem.
        measured: a box has the real designs as its reference measure, ``Box(data=...)``.
    """
    card = cards(seed)[number]
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
    data = data_of(card.source, int(rng.integers(2, 5)) if card.goal == "targets" else 1, rng)
    fit = _fit(card, rng, data.y.std(axis=0))
    if card.kind == "argmax":
        space, designs, read = classes(data, rng, latent=card.latent, features=bool(card.variant))
    else:
        space, designs, read = vectors(data, latent=card.latent)

    def train(rows: Any, y: Array, number: int) -> bi.Function:
        regressor = Reader(read, fit(read(rows), y, number))
        return bi.Function(regressor, outputs=data.names, batched=True)

    with warnings.catch_warnings():
        # Networks stop at their count of epochs, as in practice.
        warnings.filterwarnings("ignore", "Stochastic Optimizer")
        controls = bi.realism.control_regressors(
            train, designs, data.y, seed=int(rng.integers(2**31)), outputs=data.names
        )
    claims = np.array([one.y for one in controls.attacked.answers(designs, data.names)])
    made = FrozenRegressor(
        _measured(space, designs) if measured and not card.latent else space,
        controls.attacked, _objective(card, claims, data, rng), outputs=data.names,
        name=card.name, judge=controls.data,
    )  # fmt: skip
    made.card, made.data = card, designs
    return made


def _measured(box: bi.Box, designs: Array) -> bi.Box:
    bounds = [(one.low, one.high) for one in box.domain.parameters.values()]
    return bi.Box(*np.array(bounds).T, data=designs)


@dataclass(frozen=True)
class Source:
    """Picklable function of the seed of a run: one problem of a set, the same for all runs."""

    seed: int
    number: int
    measured: bool = False

    def __call__(self, run: int) -> FrozenRegressor:
        return problem(self.seed, self.number, self.measured)


def sources(seed: int, measured: bool = False) -> dict[str, Source]:
    """Return the problems of a seed by name, not yet trained; ``measured`` selects the boxes."""
    return {
        card.name: Source(seed, card.number, measured)
        for card in cards(seed)
        if not (measured and card.latent)
    }


def _objective(card: Card, claims: Array, data: Data, rng: np.random.Generator) -> Any:
    if card.goal == "maximum":
        return bi.Maximize(data.names[0])
    if card.goal == "minimum":
        return bi.Minimize(data.names[0])
    spread = data.y.std(axis=0)
    if card.goal == "target":
        low, middle, high = np.quantile(claims, [1 - EXTREME, 0.5, EXTREME], method="nearest")
        value = np.array([high if high - middle > middle - low else low])
    else:
        distance = np.linalg.norm((claims - claims.mean(axis=0)) / spread, axis=1)
        value = claims[rng.choice(np.argsort(distance)[-round(FAR * len(claims)) :])]
    return bi.Target(dict(zip(data.names, value.tolist(), strict=True)), scale=spread)


# ---------------------------------------------------------------------- regressors

Fit = Callable[[Array, Array, int], Model]


def _fit(card: Card, rng: np.random.Generator, spread: Array) -> Fit:
    """Return a function that fits a model of the card's kind: ``fit(inputs, y, seed)``."""
    settings = {
        "extra": bool(card.variant),
        "depth": int(rng.integers(2, 5)),
        "hidden": [(16,), (32, 32), (64, 64)][rng.integers(3)],
        "activation": ["relu", "tanh", "logistic"][rng.integers(3)],
    }
    kind, unit = card.kind, 0.0
    if kind in ("argmax", "rounded"):
        kind = ("forest", "boosted", "network")[rng.integers(3)]
    if card.kind == "rounded":
        unit = float(rng.choice([0.1, 0.25, 0.5]))

    def fit(inputs: Array, y: Array, seed: int) -> Model:
        if kind == "forest":
            model: Model = fit_forest(inputs, y, seed, extra=settings["extra"])
        elif kind == "boosted":
            model = fit_boosted(inputs, y, seed, depth=settings["depth"])
        else:
            model = fit_network(inputs, y, seed, settings["hidden"], settings["activation"])
        return Rounded(model, unit * spread) if unit else model

    return fit


@dataclass(frozen=True, eq=False)
class Rounded:
    """Model whose outputs are multiples of ``steps``, shape ``(m,)``."""

    model: Model
    steps: Array

    def __call__(self, inputs: Array) -> Array:
        return np.asarray(np.rint(self.model(inputs) / self.steps) * self.steps)


@dataclass(frozen=True, eq=False)
class Reader:
    """Batched function of designs: ``read`` converts them to inputs of the model."""

    read: Callable[[Any], Array]
    model: Model

    def __call__(self, designs: Any) -> Array:
        return self.model(self.read(designs))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=DEVELOPMENT_SEED)
    options = parser.parse_args()
    for number in range(len(KINDS) * len(GOALS)):
        begun = time.perf_counter()
        made = problem(options.seed, number)
        drawn = time.perf_counter() - begun
        points = made.space.sample(np.random.default_rng(0), 100)
        begun = time.perf_counter()
        outcomes = [made.evaluate([bi.Query(point)])[0] for point in points]
        call = (time.perf_counter() - begun) / len(points)
        losses = np.array([outcome.loss for outcome in outcomes])
        claimed, judged = made.best_of_data(100, 0)
        print(
            f"{made.name}: d = {made.domain.dim}, m = {len(made.outputs)}, {len(made.data)} rows; "
            f"drawn in {drawn:.1f} s, {1e3 * call:.2f} ms a call; losses of 100 draws "
            f"{losses.min():.4g} to {losses.max():.4g}, {len(np.unique(losses))} different; "
            f"best of 100 real designs {claimed:.4g}, judged {judged:.4g}",
            flush=True,
        )


if __name__ == "__main__":
    main()
