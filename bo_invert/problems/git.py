"""Git commit of a file."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path


@cache
def commit_of(file: Path, among: str | None = None) -> str | None:
    """Return the commit of the repository that tracks a file, cached per process.

    Args:
        file: tracked file.
        among: path to compare with the commit, relative to the file's folder; default: the file.

    Returns:
        Twelve hexadecimal digits, followed by ``+`` if the path differs from the commit; None if
        git does not track the file.
    """
    folder = file.parent
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return None
    try:
        # A surrounding repository may not track the file.
        _git(folder, "ls-files", "--error-unmatch", "--", file.name)
        changed = _git(folder, "status", "--porcelain", "--", among or file.name)
        return _git(folder, "rev-parse", "--short=12", "HEAD") + "+" * bool(changed)
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.check_output(
        ["git", "--no-optional-locks", *arguments],
        cwd=folder,
        stderr=subprocess.DEVNULL,
        text=True,
        timeout=30,
    ).strip()
