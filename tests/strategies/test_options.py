"""Limits of the options of strategies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

import bo_invert as bi
from bo_invert import registry
from bo_invert.strategies.base import option


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("gp", {"kernel": None}, "kernel must be one of .*, got None"),
        ("gp", {"samples": None}, "samples must be at least 1, got None"),
        ("gp", {"samples": "many"}, "samples must be at least 1, got 'many'"),
        ("gp", {"samples": 0}, "samples must be at least 1, got 0"),
        ("gradient", {"optimizer": None}, "optimizer must be one of"),
        ("optuna", {"sampler": None}, "sampler must be one of"),
        ("polish", {"learning_rate": "x"}, "learning_rate must be greater than 0"),
    ],
)
def test_an_option_outside_its_limits_is_refused(
    name: str, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(bi.InvalidInputError, match=words):
        registry.resolve("strategies", name)(**options)


def test_none_is_accepted_where_the_type_allows_it() -> None:
    assert registry.resolve("strategies", "gp")(initial=None).initial is None


@dataclass(frozen=True)
class Own(bi.Strategy):
    """A strategy with limits and with dataclass metadata of its own."""

    name = "own"
    count: int = option(1, ge=1)
    note: str = field(default="", metadata={"help": "text"})

    def ask(
        self, statement: bi.ProblemStatement, trials: Sequence[bi.Trial], request: bi.Request
    ) -> bi.Proposal:
        return bi.Proposal(())


def test_metadata_of_the_user_is_ignored() -> None:
    assert Own(note="text").count == 1
    with pytest.raises(bi.InvalidInputError, match="count must be at least 1"):
        Own(count=0)
