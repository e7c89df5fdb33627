"""A generator folder of the true layout whose networks are one block deep and untrained."""

from __future__ import annotations

from pathlib import Path

from export.generator_export import export_generator
from export.generator_folder import Checks
from tests.export.shallow import shallow_trained

__all__ = ["write_shallow"]


def write_shallow(folder: Path) -> Path:
    """Export the networks; enough stretches for any length, few checks."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    checks = Checks(conditions=1, streams=1, accept=True)
    export_generator(shallow_trained(), folder, stretches=(4, 16), checks=checks)
    return folder
