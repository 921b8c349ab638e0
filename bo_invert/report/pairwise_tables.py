"""One method against its rivals as tables: over all problems, problem by problem, and every duel that a rival leads."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bo_invert.report.pairwise_tests import SIGNIFICANT, Duel, Verdict
from bo_invert.report.table import Table, counted, span

LEAST_NOTE = (
    "The lowest p is what the test and its correction could have given with so many pairs: one side better in every "
    f"pair, against every rival. Where it is {SIGNIFICANT} or more, nothing could have been significant."
)


def verdict_tables(
    against: str,
    duels: Sequence[Duel],
    overall: Sequence[Verdict],
    peers: Sequence[str],
    ours: Sequence[str],
) -> list[Table]:
    """All of them; those without rows as well.

    Args:
        against: label of the method.
        duels: problem by problem.
        overall: over all problems.
        peers: labels of the peers in the order in which they are shown.
        ours: the same of our own other methods.
    """
    tables = []
    for kind, rivals in (("peer", peers), ("method of ours", ours)):
        own = [duel for duel in duels if duel.rival in rivals]
        tables += [
            overall_table(against, overall, rivals, kind),
            balance_table(against, own, rivals, kind),
            losses_table(against, own, kind),
        ]
    return tables


def overall_table(
    against: str, verdicts: Sequence[Verdict], rivals: Sequence[str], kind: str = "peer"
) -> Table:
    """Pairs of problem and seed that the method won, tied and lost against each rival, and the pooled test."""
    numbers = list(dict.fromkeys(verdict.calls for verdict in verdicts))
    rows = []
    for rival in rivals:
        found = {verdict.calls: verdict for verdict in verdicts if verdict.rival == rival}
        if found:
            first = next(iter(found.values()))
            cells = [_pooled(found[number]) for number in numbers]
            rows.append((rival, first.problems, first.pairs, *cells, _p(first.least)))
    columns = (
        kind,
        "problems",
        "pairs",
        *(f"after {number} calls" for number in numbers),
        "lowest p",
    )
    test = (
        "Won / tied / lost pairs of problem and seed, and p: exact Wilcoxon signed-rank test stratified by problem "
        "(differences are ranked among those of their problem; two-sided), Holm-adjusted for the rivals of this table "
        f"at one number of calls. Below {SIGNIFICANT} it says who is better."
    )
    notes = (test, LEAST_NOTE, "Problems that a rival refuses are left out: they are no wins.")
    return Table(
        columns, tuple(rows), f"{against} against every {kind}, all problems together", notes
    )


def balance_table(
    against: str, duels: Sequence[Duel], rivals: Sequence[str], kind: str = "peer"
) -> Table:
    """In how many problems the method won, tied and lost significantly against each rival, by budget."""
    numbers = list(dict.fromkeys(duel.calls for duel in duels))
    rows = []
    for rival in rivals:
        own = [duel for duel in duels if duel.rival == rival]
        cells = []
        for number in numbers:
            here = [duel for duel in own if duel.calls == number]
            better, worse = sum(duel.better for duel in here), sum(duel.worse for duel in here)
            cells.append(f"{better} / {len(here) - better - worse} / {worse}")
        if own:
            decidable = f"{sum(duel.decidable for duel in own)} of {len(own)}"
            rows.append(
                (rival, *cells, span([duel.pairs for duel in own]), _spread_p(own), decidable)
            )
    columns = (
        kind,
        *(f"after {number} calls" for number in numbers),
        "seeds",
        "lowest p",
        "could be significant",
    )
    test = (
        "Exact Wilcoxon signed-rank test over the seeds that both have, two-sided, Holm-adjusted for the rivals of "
        f"this table on one problem at one number of calls, {100 * SIGNIFICANT:.0f} %."
    )
    unled = (
        []
        if any(duel.led for duel in duels)
        else [f"No {kind} leads anywhere, significantly or not."]
    )
    caption = f"Problems that {against} won / tied / lost significantly, by {kind}"
    return Table(columns, tuple(rows), caption, (test, LEAST_NOTE, *unled))


def losses_table(against: str, duels: Sequence[Duel], kind: str = "peer") -> Table:
    """Every duel that the rival leads, significant ones first."""
    led = sorted(
        (duel for duel in duels if duel.led),
        key=lambda duel: (not duel.worse, duel.adjusted, -duel.balance),
    )
    rows = tuple(
        (duel.problem, duel.calls, duel.rival, f"{duel.won} / {duel.tied} / {duel.lost}", duel.mine, duel.theirs,
         duel.gap, _p(duel.p_value), _p(duel.adjusted), _p(duel.least), "yes" if duel.worse else "no")
        for duel in led
    )  # fmt: skip
    columns = ("problem", "calls", kind, "seeds won / tied / lost", f"{against}: median", "rival: median",
               "median difference", "p", "p (Holm)", "lowest p", "significant")  # fmt: skip
    undecidable = sum(not duel.decidable for duel in led)
    caption = (
        f"Where a {kind} leads {against}: {sum(duel.worse for duel in led)} significant of {len(led)} led, among "
        f"{counted(len(duels), 'comparison')}"
    )
    notes = (
        "Losses as such, not regrets. A rival leads that has the signed ranks or more seeds on its side.",
        f"{undecidable} of these {len(led)} could not have been significant with so few seeds.",
    )
    return Table(columns, rows, caption, notes)


def _pooled(verdict: Verdict) -> str:
    said = ", better" if verdict.better else ", worse" if verdict.worse else ""
    return f"{verdict.won} / {verdict.tied} / {verdict.lost} (p {_p(verdict.adjusted):g}{said})"


def _spread_p(duels: Sequence[Duel]) -> str:
    low, high = (_p(pick(duel.least for duel in duels)) for pick in (min, max))
    return f"{low:g}" if math.isclose(low, high) else f"{low:g}–{high:g}"


def _p(value: float) -> float:
    return float(f"{value:.2g}")
