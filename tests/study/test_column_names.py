"""Columns of files: names in both Unicode forms, units, encodings, and blank first lines."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pandas as pd
import pytest

import bo_invert as bi

TEXT = "temperature [°C];größe;farbe;y (µm)\n70,5;0,5;grün;1\n"


def study(form: str = "NFC") -> bi.Study:
    def text(name: str) -> str:
        return unicodedata.normalize(form, name)  # type: ignore[arg-type]

    space = bi.Box(
        {
            "temperature": bi.Float(0, 100),
            text("größe"): bi.Float(0, 1),
            "farbe": bi.Choice(text("grün"), "rot"),
        }
    )
    units = {"temperature": "°C", "y": "µm"}
    problem = bi.Problem(space, None, bi.Minimize("y"), outputs=["y"], units=units)
    return bi.Study.create("lab", problem, "random")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        unicodedata.normalize("NFD", TEXT).encode(),
        unicodedata.normalize("NFKC", TEXT).encode(),
        TEXT.replace(" [°C]", "(°C)").encode(),
        TEXT.replace(" [°C]", " / °C").encode(),
        TEXT.replace(" [°C]", "_°C").encode(),
        TEXT.replace(" [°C]", ", in ℃").replace(", in", " in").encode(),
        b"\n" + TEXT.encode(),
        b";;;\r\n\r\n" + TEXT.replace("\n", "\r\n").encode("cp1252"),
        b"\n" + TEXT.replace(";", "\t").encode(),
        TEXT.encode("utf-16"),
    ],
)
def test_columns_match_in_either_form_and_with_their_units(
    tmp_path: Path, data: bytes, form: str
) -> None:
    path = tmp_path / "lab.csv"
    path.write_bytes(data)
    lab = study(form)
    (trial,) = lab.add(path)
    assert list(trial.design.values())[:2] == [70.5, 0.5]
    assert unicodedata.normalize("NFC", trial.design["farbe"]) == "grün"
    assert trial.extra == {}


def test_columns_of_frames_match_in_the_same_way() -> None:
    name = unicodedata.normalize("NFD", "größe")
    row = {"temp": 70.5, name: 0.5, "farbe": "rot", "y (µm)": 1.0}
    (trial,) = study().add(pd.DataFrame([row]), columns={"temp": "temperature"})
    assert trial.design == {"temperature": 70.5, "größe": 0.5, "farbe": "rot"}


def test_a_column_with_a_unit_beside_the_plain_one_is_a_further_value() -> None:
    row = {"temperature": 70.5, "temperature [°C]": 71, "größe": 0.5, "farbe": "rot", "y": 1.0}
    (trial,) = study().add([row])
    assert (trial.design["temperature"], trial.extra) == (70.5, {"temperature [°C]": 71})


def test_another_unit_is_an_error_that_names_the_declared_one() -> None:
    row = {"temperature [K]": 300, "größe": 0.5, "farbe": "rot", "y": 1.0}
    with pytest.raises(bi.InvalidInputError, match="whose values must be in °C"):
        study().add([row])


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode("utf-16-le"), TEXT.encode("utf-16-be"), TEXT.encode("utf-32"),
        TEXT.encode("utf-32-le"), TEXT.encode("utf-32-be"), b"\x89PNG\r\n\x1a\n\0\0",
        b"\x1f\x8b\x08\x00\x11\xff",
    ],
)  # fmt: skip
def test_files_that_are_no_text_are_refused_in_one_sentence(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "lab.csv"
    path.write_bytes(data)
    with pytest.raises(bi.InvalidInputError, match="is binary, or in another encoding"):
        study().add(path)


def test_files_of_designs_to_predict_have_the_same_names(tmp_path: Path) -> None:
    lab = study()
    rows = [{"temperature": t, "größe": 0.5, "farbe": "rot", "y": t} for t in (10, 40, 70, 90)]
    lab.add(rows)
    path = tmp_path / "points.csv"
    path.write_text(unicodedata.normalize("NFD", TEXT))
    wanted = lab.predict({"temperature": 70.5, "größe": 0.5, "farbe": "grün"})
    assert lab.predict(path).loss.mean.tolist() == wanted.loss.mean.tolist()
