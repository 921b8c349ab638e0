"""Tables of observations and of results: CSV files, data frames, dicts."""

from __future__ import annotations

import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bo_invert as bi
from bo_invert.study.cell_numbers import NumberReader
from bo_invert.study.csv_table import csv_table
from bo_invert.types import Cost, State

SPACE = {
    "temperature": bi.Float(20.0, 100.0),
    "rate": bi.Float(1e-4, 1.0, log=True),
    "stirrers": bi.Int(1, 5),
    "solvent": bi.Choice("water", "dmso"),
    "grade": bi.Choice(1, 2, 5),
    "sealed": bi.Choice(True, False),
}
HEADER = "temperature,rate,stirrers,solvent,grade,sealed,yield,purity"


def problem(**options: Any) -> bi.Problem:
    options = {"outputs": ["yield", "purity"], "constraints": ["purity >= 0.5"]} | options
    return bi.Problem(bi.Box(SPACE), None, bi.Maximize("yield"), **options)


def study(name: str = "lab", storage: str | None = None) -> bi.Study:
    return bi.Study.create(name, problem(), "random", 0, storage)


def row(**changes: Any) -> dict[str, Any]:
    return {
        "temperature": 70.5, "rate": 0.01, "stirrers": 2, "solvent": "water", "grade": 2,
        "sealed": True, "yield": 0.41, "purity": 0.9,
    } | changes  # fmt: skip


def kinds(tmp_path: Path) -> list[Any]:
    """The same two rows as each kind of table that users have."""
    rows = [row(), row(temperature=20, solvent="dmso", sealed=False, **{"yield": 1.5})]
    others: list[Any] = []
    with suppress(ImportError):
        import polars

        others.append(polars.DataFrame(rows))
    text = pd.DataFrame(rows).to_csv(index=False)
    german = pd.DataFrame(rows).to_csv(index=False, sep=";", decimal=",")
    written = {
        "plain.csv": text.encode(),
        "excel.csv": german.replace("\n", "\r\n").encode("utf-8-sig"),
        "sep.csv": b"sep=;\r\n" + german.encode(),
        "tabs.txt": text.replace(",", "\t").encode("utf-16"),
        "quoted.csv": "\n".join(
            ",".join(f'"{cell}"' for cell in line.split(";")) for line in german.splitlines()
        ).encode("cp1252"),
        "spaces.csv": text.replace(",", " , ").encode(),
    }
    for name, data in written.items():
        (tmp_path / name).write_bytes(data)
    paths: list[Any] = [str(tmp_path / name) for name in written]
    return [
        *paths, Path(paths[0]), pd.DataFrame(rows), pd.DataFrame(rows).astype(str),
        pd.DataFrame(rows).sample(frac=1.0, axis=1, random_state=1), *others,
        rows, iter(rows), {name: [one[name] for one in rows] for name in rows[0]},
        pd.DataFrame(rows).to_records(index=False),
    ]  # fmt: skip


def test_every_kind_of_table_is_read_equally(tmp_path: Path) -> None:
    wanted = study().add(kinds(tmp_path)[6])
    assert wanted[0].design == {k: v for k, v in row().items() if k in SPACE}
    for given in kinds(tmp_path):
        lab = study()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            added = lab.add(given)
        assert [trial.design for trial in added] == [trial.design for trial in wanted], given
        assert [trial.y.tolist() for trial in added] == [[0.41, 0.9], [1.5, 0.9]], given
        assert lab.spent.values == 0
        assert lab.best is not None
        assert lab.best.number == 1


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1,5", "2,25"], [1.5, 2.25]),
        (["1.5", "2"], [1.5, 2.0]),
        (["1.234,5", "0,5"], [1234.5, 0.5]),
        (["1,234.5", "0.5"], [1234.5, 0.5]),
        (["1,234", "2,5"], [1.234, 2.5]),
        (["−3.5", "+2e-3"], [-3.5, 0.002]),
        (["1e3", ".5"], [1000.0, 0.5]),
        (["0.125", "1,234.5"], [0.125, 1234.5]),
        (["0,125", "−1,5"], [0.125, -1.5]),
        (["1 234.5".replace(" ", "\u202f"), "1"], [1234.5, 1.0]),
    ],
)
def test_the_decimal_sign_is_recognised(cells: list[str], numbers: list[float]) -> None:
    for delimiter in (";", "\t"):
        text = f"a{delimiter}b\n" + "".join(f"{cell}{delimiter}x\n" for cell in cells)
        found = csv_table(text, ["a", "b"])
        assert [found.number(one.cells["a"]) for one in found.rows] == numbers


def test_a_group_of_three_digits_follows_the_other_numbers_and_the_delimiter() -> None:
    assert csv_table("a;b\n1,234;5\n", ["a"]).number("1,234") == 1.234
    mixed = csv_table("a;b;c\n0,5;0.25;1,234\n1,234;1.234;7\n", ["a", "b", "c"])
    assert [mixed.number("1,234", "a"), mixed.number("1.234", "b")] == [1.234, 1.234]
    assert [mixed.number("0,5", "a"), mixed.number("0.25", "b")] == [0.5, 0.25]
    with pytest.raises(bi.InvalidInputError, match=r"read as 1\.234 or as 1234"):
        mixed.number("1,234", "c")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a;b\n0,41;1.234\n", None),  # a group, or a point among commas
        ("a\tb\n7\t1,234\n", None),
        ('a,b\n7,"1,234"\n', None),
        ('a,b\n0.5,"1,234"\n', None),
        ("a;b\n7;1.234\n", None),
        ("a;b\n0,5;1.234\n0.5;2\n", None),
        ("a;b\n0,5;1.234\n1;1.234,5\n", 1234.0),  # a group that is none else
        ("a;b\n0,5;1.234\n1;1.234.567\n", 1234.0),
        ('a,b\n0.5,"1,234"\n"1,234.5",7\n', 1234.0),
        ("a,b\n7,1.234\n", 1.234),
        ("a\tb\n0,5\t1,234\n", 1.234),
        ("a\tb\n7\t1.234\n", 1.234),
        ("a;b\n7;1,234\n", 1.234),
        ("a;b\n0.5;1.234\n", 1.234),
    ],
)
def test_a_number_with_two_readings_is_decided_by_column_and_file(
    text: str, value: float | None
) -> None:
    table = csv_table(text, ["a", "b"])
    cell = table.rows[0].cells["b"]
    if value is not None:
        assert table.number(cell, "b") == value
        return
    with pytest.raises(bi.InvalidInputError) as caught:
        table.number(cell, "b")
    readings = {decimal: reader(decimal=decimal).number(cell) for decimal in ".,"}
    assert sorted(readings.values()) == [1.234, 1234.0]
    for decimal, found in readings.items():
        assert f"decimal={decimal!r} for {found:g}" in str(caught.value)


def reader(**options: str) -> NumberReader:
    return NumberReader(**options)


def test_options_say_how_numbers_are_written() -> None:
    assert reader(thousands=",").number("1,234") == 1234.0
    assert reader(thousands="").number("1,234") == 1.234
    assert reader(thousands=" ", decimal=",").number("12 345 678,5") == 12345678.5
    assert reader(thousands="'", decimal=".").number("-1'234") == -1234.0
    assert reader(thousands="", decimal=",").number("12") == 12.0
    with pytest.raises(bi.InvalidInputError, match=r"'0,5' is no number with decimal='\.'"):
        reader(decimal=".").number("0,5")
    assert reader(decimal=",", thousands="").number("1.234,5") is None
    for wrong in ({"decimal": "x"}, {"thousands": "x"}, {"decimal": ",", "thousands": ","}):
        with pytest.raises(bi.InvalidInputError, match=r"decimal|thousands"):
            reader(**wrong)


INVALID = f"""{HEADER},note
70,0.01,2,water,2,true,0.4,0.9,good

71,0.01,2,watr,2,true,0.4,0.9,
72,0.01,2.5,water,2,true,0.4,0.9,
abc,0.01,2,water,2,true,0.4,0.9,
,0.01,2,water,2,true,0.4,0.9,
170,0.01,2,water,2,true,0.4,0.9,
73,0.01,2,water,2,true,40 %,0.9,
74,0.01,2,water,2,true,0.4,,
75,0.01,2,water,2,true,0.4,0.9,x,y
76,0.01,2,water,2,true,0.5,0.9,
"""


def test_invalid_rows_are_reported_as_the_user_counts_them(tmp_path: Path) -> None:
    path = tmp_path / "lab.csv"
    path.write_text(INVALID)
    lab = study()
    with pytest.warns(UserWarning, match="8 of 10 rows are invalid") as warned:
        added = lab.add(path)
    assert [trial.design["temperature"] for trial in added] == [70.0, 76.0]
    assert dict(added[0].extra) == {"note": "good"}
    found = {one.row: one.reason for one in added.rejected}
    assert list(found) == [f"row {number}" for number in range(4, 12)]
    assert found["row 4"].endswith("is not one of ['water', 'dmso']; did you mean 'water'?")
    for label, part in {
        "row 5": "whole number", "row 6": "temperature: 'abc' is not a number",
        "row 7": "temperature: no value", "row 8": "outside='model'",
        "row 9": "without the unit '%'", "row 10": "purity: no value, but yield=0.4",
        "row 11": "10 cells and the header has 9",
    }.items():  # fmt: skip
        assert part in found[label]
        assert label in str(warned[0].message)
    lab = study()
    with pytest.raises(bi.InvalidInputError, match=r"(?s)row 4: .*Nothing is recorded"):
        lab.add(path, errors="raise")
    assert lab.trials == ()
    assert len(lab.add(path, errors="ignore")) == 2


def test_rows_of_frames_and_dicts_are_named_by_their_labels() -> None:
    frame = pd.DataFrame([row(), row(grade=7)], index=["exp-1", "exp-2"])
    assert study().add(frame, errors="ignore").rejected[0].row == "index exp-2"
    assert study().add([row(), row(grade=7)], errors="ignore").rejected[0].row == "item 1"
    assert study().add([row(), 3.0], errors="ignore").rejected[0].row == "item 1"


@pytest.mark.parametrize(
    ("columns", "hint"),
    [
        ({"temperature": "temperature [°C]"}, "columns={'temperature [°C]': 'temperature'}"),
        ({"temperature": "Temperature"}, "columns={'Temperature': 'temperature'}"),
        ({"yield": "yield_percent"}, "columns={'yield_percent': 'yield'}"),
        ({"yield": "Yield (%)"}, "columns={'Yield (%)': 'yield'}"),
        ({"solvent": "medium"}, "column 'solvent' is missing"),
    ],
)
def test_a_missing_column_is_reported_with_similar_ones(columns: dict[str, str], hint: str) -> None:
    frame = pd.DataFrame([row()]).rename(columns=columns)
    lab = study()
    with pytest.raises(bi.InvalidInputError) as refused:
        lab.add(frame)
    assert hint in str(refused.value)
    (trial,) = lab.add(frame, columns={new: old for old, new in columns.items()})
    assert trial.y.tolist() == [0.41, 0.9]
    with pytest.raises(bi.InvalidInputError, match="no column"):
        lab.add(frame, columns={"nothing": "yield"})


@pytest.mark.parametrize("data", [b"", b"\n\n", b"PK\x03\x04xx"])
def test_a_file_without_a_table_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "lab.xlsx"
    path.write_bytes(data)
    with pytest.raises(bi.InvalidInputError, match=r"header|workbook"):
        study().add(path)
    with pytest.raises(bi.InvalidInputError, match="cannot be read"):
        study().add(tmp_path / "none.csv")


def test_rows_without_outputs_are_pending_failures_or_left_out() -> None:
    rows = [row(), row(grade=1, **{"yield": None, "purity": float("nan")})]
    lab = study()
    first, second = lab.add(rows)
    assert (first.state, second.state, second.origin) == (State.COMPLETED, State.QUEUED, "data")
    assert lab.add(rows) == []
    assert [trial.number for trial in lab.ask()] == [1]
    (failed,) = study().add(rows[1:], blank="failed")
    assert (failed.state, failed.reason) == (State.FAILED, "no value of yield, purity")
    left = study().add(rows, blank="skip")
    assert (len(left), left.skipped[0].row) == (1, "item 1")
    part = study().add([row(purity="n/a")], blank="failed")
    assert part[0].reason == "no value of purity; yield=0.41"


@pytest.mark.parametrize(
    ("cell", "state", "reason"),
    [
        ("failed: clogged", State.FAILED, "clogged"),
        ("Failed", State.FAILED, "failed"),
        ("infeasible - it boils", State.INFEASIBLE, "it boils"),
    ],
)
def test_a_cell_may_hold_a_failure(cell: str, state: State, reason: str) -> None:
    (trial,) = study().add([row(**{"yield": cell, "purity": ""})])
    assert (trial.state, trial.reason) == (state, reason)


def test_the_same_table_adds_nothing_twice(tmp_path: Path) -> None:
    rows = [row(), row(), row(grade=5), row(grade=1, **{"yield": "failed"})]
    lab = study("lab", f"sqlite:///{tmp_path}/runs.db")
    assert [trial.number for trial in lab.add(rows)] == [0, 1, 2, 3]
    again = lab.add([*rows, row(grade=1, stirrers=4)])
    assert [trial.number for trial in again] == [4]
    assert again.repeated == (("item 0", 0), ("item 1", 1), ("item 2", 2), ("item 3", 3))
    assert [trial.number for trial in lab.add([row(), row(), row()])] == [5]
    lab.amend(2, [0.7, 0.9], reason="typing error")
    assert lab.add(rows) == []  # the table still holds the former value
    assert len(lab.add(rows, repeats="add")) == 4
    assert [trial.number for trial in lab.add([row(batch="B")])] == []


def test_a_planned_repetition_does_not_stand_for_a_recorded_row() -> None:
    rows = [row(**{"yield": None, "purity": None}), row()]
    lab = study()
    assert [trial.number for trial in lab.add(rows)] == [1, 0]
    assert lab.add(rows).repeated == (("item 1", 0), ("item 0", 1))
    measured = [row(**{"yield": 0.5}), row()]
    (done,) = lab.add(measured)
    assert (done.number, done.y.tolist()) == (1, [0.5, 0.9])
    assert [str(trial.state) for trial in lab.trials] == ["completed", "completed"]
    lab.enqueue({k: v for k, v in row(grade=5).items() if k in SPACE})
    lab.cancel(2)
    (again,) = lab.add([row(grade=5, **{"yield": None, "purity": None})])
    assert again.number == 3


def test_two_processes_add_a_table_once(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/runs.db"
    study("lab", url)
    rows = [row(stirrers=1 + i % 5, temperature=30.0 + i) for i in range(20)]
    rows += [row(temperature=99.0, **{"yield": None, "purity": None})]
    threads = [
        threading.Thread(target=lambda: bi.Study.open("lab", url, problem()).add(rows))
        for _ in range(4)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(bi.Study.open("lab", url).trials) == 21


def test_a_row_at_an_open_trial_is_its_result() -> None:
    lab = study()
    first, second = lab.ask(2)
    found = lab.add([first.design | {"yield": 0.5, "purity": 0.6, "colour": "red"}])
    assert [trial.number for trial in found] == [0]
    assert (found[0].state, found[0].extra["colour"]) == (State.COMPLETED, "red")
    assert lab.spent.values == 1
    assert [trial.number for trial in lab.pending] == [second.number]


def test_further_columns_are_in_tables_and_exports(tmp_path: Path) -> None:
    lab = study("lab", f"sqlite:///{tmp_path}/runs.db")
    lab.add([row(colour="brown", ph=7.1, on=pd.Timestamp("2026-03-01"), empty=None)])
    frame = lab.to_dataframe()
    assert (frame.colour[0], frame.ph[0], frame.on[0]) == ("brown", 7.1, "2026-03-01T00:00:00")
    assert "empty" not in frame
    (trial,) = bi.Study.open("lab", f"sqlite:///{tmp_path}/runs.db").trials
    assert trial.extra["ph"] == 7.1
    other = study()
    frame.to_csv(tmp_path / "trials.csv", index=False)
    (copied,) = other.add(tmp_path / "trials.csv")
    assert (copied.y.tolist(), dict(copied.extra)) == ([0.41, 0.9], dict(trial.extra))


def test_costs_of_rows_are_billed() -> None:
    lab = study()
    lab.add([row(), row(grade=7), row(grade=1)], costs=[Cost(1), Cost(5), Cost(2)],
            errors="ignore")  # fmt: skip
    assert lab.spent.values == 3
    with pytest.raises(bi.InvalidInputError, match="each of 1 rows"):
        lab.add([row()], costs=[])


def test_tables_of_vectors_and_latents_match_by_coordinate() -> None:
    vectors = bi.Study.create("v", bi.Problem(bi.Box([0.0, 1.0], [1.0, 2.0]), None, bi.Minimize()))
    (trial,) = vectors.add(pd.DataFrame({"y": [3.0], "x1": [1.5], "x0": [0.25]}))
    assert trial.design.tolist() == [0.25, 1.5]
    latent = bi.Problem(bi.Latent(lambda z: z, 2), None, bi.Minimize())
    (trial,) = bi.Study.create("z", latent).add([{"z1": 0.5, "z0": -0.25, "y": 1.0}])
    assert trial.point.tolist() == [-0.25, 0.5]


def test_constant_and_conditional_parameters() -> None:
    space = bi.Box({
        "solver": bi.Choice("sgd", "adam"), "site": bi.Fixed("lab 2"),
        "options": bi.When("solver", "sgd", {"momentum": bi.Float(0.0, 1.0)}),
    })  # fmt: skip
    lab = bi.Study.create("c", bi.Problem(space, None, bi.Minimize("y")))
    found = lab.add([
        {"solver": "sgd", "momentum": 0.5, "y": 1.0},
        {"solver": "adam", "momentum": None, "y": 2.0},
        {"solver": "adam", "site": "elsewhere", "y": 2.0},
    ], errors="ignore")  # fmt: skip
    assert [trial.design for trial in found] == [
        {"solver": "sgd", "site": "lab 2", "momentum": 0.5},
        {"solver": "adam", "site": "lab 2"},
    ]
    assert "one of ['lab 2']" in found.rejected[0].reason


def test_results_match_by_trial_number(tmp_path: Path) -> None:
    lab = study()
    lab.ask(4)
    path = tmp_path / "asks.csv"
    path.write_text(lab.pending.to_csv())
    frame = pd.read_csv(path)
    assert next(iter(frame)) == "trial"
    frame["yield"] = frame["yield"].astype(object)
    frame.loc[0, ["yield", "purity"]] = ["0.5", 0.8]
    frame.loc[2, ["yield", "purity", "temperature"]] = ["0.7", 0.9, 71.5]
    frame.loc[3, "yield"] = "failed: spilled"
    frame["ph"] = [7.0, None, 7.5, None]
    frame.sample(frac=1.0, random_state=0).to_csv(path, index=False, sep=";")
    found = lab.tell_table(path)
    assert sorted(trial.number for trial in found) == [0, 2, 3]
    assert [one.reason for one in found.skipped] == ["no outputs"]
    assert lab.trials[2].moved
    assert lab.trials[2].design["temperature"] == 71.5
    assert not lab.trials[0].moved
    assert lab.trials[2].extra["ph"] == 7.5
    assert lab.trials[3].reason == "spilled"
    again = lab.tell_table(path)
    assert (len(again), sorted(number for _, number in again.repeated)) == (0, [0, 2, 3])
    assert lab.spent.values == 3


def test_invalid_results_are_reported() -> None:
    lab = study()
    lab.ask(3)
    rows = [
        {"trial": 0, "yield": 1.0, "purity": 1.0}, {"trial": 0, "yield": 2.0, "purity": 1.0},
        {"trial": 9, "yield": 1.0, "purity": 1.0}, {"trial": "x", "yield": 1.0, "purity": 1.0},
        {"trial": 1, "yield": 1.0, "purity": None},
        {"trial": 2, "yield": 1.0, "purity": 1.0, "temperature": 500.0},
    ]  # fmt: skip
    found = lab.tell_table(rows, errors="ignore")
    assert [trial.number for trial in found] == [0]
    reasons = [one.reason for one in found.rejected]
    for part in ("another row", "no trial 9", "got 'x'", "purity: no value", "outside='model'"):
        assert sum(part in one for one in reasons) == 1
    (moved,) = lab.tell_table(rows[-1:], outside="model")
    assert moved.outside
    (conflict,) = lab.tell_table(
        [{"trial": 0, "yield": 3.0, "purity": 1.0}], errors="ignore"
    ).rejected
    assert "study.amend()" in conflict.reason
    with pytest.raises(bi.InvalidInputError, match="'trial' is missing"):
        lab.tell_table([{"yield": 1.0, "purity": 1.0}])


def test_pending_trials_are_a_table() -> None:
    lab = study()
    assert repr(lab.pending) == "no pending trials"
    lab.ask(2)
    assert (len(lab.pending), lab.pending[1].number) == (2, 1)
    frame = lab.pending.to_dataframe()
    assert list(frame) == ["trial", *SPACE, "yield", "purity"]
    assert frame["yield"].isna().all()
    assert np.allclose(frame.temperature, [t.design["temperature"] for t in lab.pending])
    assert "temperature" in repr(lab.pending)
    assert "<table" in lab.pending._repr_html_()


def test_ten_thousand_rows_are_added_in_one_event(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.random((10_000, 3))
    frame = pd.DataFrame(x, columns=["a", "b", "c"]).assign(y=x.sum(axis=1), lab="B")
    frame.to_csv(tmp_path / "big.csv", index=False)
    box = bi.Box({name: bi.Float(0.0, 1.0) for name in "abc"})
    lab = bi.Study.create("big", bi.Problem(box, None, bi.Minimize("y")), "random")
    added = lab.add(tmp_path / "big.csv")
    assert len(added) == 10_000
    assert np.array_equal([trial.point for trial in added], x)
    assert sum(event["kind"] == "added" for event in lab.journal._store.events("big")) == 1


@pytest.mark.parametrize("word", ["none", "n/a", "-", "NA"])
def test_a_level_may_be_a_word_for_a_missing_value(tmp_path: Path, word: str) -> None:
    space = bi.Box({"a": bi.Float(0, 1), "additive": bi.Choice(word, "salt")})
    problem = bi.Problem(space, None, bi.Minimize("y"), outputs=["y"])
    study = bi.Study.create("words", problem, "random")
    rows = [{"a": 0.3, "additive": word, "y": 1.0}, {"a": 0.6, "additive": "salt", "y": "none"}]
    first, *_ = study.add(rows)
    assert first.design == {"a": 0.3, "additive": word}
    file = tmp_path / "rows.csv"
    file.write_text(f"a,additive,y\n0.4,{word},2\n")
    (second,) = study.add(file)
    assert second.design["additive"] == word
    study.predict(file)
    trial = next(t for t in study.ask(20) if t.design["additive"] == "salt")
    row = {"trial": trial.number, "a": trial.design["a"], "additive": word, "y": 1.0}
    (done,) = study.tell_table([row])
    assert (done.moved, done.design["additive"]) == (True, word)


def test_rows_of_open_trials_stay_open_unless_the_user_says_otherwise() -> None:
    lab = study()
    asked = lab.ask(2)
    blank = {"yield": None, "purity": None}
    partly = {**row(**asked[1].design), **blank, "purity": 0.9}
    rows = [row(**asked[0].design, **blank), partly, row(grade=5, **blank)]
    added = lab.add(rows, blank="failed")
    assert [trial.number for trial in added] == [2]
    assert added.waiting == (("item 0", 0), ("item 1", 1))
    assert [one.row for one in added.failed] == ["item 2"]
    assert [trial.state.open for trial in lab.trials] == [True, True, False]
    for text in (
        "1 row recorded as failed",
        "2 rows of open trials",
        "item 1: no outputs, trial 1",
    ):
        assert text in added.summary
    forced = lab.add(rows, blank="failed-open")
    assert [trial.state for trial in forced] == [State.FAILED, State.FAILED]
    assert len(forced.repeated) == 1
    assert not lab.pending


def test_a_measured_row_answers_its_open_trial_before_a_blank_one() -> None:
    lab = study()
    (trial,) = lab.ask()
    rows = [row(**trial.design, **{"yield": None, "purity": None}), row(**trial.design)]
    added = lab.add(rows, blank="failed")
    assert [one.state for one in added] == [State.FAILED, State.COMPLETED]
    assert lab.trials[0].state is State.COMPLETED


@pytest.mark.parametrize(
    "change",
    [
        {"at": {"temperature": 71.0}},
        {"extra": {"ph": 6.0}},
        {"answer": {"yield": 0.1}},
        {"at": {"rate": 0.5}, "extra": {"ph": 6.0}, "answer": {"yield": 0.1}},
        {"answer": bi.FailedError("spilled")},
    ],
)
def test_a_table_is_recognised_after_corrections(change: dict[str, Any]) -> None:
    lab = study()
    table = [row(ph=7.0), row(ph=7.0), row(grade=5, ph=7.5)]
    lab.add(table)
    lab.amend(1, **change)
    lab.amend(2, extra={"colour": "red"})
    lab.amend(2, at={"temperature": 50.0})
    again = lab.add(table)
    assert (again, len(again.repeated)) == ([], 3)
    corrected = table[1] | dict(change.get("at", {}))
    corrected |= change.get("extra", {})
    if isinstance(change.get("answer"), dict):
        corrected |= change["answer"]
    if "answer" not in change or isinstance(change["answer"], dict):
        assert lab.add([table[0], corrected, table[2]]) == []  # the table is corrected, too


def test_a_planned_row_that_was_run_elsewhere_is_not_queued_again() -> None:
    lab = study()
    table = [row(**{"yield": None, "purity": None})]
    (planned,) = lab.add(table)
    lab.tell(planned, {"yield": 0.5, "purity": 0.9}, at={"temperature": 90.0})
    assert lab.add(table) == []


def test_options_of_numbers_hold_for_tables(tmp_path: Path) -> None:
    file = tmp_path / "lab.txt"
    file.write_text(
        HEADER.replace(",", "\t") + "\n70\t0.01\t2\twater\t2\ttrue\t1,234\t0.9\n"
        "71\t0.01\t2\twater\t2\ttrue\t7\t0.9\n"
    )
    lab = study()
    added = lab.add(file, errors="ignore")
    assert [trial.y[0] for trial in added] == [7.0]
    assert "yield: '1,234' can be read as 1.234 or as 1234" in str(added.rejected[0])
    assert [trial.y[0] for trial in lab.add(file, thousands=",")] == [1234.0]
    with pytest.raises(bi.InvalidInputError, match="decimal must be"):
        lab.add(file, decimal="comma")
    (trial,) = lab.ask()
    results = [{"trial": trial.number, "yield": "1,5", "purity": "0,9"}]
    assert lab.tell_table(results, decimal=",")[0].y.tolist() == [1.5, 0.9]
