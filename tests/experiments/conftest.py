"""Path of the scripts in ``experiments/``; without them these tests are left out."""

from __future__ import annotations

import sys
from pathlib import Path

_SCRIPTS = Path(__file__).parents[2] / "experiments"
# A source archive of the package has no scripts.
collect_ignore_glob = [] if _SCRIPTS.is_dir() else ["test_*.py"]
# Modules of the tests come first: both have a ``torture``.
sys.path.append(str(_SCRIPTS))
