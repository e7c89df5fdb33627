from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray

from calibration.acoustic.targets import AudioMaeTokens, steps_of, stretch_mel, stretch_tokens
from calibration.data.dataset import Stimulus
from models.errors import FileError, SettingError
from models.nets.audiomae import AudioMaeConfig, AudioMaeEncoder


class _Counting:
    """A token that says which sample its step begins with."""

    def __init__(self) -> None:
        self.heard: list[NDArray[np.float32]] = []

    def tokens(self, pcm: NDArray[np.float32]) -> NDArray[np.float32]:
        self.heard.append(pcm)
        first = np.repeat(pcm[::2560], 8)
        return np.tile(first[:, None], (1, 768))


@pytest.fixture
def stimuli(tmp_path: Path) -> dict[str, Stimulus]:
    ramp = np.arange(2 * 16_000, dtype=np.float32) / 32_768
    soundfile.write(tmp_path / "ramp.wav", ramp, 16_000, subtype="PCM_16")
    return {"ramp": Stimulus("ramp", path=tmp_path / "ramp.wav")}


def test_tokens_are_of_exactly_the_stretch_and_each_is_made_once(
    stimuli: dict[str, Stimulus],
) -> None:
    source = _Counting()
    made = stretch_tokens(
        source, stimuli, ["ramp"] * 3, [0.5, 1.0, 0.5], [0.98, 1.48, 0.98], steps=3
    )
    assert made.shape == (3, 24, 768)
    assert [len(pcm) for pcm in source.heard] == [7680, 7680]
    starts = made[:, ::8, 0] * 32_768
    wanted = np.array([0.5, 1.0, 0.5])[:, None] * 16_000 + np.arange(3) * 2560
    np.testing.assert_allclose(starts, wanted, atol=0.1)


def test_a_stretch_that_is_too_short_is_held_on(stimuli: dict[str, Stimulus]) -> None:
    made = stretch_tokens(_Counting(), stimuli, ["ramp"], [0.0], [0.32], steps=4)
    assert made.shape == (1, 32, 768)
    np.testing.assert_array_equal(made[0, 8:16], made[0, 24:])


def test_the_mel_of_a_stretch_has_sixteen_frames_a_step(stimuli: dict[str, Stimulus]) -> None:
    assert stretch_mel(stimuli, ["ramp"], [0.1], [0.58], steps=3).shape == (1, 48, 64)


@pytest.mark.parametrize(
    ("stretch_s", "steps"), [(4.0, 26), (1.5, 10), (2.0, 14)], ids=["sound", "music", "speech"]
)
def test_the_papers_numbers_of_tokens(stretch_s: float, steps: int) -> None:
    # 208, 80 and 112 tokens.
    assert steps_of(stretch_s, even=True) == steps
    assert steps_of(stretch_s) <= steps


def test_audiomae_gives_its_first_patches_time_first() -> None:
    torch.manual_seed(0)
    encoder = AudioMaeEncoder(AudioMaeConfig(dim=64, depth=2, n_heads=4)).eval()
    source = AudioMaeTokens(encoder, last_blocks=2)
    pcm = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    made = source.tokens(pcm)
    assert made.shape == (8 * 7, 64)
    with torch.inference_mode():
        whole = encoder(torch.from_numpy(source._front_end(pcm))[None], last_blocks=2)
    np.testing.assert_allclose(made, whole[0, 1:57].numpy(), atol=1e-5)
    with pytest.raises(SettingError, match=r"10\.24 s"):
        source.tokens(np.zeros(170_000, np.float32))


def test_what_cannot_be_heard_is_said(stimuli: dict[str, Stimulus]) -> None:
    with pytest.raises(FileError, match="no sound is known"):
        stretch_tokens(_Counting(), stimuli, ["other"], [0.0], [1.0], steps=1)
    with pytest.raises(SettingError, match="do not fit"):
        stretch_tokens(_Counting(), stimuli, ["ramp"], [1.5], [3.0], steps=1)
