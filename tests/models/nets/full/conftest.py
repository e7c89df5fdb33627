from __future__ import annotations

import pytest

from models.nets.full.generator import FullGenerator
from models.nets.full.published import FamilyName
from tests.models.nets.full.tiny import NAMES, tiny_generator


@pytest.fixture(scope="session")
def generators() -> dict[FamilyName, FullGenerator]:
    return {name: tiny_generator(name) for name in NAMES}
