from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.training.codec import CodecStage, mel_correlation
from models.nets.codec import FRAMES_PER_LATENT
from tests.calibration.training.derived_run import RUN, derived_run


def test_correlation_is_that_of_flattened_sounds_without_silent_ones() -> None:
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, 40, 64)).astype(np.float32)
    b = a + rng.standard_normal(a.shape).astype(np.float32)
    expected = np.mean([np.corrcoef(x.ravel(), y.ravel())[0, 1] for x, y in zip(a, b, strict=True)])
    silence = np.full((1, 40, 64), np.log(1e-5), np.float32)
    pairs = [torch.from_numpy(np.concatenate([x, silence])) for x in (a, b)]
    assert mel_correlation(*pairs) == pytest.approx(expected, abs=1e-5)


def test_latents_are_kept_at_unit_variance_and_silence_is_that_of_a_long_one(
    tmp_path: Path,
) -> None:
    material = derived_run(tmp_path)
    stage = CodecStage(RUN, material)
    scores = stage.finish(tmp_path)
    assert set(scores) == {"clips_mel_pcc", "blends_mel_pcc"}
    latents = np.array(material.derived("latents"), np.float64)
    assert latents.shape == (15, material.clips.n_frames // FRAMES_PER_LATENT, 32)
    known = latents[: material.n_train].reshape(-1, 32)
    assert np.allclose(known.mean(axis=0), 0.0, atol=0.01)
    assert np.allclose(known.std(axis=0), 1.0, atol=0.01)
    codec = stage.averages["codec"]
    mel = torch.from_numpy(material.clips.mel(3, 0, material.clips.n_frames))[None]
    with torch.no_grad():
        again = codec.encode(mel)  # type: ignore[operator]
        silent = codec.encode(torch.full((1, 512, 64), float(np.log(1e-5))))  # type: ignore[operator]
    assert np.allclose(latents[3], again[0].numpy(), atol=0.01)
    assert np.allclose(material.derived("silence"), silent[0, -1].numpy(), atol=0.01)
