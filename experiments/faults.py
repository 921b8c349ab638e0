"""Injected faults: evidence that the test suite finds errors in every package.

Each fault replaces one unique piece of code. The script applies one fault at a time to a temporary
copy of a checkout, runs the test files that should catch it, and prints a table with the first
failing test.

    python experiments/faults.py                        # all faults in this checkout
    python experiments/faults.py --root ../old          # in another checkout
    python experiments/faults.py --only report,models   # the faults of some packages
    python experiments/faults.py --list                 # look up the faults, run no test

A fault names its code by content, not by file and line. White space and trailing commas do not
count, so formatting and moved files change nothing. A fault may have several spellings of its code.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Fault:
    """One error to inject.

    Args:
        package: the package that holds the code.
        what: the error in words.
        edits: pairs of code and its replacement; the first code that occurs exactly once is
            replaced.
        tests: stems of the test files that should catch it; those that exist are run.
    """

    package: str
    what: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


def fault(package: str, what: str, *edits: tuple[str, str], tests: str) -> Fault:
    return Fault(package, what, edits, tuple(tests.split()))


FAULTS = (
    # execution
    fault(
        "execution",
        "a worker that was let go of is not replaced",
        ("if not self._closed: self._hire()", "if self._closed: self._hire()"),
        ("if not self._closed: self._add_worker()", "if self._closed: self._add_worker()"),
        tests="test_executors",
    ),
    fault(
        "execution",
        "what a worker process prints is not passed on",
        ("if shown is not None and said:", "if False:"),
        ("if target is not None and data:", "if False:"),
        ("target = getattr(sys, name, None) if self._forward and data else None", "target = None"),
        tests="test_isolated",
    ),
    fault(
        "execution",
        "a program that outlives SIGTERM is not killed",
        ("elif why and not over and now >= ending + _GRACE:", "elif False:"),
        ("kill_group(self.pid)\n        self._process.wait()", "self._process.wait()"),
        tests="test_command",
    ),
    # oracles
    fault(
        "oracles",
        "failed calls are cached like answers",
        ("return answer.verdict is None or isinstance(answer.verdict, Infeasible)", "return True"),
        (
            "return result.error is None or isinstance(result.error, InfeasibleError)",
            "return True",
        ),
        ("permanent = (InfeasibleError, type(None))", "permanent = (Exception, type(None))"),
        tests="test_cached",
    ),
    fault(
        "oracles",
        "a damaged cache entry is returned",
        (
            "if checksum != _checksum(key, y, reason) or (y is not None and len(y) != 8 * m):",
            "if False:",
        ),
        ("checksum == _checksum(key, y, reason) and (y is None or len(y) == 8 * m)", "True"),
        tests="test_cached",
    ),
    fault(
        "oracles",
        "the exit code of a program is not looked at",
        ("if ended.code != 0:", "if ended.code < -99:"),
        ("if ended.stopped_by or ended.code != 0 or", "if ended.stopped_by or"),
        tests="test_command",
    ),
    fault(
        "oracles",
        "a value in a URL is not quoted",
        ('lambda shown: quote(shown, safe="")', "lambda shown: shown"),
        tests="test_http",
    ),
    # storage
    fault(
        "storage",
        "a silent worker keeps its trials for ever",
        ("{worker for worker, seconds in silence.items() if seconds >= leases[worker]}", "set()"),
        (
            "{worker for worker, (_, seconds) in silence.items() if seconds >= leases[worker]}",
            "set()",
        ),
        tests="test_leases",
    ),
    fault(
        "storage",
        "the outcome of a superseded attempt counts as that of the latest",
        ("latest = attempt == len(trial.attempts) - 1", "latest = True"),
        tests="test_leases test_stores test_study",
    ),
    fault(
        "storage",
        "a log that has grown is overwritten",
        ("if length != after:", "if length < after:"),
        tests="test_stores test_conformance test_testing",
    ),
    fault(
        "storage",
        "a torn export is imported",
        ("if end != len(events):", "if False:"),
        ('if not ends or lines[ends[0]]["end"] != len(events):', "if not ends:"),
        tests="test_transfer test_jsonl_export test_export_import",
    ),
    # report
    fault(
        "report",
        "a name in a table is not escaped in HTML",
        ("text = escape(shown(self.rows[i][j]))", "text = shown(self.rows[i][j])"),
        ("autoescape=True", "autoescape=False"),
        tests="test_report",
    ),
    fault(
        "report",
        "a maximised output has the sign of its loss",
        ("return -loss if self.is_raised else loss", "return loss"),
        tests="test_report",
    ),
    fault(
        "report",
        "quartiles of a maximised output are swapped",
        (
            "goal.told(losses.median), goal.told(losses.high), goal.told(losses.low)",
            "goal.told(losses.median), goal.told(losses.low), goal.told(losses.high)",
        ),
        (
            "return Spread(median, high, low, losses.n)",
            "return Spread(median, low, high, losses.n)",
        ),
        tests="test_report",
    ),
    fault(
        "report",
        "Holm's correction is off by one",
        (
            "min(1.0, (len(p_values) - place) * p_values[index])",
            "min(1.0, (len(p_values) - place - 1) * p_values[index])",
        ),
        tests="test_verdicts test_pairwise_tests test_report",
    ),
    # models
    fault(
        "models",
        "the slope of the RBF kernel has the wrong sign",
        ("return value, -0.5 * value", "return value, 0.5 * value"),
        tests="test_models test_posterior",
    ),
    fault(
        "models",
        "a trust region grows after failures",
        (
            "self.length, self._failures = self.length / 2.0, 0",
            "self.length, self._failures = self.length * 2.0, 0",
        ),
        tests="test_turbo",
    ),
    fault(
        "models",
        "pCN steps do not preserve the normal distribution",
        ("there = np.sqrt(1.0 - b**2) * here", "there = (1.0 - b) * here"),
        tests="test_pcn",
    ),
    # strategies
    fault(
        "strategies",
        "CMA-ES ranks infeasible points by their loss alone",
        ("return max(trial.outcome.violation, 0.0), trial.loss", "return 0.0, trial.loss"),
        tests="test_cmaes",
    ),
    fault(
        "strategies",
        "the first of two strategies spends the whole budget",
        (
            "else round(self.share * request.budget) room = None",
            "else request.budget\n        room = None",
        ),
        (
            "return self.calls if budget is None else round(self.share * budget)",
            "return self.calls if budget is None else budget",
        ),
        tests="test_composition test_then_polish",
    ),
    # generators
    fault(
        "generators",
        "codes of a uniform prior are inverted with the wrong range",
        ("(codes - self.low) / (self.high - self.low)", "(codes - self.low) / self.high"),
        tests="test_priors",
    ),
    fault(
        "generators",
        "the energy distance adds the distances within samples",
        ("2.0 * float(cdist(a, b).mean()) - within", "2.0 * float(cdist(a, b).mean()) + within"),
        tests="test_scores",
    ),
    fault(
        "generators",
        "weights of another shape are not refused",
        ("if differences:  # torch would say so too, having filled the rest", "if False:"),
        (
            'if differences:\n        raise InvalidInputError(f"the weights in',
            'if False:\n        raise InvalidInputError(f"the weights in',
        ),
        ("differences = _differences(named, own)", "differences = []"),
        ("if differences := _differences(named, own)", "if differences := []"),
        tests="test_weights",
    ),
    # spaces
    fault(
        "spaces",
        "images are encoded with the reciprocal spread",
        (
            "(np.log(unit / (1.0 - unit)) - self._mean) / self._spread",
            "(np.log(unit / (1.0 - unit)) - self._mean) * self._spread",
        ),
        tests="test_pixels",
    ),
    fault(
        "spaces",
        "images outside the bounds are accepted",
        ("if not ((unit > -1e-6) & (unit < 1.0 + 1e-6)).all():", "if False:"),
        tests="test_pixels",
    ),
    # problems
    fault(
        "problems",
        "a satisfied constraint offsets a broken one",
        (
            "sum(max(0.0, float(constraint.excess(y))) for constraint in self.constraints)",
            "sum(float(constraint.excess(y)) for constraint in self.constraints)",
        ),
        tests="test_problems test_examples test_recommendation test_study",
    ),
    fault(
        "problems",
        "a gradient that is not finite is reported",
        (
            "usable = outcome.y is not None and bool(np.isfinite(slope).all())",
            "usable = outcome.y is not None",
        ),
        tests="test_descent test_gradient_queries test_gradient_descent test_gradient",
    ),
    # study
    fault(
        "study",
        "noisy answers are reused",
        ("if self._noisy: return list(trials)", "if False: return list(trials)"),
        tests="test_repeats test_repeated_designs",
    ),
    fault(
        "study",
        "solutions come in the wrong order",
        ("return sorted(chosen, key=usable.index)", "return chosen[::-1]"),
        tests="test_solutions",
    ),
    # doctor
    fault(
        "doctor",
        "a difference between two answers goes unnoticed",
        ("return bool((np.abs(one.y - other.y) > allowed).any())", "return False"),
        (
            "return bool((np.abs(one.y - other.y) > rounding + 6.0 * np.sqrt(2.0) * sigma).any())",
            "return False",
        ),
        tests="test_doctor",
    ),
    fault(
        "doctor",
        "a wrong gradient is accepted",
        ("abs(told - slope) / size if size > 0 else 0.0", "0.0"),
        ("abs(expected - slope) / size if size > 0 else 0.0", "0.0"),
        tests="test_doctor",
    ),
    # benchmark
    fault(
        "benchmark",
        "a torn last line swallows the next result",
        ('if file.read(1) != b"\\n":', "if False:"),
        ('file.write(b"\\n" + data if torn else data)', "file.write(data)"),
        tests="test_bench test_runner",
    ),
    fault(
        "benchmark",
        "a living process loses its claim of a run",
        ("if worker and not is_gone(worker) and not is_gone(owner): break", "if False: break"),
        tests="test_bench test_runner",
    ),
    fault(
        "benchmark",
        "the fingerprint ignores indirect imports",
        (
            "coming = {name for module in coming for name in files[module].imports} - reached",
            "coming = set()",
        ),
        tests="test_fingerprint",
    ),
    # service
    fault(
        "service",
        "a token for reading may write",
        ("if method not in _SAFE and token.access is not Access.WRITE:", "if False:"),
        ("if method not in _SAFE_METHODS and token.access is not Access.WRITE:", "if False:"),
        ("if not reading and token.access is not Access.WRITE:", "if False:"),
        tests="test_security",
    ),
    fault(
        "service",
        "a foreign host name is accepted",
        ("if _name(host) not in self._hosts:", "if False:"),
        ("if _host_name(host) not in self._hosts:", "if False:"),
        ("if _host_name(host) not in self.hosts:", "if False:"),
        tests="test_security",
    ),
    fault(
        "service",
        "tokens that others can read are accepted",
        ("if stat.S_IMODE(mode) & 0o077:", "if False:"),
        tests="test_security test_service",
    ),
    # cli
    fault(
        "cli",
        "settings are not read as JSON",
        ("settings[key] = json.loads(text)", "settings[key] = text"),
        tests="test_cli",
    ),
    fault(
        "cli",
        "the opinion of the judge is left out",
        (
            '{"best.judged_loss": one.judged, "best.judged_feasible": one.upheld, **told}',
            '{"best.judged_loss": one.loss, "best.judged_feasible": one.upheld, **told}',
        ),
        ('judged = {"best.judged_loss": one.judged,', 'judged = {"best.judged_loss": one.loss,'),
        tests="test_cli",
    ),
    # the vocabulary in the root
    fault(
        "root",
        "whole numbers at the ends of a range are half as likely",
        (
            "low, high = self.low - 0.5, self.high + 0.5",
            "low, high = float(self.low), float(self.high)",
        ),
        (
            "self.low - self._half_cell, self.high + self._half_cell",
            "float(self.low), float(self.high)",
        ),
        tests="test_parameters",
    ),
    fault(
        "root",
        "a maximised output is minimised",
        ("return -y[..., self.index]", "return y[..., self.index]"),
        tests="test_objectives",
    ),
)


class Missing(Exception):
    """The code of a fault is not in the package, or not unique."""


def pattern(code: str) -> re.Pattern[str]:
    """Compile a pattern of code that ignores white space and trailing commas."""
    tokens = re.findall(r"\w+|\"[^\"]*\"|[^\w\s]", code)
    parts = []
    for i, token in enumerate(tokens):
        if i:
            parts.append(r"\s+" if token[0].isalnum() and tokens[i - 1][-1].isalnum() else r"\s*")
        parts.append((r",?\s*" if token in ")]}" else "") + re.escape(token))
    return re.compile("".join(parts))


def located(root: Path, one: Fault) -> tuple[Path, str]:
    """Find the file of a fault and its text with the fault in it.

    Raises:
        Missing: no spelling of the code occurs exactly once.
    """
    counts = []
    for code, replacement in one.edits:
        wanted = pattern(code)
        hits = [(path, text) for path in sorted((root / "bo_invert").rglob("*.py"))
                for text in [path.read_text(encoding="utf-8")] if wanted.search(text)]  # fmt: skip
        counts.append(sum(len(wanted.findall(text)) for _, text in hits))
        if counts[-1] == 1:
            path, text = hits[0]
            return path, wanted.sub(lambda _: replacement, text)  # noqa: B023
    raise Missing(f"{one.package}: {one.what}: the code occurs {counts} times")


@contextmanager
def copied(root: Path) -> Iterator[Path]:
    """Provide a copy of a checkout that may be damaged."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        copy = Path(folder) / "checkout"
        left = shutil.ignore_patterns(
            ".git", ".venv", "site", "__pycache__", ".*_cache", ".hypothesis"
        )
        shutil.copytree(root, copy, ignore=left, symlinks=True)
        yield copy


def selected(root: Path, names: tuple[str, ...]) -> list[str]:
    """List the test files of these stems, in that order."""
    found = {path.stem: path for path in (root / "tests").rglob("test_*.py")}
    return [str(found[name].relative_to(root)) for name in names if name in found]


def tested(copy: Path, files: list[str], timeout: float) -> tuple[str, float]:
    """Run test files; return the first failing test, or an empty text, and the seconds it took."""
    began = time.monotonic()
    env = {**os.environ, "PYTHONPATH": str(copy), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-rfE",
        "-p", "no:cacheprovider", "--timeout", str(timeout), *files,
    ]  # fmt: skip
    run = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - began
    if run.returncode == 0:
        return "", seconds
    first = re.search(r"^(?:FAILED|ERROR) (\S+?)(?:\[.*?)?(?: - |$)", run.stdout, re.MULTILINE)
    if run.returncode not in (1, 2) and first is None:
        raise RuntimeError(
            f"pytest ended with {run.returncode}: {run.stdout[-2000:]}{run.stderr[-2000:]}"
        )
    return (first[1] if first else f"(exit code {run.returncode})"), seconds


def inject(copy: Path, one: Fault, stamp: int) -> tuple[Path, str, tuple[float, float]]:
    """Write a fault into a copy; return the file, its text and the new times.

    A unique modification time invalidates compiled files.
    """
    path, damaged = located(copy, one)
    text = path.read_text(encoding="utf-8")
    path.write_text(damaged, encoding="utf-8")
    times = (stamp, stamp)
    os.utime(path, times)
    return path, text, times


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, default=HERE, help="Checkout to damage a copy of.")
    parser.add_argument("--only", default="", help="Packages, separated by commas.")
    parser.add_argument("--match", default="", help="Part of a fault's description.")
    parser.add_argument("--timeout", type=float, default=90.0, help="Seconds for one test.")
    parser.add_argument("--list", action="store_true", help="Only look up the code of each fault.")
    parser.add_argument(
        "--baseline", action="store_true", help="Run the same test files without any fault."
    )
    options = parser.parse_args()
    only = {name for name in options.only.split(",") if name}
    faults = [
        one for one in FAULTS if (not only or one.package in only) and options.match in one.what
    ]
    if options.list:
        missing = 0
        for one in faults:
            try:
                path = located(options.root, one)[0].relative_to(options.root)
                files = " ".join(selected(options.root, one.tests)) or "NO TEST FILE"
                print(f"{one.package:10} {path}: {one.what}; {files}")
                missing += not selected(options.root, one.tests)
            except Missing as error:
                missing += 1
                print(f"MISSING    {error}")
        return missing
    missed = 0
    with copied(options.root) as copy:
        if options.baseline:
            files = list(
                dict.fromkeys(file for one in faults for file in selected(copy, one.tests))
            )
            failed, seconds = tested(copy, files, options.timeout)
            print(f"without a fault: {failed or 'no test fails'} ({seconds:.0f} s)", flush=True)
            return bool(failed)
        print("| package | fault | caught by | seconds |\n|---|---|---|---:|")
        for number, one in enumerate(faults):
            path, text, _ = inject(copy, one, 2_000_000_000 + 2 * number)
            failed, seconds = tested(copy, selected(copy, one.tests), options.timeout)
            path.write_text(text, encoding="utf-8")
            os.utime(path, (2_000_000_001 + 2 * number,) * 2)
            missed += not failed
            name = failed.replace("tests/", "") or "**not caught**"
            print(f"| {one.package} | {one.what} | {name} | {seconds:.0f} |", flush=True)
    print(f"\n{len(faults) - missed} of {len(faults)} faults caught.")
    return missed


if __name__ == "__main__":
    raise SystemExit(main())
