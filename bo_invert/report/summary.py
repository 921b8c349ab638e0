"""What happened, in one paragraph of plain words that follow from the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from bo_invert.report.standings import Field, Standing, fields
from bo_invert.runs import Run

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
    return " ".join(_sentences(contest, named=len(contests) > 1) for contest in contests)


def _sentences(contest: Field, named: bool) -> str:
    found = [s for s in contest.standings if s.score is not None and math.isfinite(s.score.median)]
    ran = [s for s in contest.standings if s.ran]
    parts = [f"On {contest.problem}:"] if named else []
    if not ran:
        parts.append("no method could run.")
    elif not found:
        parts.append(_nothing_found(contest))
    else:
        winners = [s for s in found if _same(_median(s), _median(found[0]))]
        parts += [_winner(contest, winners), _claimants(contest, winners), _deluded(contest, winners)]
        parts += [_peculiar(found, winners), _plain_rivals(contest, found, winners)]
    parts += [_trouble(contest), _bill(ran)]
    return " ".join(part for part in parts if part)


def _nothing_found(contest: Field) -> str:
    if contest.has_judge and any(s.claimed and math.isfinite(s.claimed.median) for s in contest.standings):
        return "No claim could be confirmed, because the judge failed on what the methods found."
    return "No method found a feasible design in most of its runs."


def _winner(contest: Field, winners: Sequence[Standing]) -> str:
    names = _names(winners)
    score = _number(contest, _median(winners[0]))
    typical = "a median loss of" if contest.seeds > 1 else "a loss of"
    if not contest.has_judge:
        verb = "tie with" if len(winners) > 1 else "found the lowest loss:"
        found = f"{names} {verb} {typical} {score}"
        return f"{found}. No judge was there to confirm it, so this is the oracle's own opinion."
    if len(winners) > 1:
        return f"By the judge, which no search saw, {names} tie with {typical} {score}."
    claim = winners[0].claimed
    assert claim is not None
    return (
        f"By the judge, which no search saw, {names} won with {typical} {score} "
        f"(it claimed {_number(contest, claim.median)})."
    )


def _claimants(contest: Field, winners: Sequence[Standing]) -> str:
    """Who would have won had nobody asked the judge."""
    claims = [s for s in contest.standings if s.claimed is not None and math.isfinite(s.claimed.median)]
    if not contest.has_judge or not claims:
        return ""
    lowest = min(s.claimed.median for s in claims if s.claimed is not None)
    boldest = [s for s in claims if s.claimed is not None and _same(s.claimed.median, lowest)]
    if {s.label for s in boldest} == {s.label for s in winners}:
        return "The claims alone would have named the same."
    judged = [f"{_number(contest, s.judged.median)}" for s in boldest if s.judged is not None]
    verdict = f", of which the judge makes {_list(judged)}" if judged else ", on which the judge failed"
    return f"By its own claim {_names(boldest)} looked best with {_number(contest, lowest)}{verdict}."


def _deluded(contest: Field, winners: Sequence[Standing]) -> str:
    if not contest.has_judge:
        return ""
    victims = [s for s in contest.standings if s.fooled]
    if not victims:
        return "Nobody was fooled: the judge confirms at least half of every improvement claimed."
    told = [_quoted(s) + (f" ({s.fooled} of {len(s.ran)} runs)" if len(s.ran) > 1 else "") for s in victims]
    also = " The winner is among them." if {s.label for s in winners} & {s.label for s in victims} else ""
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
    if not plain or not others:
        return ""
    if all(s.strategy in PLAIN for s in winners):
        alike = [s for s in others if _alike(contest, s, winners[0])]
        did = f"{_names(alike)} did about as well" if alike else f"the nearest of the others was {_quoted(others[0])}"
        return f"So a plain method, {_kind(winners[0])}, was enough: {did}."
    alike = [s for s in plain if s not in winners and _alike(contest, s, winners[0])]
    if alike:
        return f"Plain rivals did about as well: {_names(alike)}; the model paid for little here."
    nearest = next((s for s in plain if s not in winners), None)
    if nearest is None:
        return ""
    text = f"No plain rival came close; the nearest was {_quoted(nearest)} with {_number(contest, _median(nearest))}"
    if nearest.p_value is not None and contest.pairs >= 6 and winners[0].p_value is None:
        sure = "a difference" if nearest.p_value <= 0.05 else "which is not yet a significant difference"
        text += f" ({sure}, p = {nearest.p_value:.2g} over {contest.pairs} paired seeds)"
    return text + "."


def _trouble(contest: Field) -> str:
    parts = []
    refused = [s for s in contest.standings if s.refused]
    if refused:
        parts.append(f"{_names(refused)} refused the problem.")
    broken = [s for s in contest.standings if s.broken]
    if broken:
        parts.append(f"{_list([f'{_quoted(s)} ({len(s.broken)} of {len(s.ran)})' for s in broken])} broke down.")
    barren = sum(r.bill.failed + r.bill.infeasible + r.bill.lost for s in contest.standings for r in s.ran)
    if barren:
        parts.append(f"{barren} attempts gave no outputs and were billed all the same.")
    return " ".join(parts)


def _bill(ran: Sequence[Standing]) -> str:
    runs = [run for s in ran for run in s.ran]
    if not runs:
        return ""
    values, gradients = sum(r.bill.values for r in runs), sum(r.bill.gradients for r in runs)
    seconds = sum(r.bill.total_seconds for r in runs)
    asking = sum(r.bill.asking for r in runs)
    gradient = f" and {gradients:,} gradients" if gradients else ", no gradient"
    count = f"{len(runs)} runs" if len(runs) > 1 else "one run"
    text = f"The bill of {count}: {values:,} oracle values{gradient}, {seconds:.3g} seconds"
    thinker = max(ran, key=lambda s: sum(r.bill.asking for r in s.ran))
    if asking > 0.5 * seconds and len(ran) > 1:
        text += f", most of them spent thinking rather than calling, above all by {_quoted(thinker)}"
    return text + "."


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
    """A loss, and the output it stands for where that is clearer."""
    goal: Any = contest.goal.get("type")
    return f"{loss:.4g} (an output of {-loss:.4g})" if goal == "maximize" else f"{loss:.4g}"


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
