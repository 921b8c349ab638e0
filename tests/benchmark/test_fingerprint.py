"""Fingerprints of the code behind results, and warnings about results of different code."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bo_invert import registry
from bo_invert.benchmark import fingerprint as made
from bo_invert.benchmark.fingerprint import Source, code_of, fingerprint, sources
from bo_invert.benchmark.results import Key, Results, from_line
from bo_invert.benchmark.resumable_runs import UNFINISHED, Task, work
from bo_invert.benchmark.suite import PEERS, PROBLEMS
from bo_invert.problems.git import commit_of
from bo_invert.report.benchmark_tables import BenchmarkRuns, bench_markdown
from bo_invert.report.provenance import provenance_table
from bo_invert.report.runs import Run
from bo_invert.storage.worker_id import this_worker


def touched(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """The package as it would be with another character in one of its files."""
    files = sources()
    changed = {**files, module: Source("changed", files[module].imports)}
    monkeypatch.setattr(made, "sources", lambda: changed)


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        (
            "bo_invert.strategies.peers.cmaes",
            {"cmaes", "auto"},
        ),  # auto may hand over to any strategy
        ("bo_invert.strategies.replay", {"cmaes", "auto"}),
        ("bo_invert.strategies.sampling", {"random", "auto"}),
        ("bo_invert.models.acquisition.expected_improvement", {"auto"}),
        ("bo_invert.strategies.base", {"cmaes", "random", "auto"}),
        ("bo_invert.report.html", set()),
        ("bo_invert.registry", set()),
    ],
)
def test_a_fingerprint_changes_with_what_can_influence_a_run(
    module: str, changed: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("cmaes", "random", "auto")
    before = {name: code_of(name, "sine")["method"] for name in names}
    touched(monkeypatch, module)
    assert {name for name in names if code_of(name, "sine")["method"] != before[name]} == changed


def test_a_problem_has_a_fingerprint_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = {name: code_of("random", name) for name in ("sine", "arm")}
    touched(monkeypatch, "bo_invert.problems.examples.sine")
    after = {name: code_of("random", name) for name in ("sine", "arm")}
    assert after["sine"]["problem"] != before["sine"]["problem"]
    assert after["sine"]["method"] == before["sine"]["method"]
    assert after["arm"] == before["arm"]
    monkeypatch.undo()
    touched(monkeypatch, "bo_invert.study.runner")
    assert code_of("random", "arm")["problem"] != before["arm"]["problem"], (
        "the loop is shared by all"
    )
    assert code_of("somebody's", None) == {**before["arm"], "method": None, "problem": None}


def test_every_peer_and_problem_has_files() -> None:
    for name in PEERS:
        assert code_of(name, None)["method"], name
    for name in PROBLEMS:
        assert code_of("random", name)["problem"], name
    peers = [
        path.partition(":")[0]
        for name, path in registry.BUILTIN["strategies"].items()
        if name in PEERS
    ]
    assert len({fingerprint([module], sources()) for module in peers}) == len(set(peers))


PACKAGE = {
    "pack/__init__.py": '"""A package."""\n',
    "pack/method.py": """from pack.inner import maths
from pack.inner.constants import FLOOR, RATE as STEP

def ask(x):
    import numpy as np
    return np.maximum(maths.descend(x, STEP), FLOOR)
""",
    "pack/inner/__init__.py": "",
    "pack/inner/maths.py": """from pack.inner import constants

class Descent:
    steps: int = 3

def descend(x, step):
    return x - step * constants.RATE * Descent.steps
""",
    "pack/inner/constants.py": "RATE = 0.1\nFLOOR = 1\n",
    "pack/report.py": "TITLE = 'unrelated'\n",
}


def printed(folder: Path, package: dict[str, str], root: str = "pack.method") -> str:
    """Return the fingerprint of a package written into a new folder."""
    for name, text in package.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return fingerprint([root], sources(folder / "pack"))


def edited(*changes: tuple[str, str, str]) -> dict[str, str]:
    package = dict(PACKAGE)
    for name, old, new in changes:
        assert old in package[name]
        package[name] = package[name].replace(old, new)
    return package


@pytest.mark.parametrize(
    "change",
    [
        (
            "pack/inner/maths.py",
            "def descend(x, step):\n",
            'def descend(x, step):\n    """Step down."""\n',
        ),
        ("pack/inner/maths.py", "from pack", '"""Mathematics."""\n\nfrom pack'),
        (
            "pack/inner/maths.py",
            "    steps: int = 3\n",
            '    steps: int = 3\n    """Steps at once."""\n',
        ),
        (
            "pack/inner/constants.py",
            "FLOOR = 1",
            "# A lower bound.\nFLOOR = (\n    1\n)  # no unit",
        ),
        ("pack/report.py", "unrelated", "another title"),
        (
            "pack/method.py",
            "def ask(x):\n    import numpy as np\n",
            "import numpy as np\n\ndef ask(x):\n",
        ),
    ],
    ids=[
        "docstring",
        "module docstring",
        "attribute docstring",
        "comment",
        "unreachable",
        "import",
    ],
)
def test_a_fingerprint_ignores_what_has_no_effect(
    change: tuple[str, str, str], tmp_path: Path
) -> None:
    assert printed(tmp_path / "after", edited(change)) == printed(tmp_path / "before", PACKAGE)


def test_a_fingerprint_ignores_imports_for_type_checkers(tmp_path: Path) -> None:
    name = "pack/inner/maths.py"
    start = "from typing import TYPE_CHECKING\n"
    package = {**PACKAGE, name: start + PACKAGE[name]}
    block = "if TYPE_CHECKING:\n    import pack.report\n"
    typed = {**PACKAGE, name: start + block + PACKAGE[name]}
    assert printed(tmp_path / "after", typed) == printed(tmp_path / "before", package)
    both = {**PACKAGE, name: start + block + "else:\n    import pack.report\n" + PACKAGE[name]}
    assert printed(tmp_path / "both", both) != printed(tmp_path / "before", package)


@pytest.mark.parametrize(
    "change",
    [
        ("pack/inner/maths.py", "x - step", "x + step"),
        ("pack/inner/maths.py", "x - step", "-x - step"),
        ("pack/inner/constants.py", "0.1", "0.2"),
        ("pack/inner/constants.py", "FLOOR = 1", "FLOOR = 1.0"),
        ("pack/inner/constants.py", "FLOOR = 1", "FLOOR = True"),
        ("pack/inner/maths.py", "steps: int = 3", "steps: int = 4"),
        ("pack/method.py", "np.maximum", "np.minimum"),
        ("pack/method.py", "FLOOR, RATE as STEP", "RATE as FLOOR, FLOOR as STEP"),
        ("pack/method.py", "import numpy as np", "import scipy as np"),
        ("pack/method.py", "maths.descend(x, STEP)", "maths.descend(STEP, x)"),
        (
            "pack/method.py",
            "    return",
            '    assert x, """a text that is no docstring"""\n    return',
        ),
    ],
)
def test_a_fingerprint_changes_with_every_effective_edit(
    change: tuple[str, str, str], tmp_path: Path
) -> None:
    assert printed(tmp_path / "after", edited(change)) != printed(tmp_path / "before", PACKAGE)


def test_a_fingerprint_ignores_names_and_places_of_modules(tmp_path: Path) -> None:
    """``inner.maths`` becomes ``zoo.deep.calculus``, ``inner.constants`` becomes ``limits``."""
    moved = {
        "pack/__init__.py": "",
        "pack/method.py": PACKAGE["pack/method.py"]
        .replace("from pack.inner import maths\n", "")
        .replace("STEP\n", "STEP\nfrom pack.zoo.deep import calculus\n", 1)
        .replace("pack.inner.constants", "pack.limits")
        .replace("maths.descend", "calculus.descend"),
        "pack/zoo/__init__.py": '"""Animals."""\n',
        "pack/zoo/deep/__init__.py": "",
        "pack/zoo/deep/calculus.py": PACKAGE["pack/inner/maths.py"]
        .replace("from pack.inner import constants", "from pack import limits")
        .replace("constants.RATE", "limits.RATE"),
        "pack/limits.py": PACKAGE["pack/inner/constants.py"],
    }
    before = printed(tmp_path / "before", PACKAGE)
    assert printed(tmp_path / "after", moved) == before
    moved["pack/limits.py"] = moved["pack/limits.py"].replace("0.1", "-0.1")
    assert printed(tmp_path / "changed", moved) != before


def test_a_fingerprint_tells_modules_of_the_same_names_apart(tmp_path: Path) -> None:
    """``one.value`` and ``two.value`` are both reached; only their use changes."""
    package = {
        "pack/__init__.py": "",
        "pack/one.py": "value = 1\n",
        "pack/two.py": "value = 2\n",
        "pack/method.py": "from pack import one, two\nresult = one.value - two.value\n",
    }
    swapped = {
        **package,
        "pack/method.py": package["pack/method.py"].replace(
            "one.value - two.value", "two.value - one.value"
        ),
    }
    assert printed(tmp_path / "a", package) != printed(tmp_path / "b", swapped)
    names = {
        **package,
        "pack/method.py": "from pack.one import value\nfrom pack.two import value as other\n",
    }
    other = {
        **package,
        "pack/method.py": "from pack.two import value\nfrom pack.one import value as other\n",
    }
    assert printed(tmp_path / "c", names) != printed(tmp_path / "d", other)


def test_imports_are_followed_anywhere_and_in_circles(tmp_path: Path) -> None:
    package = {
        "pack/__init__.py": "",
        "pack/a.py": "def late():\n    from pack.room import b\n    import numpy\n",
        "pack/room/__init__.py": "",
        "pack/room/b.py": "import pack.a\n",
    }
    before = printed(tmp_path / "before", package, "pack.a")
    assert sources(tmp_path / "before" / "pack")["pack.a"].imports == {"pack.room", "pack.room.b"}
    package["pack/room/b.py"] += "x = 1\n"
    assert printed(tmp_path / "after", package, "pack.a") != before


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_commit_and_whether_files_differ_from_it(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("")

    def git(*arguments: str) -> str:
        settings = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
        done = subprocess.run(
            ["git", *settings, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def now() -> str | None:
        commit_of.cache_clear()
        return commit_of(package / "__init__.py", ".")

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "none of it")
    assert now() is None, "installed into a foreign repository"
    git("add", ".")
    git("commit", "-q", "-m", "one")
    assert now() == git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "notes").write_text("beside the package")
    assert now() == git("rev-parse", "--short=12", "HEAD")
    (package / "new.py").write_text("")
    assert now() == git("rev-parse", "--short=12", "HEAD") + "+"
    commit_of.cache_clear()


# ---------------------------------------------------------------------- in lines and reports


def test_a_line_says_which_code_made_it(tmp_path: Path) -> None:
    key = Key("sine", "random", {"name": "random"}, 0, 6, 2)
    (tmp_path / UNFINISHED).mkdir()
    _, line = work(Task(key, PROBLEMS["sine"], tmp_path / UNFINISHED, float("inf"), this_worker()))
    assert line is not None
    assert line["code"] == code_of("random", "sine")
    Results(tmp_path).append(key, line)
    (run,) = Results(tmp_path).runs([key]).values()
    assert run.code == {**line["code"], "versions": line["versions"]}
    assert Run.from_json(json.loads(json.dumps(run.to_json()))).code == run.code
    del line["code"]
    old = from_line(line)
    assert (old.loss, old.code.get("method")) == (run.loss, None), "earlier lines stay readable"


def test_a_run_goes_on_with_the_code_that_began_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Late(Task):
        def over(self) -> bool:
            asked.append(1)
            return len(asked) > 2

    key = Key("sine", "random", {"name": "random"}, 0, 12, 2)
    folder = tmp_path / UNFINISHED
    folder.mkdir()
    work(Late(key, PROBLEMS["sine"], folder, float("inf"), this_worker()))
    (begun,) = folder.glob("*.db")
    asked.clear()
    work(Late(key, PROBLEMS["sine"], folder, float("inf"), this_worker()))
    assert list(folder.glob("*.db")) == [begun]
    touched(monkeypatch, "bo_invert.strategies.sampling")
    asked.clear()
    work(Late(key, PROBLEMS["sine"], folder, float("inf"), this_worker()))
    assert len(list(folder.glob("*.db"))) == 2


def a_run(
    label: str, problem: str, seed: int, method: str | None, posed: str = "same", version: str = "1"
) -> Run:
    noted = {} if method is None else {"method": method, "problem": posed, "commit": f"c-{method}"}
    code = {**noted, "versions": {"pack": version}}
    return Run(
        label,
        problem,
        seed,
        {"name": label},
        2,
        calls=np.arange(1, 3),
        losses=np.array([2.0, 1.0]),
        code=code,
    )


def test_a_report_warns_of_lines_of_different_code() -> None:
    runs = [
        a_run(label, problem, seed, f"code of {label}")
        for label in "ab"
        for problem in "pq"
        for seed in range(3)
    ]
    assert provenance_table(runs).rows == ()
    assert "Warning" not in bench_markdown(BenchmarkRuns(tuple(runs), (2,), "a"))
    other = {"method": "other", "commit": "c2"}
    newer = [
        replace(run, code={**run.code, **other}) if (run.seed, run.label) == (2, "a") else run
        for run in runs
    ]
    assert provenance_table(newer).rows == (
        ("method", "a", "code of a", "pack 1", "c-code of a", 4, "p, q"),
        ("method", "a", "other", "pack 1", "c2", 2, "p, q"),
    )
    text = bench_markdown(BenchmarkRuns(tuple(newer), (2,), "a"))
    assert text.startswith(
        "**Warning: results of different code under one name.** The last table lists them."
    )
    assert text.rindex("\n**") == text.index(
        "\n**Warning: results of different code under one name**"
    )


def test_a_change_of_the_loop_is_one_row_for_all_problems() -> None:
    runs = [
        a_run("a", problem, seed, "x", posed=f"{problem}{seed}")
        for problem in "pqr"
        for seed in range(2)
    ]
    runs = [replace(run, code={**run.code, "commit": f"c{run.seed}"}) for run in runs]
    assert provenance_table(runs).rows == (
        ("problem", "p, q, r", "one each", "", "c0", 3, "a"),
        ("problem", "p, q, r", "one each", "", "c1", 3, "a"),
    )


def test_a_report_warns_of_different_packages_and_problems_and_of_missing_provenance() -> None:
    runs = [a_run("a", "p", 0, "x"), a_run("a", "p", 1, "x", version="2")]
    assert [row[3] for row in provenance_table(runs).rows] == ["pack 1", "pack 2"]
    runs = [a_run("a", "p", 0, "x", posed="one"), a_run("b", "p", 0, "y", posed="two")]
    assert [(row[0], row[1], row[2], row[-1]) for row in provenance_table(runs).rows] == [
        ("problem", "p", "one", "a"), ("problem", "p", "two", "b")]  # fmt: skip
    runs = [a_run("a", "p", 0, None), a_run("a", "p", 1, "x")]
    assert [row[:3] for row in provenance_table(runs).rows][:2] == [
        ("method", "a", "not recorded"), ("method", "a", "x")]  # fmt: skip
    old = [a_run(label, "p", seed, None) for label in "ab" for seed in range(3)]
    assert provenance_table(old).rows == (), "nothing is known, so nothing is known to differ"
    both = (*old, *(a_run("c", "p", seed, "x") for seed in range(3)))
    assert "The code of 6 runs was not recorded." in bench_markdown(BenchmarkRuns(both, (2,), "a"))
