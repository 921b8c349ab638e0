"""Checks of a space without oracle calls: decoding, determinism, duplicates, encoder."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bo_invert.problem_doctor.design_distance import name_of, numbers_of
from bo_invert.problem_doctor.findings import Finding, error, note, ok, seconds, share, warning
from bo_invert.problem_doctor.round_trip import calibration, round_trip
from bo_invert.problems.problem import Problem
from bo_invert.spaces.base import Space
from bo_invert.types import Array, Design

# Decoded draws (count), their minimum, and the seconds they may take. Engineering choice.
_DRAWS, _MIN_DRAWS, _DECODING_SECONDS = 64, 6, 3.0
# Difference of two decodings as a share of the designs' spread. Engineering choice: above the
# rounding of single precision.
_ROUNDING = 1e-5
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
    first = space.sample(rng, 1)
    took = _alone(space, first)
    count = int(np.clip(_DECODING_SECONDS / max(took or 0.0, 1e-6) / 4, _MIN_DRAWS, _DRAWS))
    points = np.concatenate([first, space.sample(rng, count - 1)])
    designs, good, why = _decoded(space, points)
    found: list[Finding] = []
    lost = count - len(good)
    if lost:
        few = lost < count
        found.append(
            (warning if few else error)(
                "space.decode_fails",
                f"{share(lost, count)} draws from the reference measure cannot be decoded: {why}",
                "Correct the decoder; each such point costs a failed call",
                failed=lost,
                draws=count,
            )
        )
    size = space.domain.size
    if len(good) < 2:
        return SpaceReport(found, points[good], took or 0.0, size)
    points = points[good]
    again = [_alone(space, points[:1]) for _ in range(3)]
    took = float(np.median([one for one in again if one is not None] or [took or 0.0]))
    found.append(_described(designs, took))
    found += _steady(space, points, designs)
    found += _tensors(space, points, designs)
    found += _alike(designs, size)
    found += round_trip(space, designs)
    found += calibration(space, rng)
    if not space.domain.latent and space.domain.dim > _MAX_FREE:
        found.append(
            warning(
                "space.many_parameters",
                f"the box has {space.domain.dim} free coordinates without structure",
                "Search the latent space of a generator (bi.Latent), or fix parameters",
                d=space.domain.dim,
            )
        )
    return SpaceReport(found, points, took, size)


def _alone(space: Space, points: Array) -> float | None:
    began = time.perf_counter()
    _, good, _ = _decoded(space, points)
    return time.perf_counter() - began if good else None


def _decoded(space: Space, points: Array) -> tuple[Sequence[Design], list[int], str]:
    """Decode points; return designs, their rows and the last error message."""
    try:
        return space.decode(points), list(range(len(points))), ""
    except Exception as fault:
        why = f"{type(fault).__name__}: {fault}"
    designs, good = [], []
    for row in range(len(points)):
        try:
            designs.append(space.decode(points[row : row + 1])[0])
            good.append(row)
        except Exception as fault:
            why = f"{type(fault).__name__}: {fault}"
    return designs, good, why


def _described(designs: Sequence[Design], took: float) -> Finding:
    one = designs[0]
    kind = type(one).__name__
    numbers = numbers_of(designs)
    if isinstance(one, Mapping):
        text = "dicts of " + ", ".join(map(str, list(one)[:6])) + (", ..." if len(one) > 6 else "")
    elif isinstance(one, np.ndarray):
        text = f"arrays of shape {one.shape}, {one.dtype}"
        shapes = {np.shape(design) for design in designs}
        if len(shapes) > 1:
            text = f"arrays of {len(shapes)} shapes, such as {one.shape}"
    elif hasattr(one, "__len__"):
        lengths = [len(design) for design in designs]
        text = f"of type {kind}, of length {min(lengths)} to {max(lengths)}"
    else:
        text = f"of type {kind}"
    if numbers is not None and not np.isfinite(numbers).all():
        bad = int((~np.isfinite(numbers).all(axis=1)).sum())
        return warning(
            "space.not_finite",
            f"designs are {text}, and {share(bad, len(numbers))} hold values that are not finite",
            "Correct the decoder",
            bad=bad,
            draws=len(numbers),
        )
    return ok(
        "space.designs",
        f"designs are {text}; one is decoded in {seconds(took)}",
        seconds=took,
    )


def _apart(one: Sequence[Design], other: Sequence[Design]) -> tuple[int, float]:
    """Count differing designs; return the count and the largest gap as a share of the spread."""
    a, b = numbers_of(one), numbers_of(other)
    if a is None or b is None or a.shape != b.shape:
        different = sum(name_of(x) != name_of(y) for x, y in zip(one, other, strict=True))
        return different, math.inf if different else 0.0
    spread = float(np.sqrt(((a - a.mean(axis=0)) ** 2).mean())) or float(np.abs(a).max()) or 1.0
    gaps = np.abs(a - b).max(axis=1) / spread
    return int((gaps > _ROUNDING).sum()), float(np.nan_to_num(gaps, nan=np.inf).max())


def _steady(space: Space, points: Array, designs: Sequence[Design]) -> list[Finding]:
    different, gap = _apart(designs, _decoded(space, points)[0])
    if different:
        return [
            error(
                "space.decode_unsteady",
                "the same points decode to other designs the second time "
                f"({share(different, len(points))})",
                "Set the decoder to evaluation mode and remove random numbers; reported designs "
                "cannot be reproduced",
                different=different,
                gap=_plain(gap),
            )
        ]
    some = min(4, len(points))
    singles = [space.decode(points[row : row + 1])[0] for row in range(some)]
    different, gap = _apart(designs[:some], singles)
    if different:
        return [
            error(
                "space.decode_batch",
                f"a point decodes to another design alone than in a batch "
                f"({share(different, some)})",
                "Set batch normalisation to evaluation mode",
                different=different,
                gap=_plain(gap),
            )
        ]
    return [ok("space.steady", "decoding is deterministic: repeated, alone and in a batch")]


def _tensors(space: Space, points: Array, designs: Sequence[Design]) -> list[Finding]:
    if not space.differentiable:
        return []
    import torch

    some = min(4, len(points))
    try:
        with torch.no_grad():
            made = space.decode_tensor(torch.from_numpy(points[:some])).double().cpu().numpy()
    except Exception as fault:
        return [
            error(
                "space.gradient_fails",
                f"decode_tensor raises {type(fault).__name__}: {fault}",
                "Correct it, or set differentiable = False",
            )
        ]
    different, gap = _apart(list(made), designs[:some])
    if different:
        return [
            error(
                "space.gradient_differs",
                "decode_tensor and decode return other designs, so gradients are wrong",
                "Make both return the same designs",
                gap=_plain(gap),
            )
        ]
    return []


def _alike(designs: Sequence[Design], size: float) -> list[Finding]:
    count, unique = len(designs), len({name_of(design) for design in designs})
    numbers = {"draws": count, "different": unique}
    if unique == 1:
        return [
            error(
                "space.collapsed",
                f"{count} draws decode to the same design",
                "The decoder ignores its code: train it again, or use another generator",
                **numbers,
            )
        ]
    if size < 10_000:
        return [
            note(
                "space.finite",
                f"the box has {size:,.0f} designs",
                designs=size,
            )
        ]
    if unique < count:
        return [
            (warning if unique < 0.8 * count else note)(
                "space.duplicates",
                f"{count} draws decode to {unique} different designs",
                "Spaces with ``identify`` avoid repeated calls; bi.Latent has it for arrays, "
                "texts, "
                "lists and dicts",
                **numbers,
            )
        ]
    return [ok("space.different", f"{count} draws decode to {count} different designs", **numbers)]


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
