"""The text context of AudioLDM 2, as a file: FLAN-T5's states of a prompt, or of none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from export.npy import read_npy
from models.errors import FileError

__all__ = ["read_text_states"]

_WIDTH = 1024


def read_text_states(path: Path) -> NDArray[np.float32]:
    """Return the states: (1, length, 1024), float32.

    Parameters
    ----------
    path : Path
        A float32 .npy of that shape, or of (length, 1024).

    Raises
    ------
    FileError
        If it cannot be read, is of another shape, or holds what is no number.
    """
    try:
        data = path.read_bytes()
        try:
            states = read_npy(data, dtype=np.dtype(np.float32), ndim=3)
        except ValueError:
            states = read_npy(data, dtype=np.dtype(np.float32), ndim=2)[None]
    except (OSError, ValueError) as error:
        raise FileError(
            f"{path} is no text context ({error}): expected a float32 .npy of shape (length, "
            f"{_WIDTH}), FLAN-T5's states; those of an empty text will do."
        ) from error
    if states.shape[0] != 1 or not states.shape[1] or states.shape[2] != _WIDTH:
        raise FileError(
            f"{path} holds an array of shape {states.shape}; expected FLAN-T5's states, (length, "
            f"{_WIDTH})."
        )
    if not np.isfinite(states).all():
        raise FileError(f"{path} holds values that are not finite; expected FLAN-T5's states.")
    return np.array(states)
