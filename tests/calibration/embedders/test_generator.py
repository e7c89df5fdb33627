"""The encoders of a generator folder as embedders, against the same networks in NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.embedders import make_embedder
from calibration.embedders.base import Embedder
from calibration.generated.networks import MelNetwork, generator_mel
from models.errors import BundleError, FileError, SettingError
from tests.calibration.generated.mel_networks import MATRICES, reference_vector, write_networks

_RATE = 16_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_networks(tmp_path_factory.mktemp("generator") / "random")


def _noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    level = np.linspace(0.02, 0.3, round(seconds * _RATE))
    return (level * rng.standard_normal(len(level))).astype(np.float32)


@pytest.mark.parametrize("network", ["encoder", "judge"])
def test_a_sound_of_one_window_is_what_the_network_says(folder: Path, network: str) -> None:
    kind = "generator" if network == "encoder" else "generator-judge"
    embedder = make_embedder(f"{kind}:{folder}")
    assert isinstance(embedder, Embedder)
    pcm = _noise(2.56)
    expected = reference_vector(network, generator_mel(pcm, _RATE))
    np.testing.assert_allclose(embedder.embed(pcm, _RATE), expected, atol=1e-5)
    assert embedder.dim == 512


def test_a_longer_sound_is_the_mean_of_even_windows(folder: Path) -> None:
    pcm = _noise(6.0)
    mel = generator_mel(pcm, _RATE)
    assert mel.shape == (600, 64)
    rows = [reference_vector("encoder", mel[first : first + 256]) for first in (0, 172, 344)]
    mean = np.mean(rows, axis=0)
    vector = make_embedder(f"generator:{folder}").embed(pcm, _RATE)
    np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


def test_a_shorter_sound_is_repeated(folder: Path) -> None:
    pcm = _noise(1.0)
    mel = generator_mel(pcm, _RATE)
    expected = reference_vector("encoder", np.tile(mel, (3, 1))[:256])
    vector = make_embedder(f"generator:{folder}").embed(pcm, _RATE)
    np.testing.assert_allclose(vector, expected, atol=1e-5)


def test_encoder_and_judge_are_never_taken_for_each_other(folder: Path, tmp_path: Path) -> None:
    encoder, judge = (make_embedder(f"{k}:{folder}") for k in ("generator", "generator-judge"))
    assert encoder.settings() != judge.settings()
    assert encoder.name != judge.name
    # Nor are the encoders of two generators, whatever their folders are called.
    other = write_networks(tmp_path / "random")
    (other / "encoder.onnx").write_bytes((folder / "judge.onnx").read_bytes())
    assert make_embedder(f"generator:{other}").settings() != encoder.settings()
    assert str(folder) not in str(encoder.settings())


def test_latents_and_tokens_of_a_long_sound_are_those_of_its_windows(folder: Path) -> None:
    pcm = _noise(7.0)
    mel = generator_mel(pcm, _RATE)
    latents = MelNetwork(folder, "codec_encoder.onnx").whole(pcm, _RATE, per_step=4)
    assert latents.shape == (175, 32)
    np.testing.assert_allclose(latents, mel.reshape(175, 256) @ MATRICES["codec"], atol=1e-3)
    tokens = MelNetwork(folder, "tokens.onnx").whole(pcm, _RATE, per_step=16)
    held = np.concatenate([mel, np.repeat(mel[-1:], 4, axis=0)])  # to whole steps of 160 ms
    patches = held.reshape(44, 16, 8, 8).transpose(0, 2, 1, 3).reshape(44 * 8, 128)
    assert tokens.shape == (352, 768)
    np.testing.assert_allclose(tokens, patches @ MATRICES["tokens"], atol=1e-3)


def test_a_short_sound_has_as_many_latents_as_frames(folder: Path) -> None:
    codec = MelNetwork(folder, "codec_encoder.onnx")
    assert codec.whole(_noise(0.5), _RATE, per_step=4).shape == (13, 32)


def test_what_is_no_generator_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="holds no generator"):
        make_embedder(f"generator:{tmp_path}")
    with pytest.raises(SettingError, match="FOLDER or default"):
        make_embedder("generator")
    folder = write_networks(tmp_path / "wrong")
    (folder / "encoder.onnx").unlink()
    with pytest.raises(FileError, match=r"encoder\.onnx"):
        make_embedder(f"generator:{folder}")


def test_a_network_of_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    from export.onnx_linear import linear_onnx

    weights = np.ones((4, 512), np.float32)
    other = write_networks(tmp_path / "wrong")
    (other / "encoder.onnx").write_bytes(linear_onnx(weights, np.zeros(512)))
    with pytest.raises(BundleError, match="should read 'mel'"):
        make_embedder(f"generator:{other}")
