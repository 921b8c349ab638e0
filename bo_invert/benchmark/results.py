"""Benchmark results: one JSON line per finished run, one file per problem and method.

Lines are appended and never changed. A line torn by a crash is ignored, and its run is repeated. Of
two lines of one run the later counts.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

import numpy as np

from bo_invert.history import Ledger
from bo_invert.report.runs import Find, Run, Status
from bo_invert.types import JSON

# Significant digits (count) of a stored loss. Engineering choice: small files that still rank runs.
DIGITS = 10


@dataclass(frozen=True)
class Key:
    """Identity of a run.

    Args:
        problem: name in the suite.
        label: label of the method.
        spec: spec of the strategy as given; omitted options have the defaults of the version.
        seed: seed of problem and method.
        budget: calls.
        batch: concurrent trials.
    """

    problem: str
    label: str
    spec: JSON
    seed: int
    budget: int
    batch: int

    def text(self) -> str:
        """Return a string that is equal for equal keys."""
        return json.dumps(vars(self), sort_keys=True)

    @property
    def path(self) -> Path:
        """Path of its file, relative to the folder of the results."""
        return Path(file_name(self.problem)) / f"{file_name(self.label)}.jsonl"


class Results:
    """Results in a folder.

    Args:
        folder: folder, created with the first line.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def runs(self, keys: list[Key]) -> dict[str, Run]:
        """Read the stored runs, by ``Key.text()``, in the order of the keys."""
        lines: dict[str, JSON] = {}
        for path in {key.path for key in keys}:
            lines |= self._lines(path)
        return {key.text(): from_line(lines[key.text()]) for key in keys if key.text() in lines}

    def done(self, keys: list[Key]) -> set[str]:
        """Return the ``Key.text()`` of finished and refused runs."""
        return {text for text, run in self.runs(keys).items() if run.status is not Status.ERROR}

    def append(self, key: Key, line: JSON) -> None:
        """Append one run and flush it to the disk."""
        path = self.folder / key.path
        path.parent.mkdir(parents=True, exist_ok=True)
        data = (json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n").encode()
        torn = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
        with path.open("ab") as file:
            file.write(b"\n" + data if torn else data)  # a crash tore the last line
            file.flush()
            os.fsync(file.fileno())

    def _lines(self, path: Path) -> dict[str, JSON]:
        """Read the valid lines of a file, by ``Key.text()``."""
        lines: dict[str, JSON] = {}
        file = self.folder / path
        for text in file.read_bytes().split(b"\n") if file.exists() else ():
            with suppress(ValueError, KeyError, TypeError, RecursionError):
                line = json.loads(text)
                lines[_key(line).text()] = line
        return lines


def to_line(key: Key, run: Run, versions: Mapping[str, str], code: JSON | None = None) -> JSON:
    """Convert a run to JSON: improvements of the curve, rounded losses, the best design.

    Args:
        key: identity of the run.
        run: the run.
        versions: package versions.
        code: fingerprints of ``fingerprint.code_of``.
    """
    falls = np.flatnonzero(run.losses < np.concatenate([[math.inf], run.losses[:-1]]))
    best = run.best
    worth = ("number", "loss", "feasible", "hit", "judged", "upheld", "plausibility", "text")
    return {
        **asdict(key),
        "strategy": run.strategy,
        "goal": {"type": run.goal.get("type", "")},
        "status": str(run.status),
        "ended": run.ended,
        "calls": run.calls[falls].tolist(),
        "losses": [_rounded(loss) for loss in run.losses[falls].tolist()],
        "best": None if best is None else {name: _rounded(getattr(best, name)) for name in worth},
        "bill": {name: _rounded(value) for name, value in asdict(run.bill).items()},
        "ask_seconds": None if run.ask_seconds is None else _rounded(run.ask_seconds),
        "versions": dict(versions),
        "code": code or {},
    }


def from_line(line: JSON) -> Run:
    """Convert a line to a run; the best design has neither point nor outputs.

    Lines of earlier versions have no ``code``.
    """
    calls, losses = list(line["calls"]), list(line["losses"])
    bill = Ledger(**line["bill"])
    if losses:  # extend the curve to the last call
        calls.append(max(calls[-1], bill.calls))
        losses.append(losses[-1])
    finds = (
        () if line["best"] is None else (Find(point=np.zeros(0), y=np.zeros(0), **line["best"]),)
    )
    return Run(
        label=line["label"], problem=line["problem"], seed=line["seed"], strategy=line["strategy"],
        budget=line["budget"], goal=line["goal"], calls=np.array(calls, dtype=np.int64),
        losses=np.array(losses, dtype=float), bill=bill, finds=finds,
        status=Status(line["status"]), ended=line["ended"], ask_seconds=line["ask_seconds"],
        code={**line.get("code", {}), "versions": line.get("versions", {})},
    )  # fmt: skip


def file_name(text: str) -> str:
    """Convert a label to a part of a file name."""
    return re.sub(r"[^\w.+-]+", "_", text)


def _key(line: JSON) -> Key:
    return Key(**{field.name: line[field.name] for field in fields(Key)})


_Cell = TypeVar("_Cell")


def _rounded(value: _Cell) -> _Cell | float:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
