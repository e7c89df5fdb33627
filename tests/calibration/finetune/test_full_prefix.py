"""A full-size checkpoint learns to go on from a clean beginning."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from calibration.acoustic.selection import train_selected
from calibration.finetune.convert_settings import ConvertSettings
from calibration.finetune.full import FullFinetune
from calibration.finetune.full_prefix import PrefixInput, continue_windows, lengths_of
from calibration.finetune.settings import FinetuneSettings, FullSettings
from calibration.finetune.taught import TaughtWindows
from calibration.finetune.teach import ConvertStage
from calibration.finetune.windows import BrainWindows
from calibration.training.settings import TrainingSettings
from models.errors import SettingError
from models.nets.full.generator import FullGenerator
from models.nets.full.prefix import clean_channels, told
from tests.calibration.finetune.heard import ACOUSTIC, heard_windows
from tests.models.nets.full.tiny import shallow_generator

PREFIX = 8
_OPTIONS = FinetuneSettings(
    steps=12,
    batch=4,
    rate=3e-3,
    warmup=1,
    average=0.5,
    check_every=12,
    check_windows=4,
    joint=False,
    prefixed=1.0,
    switched=0.0,
)


@pytest.fixture(scope="module")
def windows() -> BrainWindows:
    made = heard_windows(prefix=PREFIX, latent=(8, 16))
    return replace(made, n_known=np.full(len(made.n_known), PREFIX))


def _stage(
    windows: BrainWindows, generator: FullGenerator | None = None, **options: object
) -> FullFinetune:
    train, check = windows.split(ACOUSTIC, seed=0)
    return FullFinetune(
        TrainingSettings(precision="fp32"),
        replace(_OPTIONS, **options),  # type: ignore[arg-type]
        ACOUSTIC,
        windows,
        full=FullSettings(checkpoint=Path("x"), adapt="all", adapter=False, prefix=windows.prefix),
        generator=generator or shallow_generator("musicldm"),
        decoder=None,
        train=train,
        check=check,
    )


def _told(windows: BrainWindows, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    made = continue_windows(windows, rows, _OPTIONS, None)
    known = torch.from_numpy(made.known[:, None, :, None])
    return torch.from_numpy(made.latents.swapaxes(1, 2).copy()), known


def test_an_untrained_input_changes_nothing_and_a_trained_one_folds_exactly(
    windows: BrainWindows,
) -> None:
    stage = _stage(windows)
    x, known = _told(windows, np.arange(3))
    vector = torch.from_numpy(windows.decoded[:3])
    at = torch.tensor([100, 500, 900])
    plain = shallow_generator("musicldm")
    clean = clean_channels(x, known)
    one = torch.ones(())
    with torch.no_grad():
        expected = plain.denoiser(x, at, vector)
        found = stage._predict(stage.averages, x, at, vector, one, clean)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
        prefix = stage.averages["prefix"]
        assert isinstance(prefix, PrefixInput)
        prefix.weight.normal_(std=0.2, generator=torch.Generator().manual_seed(3))
        heard = stage._predict(stage.averages, x, at, vector, one, clean)
        assert float((heard - expected).abs().max()) > 0.05
        tuned = stage.tuned()
        assert tuned.prefixed
        folded = tuned.denoiser(told(x, x, known), at, vector)
    torch.testing.assert_close(folded, heard, rtol=0, atol=1e-5)


def test_what_follows_a_beginning_is_made_better_with_it(
    windows: BrainWindows, tmp_path: Path
) -> None:
    """Sounds that keep one of two levels: in all that noise only the beginning tells which."""
    rng = np.random.default_rng(3)
    level = rng.choice([-1.0, 1.0], (len(windows.groups), 1, 1, 1))
    latents = level + 0.1 * rng.standard_normal(windows.latents.shape)
    windows = replace(windows, latents=latents.astype(np.float32))
    rows = np.asarray(windows.split(ACOUSTIC, seed=0)[1])
    x, known = _told(windows, rows)
    vector = torch.from_numpy(windows.decoded[rows])
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    errors = {}
    for share in (0.0, 1.0):
        generator = shallow_generator("musicldm")
        with torch.no_grad():  # it says nothing yet: random words would have to be unlearnt first
            generator.denoiser.unet.conv_out.weight.zero_()
        stage = _stage(windows, generator, prefixed=share)
        assert train_selected(stage, tmp_path / str(share))
        tuned = stage.tuned()
        found = []
        for at in (950, 999):
            alpha = float(tuned.schedule.alphas()[at])
            sigma = (1.0 - alpha**2) ** 0.5
            noisy = alpha * x + sigma * eps
            with torch.no_grad():
                v = tuned.denoiser(told(noisy, x, known * share), torch.tensor(at), vector)
            wrong = (alpha * noisy - sigma * v) - x
            found.append(float(wrong[:, :, PREFIX : PREFIX + 4].square().mean()))
        errors[share] = float(np.mean(found))
    assert errors[0.0] > 0.5  # nothing else could tell
    assert errors[1.0] < 0.3 * errors[0.0]


def test_windows_with_a_beginning_tell_only_what_was_heard(windows: BrainWindows) -> None:
    assert lengths_of(56) == (8, 16, 32)
    assert lengths_of(16) == (8, 16)
    some = replace(windows, n_known=np.arange(len(windows.n_known)) % (PREFIX + 1))
    rows = np.arange(12)
    plain = continue_windows(some, rows, _OPTIONS, None)
    assert plain.known.sum(1).tolist() == some.n_known[rows].tolist()
    assert (plain.counted.sum(1) == 8).all()
    np.testing.assert_array_equal(plain.latents, some.latents[rows])
    rng = np.random.default_rng(0)
    never = continue_windows(some, rows, replace(_OPTIONS, prefixed=0.0), rng)
    assert never.known.sum() == 0
    assert never.counted.sum(1).tolist() == (8 + some.n_known[rows]).tolist()
    switched = continue_windows(
        some, rows, replace(_OPTIONS, switched=1.0), rng, others=np.array([20])
    )
    assert not np.allclose(switched.latents[:, :PREFIX], some.latents[rows, :PREFIX])
    np.testing.assert_array_equal(
        switched.latents[:, :PREFIX], np.repeat(some.latents[20:21, 6:14], 12, 0)
    )
    np.testing.assert_array_equal(
        switched.latents[:, PREFIX + 2 :], some.latents[rows, PREFIX + 2 :]
    )
    for made in (plain, never, switched):
        assert not (made.known * made.counted).any()
        assert made.counted[:, PREFIX:].all()


def test_a_changed_parametrisation_keeps_the_beginning(
    windows: BrainWindows, tmp_path: Path
) -> None:
    stage = _stage(windows, shallow_generator("musicldm", prediction="epsilon"))
    tuned = stage.tuned()
    latents = np.ascontiguousarray(windows.latents.swapaxes(1, 2))
    teach = ConvertStage(
        TrainingSettings(precision="fp32"),
        ConvertSettings(steps=2, batch=2),
        tuned,
        TaughtWindows(
            latents,
            lambda rows: [torch.from_numpy(windows.decoded[rows])],
            n_known=windows.n_known,
            prefix=PREFIX,
            prefixed=1.0,
        ),
    )
    loss = teach.advance(0, *teach.generators(0))["loss"]
    assert np.isfinite(float(loss.detach()))
    made = teach.converted()
    assert made.prefixed
    x, known = _told(windows, np.arange(2))
    with torch.no_grad():
        parts = [torch.from_numpy(windows.decoded[:2])]
        with_it = made.denoiser(told(x, x, known), torch.tensor(500), *parts)
        without = made.denoiser(x, torch.tensor(500), *parts)
    assert with_it.shape == without.shape == x.shape


def test_prefix_and_windows_must_fit(windows: BrainWindows) -> None:
    with pytest.raises(SettingError, match="multiple of 8"):
        FullSettings(checkpoint=Path("x"), prefix=12)
    train, check = windows.split(ACOUSTIC, seed=0)
    with pytest.raises(SettingError, match="after a prefix of 16"):
        FullFinetune(
            TrainingSettings(precision="fp32"),
            _OPTIONS,
            ACOUSTIC,
            windows,
            full=FullSettings(checkpoint=Path("x"), prefix=16),
            generator=shallow_generator("musicldm"),
            decoder=None,
            train=train,
            check=check,
        )
