"""One generator folder for all tests here."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.calibration.generated.mel_networks import write_whole


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose networks have learnt nothing."""
    return write_whole(tmp_path_factory.mktemp("generator") / "plain")
