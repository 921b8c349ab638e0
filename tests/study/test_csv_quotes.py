"""Open quotes in CSV files are errors; quoted cells of several lines are valid."""

from __future__ import annotations

from pathlib import Path

import pytest

import bo_invert as bi
from bo_invert.study.csv_table import csv_table


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ('a,y,note\n.1,1,"5 inch\n.2,2,x\n.3,3,y\n', 2),
        ('a,y,note\n.1,1,"5 inch\n.2,2,x\n.3,3,"y"\n', 2),
        ('a,y,note\n.1,1,"5 inch\n.2,2,x\n.3,3,8"\n', 2),
        ('a,y,note\n.1,1,"5 inch\n.2,2,"6 inch\n.3,3,y\n', 2),
        ('note,a,y\n"5 inch,.1,1\nx,.2,2\n8",.3,3\n', 2),
        ('a,y,note\r\n.1,1,"two\r\nlines"\r\n\r\n.2,2,"6 inch\r\n.3,3,y', 4),
        ('a;y;note\n0,1;1;"5 inch\n0,2;2;x\n', 2),
        ('sep=;\na;y;note\n0,1;1;"5 inch\n0,2;2;x\n', 3),
        ('a\ty\t"note\n.1\t1\tx\n', 1),
        ('a,y,note\n.1,1,"' + ".2,2,x\n" * 30_000, 2),
    ],
)
def test_an_open_quote_is_an_error_that_names_its_row(text: str, row: int) -> None:
    with pytest.raises(bi.InvalidInputError, match=rf"row {row} has a cell with an open quote"):
        csv_table(text, ["a", "y"])


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('"two\nlines"', "two\nlines"),
        ('"first, second,\nthird, fourth, fifth"', "first, second,\nthird, fourth, fifth"),
        ('"a ""5"" pipe\nand more" ', 'a "5" pipe\nand more'),
        ('5"', '5"'),
        ('a 5" pipe', 'a 5" pipe'),
        ('"5" inch', "5 inch"),
        ('"5"" pipe"', '5" pipe'),
        ('""', None),
    ],
)
def test_quotes_that_end_are_read(cell: str, value: str | None) -> None:
    found = csv_table(f"a,y,note\n.1,1,{cell}\n.2,2,x\n", ["a", "y"])
    assert [row.cells["note"] for row in found.rows] == [value, "x"]


def test_a_study_records_nothing_of_a_file_with_an_open_quote(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text('a,y,note\n.1,1,"5 inch\n.2,2,x\n.3,3,y\n')
    problem = bi.Problem(bi.Box({"a": bi.Float(0, 1)}), None, bi.Minimize("y"), outputs=["y"])
    study = bi.Study.create("q", problem, "random")
    with pytest.raises(bi.InvalidInputError, match="row 2 has a cell with an open quote"):
        study.add(str(path))
    assert not study.trials
