"""The command line in this process, for tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from bo_invert.cli import main as cli


class Answer(NamedTuple):
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


Command = Callable[..., Answer]


def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Return a function that runs ``bo-invert`` with its arguments."""

    def call(*arguments: str) -> Answer:
        monkeypatch.setattr("sys.argv", ["bo-invert", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert "Traceback" not in shown.err
        return Answer(int(ended.value.code or 0), shown.out, shown.err)

    return call
