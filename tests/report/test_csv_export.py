import csv
import io
import math

from bo_invert.report.csv_export import finite, records_csv, rows_csv


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
