from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from calibration.training.checkpoint import load_tensors
from calibration.training.loop import Progress, average_decay, learning_rate, train_stage
from calibration.training.material import Material, louder, prepare_sounds
from calibration.training.run import make_stage, summary, train
from calibration.training.settings import (
    STAGES,
    CodecSettings,
    DistillSettings,
    EncoderSettings,
    GeneratorSettings,
    SoundsSettings,
    StageName,
    TokensSettings,
    TrainingSettings,
    VocoderSettings,
    scaled,
)
from models.errors import DeviceError, FileError, SettingError
from tests.calibration.training.stopping import StopAt

_RUN = TrainingSettings(
    precision="fp32",
    sounds=SoundsSettings(clips=39, blends=16, held_out=13),
    encoder=EncoderSettings(steps=3, batch=4, warmup=1),
    codec=CodecSettings(steps=8, batch=4, warmup=1),
    tokens=TokensSettings(steps=2, batch=4, warmup=1),
    vocoder=VocoderSettings(steps=4, batch=3, frames=32, plain=0.5, warmup=1),
    generator=GeneratorSettings(steps=3, batch=4, warmup=1),
    distill=DistillSettings(
        steps=4, batch=3, warmup=1, teacher_steps=4, regression=0.5, paths=8, chain=2
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    prepare_sounds(_RUN, out)
    return out


@pytest.fixture(scope="module")
def material(folder: Path) -> Material:
    return Material(_RUN, folder)


@pytest.mark.parametrize(
    "name", ["codec", "vocoder", pytest.param("encoder", marks=pytest.mark.slow)]
)
def test_a_stage_that_is_stopped_and_resumed_ends_with_the_weights_of_one_that_ran_through(
    name: StageName, folder: Path, material: Material, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    if name == "vocoder":  # it is trained from what the codec gives back
        folder = tmp_path
        train_stage(make_stage("codec", _RUN, material, folder), folder / "codec")
    train_stage(make_stage(name, _RUN, material, folder), tmp_path / "through")

    for _ in range(20):
        stage = make_stage(name, _RUN, material, folder)
        if train_stage(stage, tmp_path / "pieces", resume=True, stop=StopAt(2)):
            break
    through, _ = load_tensors(tmp_path / "through" / "checkpoint.safetensors")
    pieces, _ = load_tensors(tmp_path / "pieces" / "checkpoint.safetensors")
    assert through.keys() == pieces.keys()
    assert all(torch.equal(through[key], pieces[key]) for key in through)


def test_the_losses_of_a_stage_fall(folder: Path, material: Material, tmp_path: Path) -> None:
    run = replace(_RUN, codec=replace(_RUN.codec, steps=30))
    stage = make_stage("codec", run, material, folder)
    losses = [float(stage.advance(i, *stage.generators(i))["level"].detach()) for i in range(30)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])


@pytest.mark.slow
def test_all_stages_follow_each_other_and_a_second_call_finds_them_done(folder: Path) -> None:
    seen: list[Progress] = []
    assert train(_RUN, folder, resume=True, progress=seen.append, every_s=1e9)
    assert [at.stage for at in seen if ":" not in at.stage] == list(STAGES)
    assert {at.stage for at in seen if ":" in at.stage} == {"distill: paths of the teacher"}
    told = len(seen)
    assert train(_RUN, folder, resume=True, progress=seen.append)
    assert len(seen) == told
    assert set(summary(folder)["stages"]) == set(STAGES)
    with pytest.raises(FileError, match="is trained"):
        train(_RUN, folder)
    with pytest.raises(FileError, match="other settings"):
        train(replace(_RUN, seed=1), folder, resume=True)


def test_a_checkpoint_is_not_overwritten_unasked(
    folder: Path, material: Material, tmp_path: Path
) -> None:
    stopped = Event()
    assert not train_stage(
        make_stage("codec", _RUN, material, folder), tmp_path, stop=stopped, deadline=-1.0
    )
    train_stage(make_stage("codec", _RUN, material, folder), tmp_path)
    with pytest.raises(FileError, match="Resume"):
        train_stage(make_stage("codec", _RUN, material, folder), tmp_path)


def test_averaging_forgets_the_first_weights() -> None:
    kept = np.prod([average_decay(step, 0.999) for step in range(2000)])
    assert kept < 1e-12
    assert average_decay(10**6, 0.999) == 0.999


def test_the_rate_rises_to_one_and_falls_to_a_tenth() -> None:
    settings = CodecSettings(steps=1000, warmup=100)
    rates = [learning_rate(step, settings) for step in range(1000)]
    assert max(rates) == pytest.approx(1.0)
    assert rates[0] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.1, abs=1e-4)


def test_a_louder_mel_is_the_mel_of_the_louder_sound_and_silence_stays() -> None:
    mel = torch.full((1, 4, 64), float(np.log(1e-5)))
    mel[:, :2] = -3.0
    up = louder(mel, torch.tensor([20.0]))
    assert torch.allclose(up[:, :2], mel[:, :2] + float(np.log(10.0)))
    assert torch.allclose(up[:, 2:], mel[:, 2:])


def test_a_tenth_of_a_run_has_a_tenth_of_the_steps() -> None:
    tenth = scaled(TrainingSettings(), 0.1)
    assert tenth.generator.steps == TrainingSettings().generator.steps // 10
    with pytest.raises(SettingError, match="above 0"):
        scaled(TrainingSettings(), 0.0)


def test_without_a_compiler_nothing_is_compiled(
    folder: Path, material: Material, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(DeviceError, match="Install g"):
        make_stage("generator", replace(_RUN, compiled=True), material, folder)
