"""Options of statements and of CSV files; messages with options instead of Python arguments."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from command_line import Command

import bo_invert as bi
from bo_invert.cli.messages import command_text

AT = ("--storage", "lab.db")
PROBLEM: dict[str, Any] = {
    "space": {
        "type": "box",
        "parameters": {
            "heat": {"type": "float", "low": 20, "high": 100, "step": 0.5},
            "solvent": {"type": "choice", "values": ["water", "dmso"]},
            "dose": {
                "type": "float", "low": 0, "high": 1,
                "when": [{"parameter": "solvent", "values": ["dmso"]}],
            },
            "a": {"type": "float", "low": 0, "high": 1},
            "b": {"type": "float", "low": 0, "high": 1},
            "base": {"type": "fixed", "value": "NaOH"},
        },
        "constraints": ["a + b == 1"],
    },
    "outputs": ["yield", "cost"],
    "objective": {
        "type": "pareto",
        "objectives": [
            {"type": "maximize", "output": "yield"}, {"type": "minimize", "output": "cost"},
        ],
    },
    "units": {"heat": "°C", "yield": "%"},
}  # fmt: skip


@pytest.fixture
def bo(command: Command) -> Command:
    Path("lab.json").write_text(json.dumps(PROBLEM))
    assert command("create", "lab", "lab.json", *AT, "--seed", "3", "--noisy").code == 0
    return command


def lab() -> bi.Study:
    return bi.Study.open("lab", "lab.db")


def test_create_states_what_python_states(bo: Command) -> None:
    header = lab().journal.header
    assert (header["seed"], header["strategy"]["options"]["noisy"]) == (3, True)
    assert header["units"] == {"heat": "°C", "yield": "%"}
    assert bo("ask", "lab", *AT, "-n", "4", "--fix", "solvent=dmso").code == 0
    for trial in lab().trials:
        heat, solvent, dose, a, b, base = bo_values(trial)
        assert (solvent, base) == ("dmso", "NaOH")
        assert dose is not None
        assert (2 * heat == round(2 * heat), a + b == pytest.approx(1.0)) == (True, True)
    wrong = bo("create", "x", "lab.json", *AT, "--noisy", "--option", "noisy=false")
    assert (wrong.code, "contradicts --noisy" in wrong.err) == (2, True)
    exact = bo("create", "y", "lab.json", *AT, "--exact", "--strategy", "gp")
    assert exact.code == 0
    assert bi.Study.open("y", "lab.db").journal.header["strategy"]["options"]["noisy"] is False


def bo_values(trial: bi.Trial) -> list[Any]:
    domain = lab().domain
    assert domain is not None
    (values,) = domain.values(trial.point[None])
    return [values.get(name) for name in ("heat", "solvent", "dose", "a", "b", "base")]


def test_units_of_the_log_are_on_axes(bo: Command) -> None:
    bo("ask", "lab", *AT, "-n", "3")
    for number in range(3):
        bo("tell", "lab", str(number), f"yield={number}", "cost=1", *AT)
    assert bo("plot", "lab", "slice", *AT, "--out", "slice.html").code == 0
    assert "°C" in Path("slice.html").read_text() or "\\u00b0C" in Path("slice.html").read_text()


def test_csv_files_have_the_signs_of_the_user(bo: Command) -> None:
    bo("ask", "lab", *AT, "-n", "2", "--out", "asks.csv", "--decimal", ",")
    with Path("asks.csv").open() as file:
        rows = list(csv.DictReader(file, delimiter=";"))
    assert all("," in row["a"] and "." not in row["a"] for row in rows)
    rows[0] |= {"yield": "1,234", "cost": "0,5"}
    with Path("asks.csv").open("w") as file:
        writer = csv.DictWriter(file, [*rows[0]], delimiter=";")
        writer.writeheader()
        writer.writerows(rows)
    assert bo("tell", "lab", "asks.csv", *AT).code == 0
    assert lab().trials[0].y.tolist() == [1.234, 0.5]
    shown = bo("trials", "lab", *AT, "--format", "csv", "--separator", "tab").out
    assert "\t1.234\t" in shown
    assert ";1,234;" in bo("trials", "lab", *AT, "--format", "csv", "--decimal", ",").out
    assert ",1.234," in bo("trials", "lab", *AT, "--format", "csv").out
    wrong = bo("trials", "lab", *AT, "--format", "csv", "--separator", ",", "--decimal", ",")
    assert (wrong.code, "Use --separator ';'" in wrong.err) == (2, True)


def test_ambiguous_numbers_name_the_options(bo: Command) -> None:
    header = "heat\tsolvent\ta\tb\tyield\tcost\n"
    Path("lab.txt").write_text(header + "71.25\twater\t0.5\t0.5\t1,234\t7\n")
    refused = bo("add", "lab", "lab.txt", *AT)
    assert refused.code == 1
    assert "Give --decimal , for 1.234, or --decimal . for 1234" in refused.err
    assert bo("add", "lab", "lab.txt", *AT, "--thousands", ",").code == 0
    assert lab().trials[0].y.tolist() == [1234.0, 7.0]


def test_blank_rows_of_open_trials_are_reported(bo: Command) -> None:
    bo("ask", "lab", *AT, "--out", "asks.csv")
    added = bo("add", "lab", "asks.csv", *AT, "--blank", "failed", "--column", "trial=number")
    assert "row 2: no outputs, trial 0 stays open; --blank failed-open" in added.err
    forced = bo("add", "lab", "asks.csv", *AT, "--blank", "failed-open")
    assert "row 2: failed, no value of yield, cost" in forced.err
    assert not lab().trials[0].state.open


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("Use outside='model' to record it", "Use --outside model to record it"),
        ("for the models only: add(table, outside='model')", "models only: --outside model"),
        ("pass columns={'T [K]': 'heat'}", "pass --column 'T [K]=heat'"),
        ("proposed with fixed={'a': 1, 'b': 'x y'}. Box", "with --fix a=1 --fix 'b=x y'. Box"),
        ("Use study.amend(trial, at=...) to", "Use `bo-invert amend --at NAME=VALUE` to"),
        ("pass problem= to continue it", "pass --problem file.py:name to continue it"),
        ("Create it with noisy=True.", "Create it with --noisy."),
        ("Give thousands=' ' for", "Give --thousands ' ' for"),
    ],
)
def test_messages_name_options(message: str, shown: str) -> None:
    assert shown in command_text(message)


def test_errors_of_commands_name_options(bo: Command) -> None:
    for line, part in (
        (("ask", "lab", "--fix", "solvent=ether"), "--fix value of 'solvent'"),
        (("ask", "lab", "--fix", "a=0.2", "--fix", "b=0.3"), "with --fix a=0.2 --fix b=0.3"),
        (("ask", "lab", "--fix", "nothing=1"), "--fix must name parameters"),
        (("tell", "lab", "0", "yield=1"), "got ['yield']. Give OUTPUT=VALUE for each"),
    ):
        answer = bo(*line, *AT)
        assert answer.code == 2
        assert part in answer.err
        assert "fixed=" not in answer.err


@pytest.mark.filterwarnings("always")
def test_an_ask_for_more_designs_than_exist_says_how_many(command: Command) -> None:
    space: dict[str, Any] = {"solvent": {"type": "choice", "values": ["a", "b"]}}
    space["n"] = {"type": "int", "low": 1, "high": 3}
    problem: dict[str, Any] = {"space": {"type": "box", "parameters": space}, "outputs": ["y"]}
    problem["objective"] = {"type": "minimize", "output": "y"}
    Path("few.json").write_text(json.dumps(problem))
    command("create", "few", "few.json", *AT, "--strategy", "random")
    line = ("ask", "few", *AT, "-n", "30", "--fix", "solvent=a", "--format", "json")
    first = command(*line)
    assert [one["n"] for one in sorted(json.loads(first.out), key=lambda one: one["n"])] == [
        1,
        2,
        3,
    ]
    assert "3 distinct designs exist with --fix solvent=a" in first.err
    again = command(*line[:-2])
    assert (again.code, again.out) == (1, "")
    assert "no trial: all designs are known" in again.err
