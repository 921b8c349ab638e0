import pytest

from bo_invert.report.statistical_tests import Spread
from bo_invert.report.table import IMPLAUSIBLE, UNCONFIRMED, Table

WIDE = Table(
    ("method", "values", "best loss", "judged", "reason"),
    (
        ("gradients in pixels (Deep Dream)", 150, Spread(0.1, 0.05, 0.2, 5), 0.25, "word " * 30),
        ("random", 3, 1.0, None, ""),
    ),
    "Caption " * 20,
    ("Note " * 30,),
    {(0, 2): UNCONFIRMED, (1, 3): IMPLAUSIBLE},
    optional=("values", "reason"),
)


@pytest.mark.parametrize("width", [24, 40, 60, 80, 100, 300])
def test_text_fits_the_width(width):
    lines = WIDE.text(width).splitlines()
    assert max(map(len, lines)) <= width
    assert any(line.startswith("method") for line in lines)
    assert "gradients in" in WIDE.text(width)


def test_without_a_width_nothing_is_wrapped_or_omitted():
    lines = WIDE.text().splitlines()
    assert max(map(len, lines)) > 200
    assert len(lines) == 6
    assert "Omitted" not in WIDE.text()


def test_optional_columns_are_omitted_first_and_named():
    text = WIDE.text(66)
    assert "Omitted columns (formats csv and json have all): values." in " ".join(text.split())
    assert "0.1 [0.05, 0.2] !" in text
    assert "– ?" in text
    narrow = " ".join(WIDE.text(36).split())
    assert "values, judged, reason." in narrow
    assert "! ?" not in narrow


def test_long_headers_are_wrapped_before_numbers():
    table = Table(("a", "very long header of numbers"), (("x", 1.5), ("y", 22.25)))
    lines = table.text(14).splitlines()
    assert lines[0].split() == ["a", "very", "long"]
    assert lines[1].split() == ["header", "of"]
    assert max(map(len, lines)) <= 14
    assert [line.split()[-1] for line in lines[-2:]] == ["1.5", "22.25"]


def test_csv_holds_everything():
    assert WIDE.csv().splitlines()[0] == (
        "method,values,best loss median,best loss 25%,best loss 75%,judged,reason"
    )
    assert "150,0.1,0.05,0.2,0.25" in WIDE.csv()
