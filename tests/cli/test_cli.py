from __future__ import annotations

import csv
import io
import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from command_line import Command

import bo_invert as bi
from bo_invert import registry
from bo_invert.benchmark.compare import Comparison
from bo_invert.cli import demo, main as cli
from bo_invert.cli.best import decoded
from bo_invert.cli.options import parse_settings
from bo_invert.cli.output import Format
from bo_invert.errors import InvalidInputError
from bo_invert.problems.loading import load_problem, problem_title
from bo_invert.storage.open import open_store
from bo_invert.storage.trial_transitions import MAX_DEATHS, Assignment

TUNING = """
import bo_invert as bi

rate = bi.Float(1e-3, 1.0, log=True)
space = bi.Box({"rate": rate, "layers": bi.Int(1, 9), "kind": bi.Choice("a", "b", "c")})

def oracle(x):
    return (x["rate"] - 0.1) ** 2 + abs(x["layers"] - 4) + (x["kind"] != "b")

def broken(x):
    raise RuntimeError("no licence")

problem = bi.Problem(space, oracle, bi.Minimize(), name="tuning")
highest = bi.Problem(space, lambda x: {"gain": 3.0 - x["rate"], "size": 1.0},
                     bi.Maximize("gain"), name="highest")
squares = bi.Problem(space, oracle, bi.Composite(lambda y: (y**2).sum(-1)), outputs=["error"],
                     name="squares")
doubted = bi.Problem(space, lambda x: {"gain": 3.0, "size": 1.0},
                     bi.Maximize("gain"), constraints=["size <= 2"],
                     judge=lambda x: {"gain": 2.5, "size": 9.0}, name="doubted")
failing = bi.Problem(space, broken, bi.Minimize(), name="failing")
number = 3

def aimed(target: float = 0.5, kind: str = "b"):
    return bi.Problem(space, oracle, bi.Target(target, tolerance=0.001), name=f"aimed at {target}")

def no_problem():
    return 3
"""


@pytest.fixture
def bo(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """The command line in a folder with a file of problems."""
    (tmp_path / "tuning.py").write_text(TUNING)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "tuning", raising=False)
    yield command
    sys.modules.pop("tuning", None)


def test_ready_problems_are_listed_with_their_options(bo: Command) -> None:
    rows = {row["problem"]: row for row in json.loads(bo("problems", "--format", "json").out)}
    assert rows.keys() == set(registry.names("problems"))
    assert "model='xxsmall'" in rows["airfoil"]["options"]
    assert all(row["about"] for row in rows.values())
    assert "hartmann6" in bo("problems").out


def test_a_report_of_a_ready_problem_with_options_says_that_it_wants_them(
    bo: Command, tmp_path: Path
) -> None:
    storage = f"sqlite:///{tmp_path / 'runs.db'}"
    options = ("--set", "target=[0.5, 1.5]")
    run = bo(
        "run",
        "arm",
        "--strategy",
        "random",
        "--budget",
        "3",
        "--storage",
        storage,
        "--name",
        "s",
        *options,
    )
    assert not run.code, run.err
    without = bo("report", "s", "--storage", storage, "--out", str(tmp_path / "report"))
    assert without.code == 2
    assert "--set key=value" in without.err
    assert not bo(
        "report", "s", "--storage", storage, "--out", str(tmp_path / "report"), *options
    ).code


def test_a_design_that_its_coordinates_do_not_say_is_shown() -> None:
    def shown(decode: Callable[..., object], how: Format) -> object:
        problem = bi.Problem(bi.Latent(decode, 2), lambda x: 1.0, bi.Minimize())
        return decoded(bi.Study.create("s", problem, strategy="random").run(1), how).get(
            "best.design"
        )

    assert shown(lambda codes: ["CCO"] * len(codes), "table") == "CCO"
    assert shown(lambda codes: np.full((len(codes), 3), 0.5), "table") == "0.5 0.5 0.5"
    assert shown(lambda codes: np.full((len(codes), 3), 0.5), "json") == [0.5] * 3
    assert shown(lambda codes: np.full((len(codes), 8, 8), 0.5), "json") is None
    box = bi.Problem(bi.Box({"a": bi.Float(0, 1)}), lambda x: 1.0, bi.Minimize())
    assert decoded(bi.Study.create("s", box, strategy="random").run(1), "json") == {}


def test_run_says_what_the_judge_makes_of_it(bo: Command) -> None:
    asked = ("run", "tuning.py:doubted", "--strategy", "random", "--budget", "3", "--quiet")
    assert "judged" in bo(*asked).out
    assert "gain=2.5, constraints violated" in bo(*asked).out
    record = json.loads(bo(*asked, "--format", "json").out)
    assert record["best.judged_loss"] == -2.5
    assert record["best.judged_feasible"] is False
    assert (
        "judged"
        not in bo("run", "tuning.py", "--strategy", "random", "--budget", "3", "--quiet").out
    )


RUN = (
    "run",
    "tuning.py",
    "--strategy",
    "random",
    "--storage",
    "runs.db",
    "--name",
    "first",
    "--quiet",
)


def test_run_prints_what_it_found_and_spent(bo: Command) -> None:
    answer = bo(*RUN, "--budget", "12", "--format", "json")
    assert answer.code == 0
    record = json.loads(answer.out)
    assert record["study"] == "first"
    assert (record["trials"], record["values"], record["strategy"]) == (12, 12, "random")
    assert record["best_loss"] == record["best.y"]
    assert set(record) >= {"best.rate", "best.layers", "best.kind"}
    assert record["best.kind"] in ("a", "b", "c")


def test_the_same_line_resumes(bo: Command) -> None:
    bo(*RUN, "--budget", "6")
    longer = bo(*RUN, "--budget", "10")
    assert "resuming study 'first': 6 values" in longer.err
    (record,) = json.loads(bo("list", "--storage", "runs.db", "--format", "json").out)
    assert record["trials"] == record["values"] == 10
    again = bo(
        "run",
        "tuning.py",
        "--storage",
        "sqlite:///runs.db",
        "--name",
        "first",
        "--budget",
        "11",
        "--quiet",
    )
    assert again.code == 0
    (record,) = json.loads(bo("list", "--storage", "runs.db", "--format", "json").out)
    assert (record["trials"], record["strategy"]) == (11, "random")


@pytest.mark.parametrize("change", [["--strategy", "sobol"], ["--seed", "3"]])
def test_a_study_does_not_change_its_strategy_or_seed(bo: Command, change: list[str]) -> None:
    bo(*RUN, "--budget", "3")
    answer = bo(*RUN, "--budget", "6", *change)
    assert answer.code == 2
    assert "was created with" in answer.err
    assert json.loads(bo("list", "--storage", "runs.db", "--format", "json").out)[0]["trials"] == 3


def test_a_paused_study_continues_with_an_option(bo: Command) -> None:
    line = ["run", "tuning.py", "--strategy", "sobol", "--storage", "runs.db", "--name", "s"]
    assert bo(*line, "--budget", "2").code == 0
    study = bi.Study.open("s", "sqlite:///runs.db", load_problem("tuning.py", {}))
    for _ in range(MAX_DEATHS):
        study.take(1, 3, assignment=Assignment("elsewhere:1:1"))
        study.journal.expire(lambda worker: True)
    refused = bo(*line, "--budget", "3")
    assert refused.code == 1
    assert "trial 2" in refused.err
    assert "--unpause" in refused.err
    assert bo(*line, "--budget", "3", "--unpause").code == 0
    assert [str(trial.state) for trial in study.trials] == ["completed"] * 3


def test_a_changed_problem_is_refused_with_the_difference(bo: Command) -> None:
    line = (
        "run",
        "tuning.py:aimed",
        "--strategy",
        "random",
        "--storage",
        "runs.db",
        "--name",
        "a",
        "--quiet",
    )
    assert bo(*line, "--budget", "3", "--set", "target=0.5").code == 0
    answer = bo(*line, "--budget", "6", "--set", "target=0.7")
    assert answer.code == 1
    assert "0.5" in answer.err
    assert "0.7" in answer.err


def test_trials_in_every_format(bo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    bo(*RUN, "--budget", "5")
    ask = ("trials", "first", "--storage", "runs.db")
    records = json.loads(bo(*ask, "--format", "json").out)
    assert [record["number"] for record in records] == list(range(5))
    rows = list(csv.DictReader(io.StringIO(bo(*ask, "--format", "csv").out)))
    assert [float(row["loss"]) for row in rows] == [record["loss"] for record in records]
    assert [int(row["layers"]) for row in rows] == [record["layers"] for record in records]
    table = bo(*ask).out.splitlines()
    assert table[0].split()[:2] == ["number", "state"]
    assert len(table) == 2 + 5


@pytest.mark.parametrize("columns", [60, 80])
def test_tables_fit_the_terminal(
    bo: Command, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    bo(*RUN, "--budget", "4")
    for command in (("trials", "first"), ("list",)):
        answer = bo(*command, "--storage", "runs.db")
        assert max(map(len, answer.out.splitlines())) <= columns
        omitted = answer.out.partition("Omitted columns")[2]
        assert "attempts" in omitted or "reused" in omitted
        (header, *_) = bo(*command, "--storage", "runs.db", "--format", "csv").out.splitlines()
        assert {"values", "gradients", "seconds"} <= set(header.split(","))
    compared = bo("compare", "tuning.py", "--strategies", "random,sobol", "--seeds", "3",
                  "--budget", "4", "--quiet")  # fmt: skip
    assert max(map(len, compared.out.splitlines())) <= columns


def test_verbose_logs_to_standard_error(bo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = logging.getLogger("bo_invert")
    monkeypatch.setattr(logger, "handlers", [])
    before = logger.level
    try:
        levels = []
        for flags in ([], ["-v"], ["-vv"]):
            assert bo(*flags, "problems", "--format", "csv").code == 0
            levels.append((len(logger.handlers), logger.level))
        assert levels == [(0, before), (1, logging.INFO), (1, logging.DEBUG)]
        logging.getLogger("bo_invert.study").info("one trial")
        stream = io.StringIO()
        logger.handlers[0].setStream(stream)
        logging.getLogger("bo_invert.study").info("another trial")
        assert "INFO bo_invert.study: another trial" in stream.getvalue()
    finally:
        logger.setLevel(before)


def test_best_is_the_lowest_loss(bo: Command) -> None:
    bo(*RUN, "--budget", "8")
    records = json.loads(bo("trials", "first", "--storage", "runs.db", "--format", "json").out)
    best = json.loads(bo("best", "first", "--storage", "runs.db", "--format", "json").out)
    assert best == min(records, key=lambda record: record["loss"])
    assert f"{best['loss']:.4g}" in bo("best", "first", "--storage", "runs.db").out


@pytest.mark.parametrize(
    ("problem", "heading"),
    [("problem", "y"), ("highest", "gain"), ("aimed", "off by"), ("squares", "loss")],
)
def test_tables_tell_what_was_found_in_the_user_s_own_quantity(
    bo: Command, problem: str, heading: str
) -> None:
    line = (
        "run",
        f"tuning.py:{problem}",
        "--strategy",
        "random",
        "--storage",
        "runs.db",
        "--name",
        "s",
    )
    ran = bo(*line, "--budget", "6")
    ask = ("s", "--storage", "runs.db")
    best = json.loads(bo("best", *ask, "--format", "json").out)
    value = {"gain": best.get("gain"), "off by": best["loss"] ** 0.5}.get(heading, best["loss"])
    text = f"{heading}{' ' if heading == 'off by' else '='}{value:.4g}"
    if heading == "gain":
        assert value > 0 > best["loss"]
    assert f"best {text}]" in ran.err
    assert ["best", *text.split()] in [row.split() for row in ran.out.splitlines()]
    assert text in bo("list", "--storage", "runs.db").out
    (listed,) = json.loads(bo("list", "--storage", "runs.db", "--format", "json").out)
    assert listed["best_loss"] == best["loss"]
    for answer in (bo("trials", *ask).out.splitlines()[0], bo("best", *ask).out):
        assert heading in answer
        assert ("loss" in answer) == (heading == "loss")


@pytest.mark.filterwarnings("ignore:study ")
def test_when_every_call_fails_the_answer_is_one(bo: Command) -> None:
    answer = bo(
        "run",
        "tuning.py:failing",
        "--strategy",
        "random",
        "--budget",
        "4",
        "--storage",
        "runs.db",
        "--quiet",
        "--format",
        "json",
    )
    assert answer.code == 1
    assert json.loads(answer.out)["best_loss"] is None
    assert "4 of 4 trials failed. Last error: RuntimeError: no licence" in answer.err
    nothing = bo("best", "failing-random-0", "--storage", "runs.db", "--format", "json")
    assert (nothing.code, nothing.out) == (1, "")
    assert (
        len(
            json.loads(
                bo("trials", "failing-random-0", "--storage", "runs.db", "--format", "json").out
            )
        )
        == 4
    )


def test_compare(bo: Command) -> None:
    line = (
        "compare",
        "tuning.py",
        "--strategies",
        "random, sobol",
        "--seeds",
        "2",
        "--budget",
        "6",
        "--quiet",
    )
    answer = bo(*line, "--format", "json", "--out", "compared")
    assert answer.code == 0
    records = json.loads(answer.out)
    assert {(r["method"], r["seed"]) for r in records} == {
        (m, s) for m in ("random", "sobol") for s in (0, 1)
    }
    assert {r["values"] for r in records} == {6}
    assert len(Comparison.load("compared").runs) == 4
    assert Path("compared/report.html").stat().st_size > 1000
    assert len(list(csv.DictReader(io.StringIO(bo(*line, "--format", "csv").out)))) == 4
    table = bo(*line).out
    assert "random" in table
    assert "sobol" in table


def test_compare_varies_the_problem_with_the_seed(bo: Command) -> None:
    line = (
        "compare",
        "tuning.py:aimed",
        "--vary",
        "target",
        "--set",
        "kind=b",
        "--strategies",
        "random",
        "--quiet",
    )
    records = json.loads(
        bo(*line, "--seeds", "3", "--budget", "3", "--format", "json", "--storage", "runs.db").out
    )
    assert [r["problem"] for r in records] == ["aimed"] * 3
    headers = [open_store("runs.db").header(name) for name in open_store("runs.db").names()]
    assert sorted(str(h["problem"]["objective"]["value"]) for h in headers) == [
        "[0.0]",
        "[1.0]",
        "[2.0]",
    ]


def test_a_report_takes_the_problem_from_the_log_or_a_file(bo: Command) -> None:
    bo(*RUN, "--budget", "5")
    assert bo("report", "first", "--storage", "runs.db").code == 0  # the log holds the box
    written = bo(
        "report", "first", "--storage", "runs.db", "--problem", "tuning.py", "--out", "made"
    )
    assert (written.code, written.out) == (0, "")
    assert {path.name for path in Path("made").iterdir()} >= {
        "report.html",
        "comparison.json",
        "trials.csv",
    }
    assert len(Path("made/trials.csv").read_text().splitlines()) == 6


def test_report_of_a_ready_problem(bo: Command) -> None:
    line = (
        "run",
        "mixed",
        "--strategy",
        "random",
        "--budget",
        "4",
        "--storage",
        "runs.db",
        "--name",
        "m",
        "--quiet",
    )
    assert bo(*line, "--out", "a").code == 0
    assert bo("report", "m", "--storage", "runs.db", "--out", "b").code == 0
    assert Path("a/trials.csv").read_text() == Path("b/trials.csv").read_text()


def test_list_of_nothing(bo: Command) -> None:
    for line in ("list", "show s", "trials s", "best s", "report s", "export s s.jsonl"):
        missing = bo(*line.split(), "--storage", "none.db")
        assert (missing.code, missing.out) == (1, ""), line
        assert "none.db does not exist" in missing.err, line
    assert not Path("none.db").exists()
    sqlite3.connect("empty.db").close()
    empty = bo("list", "--storage", "empty.db")
    assert (empty.code, empty.out) == (0, "")
    assert json.loads(bo("list", "--storage", "empty.db", "--format", "json").out) == []
    assert Path("empty.db").read_bytes() == b"", "reading writes nothing"


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("run nosuch", 2, "no problems named 'nosuch'"),
        ("run hartman6", 2, "did you mean 'hartmann6'"),
        ("run nosuch.py", 2, "file nosuch.py does not exist"),
        ("run tuning.py:problm", 2, "did you mean 'problem'"),
        ("run tuning.py:number", 2, "must be a Problem or a function that returns one, got int"),
        ("run tuning.py:no_problem", 2, "must return a Problem, got int"),
        ("run tuning.py:aimed --set goal=3", 2, "Options: target, kind"),
        ("run tuning.py --set x=1", 2, "takes no settings"),
        ("run tuning.py --set x", 2, "--set must be key=value, got 'x'"),
        ("run tuning.py --strategy nosuch", 2, "nosuch"),
        ("run tuning.py --strategy random --option depth=3", 2, "no option"),
        (
            "run tuning.py --strategy random --storage runs.txt",
            2,
            "must be a URL or a file ending in .db",
        ),
        (
            "run tuning.py --strategy random --storage sqlite:///no/such/runs.db",
            2,
            "must exist",
        ),
        ("run tuning.py --strategy gradient", 1, "gradients"),
        ("run tuning.py --budget 0", 2, "--budget"),
        ("run tuning.py --format yaml", 2, "--format"),
        ("compare tuning.py --strategies random,random", 2, "strategies must differ"),
        ("compare tuning.py tuning.py --strategies random", 2, "given twice"),
        ("trials first", 2, "--storage"),
        ("best nosuch --storage runs.db", 1, "runs.db does not exist"),
        ("demo --target 0.5 --goal minimize", 2, "must not both be given"),
        ("demo --oracle tree", 2, "forest"),
        ("nosuch", 2, "No such command"),
    ],
)
def test_errors_are_one_line(bo: Command, line: str, code: int, message: str) -> None:
    answer = bo(*line.split())
    assert (answer.code, answer.out) == (code, "")
    assert message in answer.err


def test_demo_passes_its_options_on(bo: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def run_demo(**options: object) -> Comparison:
        given.update(options)
        return Comparison(())

    monkeypatch.setattr(demo, "run_demo", run_demo)
    answer = bo(
        "demo",
        "--target",
        "0.5",
        "--budget",
        "100",
        "--seed",
        "3",
        "--out",
        "there",
        "--oracle",
        "network",
        "--methods",
        "gp,prior",
        "--short",
        "--quiet",
        "--format",
        "json",
    )
    assert (answer.code, json.loads(answer.out)) == (1, [])
    assert given == {
        "target": 0.5,
        "goal": "maximize",
        "budget": 24,
        "seed": 3,
        "out": Path("there"),
        "oracle": "network",
        "methods": ["gp", "prior"],
        "progress": False,
    }


def test_settings_are_read_as_json_or_text() -> None:
    pairs = ["a=3", "b=0.5", "c=[1, 2]", "d=true", "e=north", "f=x=y", "g="]
    assert parse_settings(pairs, "--set") == {
        "a": 3, "b": 0.5, "c": [1, 2], "d": True, "e": "north", "f": "x=y", "g": "",
    }  # fmt: skip


def test_titles_of_problems() -> None:
    assert [
        problem_title(s) for s in ("arm", "a/b/tuning.py", "tuning.py:aimed", r"C:\x\y.py:z")
    ] == [
        "arm",
        "tuning",
        "aimed",
        "z",
    ]


def test_a_file_that_does_not_load_is_named_with_its_line(bo: Command, tmp_path: Path) -> None:
    (tmp_path / "typo.py").write_text("import bo_invert\n\nproblem = bo_invert.Problm()\n")
    answer = bo("run", "typo.py")
    assert answer.code == 2
    assert "typo.py:3" in answer.err
    assert "Problm" in answer.err


def test_a_file_never_takes_the_place_of_a_module(bo: Command, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("from tuning import problem\n")
    assert load_problem("json.py", {}).name == "tuning"
    assert sys.modules["json"] is json
    with pytest.raises(InvalidInputError, match="does not exist"):
        load_problem("elsewhere/json.py", {})


def test_an_interrupted_run_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        TUNING.replace("return (x", "import time; time.sleep(0.1); return (x")
    )
    line = [
        sys.executable,
        "-m",
        "bo_invert.cli",
        "run",
        "slow.py",
        "--strategy",
        "random",
        "--budget",
        "1000",
        "--storage",
        "runs.db",
        "--name",
        "my study",
        "--quiet",
    ]
    process = subprocess.Popen(
        line,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a shell's background jobs ignore it
    )
    store = open_store(tmp_path / "runs.db")
    deadline = time.monotonic() + 60
    while not (store.names() and len(store.events("my study")) > 6) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert "Traceback" not in err
    assert "--storage runs.db --name 'my study'" in err
    finished = [event for event in store.events("my study") if event["kind"] == "finished"]
    assert (
        f"{len(finished)} values" in err or f"{len(finished) + 1} values" in err
    )  # the interrupted call is billed too


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_the_list_of_commands_has_the_first_sentence_of_each_help(name: str) -> None:
    paragraph = cli.load_command(name).help.split("\n\n")[0]
    sentence, end, _ = " ".join(paragraph.split()).partition(". ")
    assert cli.COMMANDS[name][1] == sentence + end.strip()


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['bo-invert', '--help']\n"
        "from bo_invert.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code\n"
        "print(sorted({name.split('.')[0] for name in sys.modules}))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "compare" in out
    loaded = set(json.loads(out.splitlines()[-1].replace("'", '"')))
    assert not loaded & {
        "numpy",
        "torch",
        "botorch",
        "ax",
        "pandas",
        "sqlalchemy",
        "plotly",
        "rich",
        "tqdm",
        "sklearn",
    }


def test_version(bo: Command) -> None:
    found = bo("--version")
    assert (found.code, found.out.strip()) == (0, f"bo-invert {bi.__version__}")


def test_report_and_plot_without_the_problem(bo: Command, tmp_path: Path) -> None:
    """The log holds points, outputs and losses also of problems that only code can rebuild."""
    storage = f"sqlite:///{tmp_path / 'runs.db'}"
    rows = np.random.default_rng(0).random((30, 2))
    spaces = {
        "data": (bi.Box(data=rows), bi.Minimize()),
        "latent": (bi.Latent(lambda z: 2.0 * z, 2), bi.Minimize()),
        "composite": (
            bi.Box([0.0] * 2, [1.0] * 2),
            bi.Composite(lambda y: y[..., 0], outputs=("y",)),
        ),
        "box": (bi.Box({"a": bi.Float(0, 1), "b": bi.Float(0, 1, step=0.1)}), bi.Minimize()),
    }
    for name, (space, objective) in spaces.items():
        problem = bi.Problem(space, sum_of_design, objective, outputs=["y"])
        bi.Study.create(name, problem, "random", storage=storage).run(6)
        report = bo("report", name, "--storage", storage, "--out", str(tmp_path / name))
        assert (report.code, "without decoded" in report.err) == (
            0,
            name in ("latent", "composite"),
        )
        assert (tmp_path / name / "report.html").exists()
        file = tmp_path / f"{name}.png"
        plot = bo("plot", name, "timeline", "--storage", storage, "--out", str(file))
        assert (plot.code, file.exists()) == (0, True)


def sum_of_design(design: object) -> float:
    values = design.values() if isinstance(design, dict) else np.asarray(design)
    return float(sum(values))
