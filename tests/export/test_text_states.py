from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.text_states import read_text_states
from models.errors import FileError


@pytest.mark.parametrize("shape", [(3, 1024), (1, 3, 1024)])
def test_states_are_read_with_or_without_a_batch(shape: tuple[int, ...], tmp_path: Path) -> None:
    states = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    np.save(tmp_path / "text.npy", states)
    np.testing.assert_array_equal(
        read_text_states(tmp_path / "text.npy"), states.reshape(1, 3, 1024)
    )


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (np.zeros((3, 768), np.float32), r"shape \(1, 3, 768\); expected FLAN-T5's states"),
        (np.zeros((2, 3, 1024), np.float32), r"shape \(2, 3, 1024\)"),
        (np.zeros((0, 1024), np.float32), r"shape \(1, 0, 1024\)"),
        (np.zeros((3, 1024)), "float64"),
        (np.full((3, 1024), np.nan, np.float32), "not finite"),
    ],
)
def test_what_is_no_text_context_is_refused(states: np.ndarray, said: str, tmp_path: Path) -> None:
    np.save(tmp_path / "text.npy", states)
    with pytest.raises(FileError, match=said):
        read_text_states(tmp_path / "text.npy")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no text context"):
        read_text_states(tmp_path / "none.npy")
