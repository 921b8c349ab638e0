import csv
import io
import math

import pytest

import bo_invert as bi
from bo_invert.benchmark.compare import Comparison, summarize
from bo_invert.cli import main as cli
from bo_invert.report.csv_export import finite, records_csv, rows_csv
from bo_invert.report.dataframe import trial_record
from bo_invert.report.table import Table
from bo_invert.types import Cost


def read(text):
    return list(csv.reader(io.StringIO(text)))


def test_records_have_the_columns_of_all_records():
    text = records_csv([{"a": 1, "b": math.inf}, {"b": 0.1, "c": 'x, "y"\nz'}])
    assert read(text) == [["a", "b", "c"], ["1", "", ""], ["", "0.1", 'x, "y"\nz']]
    assert text.endswith("\n")
    assert "\r" not in text


def test_floats_are_restored_exactly():
    values = [0.1, 1 / 3, 1e-300, -2.5e17]
    assert [float(row[0]) for row in read(records_csv([{"v": v} for v in values]))[1:]] == values


def test_rows_and_non_finite_values():
    assert read(rows_csv(["p", "q"], [(None, True)])) == [["p", "q"], ["", "True"]]
    assert finite({"a": math.nan, "b": -math.inf, "c": 1.0, "d": None}) == {
        "a": None, "b": None, "c": 1.0, "d": None,
    }  # fmt: skip


FORMULAS = ["=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"]
HIDDEN = [" =1", "\ufeff=1", "\x00@a", "\u200b=1", "\xa0+a"]
NUMBERS = ["-5", "+5", "-1e-3", "-inf"]


def study_of(text, storage=None):
    """Return a study in which everything that a table holds has this text."""
    space = bi.Box({f"{text}p": bi.Choice(text, "b"), "q": (0.0, 1.0)})
    problem = bi.Problem(space, None, bi.Minimize(f"{text}y"), name=f"{text}problem")
    study = bi.Study.create(f"{text}study".strip(), problem, "random", storage=storage)
    study.add({f"{text}p": text, "q": 0.5}, 1.0)
    study.add({f"{text}p": text, "q": 0.5}, bi.FailedError(f"{text}reason"), costs=[Cost(1)])
    return study


def command(words, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["bo-invert", *words])
    with pytest.raises(SystemExit):
        cli.main()
    return capsys.readouterr().out


def written(text, tmp_path, capsys, monkeypatch):
    """Return all texts of comma-separated values that hold a text."""
    storage = f"sqlite:///{tmp_path}/runs.db"
    study = study_of(text, storage)
    comparison = Comparison((summarize(study, budget=3, label=f"{text}label"),))
    shape = ["--storage", storage, "--format", "csv"]
    return {
        "records": records_csv([trial_record(t, study.outputs, None) for t in study.trials]),
        "rows": rows_csv([f"{text}head"], [[text]]),
        "table": Table((text,), ((text,),)).csv(),
        "runs": records_csv([run.record() for run in comparison.runs]),
        "trials": command(["trials", *shape, "--", study.name], capsys, monkeypatch),
        "list": command(["list", *shape], capsys, monkeypatch),
        "show": command(["show", *shape, "--", study.name], capsys, monkeypatch),
    }


@pytest.mark.parametrize("text", HIDDEN)
def test_characters_that_readers_remove_hide_no_formula(text):
    assert rows_csv([text], [[text]]).count(f"'{text}") == 2
    assert rows_csv(["a"], [[" -5"]]) == "a\n -5\n"


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text, tmp_path, capsys, monkeypatch):
    for name, written_text in written(text, tmp_path, capsys, monkeypatch).items():
        cells = [cell for row in read(written_text) for cell in row]
        assert not [cell for cell in cells if cell.startswith(tuple(t[0] for t in FORMULAS))], name
        first = text[0].replace("\r", "\n")  # a line break in a cell is a line feed
        assert any(cell.startswith(f"'{first}") for cell in cells), name


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_stay_as_they_are(text):
    assert read(records_csv([{"v": text, "w": float(text)}]))[1][0] == text
    assert read(records_csv([{"v": -2.5}]))[1] == ["-2.5"]
