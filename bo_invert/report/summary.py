"""What happened, in one paragraph of plain words that follow from the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bo_invert.report.objective_view import Goal
from bo_invert.report.ranking import Field, Standing, breaks, fields
from bo_invert.report.runs import Run
from bo_invert.report.table import counted

#: Methods that need no model of the oracle: if one of them does as well, say so.
PLAIN = {
    "random": "random search",
    "sobol": "a Sobol sequence",
    "prior": "best-of-N from the reference measure",
    "cmaes": "CMA-ES",
    "gradient": "gradient descent",
    "least_squares": "least squares",
}

#: Two losses are alike when they differ by less than this share of what the winner gained since the start ...
ALIKE_GAIN = 0.05
#: ... or, for a target, by less than this factor, or when both are below this share of the start.
ALIKE_FACTOR, SOLVED = 2.0, 1e-6


def honest_paragraph(runs: Sequence[Run]) -> str:
    """What won by the judge and by the claim, what was fooled, what plain methods did, and the bill.

    Args:
        runs: of any number of problems, methods and seeds; refused and broken ones too.
    """
    contests = fields(runs)
    if not contests:
        return "Nothing was run."
    parts = [part for contest in contests for part in _sentences(contest, named=len(contests) > 1)]
    if not any(contest.has_judge for contest in contests) and any(
        run.best is not None for run in runs
    ):
        parts.append("No judge was there to confirm it, so this is the oracle's own opinion.")
    standings = [standing for contest in contests for standing in contest.standings]
    return " ".join(part for part in [*parts, _trouble(standings), _bill(standings)] if part)


def _sentences(contest: Field, named: bool) -> list[str]:
    found = [s for s in contest.standings if s.score is not None and math.isfinite(s.score.median)]
    begin = [f"On {contest.problem}:"] if named else []
    if not any(s.ran for s in contest.standings):
        return [*begin, "no method could run."]
    if not found:
        return [*begin, _nothing_found(contest)]
    winners = [s for s in found if _same(_median(s), _median(found[0]))]
    parts = [
        _winner(contest, winners),
        _as_good(contest, found, winners),
        _claimants(contest, winners),
    ]
    parts += [_deluded(contest, winners), _peculiar(found, winners)]
    return [*begin, *parts, _plain_rivals(contest, found, winners)]


def _nothing_found(contest: Field) -> str:
    if contest.has_judge and any(
        s.claimed and math.isfinite(s.claimed.median) for s in contest.standings
    ):
        if any(breaks(run) for run in contest.runs):
            return "No claim could be confirmed, because what the methods found breaks constraints by the judge's outputs."
        return "No claim could be confirmed, because the judge failed on what the methods found."
    return "No method found a feasible design in most of its runs."


def _winner(contest: Field, winners: Sequence[Standing]) -> str:
    kind = "output" if Goal(contest.goal).is_raised else "loss"
    typical = (
        f"a median {kind}" if contest.seeds > 1 else ("an output" if kind == "output" else "a loss")
    )
    reached = f"with {typical} of {_number(contest, _median(winners[0]))}"
    judge = "by the judge, which no search saw, " if contest.has_judge else ""
    if len(winners) > 1:
        return _capital(f"{judge}{_names(winners)} tie {reached}.")
    claim = winners[0].claimed
    claimed = (
        f" (it claimed {_number(contest, claim.median)})"
        if contest.has_judge and claim is not None
        else ""
    )
    return _capital(f"{judge}{_names(winners)} won {reached}{claimed}.")


def _as_good(contest: Field, found: Sequence[Standing], winners: Sequence[Standing]) -> str:
    """Other methods with a model that are hardly behind a winner with one; plain ones have a sentence of their own."""
    if any(s.strategy in PLAIN for s in winners):
        return ""
    alike = [
        s
        for s in found
        if s not in winners and s.strategy not in PLAIN and _alike(contest, s, winners[0])
    ]
    return _capital(f"{_names(alike)} did about as well.") if alike else ""


def _claimants(contest: Field, winners: Sequence[Standing]) -> str:
    """Who would have won had nobody asked the judge."""
    claims = [
        s for s in contest.standings if s.claimed is not None and math.isfinite(s.claimed.median)
    ]
    if not contest.has_judge or not claims:
        return ""
    lowest = min(s.claimed.median for s in claims if s.claimed is not None)
    boldest = [s for s in claims if s.claimed is not None and _same(s.claimed.median, lowest)]
    if {s.label for s in boldest} == {s.label for s in winners}:
        return "The claims alone would have named the same."
    judged = [f"{_number(contest, s.judged.median)}" for s in boldest if s.judged is not None]
    refusal = (
        "which breaks constraints by the judge"
        if any(breaks(r) for b in boldest for r in b.ran)
        else ("on which the judge failed")
    )
    verdict = f", of which the judge makes {_list(judged)}" if judged else f", {refusal}"
    return (
        f"By its own claim {_names(boldest)} looked best with {_number(contest, lowest)}{verdict}."
    )


def _deluded(contest: Field, winners: Sequence[Standing]) -> str:
    if not contest.has_judge:
        return ""
    victims = [s for s in contest.standings if s.fooled]
    if not victims:
        return "Nobody was fooled: the judge confirms at least half of every improvement claimed."
    told = [
        _quoted(s) + (f" ({s.fooled} of {len(s.ran)} runs)" if len(s.ran) > 1 else "")
        for s in victims
    ]
    also = (
        " The winner is among them."
        if {s.label for s in winners} & {s.label for s in victims}
        else ""
    )
    verb = "was" if len(victims) == 1 else "were"
    return f"{_list(told)} {verb} fooled: the judge confirms less than half of the improvement claimed.{also}"


def _peculiar(found: Sequence[Standing], winners: Sequence[Standing]) -> str:
    odd = [s for s in found if 2 * s.implausible > len(s.ran)]
    if not odd:
        return ""
    verb = "returned" if len(found) > len(odd) else "all returned"
    text = f"{_names(odd)} {verb} designs more peculiar than 95 % of the reference measure."
    if not {s.label for s in winners} <= {s.label for s in odd}:
        return text
    sane = [s for s in found if s not in odd]
    return text + (f" Among plausible designs, {_quoted(sane[0])} did best." if sane else "")


def _plain_rivals(contest: Field, found: Sequence[Standing], winners: Sequence[Standing]) -> str:
    plain = [s for s in found if s.strategy in PLAIN]
    others = [s for s in found if s.strategy not in PLAIN]
    if not others:
        return _runner_up(contest, found, winners)
    if not plain:
        return ""
    if all(s.strategy in PLAIN for s in winners):
        alike = [s for s in others if _alike(contest, s, winners[0])]
        runner_up = f"the nearest of those that learn a model was {_quoted(others[0])}"
        did = f"{_names(alike)} did about as well" if alike else runner_up
        return f"So a plain method, {_kind(winners[0])}, was enough: {did}."
    alike = [s for s in plain if s not in winners and _alike(contest, s, winners[0])]
    if alike:
        return f"Plain rivals did about as well: {_names(alike)}; the model paid for little here."
    nearest = next((s for s in plain if s not in winners), None)
    if nearest is None:
        return ""
    told = f"{_quoted(nearest)} with {_number(contest, _median(nearest))}{_test(contest, nearest, winners)}"
    return f"No plain rival did as well; the nearest was {told}."


def _runner_up(contest: Field, found: Sequence[Standing], winners: Sequence[Standing]) -> str:
    """Where every method is plain: how far behind the next one is."""
    second = next((s for s in found if s not in winners), None)
    if second is None:
        return ""
    close = "about as good" if _alike(contest, second, winners[0]) else "next"
    return f"{_quoted(second)} came {close} with {_number(contest, _median(second))}{_test(contest, second, winners)}."


def _test(contest: Field, rival: Standing, winners: Sequence[Standing]) -> str:
    """The paired test of a rival against a winner that is also ranked first; nothing below six pairs."""
    if rival.p_value is None or contest.pairs < 6 or winners[0].p_value is not None:
        return ""
    sure = "a difference" if rival.p_value <= 0.05 else "not a significant difference"
    return f" ({sure}: p = {rival.p_value:.2g} over {contest.pairs} paired seeds)"


def _trouble(standings: Sequence[Standing]) -> str:
    parts = []
    refused = list(dict.fromkeys(_quoted(s) for s in standings if s.refused))
    if refused:
        parts.append(f"{_list(refused)} refused to work on it; the table says why.")
    broken = [f"{_quoted(s)} ({len(s.broken)} of {len(s.ran)} runs)" for s in standings if s.broken]
    if broken:
        parts.append(f"{_list(broken)} broke down; the table says why.")
    barren = sum(
        run.bill.failed + run.bill.infeasible + run.bill.lost for s in standings for run in s.ran
    )
    if barren:
        parts.append(f"{counted(barren, 'attempt')} gave no outputs, billed all the same.")
    return " ".join(parts)


def _bill(standings: Sequence[Standing]) -> str:
    runs = [run for standing in standings for run in standing.ran]
    if not runs:
        return ""
    values, gradients = sum(r.bill.values for r in runs), sum(r.bill.gradients for r in runs)
    seconds, asking = sum(r.bill.total_seconds for r in runs), sum(r.bill.asking for r in runs)
    gradient = f" and {counted(gradients, 'gradient')}" if gradients else ", no gradient"
    count = f"{len(runs)} runs" if len(runs) > 1 else "one run"
    thinking = (
        ", most of them spent choosing points rather than calling the oracle"
        if asking > 0.5 * seconds
        else ""
    )
    return f"The bill of {count}: {counted(values, 'oracle value')}{gradient}, {seconds:.3g} seconds{thinking}."


def _median(standing: Standing) -> float:
    assert standing.score is not None
    return standing.score.median


def _same(a: float, b: float) -> bool:
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def _alike(contest: Field, rival: Standing, winner: Standing) -> bool:
    score, best, start = _median(rival), _median(winner), contest.start
    if contest.goal.get("type") == "target":
        if rival.hits is not None and winner.hits is not None and not contest.has_judge:
            return rival.hits >= winner.hits
        return score <= ALIKE_FACTOR * best or score <= SOLVED * start
    return math.isfinite(start) and score - best <= ALIKE_GAIN * (start - best)


def _number(contest: Field, loss: float) -> str:
    """A loss; where an output is maximised, that output."""
    return f"{Goal(contest.goal).told(loss):.4g}"


def _capital(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def _kind(standing: Standing) -> str:
    return f"{_quoted(standing)} ({PLAIN[standing.strategy]})"


def _names(standings: Sequence[Standing]) -> str:
    return _list([_quoted(s) for s in standings])


def _quoted(standing: Standing) -> str:
    return f"“{standing.label}”"


def _list(words: Sequence[str]) -> str:
    if len(words) <= 2:
        return " and ".join(words)
    return ", ".join(words[:-1]) + " and " + words[-1]
