"""The git commit that a file is of, where git keeps it."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path


@cache
def commit_of(file: Path, among: str | None = None) -> str | None:
    """The commit of the repository that keeps a file; looked up once per process.

    Args:
        file: whose commit it is.
        among: what is compared with the commit, relative to the file's folder; default: the file alone.

    Returns:
        Twelve digits, with a ``+`` behind them if the files differ from the commit; None where git does not keep them.
    """
    folder = file.parent
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return None
    try:
        _git(
            folder, "ls-files", "--error-unmatch", "--", file.name
        )  # a repository around it may know nothing of it
        changed = bool(_git(folder, "status", "--porcelain", "--", among or file.name))
        return _git(folder, "rev-parse", "--short=12", "HEAD") + "+" * changed
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    line = ["git", "--no-optional-locks", *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()
