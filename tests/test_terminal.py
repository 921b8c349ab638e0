"""Contract of the terminal: any encoding of the standard output, and none at all."""

from __future__ import annotations

import errno
import io
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor

import bo_invert as bi
from bo_invert.benchmark.progress import ProgressBar
from bo_invert.benchmark.results import Key
from bo_invert.benchmark.resumable_runs import Progress
from bo_invert.cli.main import COMMANDS, app, main
from bo_invert.cli.output import say
from bo_invert.errors import StudyNotFoundError, printable
from bo_invert.generators.base import train_generator
from bo_invert.generators.vae import VAEConfig
from bo_invert.models.diagnostics import diagnose
from bo_invert.problem_doctor.control_regressors import control_regressors

DATA = np.random.default_rng(0).random((200, 2))
ENCODINGS = ("cp1252", "ascii", "utf-8")


def problem() -> bi.Problem:
    """Return a problem with names outside of every code page."""
    space = bi.Box({"Temperatur °C": (0.0, 1.0), "μ": (0.0, 1.0)})
    return bi.Problem(
        space, lambda d: {"ü": sum(d.values()), "→": 1.0}, bi.Maximize("ü"),
        constraints=["→ >= 0.5"], outputs=["ü", "→"], name="größe → λ", judge=lambda d: [1.0, 1.0],
    )  # fmt: skip


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> bi.Study:
    url = f"sqlite:///{tmp_path_factory.mktemp('runs')}/runs.db"
    study = bi.Study.create("läuft", problem(), strategy="random", storage=url).run(6)
    study.tell(study.ask()[0], bi.FailedError("Datei größe fehlt 東"))
    return study


@pytest.fixture(scope="module")
def comparison() -> bi.Comparison:
    return bi.compare(problem(), strategies=["random", "sobol"], budget=3, seeds=range(2))


def gaps() -> object:
    controls = control_regressors(DecisionTreeRegressor(), DATA, DATA[:, 0], outputs=["größe"])
    return controls.gaps(DATA[:3])


TABLES: dict[str, Callable[[bi.Study, bi.Comparison], object]] = {
    "study": lambda study, comparison: study,
    "trial": lambda study, comparison: study.best,
    "failed trial": lambda study, comparison: study.trials[-1],
    "solutions": lambda study, comparison: study.solutions(2),
    "recommendation": lambda study, comparison: study.recommend(noisy=True),
    "problem": lambda study, comparison: study.problem,
    "space": lambda study, comparison: problem().space,
    "comparison": lambda study, comparison: comparison,
    "comparison, narrow": lambda study, comparison: comparison.table(60),
    "summary": lambda study, comparison: comparison.summary(),
    "doctor": lambda study, comparison: bi.doctor(problem(), calls=5),
    "diagnostics": lambda study, comparison: diagnose(study.statement, study.trials),
    "gaps": lambda study, comparison: gaps(),
    "training": lambda study, comparison: train_generator(DATA, CONFIG)[1],
}
CONFIG = VAEConfig(shape=(2,), dim=1, hidden=(4,), epochs=1)


def terminal(encoding: str) -> io.TextIOWrapper:
    """Return a standard output that refuses characters outside of an encoding."""
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="strict", newline="\n")


@pytest.mark.parametrize("what", TABLES)
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tables_print_in_every_encoding(
    what: str,
    encoding: str,
    study: bi.Study,
    comparison: bi.Comparison,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal(encoding))
    print(TABLES[what](study, comparison), flush=True)
    assert sys.stdout.buffer.getvalue()


COMMAND_LINES: dict[str, list[str]] = {
    **{f"{name} --help": [name, "--help"] for name in COMMANDS},
    "problems": ["problems"],
    "list": ["list", "--storage", "URL"],
    "show": ["show", "läuft", "--storage", "URL"],
    "trials": ["trials", "läuft", "--storage", "URL"],
    "trials, json": ["trials", "läuft", "--storage", "URL", "--format", "json"],
    "trials, csv": ["trials", "läuft", "--storage", "URL", "--format", "csv"],
    "doctor": ["doctor", "hartmann6", "--calls", "4"],
    "compare": ["compare", "hartmann6", "--strategies", "random,sobol", "--budget", "3"],
}


@pytest.mark.parametrize("line", COMMAND_LINES)
@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_commands_print_in_every_encoding(
    line: str, encoding: str, study: bi.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = str(study.journal._store)
    words = [url if word == "URL" else word for word in COMMAND_LINES[line]]
    monkeypatch.setattr(sys, "stdout", terminal(encoding))
    monkeypatch.setattr(sys, "stderr", terminal(encoding))
    with suppress(SystemExit):
        app(words, standalone_mode=False)
    sys.stdout.flush()
    assert sys.stdout.buffer.getvalue()


def test_the_line_below_a_header_has_a_substitute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", terminal("ascii"))
    assert printable("── 3–5 … “a”") == '-- 3-5 ... "a"'
    assert printable("ä🙂") == "\\u00e4\\ud83d\\ude42"  # as in JSON
    monkeypatch.setattr(sys, "stdout", terminal("utf-8"))
    assert printable("── ä🙂") == "── ä🙂"
    monkeypatch.setattr(sys, "stdout", None)
    assert printable("── ä🙂") == "── ä🙂"


def bench(folder: Path) -> None:
    """Show the progress of a benchmark."""
    bar, key = ProgressBar("2 problems"), Key("größe", "a", {}, 0, 5, 1)
    progress = Progress(total=2, there=0, done=1)
    bar.planned(progress)
    bar.begun(key, progress)
    bar.ended(key, progress, "done")
    bar.close()


PROGRESS: dict[str, Callable[[Path], Any]] = {
    "run": lambda folder: bi.Study.create("s", problem(), strategy="random").run(3, progress=True),
    "doctor": lambda folder: bi.doctor(problem(), calls=4, progress=True),
    "compare": lambda folder: bi.compare(
        problem(), strategies=["random"], budget=2, seeds=[0], progress=True
    ),
    "train": lambda folder: train_generator(DATA, CONFIG, progress=True),
    "bench": bench,
    "message": lambda folder: say("größe"),
    "isolated": lambda folder: bi.Isolated(np.sum).answers(np.ones((1, 2)), ["y"]),
}


class Lost(io.TextIOBase):
    """Standard error of a terminal that was closed, or of a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.EBADF, "Bad file descriptor")

    def flush(self) -> None:
        raise OSError(errno.EBADF, "Bad file descriptor")


class Writer:
    """Stream with one method."""

    def write(self, text: str) -> None:
        pass


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("what", PROGRESS)
@pytest.mark.parametrize("stream", [Lost, Writer, closed])
def test_progress_on_a_lost_terminal(
    what: str, stream: Callable[[], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream())
    PROGRESS[what](tmp_path)


def test_a_full_disk_is_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", Lost())
    monkeypatch.setattr("sys.argv", ["bo-invert", "problems"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 1
    assert "Bad file descriptor" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_errors_print_in_every_encoding(
    encoding: str, study: bi.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", terminal(encoding))
    with pytest.raises(bi.InvalidInputError) as refused:
        study.enqueue({"→": 1.0})
    with pytest.raises(StudyNotFoundError) as missing:
        bi.Study.open("→", study.journal._store)
    print(refused.value, missing.value, flush=True)


WITHOUT_STREAMS = """
import os
import numpy as np
import bo_invert as bi

os.closerange(0, 3)  # imports may have opened files with these numbers
asked = bi.Problem(bi.Box([0, 0], [1, 1]), bi.Isolated(np.sum), bi.Minimize())
raise SystemExit(bi.Study.create("s", asked, "random").run(1).spent.failed)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX shell")
def test_workers_of_a_process_without_standard_streams() -> None:
    """Pipes get the numbers 0 to 2 in a process that was started without streams."""
    command = [sys.executable, "-c", WITHOUT_STREAMS]
    assert subprocess.call(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command]) == 0


@pytest.mark.parametrize("what", PROGRESS)
@pytest.mark.parametrize("missing", ["stderr", "both"])
def test_no_standard_streams(
    what: str, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Programs without a console (pythonw, services) have no standard streams."""
    output = io.StringIO()
    monkeypatch.setattr(sys, "stdout", output if missing == "stderr" else None)
    monkeypatch.setattr(sys, "stderr", None)
    PROGRESS[what](tmp_path)
    assert output.getvalue() == ""  # messages are not data
