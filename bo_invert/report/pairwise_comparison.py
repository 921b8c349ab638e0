"""Pairwise tests and their tables: one method against each other method, by problem and over all.

A test over few seeds may be unable to find any difference, so each result states the lowest
p-value that was possible.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bo_invert.report.performance import losses_at, matrix, scores_at
from bo_invert.report.statistical_tests import (
    holm,
    least_p,
    median,
    stratified_balance,
    stratified_wilcoxon,
)
from bo_invert.report.table import Table, applicable, counted, span
from bo_invert.types import Array

if TYPE_CHECKING:
    import pandas as pd

SIGNIFICANT = 0.05
"""Level of significance of adjusted p-values; the convention of the field (Fisher 1925)."""

LEAST_SEEDS = 3
"""Smallest number of common seeds for a test on one problem. Engineering choice: with fewer, the
lowest possible p-value is 0.5 or more."""

_TEST = "p: exact two-sided Wilcoxon signed-rank test over common seeds"
_HOLM = "Holm-adjusted for the rivals of this table"
_LEAST_NOTE = (
    "Lowest p: the adjusted p-value if one side were better in every pair, against every rival. "
    f"If it is {SIGNIFICANT} or more, no result of this test can be significant."
)

_COLUMNS = ("problem", "calls", "rival", "problems", "pairs", "won", "lost", "mine", "theirs",
            "gap", "balance", "p_value", "adjusted", "least")  # fmt: skip


def pairwise_tests(
    frame: pd.DataFrame,
    label: str | None,
    calls: Sequence[int],
    apart: Collection[str] = (),
    *,
    pooled: bool = False,
) -> pd.DataFrame:
    """Test a method against every other one, at each number of calls.

    The signed-rank tests use the pairs of problem and seed of both methods. Holm's correction
    applies to the rivals of one family at one number of calls, and without ``pooled`` on one
    problem. A pair that the rival refuses is omitted; one that the method itself refuses is lost.
    A few seeds of many problems, pooled, can show a difference that a few seeds of one problem
    cannot.

    Args:
        frame: runs of all methods, see ``performance.run_frame``.
        label: label of the method; no tests if it is None or has no runs.
        calls: numbers of calls after which the runs are compared.
        apart: labels that form a family of their own, so that their number does not reduce the
            power of the tests against the other methods.
        pooled: if True, one test over all problems, stratified by problem; otherwise one test
            for each problem with at least ``LEAST_SEEDS`` common seeds.

    Returns:
        A frame with one row per test and these columns.

        - ``problem`` (empty if pooled), ``calls``, ``rival``: the compared runs;
        - ``problems``, ``pairs``: their numbers;
        - ``won``, ``tied``, ``lost``: pairs in which the method is better, equal, worse;
        - ``mine``, ``theirs``, ``gap``: median losses of method and rival, and of ``mine - theirs``
          in each pair; NaN for several problems;
        - ``balance``: rank-biserial correlation in [-1, 1]; -1: the method is better in every pair;
        - ``p_value``: two-sided p-value with ranks within problems;
        - ``adjusted``: ``p_value`` after Holm's correction for the family of rivals;
        - ``least``: ``adjusted`` if one side had won every pair in all tests of the family;
        - ``led``: True if the rival has the higher rank sum or more pairs, significant or not;
        - ``worse``, ``better``: True if the rival, or the method, is significantly better;
        - ``decidable``: True if this number of pairs can be significant.
    """
    import pandas as pd

    tests = pd.DataFrame(_tests(frame, label, calls, apart, pooled), columns=_COLUMNS)
    for _, family in tests.groupby(["problem", "calls", tests["rival"].isin(apart)]):
        tests.loc[family.index, "adjusted"] = holm(family["p_value"].tolist())
        # Holm's results are lowest where all p-values are lowest.
        tests.loc[family.index, "least"] = holm([least_p(pairs) for pairs in family["pairs"]])
    significant = tests["adjusted"] < SIGNIFICANT
    return tests.assign(
        tied=tests["pairs"] - tests["won"] - tests["lost"],
        led=(tests["balance"] > 0) | (tests["lost"] > tests["won"]),
        worse=(tests["balance"] > 0) & significant,
        better=(tests["balance"] < 0) & significant,
        decidable=tests["least"] < SIGNIFICANT,
    )


def _tests(
    frame: pd.DataFrame,
    label: str | None,
    calls: Sequence[int],
    apart: Collection[str],
    pooled: bool,
) -> Iterator[dict[str, Any]]:
    """Yield the tests without corrections, family by family."""
    labels = list(frame["label"].unique())
    if label not in labels:
        return
    runs = matrix(frame, (~frame["refused"]).astype(float))
    problem_of, allowed = runs.index.get_level_values("problem").to_numpy(), runs.to_numpy() == 1.0
    tables = {
        number: [
            matrix(frame, values).to_numpy(dtype=float)
            for values in (scores_at(frame, number), losses_at(frame, number))
        ]
        for number in calls
    }
    own = labels.index(label)
    rivals = sorted(range(len(labels)), key=lambda at: labels[at] in apart)
    for problem in [""] if pooled else list(dict.fromkeys(problem_of)):
        here = pooled | (problem_of == problem)
        for number, (scores, losses) in tables.items():
            for at in rivals:
                both = here & allowed[:, at] & ~np.isnan(scores[:, [own, at]]).any(axis=1)
                if at != own and both.sum() >= (1 if pooled else LEAST_SEEDS):
                    pair = np.ix_(both, [own, at])
                    names = {"problem": problem, "calls": number, "rival": labels[at]}
                    yield names | _test(scores[pair], losses[pair], problem_of[both])


def _test(scores: Array, losses: Array, problems: Array) -> dict[str, float]:
    """Test the first column of ``(pairs, 2)`` scores against the second one."""
    one, other = losses.T
    strata = [scores[problems == name].T for name in dict.fromkeys(problems)]
    gaps = np.subtract(one, other, out=np.zeros(len(losses)), where=one != other)
    medians = [median(values) if len(strata) == 1 else math.nan for values in (one, other, gaps)]
    return {
        "problems": len(strata),
        "pairs": len(scores),
        "won": int((scores[:, 0] < scores[:, 1]).sum()),
        "lost": int((scores[:, 0] > scores[:, 1]).sum()),
        **dict(zip(("mine", "theirs", "gap"), medians, strict=True)),
        "balance": stratified_balance(strata),
        "p_value": stratified_wilcoxon(strata),
    }


def pairwise_tables(
    against: str,
    tests: pd.DataFrame,
    pooled: pd.DataFrame,
    rivals: Sequence[str],
    ours: Collection[str],
) -> list[Table]:
    """Return three tables for peers and three for this package's methods.

    Args:
        against: label of the tested method.
        tests: tests by problem.
        pooled: tests over all problems.
        rivals: labels of all other methods, in display order.
        ours: labels of this package's methods; the others are those of peers.
    """
    tables = []
    for own, kind in ((False, "peer"), (True, "method of ours")):
        group = [rival for rival in rivals if (rival in ours) == own]
        found = tests[tests["rival"].isin(group)]
        tables += [
            pooled_table(against, pooled, group, kind),
            problems_table(against, found, group, kind),
            losses_table(against, found, kind),
        ]
    return tables


def pooled_table(
    against: str, tests: pd.DataFrame, rivals: Sequence[str], kind: str = "peer"
) -> Table:
    """Return pairs won, tied and lost against each rival, and the pooled test."""
    rows = []
    for rival, own in _by_rival(tests, rivals):
        cells = [
            f"{test.won} / {test.tied} / {test.lost} (p {_p(test.adjusted):g}"
            f"{', better' if test.better else ', worse' if test.worse else ''})"
            for test in own
        ]
        rows.append((rival, own[0].problems, own[0].pairs, *cells, _p(own[0].least)))
    columns = (kind, "problems", "pairs", *_after(tests), "lowest p")
    notes = (
        "Won / tied / lost pairs of problem and seed.",
        f"{_TEST}, stratified by problem, {_HOLM} at one number of calls, level {SIGNIFICANT}.",
        _LEAST_NOTE,
        "Problems that a rival refuses are omitted, not won.",
    )
    return Table(columns, tuple(rows), f"{against} against every {kind}, all problems", notes)


def problems_table(
    against: str, tests: pd.DataFrame, rivals: Sequence[str], kind: str = "peer"
) -> Table:
    """Return the number of problems significantly won, tied and lost against each rival."""
    rows = []
    for rival, own in _by_rival(tests, rivals):
        cells = []
        for number in tests["calls"].unique():
            here = [test for test in own if test.calls == number]
            better, worse = sum(test.better for test in here), sum(test.worse for test in here)
            cells.append(f"{better} / {len(here) - better - worse} / {worse}")
        low, high = (_p(pick(test.least for test in own)) for pick in (min, max))
        least = f"{low:g}" if math.isclose(low, high) else f"{low:g}–{high:g}"
        decidable = f"{sum(test.decidable for test in own)} of {len(own)}"
        rows.append((rival, *cells, span([test.pairs for test in own]), least, decidable))
    columns = (kind, *_after(tests), "seeds", "lowest p", "could be significant")
    notes = applicable(
        (True, f"{_TEST}, {_HOLM} on one problem at one number of calls, level {SIGNIFICANT}."),
        (True, _LEAST_NOTE),
        (not tests["led"].any(), f"No {kind} leads on any problem, significantly or not."),
    )
    caption = f"Problems that {against} won / tied / lost significantly, by {kind}"
    return Table(columns, tuple(rows), caption, notes)


def losses_table(against: str, tests: pd.DataFrame, kind: str = "peer") -> Table:
    """Return every test that the rival leads, significant ones first."""
    order = {"worse": False, "adjusted": True, "balance": False}
    led = tests[tests["led"]].sort_values(list(order), ascending=list(order.values()))
    found: list[Any] = list(led.itertuples())
    rows = tuple(
        (test.problem, test.calls, test.rival, f"{test.won} / {test.tied} / {test.lost}",
         test.mine, test.theirs, test.gap, _p(test.p_value), _p(test.adjusted), _p(test.least),
         "yes" if test.worse else "no")
        for test in found
    )  # fmt: skip
    columns = ("problem", "calls", kind, "seeds won / tied / lost", f"{against}: median",
               "rival: median", "median difference", "p", "p (Holm)", "lowest p",
               "significant")  # fmt: skip
    undecidable = sum(not test.decidable for test in found)
    caption = (
        f"Tests in which a {kind} leads {against}: {sum(test.worse for test in found)} significant "
        f"of {len(found)} led, among {counted(len(tests), 'test')}"
    )
    notes = (
        "Values are losses, not regrets. A rival leads by its rank sum or by more seeds.",
        f"{undecidable} of these {len(found)} cannot be significant with this number of seeds.",
    )
    return Table(columns, rows, caption, notes)


def _by_rival(tests: pd.DataFrame, rivals: Sequence[str]) -> list[tuple[str, list[Any]]]:
    """Return the tests of each rival that has any, as named tuples."""
    groups = {rival: list(own.itertuples()) for rival, own in tests.groupby("rival")}
    return [(rival, groups[rival]) for rival in rivals if rival in groups]


def _after(tests: pd.DataFrame) -> list[str]:
    return [f"after {number} calls" for number in tests["calls"].unique()]


def _p(value: float) -> float:
    return float(f"{value:.2g}")
