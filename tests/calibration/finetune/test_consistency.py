"""Few steps for full-size checkpoints: paths are the sampler's, and jumps end where they do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from calibration.finetune.consistency import ConsistencyStage
from calibration.finetune.convert_settings import ConsistencySettings
from calibration.finetune.taught import TaughtBatch, TaughtWindows
from calibration.training.checkpoint import FINAL, read_note
from calibration.training.loop import train_stage
from calibration.training.settings import TrainingSettings
from models.errors import SettingError
from models.nets.full.generator import Condition, FullGenerator
from models.nets.full.sampler import ddim, ping_pong
from models.nets.full.schedule import Prediction
from tests.calibration.training.stopping import StopAt
from tests.models.nets.full.tiny import shallow_generator, with_room

_OPTIONS = ConsistencySettings(
    steps=6, batch=4, rate=3e-4, warmup=1, average=0.5, points=4, solver="ddim"
)
_N, _FRAMES, _PREFIX = 6, 8, 4


def _windows(seed: int = 0, *, n_known: np.ndarray | None = None) -> TaughtWindows:
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((_N, 8, _FRAMES, 16)).astype(np.float32)
    vectors = torch.nn.functional.normalize(
        torch.randn(_N, 512, generator=torch.Generator().manual_seed(seed)), dim=1
    )
    prefix = 0 if n_known is None else _PREFIX
    return TaughtWindows(
        latents, lambda rows: [vectors[rows]], n_known=n_known, prefix=prefix, prefixed=1.0
    )


def _stage(
    options: ConsistencySettings = _OPTIONS,
    *,
    generator: FullGenerator | None = None,
    windows: TaughtWindows | None = None,
    prediction: Prediction = "v_prediction",
) -> ConsistencyStage:
    return ConsistencyStage(
        TrainingSettings(precision="fp32"),
        options,
        generator or shallow_generator("musicldm", prediction=prediction),
        windows or _windows(),
        held=windows or _windows(1),
    )


def _path(stage: ConsistencyStage, x: Tensor, given: TaughtBatch) -> Tensor:
    for place in range(stage.options.points):
        at = torch.full((len(x),), place)
        with torch.no_grad():
            x = stage._ahead(x, at, given)
    return x


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_the_path_that_is_learnt_is_the_samplers(prediction: Prediction) -> None:
    stage = _stage(prediction=prediction)
    given = stage.windows.batch(np.arange(2), None, stage.device)
    noise = torch.randn(given.clean.shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        wanted = stage.teacher.latents(
            Condition(vector=given.parts[0]), [noise], n_steps=4, sampler=ddim
        )
    torch.testing.assert_close(_path(stage, noise, given), wanted, rtol=1e-3, atol=1e-3)


def test_heuns_path_is_nearer_to_that_of_many_levels() -> None:
    generator = shallow_generator("musicldm")
    with torch.no_grad():  # a smoother network than a random one
        generator.denoiser.unet.conv_out.weight.mul_(0.3)
    ends = {}
    for name, options in (
        ("euler", replace(_OPTIONS, points=8)),
        ("heun", replace(_OPTIONS, points=8, solver="heun")),
        ("many", replace(_OPTIONS, points=200)),
    ):
        stage = _stage(options, generator=generator)
        given = stage.windows.batch(np.arange(2), None, stage.device)
        noise = torch.randn(given.clean.shape, generator=torch.Generator().manual_seed(3))
        ends[name] = _path(stage, noise, given)
    far = {name: float((ends[name] - ends["many"]).square().mean()) for name in ("euler", "heun")}
    assert far["heun"] < 0.5 * far["euler"]


def test_a_jump_is_one_step_of_the_sampler_and_the_end_stays_as_it_is() -> None:
    stage = _stage()
    given = stage.windows.batch(np.arange(2), None, stage.device)
    noise = torch.randn(given.clean.shape, generator=torch.Generator().manual_seed(3))
    first = torch.zeros(2, dtype=torch.int64)
    with torch.no_grad():
        jump = stage._jump(stage.networks["denoiser"], noise, first, given)
        end = stage._jump(stage.networks["denoiser"], given.clean, first + 4, given)
        wanted = stage.distilled().latents(
            Condition(vector=given.parts[0]), [noise], n_steps=1, sampler=ping_pong
        )
    torch.testing.assert_close(jump, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(end, given.clean)


@pytest.mark.slow
def test_the_student_learns_to_jump_to_the_end_of_the_path(tmp_path: Path) -> None:
    options = replace(_OPTIONS, steps=100, batch=6, rate=3e-3, average=0.8)
    # The windows that score: a random network knows no way from some windows to others.
    stage = _stage(options, windows=_windows(1))
    before = stage.finish(tmp_path)
    assert before["jump_error"] == pytest.approx(before["jump_error_undistilled"])
    assert train_stage(stage, tmp_path / "distill")
    after = read_note(tmp_path / "distill" / FINAL)["scores"]
    assert after["jump_error_undistilled"] == before["jump_error_undistilled"]
    assert after["jump_error"] < 0.8 * after["jump_error_undistilled"], after
    made = stage.distilled()
    assert made.schedule == stage.teacher.schedule


def test_what_is_known_is_told_and_neither_made_nor_scored() -> None:
    n_known = np.array([_PREFIX, 2, 0, _PREFIX, 1, _PREFIX])
    windows = _windows(n_known=n_known)
    stage = _stage(generator=with_room(shallow_generator("musicldm"), heard=0.3), windows=windows)
    given = windows.batch(np.arange(_N), None, stage.device)
    assert given.known is not None
    assert given.known[:, 0, :, 0].sum(1).tolist() == n_known.tolist()
    x = torch.randn(given.clean.shape, generator=torch.Generator().manual_seed(3))
    first = torch.zeros(_N, dtype=torch.int64)
    known = given.known.expand_as(x) > 0
    assert torch.allclose(_path(stage, x, given)[known], given.clean[known], atol=1e-4)
    with torch.no_grad():
        jump = stage._jump(stage.networks["denoiser"], x, first, given)
        deaf = stage._jump(
            stage.networks["denoiser"],
            x,
            first,
            replace(given, known=torch.zeros_like(given.known)),
        )
    assert torch.equal(jump[known], given.clean[known])
    assert not torch.allclose(jump[:1, :, _PREFIX:], deaf[:1, :, _PREFIX:], atol=1e-4)
    off = torch.ones_like(x) * given.known  # errors where nothing is to be made
    assert float(given.made_error(off).abs().max()) == 0.0
    assert torch.allclose(given.made_error(torch.ones_like(x)), torch.ones(_N))
    loss = stage.advance(0, *stage.generators(0))["consistency"]
    assert np.isfinite(float(loss.detach()))


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    through = _stage()
    assert train_stage(through, tmp_path / "a")
    assert not train_stage(_stage(), tmp_path / "b", stop=StopAt(3))
    resumed = _stage()
    assert train_stage(resumed, tmp_path / "b", resume=True)
    for name, value in through.result().items():
        assert torch.equal(value, resumed.result()[name])


def test_predicted_noise_and_odd_paths_are_refused() -> None:
    with pytest.raises(SettingError, match=r"full\.convert"):
        _stage(prediction="epsilon")
    with pytest.raises(SettingError, match="points = 6"):
        ConsistencySettings(points=6)
