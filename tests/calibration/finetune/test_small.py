from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from calibration.acoustic.network import AcousticTransformer
from calibration.acoustic.selection import train_selected
from calibration.finetune.few_steps import FewSteps
from calibration.finetune.settings import FewStepSettings, FinetuneSettings
from calibration.finetune.small import SmallFinetune
from calibration.finetune.windows import BrainWindows
from calibration.training.settings import TrainingSettings
from models.errors import SettingError
from models.nets.dit import Denoiser
from models.nets.stretch import PREFIX
from tests.calibration.finetune.heard import ACOUSTIC, heard_windows

_OPTIONS = FinetuneSettings(
    steps=60, batch=16, rate=3e-3, warmup=3, average=0.8, check_every=15, patience=6, joint=False
)
_RUN = TrainingSettings(precision="fp32")
_SILENCE = np.full(32, 7.0, np.float32)


@pytest.fixture(scope="module")
def windows() -> BrainWindows:
    return heard_windows()


def _denoiser() -> Denoiser:
    torch.manual_seed(1)
    denoiser = Denoiser(width=32, depth=1)
    for layer in (denoiser.modulation, denoiser.leave_modulation, denoiser.leave):
        torch.nn.init.normal_(layer.weight, std=0.02)  # zeros there would hide what is wrong
    return denoiser


def _decoder(windows: BrainWindows) -> AcousticTransformer:
    torch.manual_seed(2)
    n = windows.features.shape[1]
    settings = replace(ACOUSTIC, base="mean", brain="features")
    return AcousticTransformer(settings, n_features=n, n_chosen=n, places=16)


def _stage(windows: BrainWindows, options: FinetuneSettings = _OPTIONS) -> SmallFinetune:
    train, check = windows.split(ACOUSTIC, seed=0)
    return SmallFinetune(
        _RUN,
        options,
        replace(ACOUSTIC, base="mean", brain="features"),
        windows,
        denoiser=_denoiser(),
        silence=_SILENCE,
        decoder=_decoder(windows),
        train=train,
        check=check,
    )


@pytest.mark.parametrize("error_share", [0.0, 1.0])
def test_fine_tuning_lowers_the_held_out_loss_under_decoded_conditions(
    error_share: float, windows: BrainWindows, tmp_path: Path
) -> None:
    stage = _stage(windows, replace(_OPTIONS, error_share=error_share, p_gt=0.0))
    assert train_selected(stage, tmp_path)
    assert stage.best_loss < 0.9 * stage.curve[0][1]
    assert "acoustic" not in stage.networks


def test_joint_training_moves_both_and_nothing_else(windows: BrainWindows, tmp_path: Path) -> None:
    stage = _stage(windows, replace(_OPTIONS, joint=True, steps=12, acoustic_rate=1e-3))
    before = {
        name: value.clone() for name, value in stage.networks["acoustic"].state_dict().items()
    }
    assert train_selected(stage, tmp_path)
    after = stage.networks["acoustic"].state_dict()
    parameters = dict(stage.networks["acoustic"].named_parameters())
    assert any(not torch.equal(before[name], after[name]) for name in parameters)
    assert all(torch.equal(before[name], after[name]) for name in before.keys() - parameters)
    assert set(stage.networks) == {"acoustic", "denoiser"}
    rates = stage.rates(3)
    assert rates["acoustic"] / rates["denoiser"] == pytest.approx(1e-3 / 3e-3)


def test_a_stopped_run_resumes_to_the_same_weights(windows: BrainWindows, tmp_path: Path) -> None:
    options = replace(_OPTIONS, joint=True, steps=10, check_every=4, error_share=0.3)

    class AfterSome(Event):
        asked = 0

        def is_set(self) -> bool:
            self.asked += 1
            return self.asked > 6

    through = _stage(windows, options)
    assert train_selected(through, tmp_path / "a")
    stopped = _stage(windows, options)
    assert not train_selected(stopped, tmp_path / "b", stop=AfterSome())
    resumed = _stage(windows, options)
    assert train_selected(resumed, tmp_path / "b", resume=True)
    assert resumed.curve == through.curve
    for name, value in through.result().items():
        assert torch.equal(value, resumed.result()[name])


def test_shares_are_as_asked_for_and_never_hold_for_what_is_checked(windows: BrainWindows) -> None:
    stage = _stage(windows, replace(_OPTIONS, p_gt=0.25, given_true="tokens"))
    rows = np.resize(stage.train_rows, 4000)
    made = stage.source.draw(rows, np.random.default_rng(0), None).tokens.numpy()
    true = windows.tokens[rows]
    assert np.mean(np.all(made == true, axis=(1, 2))) == pytest.approx(0.25, abs=0.03)
    checked = stage.decoded(stage.check_rows)
    assert windows.decoded_tokens is not None
    np.testing.assert_array_equal(checked.tokens, windows.decoded_tokens[stage.check_rows])
    np.testing.assert_array_equal(checked.vector, windows.decoded[stage.check_rows])
    vector, tokens = stage.dropped(4000, np.random.default_rng(1))
    assert float(1 - vector.mean()) == pytest.approx(0.15, abs=0.03)
    assert float(1 - tokens.mean()) == pytest.approx(0.30, abs=0.03)


def test_where_a_stream_has_not_begun_there_was_silence(windows: BrainWindows) -> None:
    stage = _stage(windows, replace(_OPTIONS, prefixed=0.5, switched=0.0))
    _, given = stage.draw(np.random.default_rng(0))
    assert given["known"] == PREFIX
    silent = (given["clean"] == 7.0).all(-1).numpy()
    assert not silent[:, PREFIX:].any()
    # Silence first, then sound up to the frames that are to be made.
    assert np.all(np.diff(silent[:, :PREFIX].astype(int), axis=1) <= 0)
    assert silent[:, :PREFIX].all(1).any()
    assert not silent[:, :PREFIX].all()


def test_the_few_step_student_comes_nearer_to_where_the_tuned_paths_end(
    windows: BrainWindows, tmp_path: Path
) -> None:
    train, check = windows.split(ACOUSTIC, seed=0)
    few = FewStepSettings(steps=40, batch=8, rate=3e-3, warmup=2, average=0.8, teacher_steps=4)
    stage = FewSteps(
        _RUN,
        few,
        _OPTIONS,
        ACOUSTIC,
        windows,
        teacher=_denoiser(),
        student=Denoiser(width=32, depth=1),
        silence=_SILENCE,
        train=train,
        check=check,
    )
    assert train_selected(stage, tmp_path)
    assert stage.best_loss < 0.8 * stage.curve[0][1]


def test_paths_that_stand_still_are_jumped_without_error(windows: BrainWindows) -> None:
    train, check = windows.split(ACOUSTIC, seed=0)
    still = Denoiser(width=32, depth=1)  # its last layer is zero, as that of the student
    stage = FewSteps(
        _RUN,
        FewStepSettings(),
        _OPTIONS,
        ACOUSTIC,
        windows,
        teacher=still,
        student=Denoiser(width=32, depth=1),
        silence=_SILENCE,
        train=train,
        check=check,
    )
    assert stage.held_out_loss() == 0.0


def test_groups_on_both_sides_are_refused(windows: BrainWindows) -> None:
    train, check = windows.split(ACOUSTIC, seed=0)
    with pytest.raises(SettingError, match="select"):
        SmallFinetune(
            _RUN,
            _OPTIONS,
            ACOUSTIC,
            windows,
            denoiser=_denoiser(),
            silence=_SILENCE,
            decoder=None,
            train=np.concatenate([train, check[:1]]),
            check=check,
        )
