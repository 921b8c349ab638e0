"""Run BayBE on the mixture problems, in an environment that has it (``pip install baybe``).

    python experiments/baybe_mixtures.py PROBLEM SEED

It prints the losses of all calls as one JSON line. The initial design of 5 points is BayBE's random
recommender; then its default surrogate and acquisition function recommend one point each.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
import pandas as pd
import torch
from baybe import Campaign
from baybe.constraints import ContinuousLinearConstraint
from baybe.parameters import NumericalContinuousParameter
from baybe.recommenders import (
    BotorchRecommender,
    RandomRecommender,
    TwoPhaseMetaRecommender,
)
from baybe.searchspace import SearchSpace
from baybe.targets import NumericalTarget
from mixture_problems import CALLS, MIXTURES

_INITIAL = 5


def run(name: str, seed: int) -> list[float]:
    """Return the losses of all calls."""
    mixture = MIXTURES[name]
    np.random.seed(seed)  # noqa: NPY002  (BayBE draws from the global generators)
    torch.manual_seed(seed)
    parameters = [
        NumericalContinuousParameter(one, (0.0, high))
        for one, high in zip(mixture.names, mixture.upper, strict=True)
    ]
    constraints = [
        ContinuousLinearConstraint(list(mixture.names), "=", [1.0] * len(mixture.names), 1.0)
    ]
    constraints += [
        ContinuousLinearConstraint([a, b], "<=", [1.0, -factor], 0.0)
        for a, b, factor in mixture.orders
    ]
    campaign = Campaign(
        SearchSpace.from_product(parameters, constraints),
        NumericalTarget("loss", minimize=True).to_objective(),
        TwoPhaseMetaRecommender(
            initial_recommender=RandomRecommender(),
            recommender=BotorchRecommender(),
            switch_after=_INITIAL,
        ),
    )
    losses: list[float] = []
    while len(losses) < CALLS:
        rows = campaign.recommend(_INITIAL if not losses else 1)
        found = [
            mixture.loss(row[list(mixture.names)].to_numpy(float)) for _, row in rows.iterrows()
        ]
        campaign.add_measurements(
            pd.concat([rows.reset_index(drop=True), pd.DataFrame({"loss": found})], axis=1)
        )
        losses += found
    return losses[:CALLS]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    print(json.dumps(run(sys.argv[1], int(sys.argv[2]))))
