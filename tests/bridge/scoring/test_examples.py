"""The examples in the docstrings of the measures."""

from __future__ import annotations

import doctest
from importlib import import_module
from pkgutil import iter_modules

import pytest

import statebridge.scoring

MODULES = [module.name for module in iter_modules(statebridge.scoring.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_hold(name: str) -> None:
    assert doctest.testmod(import_module(f"statebridge.scoring.{name}")).failed == 0
