"""Checks of a space without oracle calls: decoding, determinism, duplicates, encoder."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.problem_doctor.design_distance import apart, name_of, numbers_of
from bo_invert.problem_doctor.findings import (
    Finding,
    attempt,
    error,
    every,
    first,
    note,
    ok,
    seconds,
    share,
    warning,
)
from bo_invert.problem_doctor.round_trip import calibration, round_trip
from bo_invert.problems.problem import Problem
from bo_invert.spaces.base import Space
from bo_invert.types import Array, Design

# Decoded draws (count), their minimum, and the seconds they may take. Engineering choice.
_DRAWS, _MIN_DRAWS, _DECODING_SECONDS = 64, 6, 3.0
# Free coordinates (count). Engineering choice: a few hundred observations determine no model of
# more.
_MAX_FREE = 50


@dataclass(frozen=True, eq=False)
class SpaceReport:
    """Findings on a space, with decodable draws.

    Args:
        findings: findings on the space.
        points: draws from the reference measure that decode, shape ``(n, d)``.
        seconds: duration of decoding one point.
        designs: number of designs; infinite with a continuous parameter.
    """

    findings: list[Finding]
    points: Array
    seconds: float
    designs: float


def check_space(problem: Problem, rng: np.random.Generator) -> SpaceReport:
    """Decode draws twice, alone and in a batch, and encode them again; call no oracle."""
    space = problem.space
    first_draw = space.sample(rng, 1)
    took = _alone(problem, first_draw)
    count = int(np.clip(_DECODING_SECONDS / max(took or 0.0, 1e-6) / 4, _MIN_DRAWS, _DRAWS))
    points = np.concatenate([first_draw, space.sample(rng, count - 1)])
    designs, good, why = _decoded(problem, points)
    lost = count - len(good)
    found = every(
        (
            lost,
            (warning if good else error)(
                "space.decode_fails",
                f"{share(lost, count)} draws from the reference measure cannot be decoded: {why}",
                "Correct the decoder; each such point costs a failed call",
                failed=lost,
                draws=count,
            ),
        )
    )
    points = points[good]
    size, dim = space.domain.size, space.domain.dim
    if len(good) < 2:
        return SpaceReport(found, points, took or 0.0, size)
    again = [_alone(problem, points[:1]) for _ in range(3)]
    took = float(np.median([one for one in again if one is not None] or [took or 0.0]))
    found += [
        _described(designs, took),
        *_steady(problem, points, designs),
        *_tensors(space, points, designs),
        *_alike(designs, size),
        *round_trip(space, designs),
        *calibration(space, rng),
        *every(
            (
                not space.domain.latent and space.domain.reference is None and dim > _MAX_FREE,
                warning(
                    "space.many_parameters",
                    f"the box has {dim} free coordinates without structure",
                    "Search the latent space of a generator (bi.Latent), pass real designs "
                    "(bi.Box(data=...)), or fix parameters",
                    d=dim,
                ),
            )
        ),
    ]
    return SpaceReport(found, points, took, size)


def _alone(problem: Problem, points: Array) -> float | None:
    began = time.perf_counter()
    good = _decoded(problem, points)[1]
    return time.perf_counter() - began if good else None


def _decoded(problem: Problem, points: Array) -> tuple[Sequence[Design], list[int], str]:
    """Decode points; return designs, their rows and the last error message."""
    designs, fault = attempt(problem.space.decode, points)
    if designs is not None:
        return designs, list(range(len(points))), ""
    tries = [attempt(problem.decode, point) for point in points]
    good = [row for row, (_, failure) in enumerate(tries) if failure is None]
    last = [fault, *(failure for _, failure in tries if failure is not None)][-1]
    return [tries[row][0] for row in good], good, f"{type(last).__name__}: {last}"


def _described(designs: Sequence[Design], took: float) -> Finding:
    numbers = numbers_of(designs)
    match designs[0]:
        case Mapping() as one:
            text = f"dicts of {', '.join(map(str, list(one)[:6]))}{', ...' if len(one) > 6 else ''}"
        case np.ndarray() as one:
            shapes = len({np.shape(design) for design in designs})
            several = f"arrays of {shapes} shapes, such as {one.shape}"
            text = several if shapes > 1 else f"arrays of shape {one.shape}, {one.dtype}"
        case one:
            text = f"of type {type(one).__name__}"
            if hasattr(one, "__len__"):
                lengths = [len(design) for design in designs]
                text += f", of length {min(lengths)} to {max(lengths)}"
    if numbers is None or np.isfinite(numbers).all():
        text = f"designs are {text}; one is decoded in {seconds(took)}"
        return ok("space.designs", text, seconds=took)
    bad = int((~np.isfinite(numbers).all(axis=1)).sum())
    return warning(
        "space.not_finite",
        f"designs are {text}, and {share(bad, len(numbers))} hold values that are not finite",
        "Correct the decoder",
        bad=bad,
        draws=len(numbers),
    )


def _steady(problem: Problem, points: Array, designs: Sequence[Design]) -> list[Finding]:
    different, gap = apart(designs, _decoded(problem, points)[0])
    if different:
        return [
            error(
                "space.decode_unsteady",
                "the same points decode to other designs the second time "
                f"({share(different, len(points))})",
                "Set the decoder to evaluation mode and remove random numbers; reported designs "
                "cannot be reproduced",
                different=different,
                gap=gap,
            )
        ]
    singles = [problem.decode(point) for point in points[:4]]
    different, gap = apart(designs[:4], singles)
    return first(
        (
            different,
            error(
                "space.decode_batch",
                "a point decodes to another design alone than in a batch "
                f"({share(different, len(singles))})",
                "Set batch normalisation to evaluation mode",
                different=different,
                gap=gap,
            ),
        ),
        (True, ok("space.steady", "decoding is deterministic: repeated, alone and in a batch")),
    )


def _tensors(space: Space, points: Array, designs: Sequence[Design]) -> list[Finding]:
    if not space.differentiable:
        return []
    import torch

    with torch.no_grad():
        made, fault = attempt(
            lambda: space.decode_tensor(torch.from_numpy(points[:4])).double().cpu().numpy()
        )
    if made is None:
        return [
            error(
                "space.gradient_fails",
                f"decode_tensor raises {type(fault).__name__}: {fault}",
                "Correct it, or set differentiable = False",
            )
        ]
    different, gap = apart(list(made), designs[:4])
    return every(
        (
            different,
            error(
                "space.gradient_differs",
                "decode_tensor and decode return other designs, so gradients are wrong",
                "Make both return the same designs",
                gap=gap,
            ),
        )
    )


def _alike(designs: Sequence[Design], size: float) -> list[Finding]:
    count, unique = len(designs), len({name_of(design) for design in designs})
    numbers = {"draws": count, "different": unique}
    text = f"{count} draws decode to {unique} different designs"
    return first(
        (
            unique == 1,
            error(
                "space.collapsed",
                f"{count} draws decode to the same design",
                "The decoder ignores its code: train it again, or use another generator",
                **numbers,
            ),
        ),
        (size < 10_000, note("space.finite", f"the box has {size:,.0f} designs", designs=size)),
        (
            unique < count,
            (warning if unique < 0.8 * count else note)(
                "space.duplicates",
                text,
                "Spaces with ``identify`` avoid repeated calls; bi.Latent has it for arrays, "
                "texts, lists and dicts",
                **numbers,
            ),
        ),
        (True, ok("space.different", text, **numbers)),
    )
