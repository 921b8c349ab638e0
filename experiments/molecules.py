"""Molecule benchmarks: latent search in a SELFIES VAE, sampling and screening.

The tables appear in docs/molecules.md.

    python experiments/molecules.py --data zinc29k.smi --storage sqlite:///molecules.db

``--data`` is a file with one SMILES a line: a part of ZINC-250k (the files valid.txt and test.txt
in JTVAE/data/zinc of https://github.com/pascalnotin/uncertainty_guided_optimization, MIT). The
first run trains the VAE and caches it in ``$BO_INVERT_CACHE``. The storage holds the studies; the
same command resumes after an interruption. A quick look with other seeds and one method:
``--seeds 100 101 --methods pcn --out .``.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import bo_invert as bi
from bo_invert.problems.examples.molecules import PROPERTIES, Materials, materials
from bo_invert.problems.examples.molecules_properties import picture
from bo_invert.report.statistical_tests import holm, spread, wilcoxon
from bo_invert.types import Array

ROOT = Path(__file__).parents[1]
SEEDS = range(10)
BUDGET = 500
BATCH = 10
#: A molecule counts as plausible above the lowest 5 % of plausibility of real molecules.
PLAUSIBLE = 0.05
PCN = {"name": "pcn", "options": {"components": 48, "steps": 30}}
#: Label -> strategy and searched share of the latent; ``screening`` evaluates file rows.
METHODS: dict[str, tuple[Any, float]] = {
    "screening": ("random", 1.0),
    "best of N": ("prior", 1.0),
    "cmaes": ("cmaes", 0.99),
    "gp": ("gp", 0.99),
    "turbo": ("turbo", 0.99),
    "spherical": ("spherical", 0.99),
    "auto": ("auto", 0.99),
    "auto, anywhere": ("auto", 1.0),
    "pcn": (PCN, 0.99),
    "pcn, latent": ({"name": "pcn", "options": {"surrogate": "latent"}}, 0.99),
}


class Library(bi.Box):
    """Search space of the molecules of a file, by row number."""

    def __init__(self, smiles: Sequence[str]) -> None:
        super().__init__({"row": bi.Int(0, len(smiles) - 1)})
        self.smiles = smiles

    def decode(self, points: Array) -> list[str]:
        return [self.smiles[row["row"]] for row in super().decode(points)]


def posed(made: Materials, name: str, label: str) -> bi.Problem:
    return bi.Problem(
        Library(made.smiles) if label == "screening" else made.latent, PROPERTIES[name],
        bi.Maximize(), outputs=[name], name=name, draw=picture, realism=METHODS[label][1],
        plausibility=made.realism,
    )  # fmt: skip


def rows(made: Materials, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield one row per completed run; completed runs are read from the storage."""
    for seed in options.seeds:
        for name in options.properties:
            for label in options.methods:
                comparison = bi.compare(
                    {name: posed(made, name, label)}, {label: METHODS[label][0]},
                    budget=options.budget, seeds=[seed], batch=options.batch,
                    storage=options.storage, raise_errors=True,
                )  # fmt: skip
                run = comparison.runs[0]
                study = bi.Study.open(
                    f"{name} / {label} / seed {seed}",
                    options.storage,
                    problem=posed(made, name, label),
                )
                observed = {t.design: -t.loss for t in study.trials if t.loss is not None}
                ranked = sorted(observed, key=lambda smiles: -observed[smiles])
                realism = made.realism(ranked)
                (sa, *_), (likeness, *_) = made.realism.scores(ranked[:1])
                sound = [
                    observed[one]
                    for one, real in zip(ranked, realism, strict=True)
                    if real >= PLAUSIBLE
                ]
                yield {
                    "property": name,
                    "method": label,
                    "seed": seed,
                    "calls": run.bill.calls,
                    "score": observed[ranked[0]],
                    "realism": realism[0],
                    "sa": sa,
                    "tanimoto": likeness,
                    "plausible_score": max(sound, default=np.nan),
                    "plausible_share": len(sound) / len(observed),
                    "different": len(observed),
                    "ask_seconds": run.ask_seconds,
                    "smiles": ranked[0],
                }


def tables(
    made: Materials, found: Sequence[dict[str, Any]], best: dict[str, tuple[float, float]]
) -> str:
    """Return a Markdown table of the methods per property, best first."""
    parts = []
    for name in dict.fromkeys(row["property"] for row in found):
        of = {
            label: [r for r in found if r["property"] == name and r["method"] == label]
            for label in METHODS
        }
        of = {label: runs for label, runs in of.items() if runs}
        head = (
            f"**{name}**; the best of all {len(made.smiles):,} molecules of the file has "
            f"{best[name][0]:.3f}, the best plausible one {best[name][1]:.3f}"
        )
        columns = (
            "| method | seeds | best found | its plausibility | its SA | its Tanimoto "
            "| best plausible | p, screening | p, best of N | distinct designs "
            "| seconds of one ask |"
        )
        lines = [head, "", columns, "|---|---:|---|---|---|---|---|---:|---:|---:|---:|"]
        order = sorted(
            of, key=lambda label: -np.nanmedian([r["plausible_score"] for r in of[label]])
        )
        against = {rival: _p_values(of, rival) for rival in ("screening", "best of N")}
        for label in order:
            runs = of[label]
            cells = [
                _spread([r[key] for r in runs])
                for key in ("score", "realism", "sa", "tanimoto", "plausible_score")
            ]
            seconds = np.median([r["ask_seconds"] or 0.0 for r in runs])
            tests = [against[rival].get(label, "") for rival in against]
            different = f"{np.median([r['different'] for r in runs]):.0f}"
            row = [label, str(len(runs)), *cells, *tests, different, f"{seconds:.2g}"]
            lines.append(f"| {' | '.join(row)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


def _spread(values: Sequence[float]) -> str:
    found = spread(values)
    return "" if found is None else f"{found.median:.3f} ({found.low:.3f} to {found.high:.3f})"


def _p_values(of: dict[str, list[dict[str, Any]]], rival: str) -> dict[str, str]:
    """Compare best plausible scores with a rival's by Holm-adjusted signed-rank tests."""
    if rival not in of:
        return {}
    theirs = {r["seed"]: r["plausible_score"] for r in of[rival]}
    tested, leads = {}, {}
    for label, runs in of.items():
        pairs = [(r["plausible_score"], theirs[r["seed"]]) for r in runs if r["seed"] in theirs]
        if label != rival and pairs:
            ours, other = np.array(pairs).T
            tested[label] = wilcoxon(-ours, -other)
            leads[label] = "better" if np.median(ours - other) > 0 else "worse"
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {label: f"{p:.3f}, {leads[label]}" for label, p in adjusted.items()}


def latent_line(made: Materials) -> str:
    """Describe validity, uniqueness, novelty and plausibility of 2,000 samples of the latent."""
    drawn = made.latent.decode(made.latent.sample(np.random.default_rng(0), 2000))
    known, sound = set(made.smiles), [one for one in drawn if one]
    real = made.realism(sound)
    return (
        f"The VAE: {made.training.epochs} epochs in {made.training.seconds / 60:.0f} minutes. "
        + ", ".join(f"{key} {value:.3g}" for key, value in made.training.figures.items())
        + ".\n\n2,000 samples of the measured distribution of codes: "
        f"{len(sound) / len(drawn):.1%} are molecules, {len(set(sound)) / len(sound):.1%} differ, "
        f"{np.mean([one not in known for one in sound]):.1%} are new; "
        f"{np.mean(real >= PLAUSIBLE):.1%} have a plausibility of {PLAUSIBLE} or more, "
        f"the median is {np.median(real):.2f}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="file with one SMILES a line")
    parser.add_argument("--storage", default="sqlite:///molecules.db")
    parser.add_argument(
        "--properties", nargs="+", default=["qed", "plogp"], choices=list(PROPERTIES)
    )
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument(
        "--training", type=json.loads, default={}, help="further fields of SelfiesConfig, as JSON"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    parser.add_argument(
        "--report", action="store_true", help="run nothing, write the tables of molecules.csv"
    )
    options = parser.parse_args()
    made = materials(options.data, training=options.training, progress=True)
    print(latent_line(made), flush=True)
    best = {}
    for name in options.properties:
        values = np.array([PROPERTIES[name](one) for one in made.smiles])
        top = np.argsort(-values)[:500]
        sound = made.realism([made.smiles[i] for i in top]) >= PLAUSIBLE
        best[name] = (float(values[top[0]]), float(values[top[sound]].max()))
    found: list[dict[str, Any]] = []
    if options.report:
        found = read_rows(options.out / "molecules.csv")
        write(tables(made, found, best), latent_line(made), found, options.out)
        return
    for row in rows(made, options):
        found.append(row)
        print(
            {key: round(v, 3) if isinstance(v, float) else v for key, v in row.items()}, flush=True
        )
        write(tables(made, found, best), latent_line(made), found, options.out)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV file of ``write``."""
    with path.open(newline="", encoding="utf-8") as file:
        texts = ("property", "method", "smiles")
        return [
            {k: v if k in texts else float(v) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def write(table: str, line: str, found: Sequence[dict[str, Any]], out: Path) -> None:
    """Write the runs to molecules.csv and the tables to their marked place in molecules.md."""
    with (out / "molecules.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()} for row in found
        )
    page = out / "molecules.md"
    if page.exists():
        head, _, rest = page.read_text(encoding="utf-8").partition("<!-- tables -->\n")
        tail = rest.partition("<!-- end -->\n")[2]
        text = f"{head}<!-- tables -->\n\n{line}\n\n{table}\n\n<!-- end -->\n{tail}"
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
