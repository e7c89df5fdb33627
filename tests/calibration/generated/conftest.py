"""One generator folder for all tests here: its export takes longer than what is tested."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.calibration.generated.shallow_folder import write_shallow


@pytest.fixture(scope="session")
def shallow_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_shallow(tmp_path_factory.mktemp("generator") / "shallow")
