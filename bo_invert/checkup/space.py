"""What a space does before any oracle is called: designs, steadiness, the way back, the reference measure."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bo_invert.checkup.findings import Finding, Severity, seconds, share
from bo_invert.errors import InvalidInput
from bo_invert.parameters import Choice, Float, Int
from bo_invert.problem import Problem
from bo_invert.spaces.base import Space
from bo_invert.types import Array

OK, NOTE, WARNING, ERROR = Severity.ok, Severity.note, Severity.warning, Severity.error

_DRAWS, _LEAST, _PATIENCE = 64, 6, 3.0
"""Decoded draws; fewer where they would take longer than so many seconds, but never fewer than the least."""
_STEADY = 1e-5
"""Differences below this share of the designs' spread are rounding."""
_FREE = 50
"""Free parameters without structure beyond which few calls teach a model little."""


@dataclass(frozen=True, eq=False)
class Looked:
    """What was seen of a space.

    Args:
        findings: about it.
        points: draws from the reference measure that decode, shape ``(n, d)``.
        seconds: to decode one point, alone.
        designs: how many there are; infinite where a parameter is a real number.
    """

    findings: list[Finding]
    points: Array
    seconds: float
    designs: float


def look_at_space(problem: Problem, rng: np.random.Generator) -> Looked:
    """Decode draws from the reference measure, again, alone and back; no oracle is called."""
    space = problem.space
    first = space.sample(rng, 1)
    took = _alone(space, first)
    count = int(np.clip(_PATIENCE / max(took or 0.0, 1e-6) / 4, _LEAST, _DRAWS))
    points = np.concatenate([first, space.sample(rng, count - 1)])
    designs, good, why = _decoded(space, points)
    found: list[Finding] = []
    lost = count - len(good)
    if lost:
        few = lost < count
        found.append(
            Finding("space.decode_fails", WARNING if few else ERROR,
                    f"{share(lost, count)} draws from the reference measure cannot be decoded: {why}",
                    "Mend the decoder; such points are answered with a failure, which is billed",
                    {"failed": lost, "draws": count})
        )  # fmt: skip
    size = _size(space)
    if len(good) < 2:
        return Looked(found, points[good], took or 0.0, size)
    points = points[good]
    again = [_alone(space, points[:1]) for _ in range(3)]
    took = float(np.median([one for one in again if one is not None] or [took or 0.0]))
    found.append(_described(designs, took))
    found += _steady(space, points, designs)
    found += _tensors(space, points, designs)
    found += _alike(designs, size)
    found += _round_trip(space, designs)
    found += _measure(space, rng)
    found += _pictures(problem, designs)
    if space.domain.geometry == "box" and space.domain.dim > _FREE:
        found.append(
            Finding("space.many_parameters", WARNING,
                    f"the box has {space.domain.dim} free coordinates and no structure that a model could use",
                    "Search the latent of a generator (bi.Latent), or free fewer parameters", {"d": space.domain.dim})
        )  # fmt: skip
    return Looked(found, points, took, size)


def numbers_of(designs: Sequence[Any]) -> Array | None:
    """Designs as rows of numbers ``(n, p)``; None where they are something else."""
    try:
        rows = [list(d.values()) if isinstance(d, Mapping) else d for d in designs]
        array = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array.reshape(len(array), -1)


def name_of(design: Any) -> str:
    """Equal for equal designs, and different for different ones, as far as their text tells."""
    if isinstance(design, np.ndarray):
        return f"{design.dtype.str} {design.shape} {(design + 0.0 if design.dtype.kind == 'f' else design).tobytes()!r}"
    return repr(design)


def _alone(space: Space, points: Array) -> float | None:
    began = time.perf_counter()
    try:
        space.decode(points)
    except Exception:
        return None
    return time.perf_counter() - began


def _decoded(space: Space, points: Array) -> tuple[Sequence[Any], list[int], str]:
    """The designs of points, the rows that could be decoded, and what was said of the others."""
    try:
        return space.decode(points), list(range(len(points))), ""
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    designs, good = [], []
    for row in range(len(points)):
        try:
            designs.append(space.decode(points[row : row + 1])[0])
            good.append(row)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
    return designs, good, why


def _described(designs: Sequence[Any], took: float) -> Finding:
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
        return Finding("space.not_finite", WARNING,
                       f"designs are {text}, and {share(bad, len(numbers))} hold values that are not finite",
                       "Mend the decoder", {"bad": bad, "draws": len(numbers)})  # fmt: skip
    return Finding("space.designs", OK, f"designs are {text}; one is decoded in {seconds(took)}", "", {"seconds": took})


def _apart(one: Sequence[Any], other: Sequence[Any]) -> tuple[int, float]:
    """How many designs differ, and by how much of their spread; infinite where they are no numbers."""
    a, b = numbers_of(one), numbers_of(other)
    if a is None or b is None or a.shape != b.shape:
        different = sum(name_of(x) != name_of(y) for x, y in zip(one, other, strict=True))
        return different, math.inf if different else 0.0
    spread = float(np.sqrt(((a - a.mean(axis=0)) ** 2).mean())) or float(np.abs(a).max()) or 1.0
    gaps = np.abs(a - b).max(axis=1) / spread
    return int((gaps > _STEADY).sum()), float(np.nan_to_num(gaps, nan=np.inf).max())


def _steady(space: Space, points: Array, designs: Sequence[Any]) -> list[Finding]:
    different, gap = _apart(designs, _decoded(space, points)[0])
    if different:
        return [
            Finding("space.decode_unsteady", ERROR,
                    f"the same points decode to other designs the second time ({share(different, len(points))})",
                    "Put the decoder in evaluation mode, and let it draw no random numbers: a design that is reported "
                    "could not be made again", {"different": different, "gap": _plain(gap)})
        ]  # fmt: skip
    some = min(4, len(points))
    singles = [space.decode(points[row : row + 1])[0] for row in range(some)]
    different, gap = _apart(designs[:some], singles)
    if different:
        return [
            Finding("space.decode_batch", ERROR,
                    f"a point decoded alone is another design than in a batch ({share(different, some)})",
                    "Normalise by fixed statistics, not by those of the batch (batch normalisation in evaluation mode)",
                    {"different": different, "gap": _plain(gap)})
        ]  # fmt: skip
    return [Finding("space.steady", OK, "the same point is the same design: again, alone and in a batch")]


def _tensors(space: Space, points: Array, designs: Sequence[Any]) -> list[Finding]:
    if not space.differentiable:
        return []
    import torch

    some = min(4, len(points))
    try:
        with torch.no_grad():
            made = space.decode_tensor(torch.from_numpy(points[:some])).double().cpu().numpy()
    except Exception as error:
        return [Finding("space.gradient_fails", ERROR, f"decode_tensor raises {type(error).__name__}: {error}",
                        "Mend it, or set differentiable = False")]  # fmt: skip
    different, gap = _apart(list(made), designs[:some])
    if different:
        return [Finding("space.gradient_differs", ERROR,
                        "decode_tensor makes other designs than decode, so gradients are those of another function",
                        "Let both compute the same", {"gap": _plain(gap)})]  # fmt: skip
    return []


def _alike(designs: Sequence[Any], size: float) -> list[Finding]:
    count, unique = len(designs), len({name_of(design) for design in designs})
    numbers = {"draws": count, "different": unique}
    if unique == 1:
        return [Finding("space.collapsed", ERROR, f"{count} draws decode to one and the same design",
                        "The decoder does not look at its code; train it again, or use another latent", numbers)]  # fmt: skip
    if size < 10_000:
        return [Finding("space.finite", NOTE, f"the box holds {size:,.0f} designs and no more", "", {"designs": size})]
    if unique < count:
        return [
            Finding("space.duplicates", WARNING if unique < 0.8 * count else NOTE,
                    f"{count} draws are {unique} different designs",
                    "A space that names its designs (identify) is never asked for one twice; bi.Latent does so for "
                    "arrays, texts, lists and dicts", numbers)
        ]  # fmt: skip
    return [Finding("space.different", OK, f"{count} draws are {count} different designs", "", numbers)]


def _round_trip(space: Space, designs: Sequence[Any]) -> list[Finding]:
    try:
        back = space.decode(space.encode(designs))
    except InvalidInput:
        return [Finding("space.no_way_back", NOTE, "a design cannot be turned into a point",
                        "Known designs are given as points: study.add(points=...), or give the space an encoder")]  # fmt: skip
    except Exception as error:
        return [Finding("space.way_back_fails", WARNING, f"encode raises {type(error).__name__}: {error}",
                        "Mend the encoder; study.add and study.enqueue need it for designs")]  # fmt: skip
    a, b = numbers_of(designs), numbers_of(back)
    if a is None or b is None or a.shape != b.shape:
        same = sum(name_of(x) == name_of(y) for x, y in zip(designs, back, strict=True))
        severity = OK if 2 * same >= len(designs) else WARNING
        return [Finding("space.round_trip", severity, f"{share(same, len(designs))} designs come back from a round trip",
                        "" if severity is OK else "The encoder does not fit the decoder", {"same": same})]  # fmt: skip
    spread = np.sqrt(((a - a.mean(axis=0)) ** 2).mean()) or 1.0
    error = float(np.sqrt(((a - b) ** 2).mean()) / spread)
    if error > 0.5:
        return [Finding("space.round_trip", WARNING,
                        f"a design comes back from a round trip off by {error:.0%} of the designs' spread",
                        "The encoder does not fit the decoder: the reference measure, and designs given to the study, "
                        "are of other designs than meant", {"error": error})]  # fmt: skip
    words = "exactly" if error < 1e-6 else f"off by {error:.1%} of the designs' spread"
    return [Finding("space.round_trip", OK, f"a design comes back from a round trip {words}", "", {"error": error})]


def _measure(space: Space, rng: np.random.Generator) -> list[Finding]:
    if space.domain.geometry == "box":
        return []
    if space.domain.reference is None:
        return [Finding("space.assumed", NOTE, "where real designs lie is assumed: codes follow N(0, I)",
                        "Pass data=, codes= or prior= to bi.Latent, and it is measured: plausibility then means something")]  # fmt: skip
    outer = float((space.plausibility(space.sample(rng, 2000)) < 0.05).mean())
    if not 0.005 <= outer <= 0.15:
        return [Finding("space.calibration", WARNING,
                        f"{outer:.1%} of draws have a plausibility below 0.05, which should be 5 %",
                        "More codes to measure from would help; read plausibility as a ranking", {"outer": outer})]  # fmt: skip
    return [Finding("space.calibration", OK, f"{outer:.1%} of draws have a plausibility below 0.05, as 5 % should",
                    "", {"outer": outer})]  # fmt: skip


def _pictures(problem: Problem, designs: Sequence[Any]) -> list[Finding]:
    found = []
    for name in ("draw", "realism"):
        fn = getattr(problem, name)
        if fn is None:
            continue
        try:
            shown = np.asarray(fn(designs[0] if name == "draw" else designs[:4]), dtype=np.float64)
            if name == "draw" and shown.ndim not in (2, 3):
                raise ValueError(f"a picture has shape (height, width) or (height, width, 3), got {shown.shape}")
            if name == "realism" and (shown.shape != (len(designs[:4]),) or (shown < 0).any() or (shown > 1).any()):
                raise ValueError(f"one number in [0, 1] per design is wanted, got {shown!r:.60}")
        except Exception as error:
            found.append(Finding(f"{name}.fails", WARNING, f"{name} raises {type(error).__name__}: {error}",
                                 f"Mend Problem({name}=...)"))  # fmt: skip
    return found


def _size(space: Space) -> float:
    """How many designs a box holds; infinite with a real parameter, or in a latent."""
    if space.domain.geometry != "box":
        return math.inf
    size = 1.0
    for parameter in space.domain.parameters.values():
        if isinstance(parameter, Float):
            return math.inf
        size *= parameter.high - parameter.low + 1 if isinstance(parameter, Int) else len(_values(parameter))
    return size


def _values(parameter: Choice) -> tuple[Any, ...]:
    return parameter.values


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
