"""Every module says which names are public, and has them."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import calibration
import export
import models
import stream

_MODULES = [
    module.name
    for package in (models, export, stream, calibration)
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not module.ispkg and not module.name.endswith("__main__")
]


@pytest.mark.parametrize("name", _MODULES)
def test_public_names_exist_and_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} opens without a sentence on what it is for"
    names = getattr(module, "__all__", None)
    assert names is not None, f"{name} has no __all__"
    for public in names:
        value = getattr(module, public)
        if callable(value) and getattr(value, "__module__", name) == name:
            assert value.__doc__, f"{name}.{public} has no docstring"


def test_the_four_packages_come_from_one_folder() -> None:
    homes = {next(iter(package.__path__)).rsplit("/", 1)[0] for package in (models, export, stream)}
    assert len(homes) == 1
