"""Databases that are moved, copied over or replaced under a running study.

python experiments/replaced_files.py

A process runs a study. After 600 trials, 400 trials after the copy was made, another program
replaces the files. The process continues with up to 20 trials. *Silent losses* are tells that
returned, without an error of the process, and are not in the file that a new process reads.
``PYTHONPATH`` selects another version of the package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

STUDY = """
import sys
import bo_invert as bi
problem = bi.Problem(bi.Box([0.0] * 2, [1.0] * 2), None, bi.Minimize())
study = bi.Study.create("s", problem, "random", 0, sys.argv[1], exist_ok=True)

def run(count):
    for _ in range(count):
        (trial,) = study.ask()
        study.tell(trial, float(trial.number))
        print("trial", trial.number, flush=True)

run(200)
print("copy", flush=True)
input()
run(400)
print("replace", flush=True)
input()
try:
    run(20)
except bi.BoInvertError as error:
    print(type(error).__name__, str(error).replace("\\n", " "), flush=True)
"""
READ = """
import sys
import bo_invert as bi
study = bi.Study.open("s", sys.argv[1])
print(*[trial.number for trial in study.trials if trial.loss is not None])
"""
FILES = ("runs.db", "runs.db-wal", "runs.db-shm")


def copied(source: Path, target: Path, names: tuple[str, ...]) -> None:
    """Copy files in place, as ``cp`` does."""
    for name in names:
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)


def moved_away(folder: Path, _: Path, names: tuple[str, ...]) -> None:
    (folder / "elsewhere").mkdir()
    for name in names:
        if (folder / name).exists():
            os.rename(folder / name, folder / "elsewhere" / name)


def copied_over(folder: Path, copy: Path, names: tuple[str, ...]) -> None:
    copied(copy, folder, names)


def replaced(folder: Path, copy: Path, names: tuple[str, ...]) -> None:
    for name in names:
        if (copy / name).exists():
            os.replace(copy / name, folder / name)


def moved_and_copied(folder: Path, copy: Path, names: tuple[str, ...]) -> None:
    moved_away(folder, copy, names)
    copied(copy, folder, names)


def deleted(folder: Path, _: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (folder / name).unlink(missing_ok=True)


def restored(folder: Path, copy: Path, names: tuple[str, ...]) -> None:
    """Copy over the main file and delete its companions."""
    copied(copy, folder, FILES[:1])
    for name in FILES[1:]:
        (folder / name).unlink(missing_ok=True)


CHANGES: dict[str, Callable[[Path, Path, tuple[str, ...]], None]] = {
    "mv away": moved_away,
    "mv away, cp of a copy": moved_and_copied,
    "cp of a copy over it": copied_over,
    "mv of a copy over it (atomic)": replaced,
    "rm": deleted,
    "cp of a copy over it, rm of -wal and -shm": restored,
}


def attempt(change: str, names: tuple[str, ...]) -> tuple[str, int]:
    """Return the reaction of the process, and the number of silent losses."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("RUNS")) as root:
        folder, copy = Path(root) / "live", Path(root) / "copy"
        folder.mkdir()
        copy.mkdir()
        url = f"sqlite:///{folder}/runs.db"
        process = subprocess.Popen(
            [sys.executable, "-c", STUDY, url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=root,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        returned: list[int] = []
        reaction, changed, after = "continues", False, 0
        for line in process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "copy":
                copied(folder, copy, FILES)
            elif word == "replace":
                CHANGES[change](folder, copy, names)
                changed = True
            elif word != "trial":
                reaction = word
            else:
                returned.append(int(rest))
                after += changed
            if word in ("copy", "replace"):
                process.stdin.write("\n")
                process.stdin.flush()
        process.wait()
        ran = subprocess.run(
            [sys.executable, "-c", READ, url], capture_output=True, text=True, cwd=root, check=False
        )
        found = {int(number) for number in ran.stdout.split()}
        lost = len(set(returned) - found) if reaction == "continues" else 0
        return f"{reaction} after {after} trials", lost


def main() -> None:
    print("| change | files | reaction | silent losses |")
    print("|---|---|---|---:|")
    for change in CHANGES:
        for names in (FILES[:1], FILES):
            if change == "cp of a copy over it, rm of -wal and -shm" and names == FILES:
                continue
            reaction, losses = attempt(change, names)
            label = "with -wal" if names == FILES else "without -wal"
            print(f"| {change} | {label} | {reaction} | {losses} |", flush=True)


if __name__ == "__main__":
    main()
