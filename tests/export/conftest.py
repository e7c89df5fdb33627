from __future__ import annotations

from pathlib import Path

import pytest

from export.checkpoint import TrainedNetworks
from export.generator_export import export_generator
from export.generator_folder import Checks
from tests.export.plain_generator import write_plain
from tests.export.shallow import shallow_trained

# Exporting costs seconds for each graph: short stretches of a shallow network, once for all tests.
STRETCHES = (1, 3)
HELD = 1


@pytest.fixture(scope="session")
def trained() -> TrainedNetworks:
    return shallow_trained()


@pytest.fixture(scope="session")
def exported(trained: TrainedNetworks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator folder in single precision, which kept its bounds."""
    folder = tmp_path_factory.mktemp("exported") / "generator"
    checks = Checks(conditions=10, streams=1)
    export_generator(trained, folder, stretches=STRETCHES, held=HELD, checks=checks)
    return folder


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator folder of matrices."""
    return write_plain(tmp_path_factory.mktemp("plain") / "generator")
