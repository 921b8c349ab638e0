"""The suites of benchmark problems, and the tables of their referee."""

from __future__ import annotations

import argparse
import itertools
import math
import pickle
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bo_invert as bi
from bo_invert.history import Ledger
from bo_invert.report.runs import Find, Run


@pytest.fixture
def scripts() -> Any:
    import bocode_tasks
    import coco_reference
    import coco_tasks
    import mixed_tasks
    import suite_tables
    import suites

    return argparse.Namespace(
        bocode=bocode_tasks, coco=coco_tasks, mixed=mixed_tasks, reference=coco_reference,
        suites=suites, tables=suite_tables,
    )  # fmt: skip


def test_mixed_instances_have_their_optimum_in_one_category(scripts: Any) -> None:
    mixed, rng = scripts.mixed, np.random.default_rng(0)
    for (name, source), run in itertools.product(mixed.sources(3).items(), range(3)):
        made, problem = source.instance(run), source(run)
        best = {**made.categories}
        index = tuple(made.parameters[c].values.index(best[c]) for c in made.choices)
        for column, number in enumerate(made.numbers):
            parameter, place = made.parameters[number], made.places[index[0], column]
            value = parameter.low + np.nan_to_num(place) * (parameter.high - parameter.low)
            best[number] = round(value) if isinstance(parameter, bi.Int) else float(value)
        assert made(best) == pytest.approx(0.0, abs=1e-12), name
        rest = np.sort(made.offsets, axis=None)
        assert rest[0] == 0.0
        assert rest[1] >= mixed.GAP - 1e-12
        copy = pickle.loads(pickle.dumps(source))(run)
        queries = [bi.Query(point) for point in problem.space.sample(rng, 20)]
        losses = [[one.loss for one in each.evaluate(queries)] for each in (problem, copy)]
        assert losses[0] == losses[1]
        assert min(losses[0]) > 0.0
    assert mixed.sources(3)["twelve"].categories(0) == mixed.sources(3)["twelve"].categories(0)
    assert len({str(mixed.sources(3)["fifty"].categories(run)) for run in range(9)}) > 1


def _run(label: str, seed: int, losses: list[float], text: str = "", **more: Any) -> Run:
    find = Find(0, np.zeros(1), np.zeros(1), losses[-1], text=text, **more)
    return Run(
        label, "p", seed, {"name": label}, 100, calls=np.arange(1, len(losses) + 1) * 25,
        losses=np.array(losses), finds=(find,),
    )  # fmt: skip


def test_gaps_are_in_units_of_the_range_of_the_peer(scripts: Any) -> None:
    gap = scripts.tables.gap
    assert gap([3.0, 3.0, 3.0], [0.0, 1.0, 2.0]) == pytest.approx(2.0)
    assert gap([0.0, 0.0, 0.0], [0.0, 1.0, 2.0]) == pytest.approx(-1.0)
    assert gap([2.0], [1.0]) == math.inf
    assert gap([1.0], [1.0, 1.0]) == 0.0
    assert gap([math.inf] * 3, [0.0, 1.0, 2.0]) == math.inf
    assert gap([1.0 + 1e-12], [1.0, 1.0]) == 0.0


def test_tables_name_problems_behind_a_peer_and_wrong_categories(scripts: Any) -> None:
    tables = scripts.tables
    runs = [_run("auto", seed, [5.0, 2.0 + seed], "x = 0.5, kind = a") for seed in range(3)]
    runs += [_run("random", seed, [4.0, 2.5 + seed], "kind = b") for seed in range(3)]
    behind = tables.gaps_table(runs, (25, 50), "auto", ("random", "prior"), 0.0)
    assert [row[:3] for row in behind.rows] == [("p", 25, "random")]
    margins = tables.margins_table(runs, (25, 50), "auto", ("random",))
    assert margins.rows == (("p", 25, "worse, no range"), ("p", 50, "-0.50"))
    right = {"p": {0: {"kind": "a"}, 1: {"kind": "a"}, 2: {"kind": "b"}}}
    (row,) = tables.choices_table(runs, right).rows
    assert row == ("p", "1 of 3", "2 of 3")
    judged = [_run("auto", seed, [5.0, 2.0], judged=3.0) for seed in range(3)]
    (row,) = tables.judged_table(judged, {"p": [(1.0, 4.0)]}).rows
    assert row == ("p", "1 / 4", "2 / 3")
    (early, late) = tables.medians_table(runs, (25, 50)).rows
    assert (early[2], late[3]) == ("5 (3)", "3.5 (3)")


@pytest.mark.slow
def test_the_referee_resumes_and_reports(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    line = ["suites.py", "--suite", "mixed", "--methods", "random,prior", "--seeds", "2"]
    line += ["--calls", "12", "--only", "twelve", "only", "--against", "random"]
    line += ["--results", str(tmp_path)]
    monkeypatch.setattr("sys.argv", line)
    scripts.suites.main()
    assert "8 of 8 runs" in capsys.readouterr().out
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*.jsonl")}
    assert len(before) == 4
    scripts.suites.main()
    assert before == {path: path.read_bytes() for path in tmp_path.glob("*/*.jsonl")}
    monkeypatch.setattr("sys.argv", [*line, "--report"])
    capsys.readouterr()
    scripts.suites.main()
    report = capsys.readouterr().out
    assert "Mean rank" in report
    assert "Runs whose best design has a wrong category" in report
    assert re.search(r"twelve \| \d of 2 \| \d of 2", report)


def test_every_kth_name_of_each_family_is_taken_from_the_first_one_on(scripts: Any) -> None:
    sizes = (18, 6, 28, 134, 24, 20, 7, 2, 1)
    found = {f"f{n}": [f"f{n} {i}" for i in range(n)] for n in sizes}
    taken = scripts.bocode.select(found)
    assert len(taken) == len(set(taken)) == 40
    assert taken == sorted(taken, key=[*itertools.chain(*found.values())].index)
    for family, names in found.items():
        own = [found[family].index(name) for name in taken if name in names]
        assert own[0] == 0
        assert len(set(np.diff(own))) <= 1


def test_variables_of_bocode_become_typed_parameters(scripts: Any) -> None:
    class Theirs:
        bounds = ((0.5, 3.0), (0.6, 4.4), (0, 2), (0, 9), (0, 1), (1, 1), (2, 5))

        def resolved_variable_types(self) -> list[Any]:
            grid, codes, unsorted = [1.0, 1.5, 9.0], [0, 1, 2], [0.3, 0.1]
            return ["continuous", "integer", codes, grid, unsorted, "continuous", [4]]

    found = scripts.bocode.parameters(Theirs())
    assert found == {
        "x0": bi.Float(0.5, 3.0),
        "x1": bi.Int(1, 4),
        "x2": bi.Choice(0.0, 1.0, 2.0),
        "x3": bi.Choice(1.0, 1.5, 9.0, ordered=True),
        "x4": bi.Choice(0.3, 0.1),
    }


def test_bocode_values_are_maximised_under_constraints(scripts: Any) -> None:
    bocode = pytest.importorskip("bocode")
    assert len(scripts.bocode.sources()) == 40
    assert set(scripts.bocode.NAMES) <= set(bocode.list_problems())
    problem = pickle.loads(pickle.dumps(scripts.bocode.sources()["ThreeTruss"]))(0)
    (outcome,) = problem.evaluate([bi.Query(np.full(2, 0.5))])
    theirs = scripts.bocode.original("ThreeTruss")
    values, constraints = theirs.evaluate(theirs.scale(scripts.bocode.torch.full((1, 2), 0.5)))
    assert outcome.loss == pytest.approx(-float(values))
    assert outcome.violation == pytest.approx(float(constraints.clamp(min=0.0).sum()))


def test_coco_functions_are_zero_at_their_optimum(scripts: Any) -> None:
    pytest.importorskip("cocoex")
    sources = scripts.coco.sources()
    assert len(sources) == 72
    for name in ("bbob f03 d5", "bbob-mixint f08 d5"):
        source = pickle.loads(pickle.dumps(sources[name]))
        problem, other = source(0), source(1)
        point = problem.space.sample(np.random.default_rng(0), 1)[0]
        losses = [one.evaluate([bi.Query(point)])[0].loss for one in (problem, other, source(5))]
        assert losses[0] == losses[2] != losses[1]
        assert min(losses) >= 0.0


def test_expected_runtimes_are_divided_by_those_of_the_reference(
    scripts: Any, tmp_path: Path
) -> None:
    reference = scripts.reference
    lines = "% header\n% type = best\n1 1e2 1e2 x 5 5\n4 1e1 1e1 x 5 5\n40 1e0 1e0 x 5 5\n"
    file, archive = tmp_path / "bbob-bestalg_f03_d05.dat", tmp_path / "best.tar.gz"
    file.write_text(lines)
    with tarfile.open(archive, "w:gz") as files:
        files.add(file, arcname=f"best/{file.name}")
    rows = reference.best_2009(archive)
    assert rows == {(3, 5): [(1.0, 100.0), (4.0, 10.0), (40.0, 1.0)]}
    assert reference.target(rows[3, 5], 6.0) == (4.0, 10.0)
    assert reference.target(rows[3, 5], 0.5) is None

    def run(seed: int, calls: list[int], losses: list[float]) -> Run:
        return Run(
            "auto", "bbob f03 d5", seed, {"name": "auto"}, 100, calls=np.array(calls),
            losses=np.array(losses), bill=Ledger(values=100),
        )  # fmt: skip

    runs = [run(0, [1, 8], [50.0, 9.0]), run(1, [1], [50.0])]
    # 8 calls up to the success and 100 without one, for one success.
    assert reference.expected_runtime(runs, 10.0) == 108.0
    assert reference.expected_runtime(runs, 1.0) == math.inf
    table = reference.reference_table(runs, rows)
    assert [row[1:] for row in table.rows] == [
        ("0.5 d", "1 (1 of 1)"), ("1.2 d", "27 (1 of 1)"),
        ("3 d", "27 (1 of 1)"), ("10 d", "inf (0 of 1)"),
    ]  # fmt: skip
