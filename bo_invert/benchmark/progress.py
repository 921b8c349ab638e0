"""Progress display of a benchmark: a progress bar and one line per finished run."""

from __future__ import annotations

from typing import Any

from tqdm.auto import tqdm

from bo_invert.benchmark.results import Key
from bo_invert.benchmark.resumable_runs import BenchmarkObserver, Progress
from bo_invert.errors import ErrorStream, printable, visible
from bo_invert.report.table import counted


class ProgressBar(BenchmarkObserver):
    """Observer that writes progress to standard error.

    Args:
        plan: description of the runs.
    """

    def __init__(self, plan: str) -> None:
        self._plan = plan
        self._under_way: dict[str, None] = {}
        self._bar: Any = None
        self._stream = ErrorStream()  # bar and messages of one stream take turns

    def planned(self, progress: Progress) -> None:
        runs, left = counted(progress.total, "run"), progress.total - progress.there
        line = f"{runs} ({self._plan}): {progress.there or 'none'} done, {left} left"
        if visible(True):
            print(printable(line), file=self._stream, flush=True)

    def begun(self, key: Key, progress: Progress) -> None:
        if self._bar is None:
            self._bar = tqdm(
                total=progress.total, initial=progress.there, desc="bench", unit="run",
                dynamic_ncols=True, file=self._stream, disable=not visible(True),
            )  # fmt: skip
        self._under_way[_name(key)] = None
        self._show()

    def ended(self, key: Key, progress: Progress, message: str) -> None:
        self._under_way.pop(_name(key), None)
        if visible(True):
            tqdm.write(printable(f"{_name(key)}: {message}"), file=self._stream)
        self._bar.n = progress.there + progress.done
        self._show()

    def close(self) -> None:
        """Close the progress bar."""
        if self._bar is not None:
            self._bar.close()

    def _show(self) -> None:
        self._bar.set_postfix_str(printable("; ".join(self._under_way)), refresh=True)


def _name(key: Key) -> str:
    return f"{key.problem} · {key.label} · seed {key.seed}"
