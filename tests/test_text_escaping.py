"""Tests of escaping: names and messages with markup or escape sequences stay text."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

import bo_invert as bi
from bo_invert.benchmark.compare import Comparison, summarize
from bo_invert.cli import main as cli
from bo_invert.errors import printable
from bo_invert.report.benchmark_tables import BenchmarkRuns
from bo_invert.report.html import bench_html
from bo_invert.storage.trial_transitions import Assignment

SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>"
MARKUP = "[red]r[/red] [link=http://evil.example]l[/link]"
ESCAPES = (
    "\x1b[31m\x1b]0;owned\x07\x1b]8;;http://evil.example\x1b\\x "
    "\x9b2J\x7f\r\u202e\u200f\u2028\ud800"
)
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200f\u2028\u202e\ud800]")


def searched(text: str, storage: str | None = None) -> bi.Study:
    """A study in which everything that can be named is named so."""
    named = {f"p{text}": bi.Float(0.0, 1.0), f"c{text}": bi.Choice(f"a{text}", f"b{text}")}
    outputs = [f"y{text}", f"z{text}"]
    problem = bi.Problem(
        bi.Box(named), None, bi.Maximize(outputs[0]), outputs=outputs, name=f"problem {text}"
    )
    study = bi.Study.create(
        f"study {text}".replace("\ud800", ""), problem, "random", storage=storage
    )
    for trial in study.ask(3):
        study.tell(trial, [float(trial.number), 1.0])
    for verdict in bi.FailedError(f"failed {text}"), bi.InfeasibleError(f"infeasible {text}"):
        study.tell(study.ask()[0], verdict)
    study.take(1, None, assignment=Assignment(f"worker {text}".replace("\ud800", ""), 600.0))
    return study


def compared(text: str) -> Comparison:
    study = searched(text)
    run = summarize(study, budget=10, keep=8)
    other = summarize(study, budget=10, keep=8, label=f"label {text}")
    return Comparison((run, other))


class Elements(HTMLParser):
    """The elements of a page and their attributes, as a browser would find them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.texts = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_data(self, data: str) -> None:
        self.texts += data


def report(text: str, folder: Path) -> str:
    return (
        compared(text)
        .save(folder, title=f"title {text}", lead=f"lead {text}")
        .joinpath("report.html")
        .read_text()
    )


PAGES: dict[str, Callable[[str, Path], str]] = {
    "study": lambda text, _: searched(text)._repr_html_(),
    "trials": lambda text, _: "".join(trial._repr_html_() for trial in searched(text).trials),
    "comparison": lambda text, _: compared(text)._repr_html_(),
    "report": report,
    "bench": lambda text, _: bench_html(BenchmarkRuns(compared(text).runs, (10,)), f"title {text}"),
}


@pytest.mark.parametrize("page", PAGES)
def test_scripts_are_text_on_pages(page: str, tmp_path: Path) -> None:
    found = Elements(PAGES[page](SCRIPT, tmp_path))
    plain = Elements(PAGES[page]("plain", tmp_path))
    assert found.names == plain.names
    assert found.attributes == plain.attributes
    assert "onerror=alert" in found.texts
    assert not any(name.startswith("on") for name in found.attributes)


def test_figures_show_tags_and_do_not_obey_them(tmp_path: Path) -> None:
    """Plotly has a little HTML of its own: links, for example."""
    figures = re.findall(r'class="figure">(.*?)</script>', report(SCRIPT, tmp_path), re.DOTALL)
    alerts = [text for figure in figures for text in texts(json.loads(figure)) if "alert" in text]
    assert alerts
    assert not any("<" in text for text in alerts)


def texts(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, (dict, list)):
        for one in data.values() if isinstance(data, dict) else data:
            yield from texts(one)


def printed_by(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str
) -> str:
    """Return the output of a command on both streams."""
    monkeypatch.setattr("sys.argv", ["bo-invert", *words])
    with pytest.raises(SystemExit):
        cli.main()
    captured = capsys.readouterr()
    return captured.out + captured.err


@pytest.mark.parametrize("text", [MARKUP, ESCAPES], ids=["markup", "escapes"])
@pytest.mark.parametrize("how", ["table", "json", "csv"])
def test_a_terminal_shows_names_and_obeys_none(
    text: str,
    how: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # names are not wrapped
    storage = f"sqlite:///{tmp_path}/runs.db"
    study = searched(text, storage)
    shape = ["--storage", storage, "--format", how]
    for words in (
        ["list", *shape],
        ["trials", study.name, *shape],
        ["best", study.name, "--exact", *shape],
    ):
        printed = printed_by(capsys, monkeypatch, *words)
        assert not OBEYED.search(printed), words
        if text == MARKUP:
            assert text in printed, words
        if how == "json":
            assert json.loads(printed)


def test_why_nothing_was_found_is_text(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = f"sqlite:///{tmp_path}/runs.db"
    study = bi.Study.create(
        "s", bi.Problem(bi.Box([0.0], [1.0]), None, bi.Minimize()), "random", storage=storage
    )
    study.tell(study.ask()[0], bi.FailedError(f"{MARKUP}{ESCAPES}"))
    printed = printed_by(capsys, monkeypatch, "best", "s", "--storage", storage)
    assert MARKUP in printed
    assert not OBEYED.search(printed)


def test_so_do_studies_trials_and_tables_in_python() -> None:
    study = searched(ESCAPES)
    shown = [repr(study), compared(ESCAPES).table(), *map(repr, study.trials)]
    assert not any(OBEYED.search(text) for text in shown)
    assert "\\u001b[31m" in shown[0]


def test_progress_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    output = f"y{ESCAPES}"
    box = bi.Box({"x": bi.Float(0.0, 1.0)})
    problem = bi.Problem(box, lambda design: design["x"], bi.Minimize(output), outputs=[output])
    bi.Study.create(f"study {ESCAPES}", problem, "random").run(3, progress=True)
    printed = capsys.readouterr().err.replace("\r", "").replace("\x1b[A", "")
    assert "best y" in printed
    assert not OBEYED.search(printed)


OBJECTS: dict[str, Callable[[], object]] = {
    "box": lambda: bi.Box({ESCAPES: (0.0, 1.0)}),
    "objective": lambda: bi.Minimize(ESCAPES),
    "composite": lambda: bi.Composite(lambda y: y, name=ESCAPES),
    "constraint": lambda: bi.OutcomeConstraint(ESCAPES, "<=", 1.0),
    "error": lambda: bi.InvalidInputError(ESCAPES),
}


@pytest.mark.parametrize("what", OBJECTS)
def test_objects_print_names_as_text(what: str) -> None:
    assert not OBEYED.search(str(OBJECTS[what]()))


def test_warnings_are_text() -> None:
    def oracle(design: object) -> float:
        raise RuntimeError(ESCAPES)

    problem = bi.Problem(bi.Box([0.0], [1.0]), oracle, bi.Minimize())
    with pytest.warns(UserWarning, match="u001b") as caught:
        bi.Study.create("s", problem, "random").run(3)
    assert not any(OBEYED.search(str(one.message)) for one in caught)


def test_lines_stay_lines() -> None:
    assert printable("a\tb\nc é 東京 🙂 <b> [red]") == "a\tb\nc é 東京 🙂 <b> [red]"
    assert (
        printable("\x1b[0m\x9b\x7f\r\u202e\ud800")
        == "\\u001b[0m\\u009b\\u007f\\u000d\\u202e\\ud800"
    )


def test_progress_of_comparisons_and_checks_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    name = f"problem {ESCAPES}"
    problem = bi.Problem(
        bi.Box({"x": (0.0, 1.0)}), lambda design: design["x"], bi.Minimize(f"y{ESCAPES}"), name=name
    )
    bi.compare(problem, {f"label {ESCAPES}": "random"}, budget=3, seeds=1, progress=True)
    bi.doctor(problem, calls=5, progress=True)
    printed = capsys.readouterr().err.replace("\r", "").replace("\x1b[A", "")
    assert "label" in printed
    assert "doctor problem" in printed
    assert not OBEYED.search(printed)


MESSAGES = {
    "exception": "raise RuntimeError(TEXT)",
    "warning": "import warnings; warnings.warn(TEXT)",
    "log": "import logging; logging.getLogger('bo_invert.example').info('%s', TEXT)",
    "exit": "raise SystemExit(TEXT)",
}


@pytest.mark.parametrize("message", MESSAGES)
def test_messages_of_other_code_are_text(message: str, tmp_path: Path) -> None:
    file = tmp_path / "problem.py"
    file.write_text(
        "import bo_invert as bi\n"
        f"TEXT = {ESCAPES!r}\n"
        "def make():\n"
        f"    {MESSAGES[message]}\n"
        "    return bi.Problem(bi.Box({'x': (0.0, 1.0)}), lambda d: d['x'], bi.Minimize())\n"
    )
    command = [sys.executable, "-m", "bo_invert.cli", "-v", "run", f"{file}:make"]
    ran = subprocess.run([*command, "--budget", "1", "--quiet"], capture_output=True)
    printed = ran.stderr.decode(errors="surrogatepass")
    assert "u001b[31m" in printed
    assert not OBEYED.search(printed)


def test_errors_of_usage_are_text(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = ESCAPES.replace("\ud800", "")
    for words in [f"command {text}"], ["list", f"--{text}"], ["show", text, "--storage", text]:
        printed = printed_by(capsys, monkeypatch, *words)
        assert "1b" in printed
        assert not OBEYED.search(printed), words
