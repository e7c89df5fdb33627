"""Streams know where their joins are."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from calibration.generator_scores.streams import make_stream
from models.errors import SettingError
from models.stretch import GeneratorInput, GeneratorSpec, GeneratorState


class Counting:
    """A generator whose sound is the number of the stretch, one frame late."""

    spec = GeneratorSpec("small", "tiny", 1, (4, 8), 0, ("vector",), False, delay_samples=640)

    def noise_shape(self, n_frames: int) -> tuple[int, ...]:
        return (1, n_frames)

    def initial_state(self) -> GeneratorState:
        return {"prefix": np.zeros((1, 8, 2), np.float32), "last": np.zeros(1, np.float32)}

    def stretch(
        self,
        given: GeneratorInput,
        state: GeneratorState,
        noise: NDArray[np.float32],
        *,
        n_frames: int,
    ) -> tuple[NDArray[np.float32], GeneratorState]:
        number = state["last"] + 1
        sound = np.full(640 * n_frames, number[0], np.float32)
        sound[:640] = state["last"][0]
        frames = np.full((1, n_frames, 2), number[0], np.float32)
        prefix = np.concatenate([state["prefix"], frames], axis=1)[:, -8:]
        return sound, {"prefix": prefix, "last": number}


def test_sound_changes_at_the_joins() -> None:
    stream = make_stream(
        Counting(), [GeneratorInput()] * 5, n_frames=4, rng=np.random.default_rng(0)
    )
    assert len(stream.sound) == 5 * 4 * 640
    np.testing.assert_array_equal(np.flatnonzero(np.diff(stream.sound))[1:] + 1, stream.joins)
    assert stream.latents is not None
    np.testing.assert_array_equal(
        np.flatnonzero(np.diff(stream.latents[:, 0])) + 1, stream.latent_joins
    )
    np.testing.assert_array_equal(stream.mel_joins(), stream.joins // 160)


def test_a_stream_without_a_stretch_is_refused() -> None:
    with pytest.raises(SettingError, match="at least one"):
        make_stream(Counting(), [], n_frames=4, rng=np.random.default_rng(0))
