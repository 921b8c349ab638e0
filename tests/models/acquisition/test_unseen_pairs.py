"""Variance of pairs of values of choices without observation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

import bo_invert as bi
from bo_invert.models import fitted_model
from bo_invert.models.acquisition.unseen_pairs import UnseenPairs
from bo_invert.models.gp.mixed_kernel import column_structure

SPACE = bi.Box(
    {"x": bi.Float(0, 1), "two": bi.Choice(*"ab"), "three": bi.Choice(*"abc"),
     "four": bi.Choice(*"abcd"), "level": bi.Choice(1, 2, 3, ordered=True)}
)  # fmt: skip
CHOICES = ("two", "three", "four")


def test_the_variance_counts_unseen_pairs() -> None:
    structure = column_structure(SPACE.domain)
    assert structure is not None
    points = SPACE.domain.uniform(np.random.default_rng(0), 25)
    designs = SPACE.decode(points)
    known, others = designs[:5], designs[5:]

    def pairs(design: dict[str, object]) -> set[tuple[object, ...]]:
        return {(a, design[a], b, design[b]) for a, b in itertools.combinations(CHOICES, 2)}

    seen = set().union(*map(pairs, known))
    variance = UnseenPairs(structure, points[:5])
    expected = [0.75 * len(pairs(design) - seen) / 3 for design in others]
    assert len(set(expected)) > 2
    np.testing.assert_allclose(variance(points[5:])[:, 0], expected)
    assert not variance(points[:5]).any()
    tensor = torch.tensor(points[5:])
    torch.testing.assert_close(variance(tensor)[:, 0], torch.tensor(expected).double())
    assert not variance.gradient(tensor, tensor[:, :1]).any()


def additive(design: dict[str, str]) -> float:
    return sum((1.0 + 0.3 * i) * "abcd".index(value) for i, value in enumerate(design.values()))


def new_pairs(asks: int) -> list[int]:
    """Return the number of unseen pairs of values in each ask after additive observations."""
    names = "pqrst"
    space = bi.Box({name: bi.Choice(*"abcd") for name in names})
    study = bi.Study.create("s", bi.Problem(space, additive, bi.Minimize()), "gp", seed=0)
    # The best design and all that differ from it in one choice: the surrogate knows all effects.
    best = dict.fromkeys(names, "a")
    designs = [best, *({**best, name: value} for name in names for value in "bcd")]
    study.add(designs, [additive(design) for design in designs])
    seen = {pair for design in designs for pair in itertools.combinations(design.items(), 2)}
    counts = []
    for _ in range(asks):
        (trial,) = study.ask()
        pairs = set(itertools.combinations(trial.design.items(), 2))
        counts.append(len(pairs - seen))
        seen |= pairs
        study.tell(trial, additive(trial.design))
    return counts


def test_gp_asks_for_unseen_pairs_once_it_expects_no_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = new_pairs(10)
    monkeypatch.setattr(fitted_model, "_NEGLIGIBLE", 1e-300)
    plain = new_pairs(10)
    assert counts[:5] == plain[:5]  # while it expects a gain
    assert sum(counts[5:]) > 2 * sum(plain[5:])
