"""Former import paths of the documentation, deprecated aliases of the present ones."""

from __future__ import annotations

import importlib
import sys

import pytest

import bo_invert as bi

FORMER = [
    ("examples.digits", "draw"),
    ("examples.digits_materials", "load"),
    ("examples.molecules", "materials"),
    ("examples.molecules_materials", "PROPERTIES"),
    ("examples.molecules_properties", "picture"),
    ("examples.airfoil", "NeuralFoil"),
    ("models.botorch", "to_botorch"),
    ("realism.designs", "DesignRealism"),
    ("strategies.random", "Random"),
    ("domain", "Domain"),
    ("statement", "ProblemStatement"),
    ("stores.sql", "SqlStore"),
    ("parameters", "Float"),
    ("search_domain", "Domain"),
]


@pytest.mark.parametrize(("module", "name"), FORMER)
def test_a_former_path_returns_the_present_module(module: str, name: str) -> None:
    sys.modules.pop(f"bo_invert.{module}", None)
    with pytest.warns(DeprecationWarning, match="moved to"):
        former = importlib.import_module(f"bo_invert.{module}")
    present = importlib.import_module(former.__name__)
    assert getattr(former, name) is getattr(present, name)
    assert not present.__name__.endswith(f"bo_invert.{module}")


@pytest.mark.parametrize(("former", "present"), [("Statement", "ProblemStatement")])
def test_a_former_name_returns_the_present_object(former: str, present: str) -> None:
    with pytest.warns(DeprecationWarning, match=f"use {present}"):
        assert getattr(bi, former) is getattr(bi, present)


def test_realism_is_a_namespace_and_a_former_package() -> None:
    assert bi.realism.DesignRealism.__module__ == "bo_invert.generators.design_plausibility"
    assert "fit_measure" in dir(bi.realism)


def test_objectives_were_a_module() -> None:
    with pytest.warns(DeprecationWarning, match=r"use bo_invert\.Target"):
        assert importlib.import_module("bo_invert.objectives").Target is bi.Target


def test_an_unknown_module_is_not_found() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"bo_invert\.nonsense"):
        importlib.import_module("bo_invert.nonsense")
