"""Studies by hand on the command line: create, ask, tell, add, pending, amend."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from command_line import Command

import bo_invert as bi

PROBLEM = {
    "space": {
        "type": "box",
        "parameters": {
            "temperature": {"type": "float", "low": 20, "high": 100},
            "solvent": {"type": "choice", "values": ["water", "dmso"]},
        },
    },
    "outputs": ["yield", "purity"],
    "objective": {"type": "maximize", "output": "yield"},
    "constraints": ["purity >= 0.5"],
}
AT = ("--storage", "lab.db")


@pytest.fixture
def bo(command: Command, tmp_path: Path) -> Command:
    """The command line in a folder with a study of a declared problem."""
    (tmp_path / "reaction.json").write_text(json.dumps(PROBLEM))
    assert command("create", "lab", "reaction.json", *AT, "--strategy", "random").code == 0
    return command


def lab() -> bi.Study:
    return bi.Study.open("lab", "lab.db")


def test_suggestions_go_out_and_results_come_back(bo: Command) -> None:
    asked = bo("ask", "lab", *AT, "-n", "3", "--out", "asks.csv")
    assert asked.code == 0
    assert "temperature" in asked.out
    with Path("asks.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["trial", "temperature", "solvent", "yield", "purity"]
    assert [row["yield"] for row in rows] == ["", "", ""]
    rows[0] |= {"yield": "0,5", "purity": "0,9", "colour": "brown"}
    rows[2] |= {"yield": "0,7", "purity": "0,6", "temperature": "71,5", "colour": ""}
    with Path("results.csv").open("w") as file:
        writer = csv.DictWriter(file, [*rows[0]], delimiter=";", restval="")
        writer.writeheader()
        writer.writerows(rows)
    recorded = bo("tell", "lab", "results.csv", *AT)
    assert (recorded.code, recorded.out) == (0, "")
    assert "2 observations recorded, 1 row skipped" in recorded.err
    first, second, third = lab().trials
    assert (first.y.tolist(), dict(first.extra)) == ([0.5, 0.9], {"colour": "brown"})
    assert (second.state.open, third.moved, third.point[0]) == (True, True, 51.5 / 80)
    waiting = bo("pending", "lab", *AT, "--format", "json", "--out", "pending.csv")
    assert [one["trial"] for one in json.loads(waiting.out)] == [1]
    assert Path("pending.csv").read_text().count("\n") == 2
    assert "2 rows recorded before" in bo("tell", "lab", "results.csv", *AT).err


def test_a_file_with_results_that_are_not_recorded_is_not_replaced(bo: Command) -> None:
    bo("ask", "lab", *AT, "-n", "2", "--out", "asks.csv")
    assert bo("pending", "lab", *AT, "--out", "asks.csv").code == 0  # without results
    complete = Path("asks.csv").read_text().replace(",,", ",0.5,0.9", 1)
    assert complete != Path("asks.csv").read_text()
    Path("asks.csv").write_text(complete)
    for command in ("ask", "pending"):
        refused = bo(command, "lab", *AT, "--out", "asks.csv")
        assert (refused.code != 0, "bo-invert tell lab asks.csv" in refused.err) == (True, True)
    assert Path("asks.csv").read_text() == complete
    assert len(lab().trials) == 2
    assert bo("tell", "lab", "asks.csv", *AT).code == 0
    assert bo("ask", "lab", *AT, "--out", "asks.csv").code == 0
    Path("notes.txt").write_text("my notes\n")
    assert "no table of trials" in bo("ask", "lab", *AT, "--out", "notes.txt").err
    assert Path("notes.txt").read_text() == "my notes\n"


def test_one_result_is_recorded_and_corrected(bo: Command) -> None:
    bo("ask", "lab", *AT, "-n", "4", "--fix", "solvent=dmso")
    assert all(trial.design is None for trial in lab().trials)
    frame = lab().pending.to_dataframe()
    assert set(frame.solvent) == {"dmso"}
    done = bo(
        "tell", "lab", "0", "yield=0.4", "purity=0.8", *AT, "--at", "temperature=50",
        "--extra", "ph=7", "--extra", "colour=red",
    )  # fmt: skip
    assert (done.code, done.err) == (0, "trial 0 is completed\n")
    assert bo("tell", "lab", "1", *AT, "--failed", "spilled").code == 0
    assert bo("tell", "lab", "2", *AT, "--infeasible", "boils").code == 0
    assert bo("amend", "lab", "0", "yield=0.44", *AT, "--reason", "typing error").code == 0
    trials = lab().trials
    assert trials[0].y.tolist() == [0.44, 0.8]
    assert (trials[0].amendments[0].reason, dict(trials[0].extra)) == (
        "typing error", {"ph": 7, "colour": "red"},
    )  # fmt: skip
    assert [str(trial.state) for trial in trials] == [
        "completed", "failed", "infeasible", "running",
    ]  # fmt: skip
    shown = bo("trials", "lab", *AT, "--format", "json")
    assert json.loads(shown.out)[0]["amended"] == "yield=0.4, purity=0.8 (typing error)"


def test_observations_are_added_once_and_invalid_rows_listed(bo: Command) -> None:
    Path("lab.csv").write_text(
        "T;solvent;yield;purity;note\n70;water;0,4;0,9;a\n80;watr;0,4;0,9;\n170;water;0,2;0,9;\n"
    )
    refused = bo("add", "lab", "lab.csv", *AT)
    assert (refused.code, "temperature" in refused.err) == (2, True)
    added = bo("add", "lab", "lab.csv", *AT, "--column", "T=temperature")
    assert added.code == 1
    assert "1 observation recorded, 2 rows invalid" in added.err
    assert "row 3: solvent" in added.err
    again = bo("add", "lab", "lab.csv", *AT, "--column", "T=temperature", "--outside", "model")
    assert "1 observation recorded, 1 row recorded before, 1 row invalid" in again.err
    assert [trial.outside for trial in lab().trials] == [False, True]
    assert bo("best", "lab", *AT).code == 0


@pytest.mark.parametrize(
    ("line", "part"),
    [
        (("tell", "lab", "0"), "outputs are required"),
        (("tell", "lab", "0", "yield=1", "--failed", "x"), "one of"),
        (("tell", "lab", "none.csv"), "cannot be read"),
        (("tell", "lab", "none.csv", "yield=1"), "number of a trial"),
        (("tell", "lab", "7", "yield=1", "purity=1"), "one of 0"),
        (("tell", "lab", "0", "yield=many", "purity=1"), "yield"),
        (("amend", "lab", "0"), "one of 0"),
        (("ask", "lab", "--fix", "medium=water"), "medium"),
        (("create", "other", "none.json"), "none.json"),
        (("create", "other", "odd.json"), "must be a problem as JSON"),
    ],
)
def test_wrong_usage_is_explained(bo: Command, line: tuple[str, ...], part: str) -> None:
    Path("odd.json").write_text('{"space": 3}')
    refused = bo(*line, *AT)
    assert refused.code == 2
    assert part in refused.err


def test_no_open_trials(bo: Command) -> None:
    assert "no open trials" in bo("pending", "lab", *AT).err


def test_a_problem_that_the_log_does_not_hold_is_needed(bo: Command) -> None:
    Path("latent.py").write_text(
        "import bo_invert as bi\nproblem = bi.Problem(bi.Latent(lambda z: z, 2), None, "
        "bi.Minimize(), name='mine')\n"
    )
    assert bo("create", "z", "latent.py", *AT, "--strategy", "random").code == 0
    assert "--problem" in bo("ask", "z", *AT).err
    assert bo("ask", "z", *AT, "--problem", "latent.py", "--out", "asks.csv").code == 0
    assert Path("asks.csv").read_text().startswith("trial,z0,z1,y\n0,")


def test_a_decimal_comma_is_named_or_read(bo: Command) -> None:
    bo("ask", "lab", *AT, "-n", "1")
    for arguments in (
        ("tell", "lab", "0", "yield=70,5", "purity=1"),
        ("tell", "lab", "0", "yield=1", "purity=1", "--at", "temperature=70,5"),
        ("ask", "lab", "--fix", "temperature=70,5"),
    ):
        refused = bo(*arguments, *AT)
        assert refused.code != 0
        assert "write a decimal point: 70.5" in " ".join(refused.err.split())
    assert bo("tell", "lab", "0", "yield=70,5", "purity=1", "--decimal", ",", *AT).code == 0
    assert lab().trials[0].y.tolist() == [70.5, 1.0]
    refused = bo("amend", "lab", "0", "yield=NaN", *AT)
    assert refused.code != 0
    assert "give --failed REASON" in " ".join(refused.err.split())
