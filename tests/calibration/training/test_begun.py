"""A run that begins from the generator that ships."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from calibration.acoustic.token_decoder import load_token_decoder
from calibration.finetune.trained import TrainedParts
from calibration.training.begun import begin_from
from calibration.training.card import card_fields, model_card
from calibration.training.checkpoint import load_tensors
from calibration.training.material import Material, mel_batch, prepare_sounds
from calibration.training.run import make_stage, train
from calibration.training.settings import GeneratorSettings, SoundsSettings, TrainingSettings
from export.checkpoint import read_training
from export.restored import read_exported
from hearback import app
from models.errors import FileError, SettingError

_SHIPPED = Path(__file__).parents[3] / "calibration" / "generators" / "tiny"
_RUN = TrainingSettings(
    precision="fp32",
    sounds=SoundsSettings(clips=15, blends=4, held_out=2),
    generator=GeneratorSettings(steps=2, batch=4, rate=1e-5, warmup=1, average=0.0),
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("begun")
    assert train(_RUN, out, stages=["generator"], begin=_SHIPPED)
    return out


def test_its_networks_are_those_of_the_generator(begun: Path) -> None:
    # The denoiser has made two small steps; everything else stands as it was.
    ours, theirs = read_training(begun, teacher=True), read_exported(_SHIPPED)
    for name in ("encoder", "judge", "readout"):
        for ours_, theirs_ in zip(
            getattr(ours, name).parameters(), getattr(theirs, name).parameters(), strict=True
        ):
            torch.testing.assert_close(ours_, theirs_, rtol=0, atol=0)
    for key in ("codec", "vocoder"):
        weights = getattr(ours.nets, key).state_dict()
        for name, value in getattr(theirs.nets, key).state_dict().items():
            torch.testing.assert_close(weights[name], value, rtol=0, atol=0)
    moved = [
        (a - b).abs().max().item()
        for a, b in zip(
            ours.nets.denoiser.parameters(), theirs.nets.denoiser.parameters(), strict=True
        )
    ]
    assert 0.0 < max(moved) < 1e-4


def test_its_sounds_have_the_vectors_latents_and_tokens_of_those_networks(begun: Path) -> None:
    material = Material(_RUN, begun)
    theirs = read_exported(_SHIPPED)
    mel = mel_batch(material.clips, np.array([3]), np.array([64]), 256)
    whole = mel_batch(material.clips, np.array([3]), np.array([0]), material.clips.n_frames)
    with torch.no_grad():
        vector, latents = theirs.encoder(mel)[0], theirs.nets.codec.encode(whole)[0]
        tokens = theirs.tokens(mel)[0].unflatten(0, (16, 8)).mean(1)
    for name, found, expected in (
        ("vectors", material.derived("vectors")[3, 1], vector),
        ("latents", material.derived("latents")[3], latents),
        ("tokens", material.derived("tokens")[3, 1], tokens),
    ):
        np.testing.assert_allclose(found, expected.numpy(), rtol=2e-3, atol=2e-3, err_msg=name)


def test_it_goes_on_without_being_told_again_and_the_card_says_where_it_began(begun: Path) -> None:
    assert train(_RUN, begun, stages=["codec", "generator"], resume=True)
    fields = card_fields(begun)
    assert len(fields["begun_from"]) == 64
    assert fields["stages"]["generator"]["begun_from"] is None
    assert "codec" not in fields["recipe"]  # nothing of this run's recipe made it
    page = model_card(begun)
    assert fields["begun_from"] in page
    assert "10000 steps, 1.5 h, taken as it was" in page


def test_what_an_exported_generator_does_not_hold_is_not_made_up(begun: Path) -> None:
    with pytest.raises(FileError, match="holds no decoder of tokens"):
        load_token_decoder(begun)
    with pytest.raises(FileError, match=r"train generator --from .*tiny --out trained"):
        TrainedParts(_SHIPPED)
    assert TrainedParts(begun).distilled() is None


def test_other_classes_of_sounds_get_a_judge_of_their_own(tmp_path: Path) -> None:
    material = prepare_sounds(_RUN, tmp_path)
    material.labels = ("birds", "bees")
    begin_from(
        _SHIPPED, _RUN, material, tmp_path, stage=lambda n: make_stage(n, _RUN, material, tmp_path)
    )
    assert not (tmp_path / "judge").exists()
    assert (tmp_path / "encoder" / "final.safetensors").exists()


def test_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="is a tiny generator, the run's size is small"):
        train(replace(_RUN, size="small"), tmp_path, stages=["generator"], begin=_SHIPPED)


def test_a_run_that_began_from_nothing_stays_so(tmp_path: Path) -> None:
    trained, _ = load_tensors_of_a_codec(tmp_path)
    with pytest.raises(FileError, match=r"began from nothing \(stage 'codec' is trained\)"):
        train(_RUN, tmp_path, stages=["generator"], resume=True, begin=_SHIPPED)
    again, _ = load_tensors(tmp_path / "codec" / "final.safetensors")
    assert all(torch.equal(trained[name], again[name]) for name in trained)


def load_tensors_of_a_codec(out: Path) -> tuple[dict[str, torch.Tensor], dict[str, object]]:
    run = replace(_RUN, codec=replace(_RUN.codec, steps=1, batch=4, warmup=1))
    assert train(run, out, stages=["codec"])
    return load_tensors(out / "codec" / "final.safetensors")


def test_a_folder_that_is_no_generator_is_told_in_a_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    result = CliRunner().invoke(
        app,
        [
            *("train", "generator", "--from", str(tmp_path), "--out", str(tmp_path / "o")),
            *("--scale", "0.001"),
        ],
    )
    assert "No generator at" in str(result.exception)
