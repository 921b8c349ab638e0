"""Tests of the choice of values that a converged search neglects."""

from __future__ import annotations

import numpy as np

import bo_invert as bi
from bo_invert.history import History
from bo_invert.models.optim.neglected_values import neglected_value
from bo_invert.search_domain import Domain, box_domain
from bo_invert.types import Outcome, Query, State, Trial

KINDS = box_domain({"kind": bi.Choice("a", "b", "c"), "x": bi.Float(0.0, 1.0)})


def history(domain: Domain, rows: list[tuple[str, float]]) -> History:
    """Return trials of kinds with their losses."""
    trials = []
    for number, (kind, loss) in enumerate(rows):
        point = domain.encode([{"kind": kind, "x": number / len(rows)}])[0]
        outcome = Outcome(State.COMPLETED, np.array([loss]), loss)
        trials.append(Trial(number, Query(point, origin="gp"), State.COMPLETED, outcome=outcome))
    return History(trials)


def kind(domain: Domain, log: History, chosen: list[str] | None = None) -> str | None:
    points = [domain.encode([{"kind": k, "x": 0.5}])[0] for k in chosen or []]
    value = neglected_value(domain, log, np.array(points).reshape(-1, domain.dim))
    if value is None:
        return None
    moved = value.replaced(domain.encode([{"kind": "a", "x": 0.25}]))
    assert value.holds(moved).all()
    assert domain.values(moved)[0]["x"] == 0.25
    return str(domain.values(moved)[0]["kind"])


START = [("a", 3.0), ("b", 4.0), ("b", 3.5), ("c", 5.0)]


def test_the_value_with_the_fewest_trials_follows_convergence() -> None:
    stalled = [*START, ("a", 1.0), *[("a", 1.0 - 1e-6 * k) for k in range(7)]]
    assert kind(KINDS, history(KINDS, stalled)) == "c"
    # Points of the same ask count.
    assert kind(KINDS, history(KINDS, stalled), ["c", "c", "a", "a"]) == "b"
    # Another value was tried just before.
    assert kind(KINDS, history(KINDS, stalled), ["c"]) is None


def test_no_value_while_the_search_improves() -> None:
    improving = [*START, *[("a", 1.0 - 0.1 * k) for k in range(8)]]
    assert kind(KINDS, history(KINDS, improving)) is None
    assert kind(KINDS, history(KINDS, START)) is None


def test_domains_without_unordered_choices_have_no_neglected_values() -> None:
    ordered = box_domain({"kind": bi.Choice("a", "b", "c", ordered=True), "x": bi.Float(0.0, 1.0)})
    stalled = [*START, ("a", 1.0), *[("a", 1.0)] * 7]
    assert kind(ordered, history(ordered, stalled)) is None
