"""Tables of pairwise tests: over all problems, by problem, and every test that a rival leads."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bo_invert.report.pairwise_tests import SIGNIFICANT, PairwiseTest
from bo_invert.report.table import Cell, Table, counted, span

_TEST = "p: exact two-sided Wilcoxon signed-rank test over common seeds"
_HOLM = "Holm-adjusted for the rivals of this table"
_LEAST_NOTE = (
    "Lowest p: the adjusted p-value if one side were better in every pair, against every rival. "
    f"If it is {SIGNIFICANT} or more, no result of this test can be significant."
)


def pairwise_tables(
    against: str,
    tests: Sequence[PairwiseTest],
    pooled: Sequence[PairwiseTest],
    peers: Sequence[str],
    ours: Sequence[str],
) -> list[Table]:
    """Return three tables for peers and three for this package's methods.

    Args:
        against: label of the tested method.
        tests: tests by problem.
        pooled: tests over all problems.
        peers: labels of other packages' methods, in display order.
        ours: labels of this package's other methods, in display order.
    """
    tables = []
    for kind, rivals in (("peer", peers), ("method of ours", ours)):
        own = [test for test in tests if test.rival in rivals]
        tables += [
            pooled_table(against, pooled, rivals, kind),
            problems_table(against, own, rivals, kind),
            losses_table(against, own, kind),
        ]
    return tables


def pooled_table(
    against: str, tests: Sequence[PairwiseTest], rivals: Sequence[str], kind: str = "peer"
) -> Table:
    """Return pairs won, tied and lost against each rival, and the pooled test."""
    rows: list[tuple[Cell, ...]] = []
    for rival in rivals:
        own = [test for test in tests if test.rival == rival]
        if own:
            cells = [
                f"{_counts(test)} (p {_p(test.adjusted):g}"
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
    against: str, tests: Sequence[PairwiseTest], rivals: Sequence[str], kind: str = "peer"
) -> Table:
    """Return the number of problems significantly won, tied and lost against each rival."""
    rows: list[tuple[Cell, ...]] = []
    for rival in rivals:
        own = [test for test in tests if test.rival == rival]
        cells = []
        for number in dict.fromkeys(test.calls for test in tests):
            here = [test for test in own if test.calls == number]
            better, worse = sum(test.better for test in here), sum(test.worse for test in here)
            cells.append(f"{better} / {len(here) - better - worse} / {worse}")
        if own:
            low, high = (_p(pick(test.least for test in own)) for pick in (min, max))
            least = f"{low:g}" if math.isclose(low, high) else f"{low:g}–{high:g}"
            decidable = f"{sum(test.decidable for test in own)} of {len(own)}"
            rows.append((rival, *cells, span([test.pairs for test in own]), least, decidable))
    columns = (kind, *_after(tests), "seeds", "lowest p", "could be significant")
    notes = [
        f"{_TEST}, {_HOLM} on one problem at one number of calls, level {SIGNIFICANT}.",
        _LEAST_NOTE,
    ]
    if not any(test.led for test in tests):
        notes.append(f"No {kind} leads on any problem, significantly or not.")
    caption = f"Problems that {against} won / tied / lost significantly, by {kind}"
    return Table(columns, tuple(rows), caption, tuple(notes))


def losses_table(against: str, tests: Sequence[PairwiseTest], kind: str = "peer") -> Table:
    """Return every test that the rival leads, significant ones first."""
    led = sorted(
        (test for test in tests if test.led),
        key=lambda test: (not test.worse, test.adjusted, -test.balance),
    )
    rows = tuple(
        (test.problem, test.calls, test.rival, _counts(test), test.mine, test.theirs, test.gap,
         _p(test.p_value), _p(test.adjusted), _p(test.least), "yes" if test.worse else "no")
        for test in led
    )  # fmt: skip
    columns = ("problem", "calls", kind, "seeds won / tied / lost", f"{against}: median",
               "rival: median", "median difference", "p", "p (Holm)", "lowest p",
               "significant")  # fmt: skip
    undecidable = sum(not test.decidable for test in led)
    caption = (
        f"Tests in which a {kind} leads {against}: {sum(test.worse for test in led)} significant "
        f"of {len(led)} led, among {counted(len(tests), 'test')}"
    )
    notes = (
        "Values are losses, not regrets. A rival leads by its rank sum or by more seeds.",
        f"{undecidable} of these {len(led)} cannot be significant with this number of seeds.",
    )
    return Table(columns, rows, caption, notes)


def _after(tests: Sequence[PairwiseTest]) -> list[str]:
    return [f"after {number} calls" for number in dict.fromkeys(test.calls for test in tests)]


def _counts(test: PairwiseTest) -> str:
    return f"{test.won} / {test.tied} / {test.lost}"


def _p(value: float) -> float:
    return float(f"{value:.2g}")
