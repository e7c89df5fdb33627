"""Where the recordings made by others lie; they are not part of the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["shared"]

_ROOT = Path(__file__).resolve().parents[2] / "shared" / "data"


def shared(name: str) -> Path:
    """Return the path of a shared recording, or skip the test when it is not here."""
    path = _ROOT / name
    if not path.exists():
        pytest.skip(f"the shared recording {name} is not on this machine")
    return path
