from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch

from calibration.acoustic.network import AcousticTransformer
from calibration.acoustic.selection import train_selected
from calibration.finetune.full import FullFinetune, enter_tokens
from calibration.finetune.lora import Additions, attention_projections
from calibration.finetune.settings import FinetuneSettings, FullSettings
from calibration.finetune.windows import BrainWindows
from calibration.training.settings import TrainingSettings
from models.errors import SettingError
from models.nets.full.generator import FullGenerator
from models.nets.full.loaders import load_full_generator
from models.nets.full.published import FamilyName
from models.nets.full.random_weights import save_checkpoint
from tests.calibration.finetune.heard import ACOUSTIC, heard_windows
from tests.models.nets.full.tiny import NAMES, noise, tiny_generator

_OPTIONS = FinetuneSettings(
    steps=6, batch=4, rate=3e-3, warmup=1, average=0.5, check_every=3, check_windows=4, joint=False
)


@pytest.fixture(scope="module")
def windows() -> BrainWindows:
    return heard_windows(prefix=0, latent=(8, 16))


def _stage(
    family: FamilyName,
    windows: BrainWindows,
    *,
    adapt: Literal["lora", "all"] = "lora",
    adapter: bool = True,
    steps: int = 6,
    decoder: AcousticTransformer | None = None,
) -> FullFinetune:
    train, check = windows.split(ACOUSTIC, seed=0)
    return FullFinetune(
        TrainingSettings(precision="fp32"),
        replace(_OPTIONS, steps=steps, joint=decoder is not None),
        replace(ACOUSTIC, base="mean", brain="features"),
        windows,
        full=FullSettings(
            checkpoint=Path("x"), family=family, adapt=adapt, adapter=adapter, lora_rank=4
        ),
        generator=tiny_generator(family),
        decoder=decoder,
        train=train,
        check=check,
        text=torch.zeros(1, 4, 1024) if family == "audioldm2" else None,
    )


@pytest.mark.parametrize("family", NAMES)
def test_additions_train_fold_into_the_checkpoint_and_load_again(
    family: FamilyName, windows: BrainWindows, tmp_path: Path
) -> None:
    stage = _stage(family, windows)
    before = copy.deepcopy(stage.generator)
    assert train_selected(stage, tmp_path / "run")
    assert all(not p.requires_grad for p in stage.generator.parameters())
    additions = stage.averages["additions"]
    assert isinstance(additions, Additions)
    with torch.no_grad():  # whatever was found in six steps: make it large enough to be seen
        for up in additions.up:
            up.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
        assert additions.map is not None
        additions.map.normal_(std=0.02, generator=torch.Generator().manual_seed(2))
    condition = before.random_condition(torch.Generator().manual_seed(3), text_length=4)
    parts = [getattr(condition, name) for name in before.family.conditions]
    adapted = [additions.adapted(parts[0]), *parts[1:]]
    x, at = noise(before, 8), torch.tensor(500)
    with torch.no_grad(), additions.on(before.denoiser.unet):
        wanted = before.denoiser(x, at, *adapted)
    with torch.no_grad():
        untouched = before.denoiser(x, at, *parts)
    save_checkpoint(stage.tuned(), tmp_path / "tuned")
    loaded = load_full_generator(str(tmp_path / "tuned"), family, published=False).generator
    with torch.no_grad():
        found = loaded.denoiser(x, at, *parts)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=2e-4)
    assert float((untouched - wanted).abs().max()) > 1e-2


def test_training_the_whole_network_lowers_the_held_out_loss(
    windows: BrainWindows, tmp_path: Path
) -> None:
    stage = _stage("musicldm", windows, adapt="all", adapter=False, steps=30)
    assert set(stage.networks) == {"unet"}
    assert train_selected(stage, tmp_path)
    assert stage.best_loss < 0.9 * stage.curve[0][1]
    assert isinstance(stage.tuned(), FullGenerator)


def test_the_acoustic_decoder_is_trained_through_the_frozen_checkpoint(
    windows: BrainWindows,
) -> None:
    torch.manual_seed(2)
    n = windows.features.shape[1]
    decoder = AcousticTransformer(
        replace(ACOUSTIC, base="mean", brain="features"), n_features=n, n_chosen=n, places=16
    )
    torch.nn.init.normal_(decoder.leave.weight, std=0.02)
    stage = _stage("audioldm2-speech", windows, decoder=decoder)
    stage.options = replace(stage.options, acoustic_weight=0.0, p_gt=0.0, without_condition=0.0)
    losses = stage.learn(0, *stage.generators(0))
    # Its own losses count nothing here: what moves it comes through the checkpoint.
    gradient = stage.networks["acoustic"].get_parameter("leave.weight").grad
    assert gradient is not None
    assert float(gradient.abs().max()) > 0
    assert float(losses["condition"].detach()) == 0.0


def test_additions_change_nothing_at_first() -> None:
    generator = tiny_generator("audioldm2-speech")
    additions = Additions(generator.denoiser.unet, rank=4, condition=768)
    assert len(additions.up) == len(attention_projections(generator.denoiser.unet)) > 0
    condition = generator.random_condition(torch.Generator().manual_seed(0))
    x, at = noise(generator, 8), torch.tensor(300)
    assert condition.tokens is not None
    with torch.no_grad():
        before = generator.denoiser(x, at, condition.tokens)
        with additions.on(generator.denoiser.unet):
            after = generator.denoiser(x, at, additions.adapted(condition.tokens))
    torch.testing.assert_close(after, before, rtol=0, atol=0)


@pytest.mark.parametrize("fill", ["zeros", "last"])
def test_tokens_enter_pooled_or_whole(fill: str) -> None:
    tokens = torch.arange(24.0).repeat_interleave(8).reshape(1, 192, 1).expand(-1, -1, 768)
    pooled = enter_tokens(tokens, pooled=True, pooling="mean", fill=fill)
    assert pooled.shape == (1, 8, 768)
    assert pooled[0, :4, 0].tolist() == [3.5, 11.5, 19.5, 0.0 if fill == "zeros" else 23.0]
    both = enter_tokens(tokens, pooled=True, pooling="mean-max", fill=fill)
    assert both[0, 0, 0] == (3.5 + 7.0) / 2
    whole = enter_tokens(tokens, pooled=False, pooling="mean", fill=fill)
    assert whole.shape == (1, 512, 768)
    assert torch.equal(whole[:, :192], tokens)


def test_the_text_is_needed_where_there_is_one(windows: BrainWindows) -> None:
    train, check = windows.split(ACOUSTIC, seed=0)
    with pytest.raises(SettingError, match=r"full\.text"):
        FullFinetune(
            TrainingSettings(),
            _OPTIONS,
            ACOUSTIC,
            windows,
            full=FullSettings(checkpoint=Path("x"), family="audioldm2"),
            generator=tiny_generator("audioldm2"),
            decoder=None,
            train=train,
            check=check,
        )
