"""The way of tokens into a full-size checkpoint, as it stands in an acoustic decoder's file."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from calibration.acoustic.decoder import AcousticDecoder
from calibration.acoustic.fit import fit_acoustic
from calibration.acoustic.settings import AcousticSettings
from calibration.generated.entering import EnteringTokens, entered
from export.onnx_linear import linear_onnx
from export.runtime import open_runner
from models.errors import SettingError
from tests.calibration.acoustic.brain import Windows, make_windows

_N = 30  # features
_POOLINGS: tuple[Literal["mean", "mean-max"], ...] = ("mean", "mean-max")
_FILLS: tuple[Literal["last", "zeros"], ...] = ("last", "zeros")


@pytest.fixture(scope="module")
def heard() -> Windows:
    return make_windows(n_features=_N, steps=2)


@pytest.fixture(scope="module")
def decoder(heard: Windows) -> AcousticDecoder:
    return fit_acoustic(
        heard.samples,
        heard.tokens,
        heard.decoded,
        heard.samples.clip,
        AcousticSettings(method="ridge", rank=4, token_rank=8),
    )


@pytest.mark.parametrize("family", ["audioldm2", "audioldm2-speech"])
@pytest.mark.parametrize("pooling", _POOLINGS)
@pytest.mark.parametrize("fill", _FILLS)
def test_a_decoder_leaves_with_the_way_in_behind_it(
    family: str,
    pooling: Literal["mean", "mean-max"],
    fill: Literal["last", "zeros"],
    heard: Windows,
    decoder: AcousticDecoder,
    tmp_path: Path,
) -> None:
    entering = EnteringTokens(family, pooling=pooling, fill=fill)
    made = entered(decoder, entering, heard.tokens)
    places = 8 if family == "audioldm2" else 512
    assert made.shape == entering.shape == (places, 768)
    assert made.export_onnx(tmp_path / "acoustic.onnx") <= 1e-5
    x, s = heard.samples.mean_x()[:2], heard.decoded[:2]
    tokens = decoder.predict(x, s)  # (2, 16, 768)
    runner = open_runner(tmp_path / "acoustic.onnx")
    assert runner.outputs[0].shape == (1, places, 768)
    run = runner.run({"features": x[:1], "embedding": s[:1]})["tokens"]
    # As the options say: 16 tokens are those of 320 ms; up to 10.24 s nothing, or the last step.
    whole = np.zeros((64, 8, 768))
    whole[:2] = tokens[0].reshape(2, 8, 768)
    if fill == "last":
        whole[2:] = whole[1]
    groups = whole.reshape(8, 64, 768)
    if family != "audioldm2":
        expected = whole.reshape(512, 768)
    elif pooling == "mean":
        expected = groups.mean(1)
    else:
        expected = (groups.mean(1) + groups.max(1)) / 2
    np.testing.assert_allclose(run[0], expected, atol=2e-5)
    np.testing.assert_allclose(made.predict(x, s)[0], expected, atol=2e-5)
    every = np.stack([entering(tokens[None])[0] for tokens in heard.tokens])
    np.testing.assert_allclose(made.mean, every.mean(0), atol=1e-5)


def test_ten_seconds_fill_a_checkpoint_and_more_is_cut(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for n_steps in (64, 65):
        tokens = rng.standard_normal((1, 8 * n_steps, 768)).astype(np.float32)
        entering = EnteringTokens("audioldm2", pooling="mean", fill="zeros")
        # A decoder whose features are its tokens would be large; one that says the same always.
        plain = linear_onnx(
            np.zeros((1, tokens.size), np.float32),
            tokens.ravel(),
            output="tokens",
            shape=(8 * n_steps, 768),
        )
        path = tmp_path / f"{n_steps}.onnx"
        path.write_bytes(entering.behind(plain))
        made = open_runner(path).run({"features": np.zeros((1, 1), np.float32)})["tokens"]
        np.testing.assert_allclose(made, entering(tokens), atol=1e-5)


def test_what_is_no_decoder_of_tokens_is_refused() -> None:
    entering = EnteringTokens("audioldm2", pooling="mean", fill="zeros")
    other = linear_onnx(np.zeros((3, 5), np.float32), np.zeros(5, np.float32))
    with pytest.raises(SettingError, match=r"Expected an acoustic decoder .* got embedding"):
        entering.behind(other)
