from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.acoustic.fit import fit_acoustic
from calibration.acoustic.network import AcousticTransformer
from calibration.acoustic.settings import AcousticSettings
from calibration.acoustic.token_decoder import SmallTokenDecoder, load_token_decoder
from calibration.acoustic.train import AcousticRows, AcousticStage, acoustic_losses
from calibration.training.checkpoint import save_tensors
from calibration.training.settings import TrainingSettings
from models.errors import FileError, SettingError
from models.nets.masked_autoencoder import MaskedAutoencoder
from tests.calibration.acoustic.brain import make_windows

_ALL = AcousticSettings(perceptual_weight=1.0, mel_weight=1.0)


@pytest.fixture(scope="module")
def heard() -> SmallTokenDecoder:
    torch.manual_seed(0)
    return SmallTokenDecoder(MaskedAutoencoder(width=48, depth=1, decoder_depth=2).eval())


def test_true_tokens_cost_nothing_and_each_loss_is_counted(heard: SmallTokenDecoder) -> None:
    torch.manual_seed(1)
    true = torch.randn(2, 16, 768)
    with torch.no_grad():
        mel = heard(true).mel
        right = acoustic_losses(true, true, _ALL, token_decoder=heard, mel=mel)
        wrong = acoustic_losses(true + 0.5, true, _ALL, token_decoder=heard, mel=mel)
    assert all(float(value) == 0.0 for value in right.values())
    assert float(wrong["condition"]) == pytest.approx(0.25)
    with torch.no_grad():
        made, upper = heard(true + 0.5), heard(true)
        pairs = zip(made.layers, upper.layers, strict=True)
        layers = sum(float((a - b).square().mean()) for a, b in pairs)
    assert float(wrong["perceptual"]) == pytest.approx(layers, rel=1e-4)
    assert len(made.layers) == 2
    assert float(wrong["mel"]) == pytest.approx(
        float(((made.mel - mel) / 4.0).square().mean()), rel=1e-4
    )
    summed = acoustic_losses(true + 0.5, true, replace(_ALL, reduction="sum"), token_decoder=heard)
    assert float(summed["condition"]) == pytest.approx(0.25 * 16 * 768, rel=1e-5)


def test_equation_and_text_compare_with_different_mels(heard: SmallTokenDecoder) -> None:
    torch.manual_seed(2)
    true, mel = torch.randn(1, 16, 768), torch.zeros(1, 32, 64)
    with torch.no_grad():
        upper = acoustic_losses(
            true, true, replace(_ALL, mel_target="upper"), token_decoder=heard, mel=mel
        )
        sound = acoustic_losses(true, true, _ALL, token_decoder=heard, mel=mel)
    assert float(upper["mel"]) == 0.0 < float(sound["mel"])


@pytest.mark.parametrize("tuned", [False, True])
def test_the_token_decoder_is_trained_along_only_if_asked(tuned: bool) -> None:
    windows = make_windows(n_clips=8)
    torch.manual_seed(3)
    decoder = SmallTokenDecoder(MaskedAutoencoder(width=48, depth=1, decoder_depth=1))
    before = {name: value.clone() for name, value in decoder.state_dict().items()}
    fit_acoustic(
        windows.samples,
        windows.tokens,
        windows.decoded,
        windows.samples.clip,
        AcousticSettings(
            steps=2,
            batch=4,
            warmup=1,
            width=48,
            heads=3,
            encoder_layers=1,
            decoder_layers=1,
            feedforward=48,
            perceptual_weight=0.1,
            mel_weight=0.1,
            tune_token_decoder=tuned,
        ),
        true_embeddings=windows.true,
        mel=np.full((len(windows.samples), 32, 64), -5.0, np.float32),
        token_decoder=decoder,
    )
    same = [torch.equal(before[name], value) for name, value in decoder.state_dict().items()]
    assert all(same) != tuned


def test_what_is_added_to_the_base_is_trusted_as_far_as_it_holds() -> None:
    windows = make_windows(n_clips=8)
    settings = AcousticSettings(
        base="mean", brain="features", width=48, heads=3, p_gt=0.0, encoder_layers=1
    )
    torch.manual_seed(4)
    network = AcousticTransformer(settings, n_features=40, n_chosen=40, places=16)
    network.take({"base.mean": windows.tokens.mean(axis=0)})
    with torch.no_grad():  # a guess in the right direction, and much too large
        network.leave.bias.copy_(torch.from_numpy(windows.tokens.mean(axis=(0, 1))))
        network.leave.weight.normal_(std=0.01)
    rows = AcousticRows(
        features=windows.samples.mean_x(),
        decoded=windows.decoded,
        true=None,
        tokens=windows.tokens + 0.2 * windows.tokens.mean(axis=(0, 1)),
        train=np.arange(24),
        check=np.arange(24, 32),
    )
    stage = AcousticStage(TrainingSettings(precision="fp32"), settings, network, rows)
    with torch.no_grad():
        before, trust = stage.error(rows.check), stage._trust()
        assert 0.05 < trust < 0.5
        errors = []
        for share in (0.95, 1.0, 1.05):
            stage.averages["acoustic"].get_buffer("scale").fill_(share * trust)
            errors.append(stage.error(rows.check))
    assert errors[1] < before
    assert errors[1] < min(errors[0], errors[2])


def test_losses_that_lack_something_are_refused() -> None:
    windows = make_windows(n_clips=8)
    with pytest.raises(SettingError, match="need a token decoder"):
        fit_acoustic(
            windows.samples,
            windows.tokens,
            windows.decoded,
            windows.samples.clip,
            AcousticSettings(mel_weight=1.0, p_gt=0.0),
        )


def test_the_token_decoder_of_a_training_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no trained tokens"):
        load_token_decoder(tmp_path)
    network = MaskedAutoencoder()
    tensors = {f"autoencoder.{name}": value for name, value in network.state_dict().items()}
    save_tensors(tmp_path / "tokens" / "final.safetensors", tensors, {})
    loaded = load_token_decoder(tmp_path)
    tokens = torch.randn(1, 8, 768)
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens).mel, network.eval().decode(tokens))
    assert not any(p.requires_grad for p in loaded.parameters())
