"""What a person sees of a referee at work: what is to be done, a bar of runs, and a line for each that ended."""

from __future__ import annotations

import sys
from typing import Any

from tqdm.auto import tqdm

from bo_invert.benchmark.results import Key
from bo_invert.benchmark.runner import Account, Spectator
from bo_invert.report.table import counted


class Progress(Spectator):
    """All to standard error.

    Args:
        plan: what the runs are, in words.
    """

    def __init__(self, plan: str) -> None:
        self._plan = plan
        self._under_way: dict[str, None] = {}
        self._bar: Any = None

    def planned(self, account: Account) -> None:
        there = f"{account.there} there already" if account.there else "none there yet"
        line = f"{counted(account.total, 'run')} ({self._plan}): {there}, {account.total - account.there} to do"
        print(line, file=sys.stderr, flush=True)

    def begun(self, key: Key, account: Account) -> None:
        if self._bar is None:
            begin = {"total": account.total, "initial": account.there}
            self._bar = tqdm(**begin, desc="bench", unit="run", dynamic_ncols=True, file=sys.stderr)
        self._under_way[_name(key)] = None
        self._show()

    def ended(self, key: Key, account: Account, sentence: str) -> None:
        self._under_way.pop(_name(key), None)
        tqdm.write(f"{_name(key)}: {sentence}", file=sys.stderr)
        self._bar.n = account.there + account.done
        self._show()

    def close(self) -> None:
        """Leave the bar as it is."""
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        self._bar.set_postfix_str("; ".join(self._under_way), refresh=True)


def _name(key: Key) -> str:
    return f"{key.problem} · {key.label} · seed {key.seed}"
