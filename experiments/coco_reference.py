"""Expected runtimes beside COCO's best-2009, for the expensive setting.

``best2009-bbob.tar.gz`` is part of the package ``cocopp`` (folder ``refalgs``). Its files state, by
function and dimension, the expected runtime of the best of 31 algorithms for each precision.
"""

from __future__ import annotations

import math
import re
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from bo_invert.report.runs import Run
from bo_invert.report.statistical_tests import median
from bo_invert.report.table import Table

#: Budgets of the targets, in multiples of the dimension (COCO's expensive setting).
RUN_LENGTHS = (0.5, 1.2, 3.0, 10.0)
_FILE = re.compile(r"bbob-bestalg_f(\d+)_d(\d+)\.dat$")
_NAME = re.compile(r"bbob f(\d+) d(\d+)$")

Runtimes = Mapping[tuple[int, int], Sequence[tuple[float, float]]]
"""By function and dimension: expected runtime and precision, from easy to hard."""


def best_2009(archive: str | Path) -> Runtimes:
    """Read expected runtime (first column) and precision (second one) of best-2009."""
    found = {}
    with tarfile.open(archive) as files:
        for member in files.getmembers():
            match = _FILE.search(member.name)
            content = files.extractfile(member) if match else None
            if match is None or content is None:
                continue
            lines = content.read().decode().splitlines()
            rows = [line.split()[:2] for line in lines if line and not line.startswith("%")]
            found[int(match[1]), int(match[2])] = [(float(a), float(b)) for a, b in rows]
    return found


def target(rows: Sequence[tuple[float, float]], calls: float) -> tuple[float, float] | None:
    """Return runtime and precision of the hardest target that the reference reaches in time."""
    reached = [row for row in rows if row[0] <= calls]
    return min(reached, key=lambda row: row[1]) if reached else None


def expected_runtime(runs: Sequence[Run], loss: float) -> float:
    """Return all calls up to success or the end, divided by the number of successes.

    Hansen et al. 2021, "COCO", equation of the average runtime; infinite without a success.
    """
    needed = np.array([run.calls_to(loss) for run in runs])
    spent = np.where(np.isfinite(needed), needed, [run.bill.calls for run in runs])
    successes = int(np.isfinite(needed).sum())
    return float(spent.sum()) / successes if successes else math.inf


def reference_table(runs: Sequence[Run], reference: Runtimes) -> Table:
    """Return the median ratio of expected runtimes to best-2009, and the functions reached."""
    labels = list(dict.fromkeys(run.label for run in runs))
    keys = {run.problem: (int(m[1]), int(m[2])) for run in runs if (m := _NAME.match(run.problem))}
    rows = []
    for d in sorted({key[1] for key in keys.values()}):
        for length in RUN_LENGTHS:
            ratios: dict[str, list[float]] = {label: [] for label in labels}
            for name, key in keys.items():
                aim = target(reference[key], length * d) if key[1] == d else None
                for label in labels if aim is not None else ():
                    own = [run for run in runs if (run.problem, run.label) == (name, label)]
                    if own and aim is not None:
                        ratios[label].append(expected_runtime(own, aim[1]) / max(1.0, aim[0]))
            cells = [
                f"{median(v):.3g} ({np.isfinite(v).sum()} of {len(v)})" if v else ""
                for v in ratios.values()
            ]
            rows.append((d, f"{length:g} d", *cells))
    note = (
        "Targets: the best precision that best-2009 reaches with an expected runtime of this many "
        "calls. Expected runtime over the instances, divided by that of best-2009: median over "
        "functions (number of functions with a success)."
    )
    columns = ("d", "target of", *labels)
    return Table(columns, tuple(rows), "Expected runtime beside COCO's best-2009", (note,))
