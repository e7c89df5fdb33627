"""Chunked sound is whole sound, and what is not is noticed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from torch import Tensor

from calibration.generator_scores.streams import Stream, make_stream
from calibration.generator_scores.whole import pieces_difference, streamed_difference
from models.errors import SettingError
from models.nets.streaming import State
from models.nets.stretch import TorchGenerator, random_nets
from models.stretch import GeneratorInput


def test_a_stream_is_its_latents_in_one_piece_and_a_changed_one_is_not() -> None:
    # Of seed 0 a phase at the first sample hangs on how the processor rounds.
    nets = random_nets("tiny", seed=1)
    generator = TorchGenerator(nets, steps=1, stretches=(4, 8), held=4)
    vector = np.random.default_rng(0).standard_normal(512).astype(np.float32)
    given = GeneratorInput(vector=vector / np.linalg.norm(vector))
    stream = make_stream(generator, [given] * 4, n_frames=4, rng=np.random.default_rng(1))
    assert np.std(stream.sound) > 1e-3
    peak = float(np.max(np.abs(stream.sound)))  # in single precision; phases pass rounding on
    assert streamed_difference(nets.codec, nets.vocoder, stream) < 1e-4 * max(peak, 1.0)
    broken = stream.sound.copy()
    broken[5_000] += 0.1
    moved = replace(stream, sound=broken)
    assert streamed_difference(nets.codec, nets.vocoder, moved) == pytest.approx(0.1, abs=5e-3)
    with pytest.raises(SettingError, match="latents"):
        streamed_difference(nets.codec, nets.vocoder, replace(stream, latents=None))


@pytest.mark.parametrize("seed", [0, 1])
def test_pieces_are_the_whole_frame_by_frame_and_without_memory_are_not(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nets = random_nets("tiny", seed=seed)
    latents = np.random.default_rng(seed).standard_normal((24, 32)).astype(np.float32)
    stream = Stream(np.zeros(24 * 640, np.float32), latents, 4, 640, 0)
    assert 0.0 < pieces_difference(nets.codec, nets.vocoder, stream) < 1e-5
    traced = nets.vocoder.traced

    def forgetful(
        x: Tensor, state: State, *, phases: Tensor | None = None
    ) -> tuple[Tensor, Tensor, State]:
        return traced(x, nets.vocoder.initial_state(), phases=phases)

    monkeypatch.setattr(nets.vocoder, "traced", forgetful)
    assert pieces_difference(nets.codec, nets.vocoder, stream) > 1e-2
    with pytest.raises(SettingError, match="latents"):
        pieces_difference(nets.codec, nets.vocoder, replace(stream, latents=None))
