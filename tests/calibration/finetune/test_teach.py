from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from calibration.finetune.convert import GrownDenoiser
from calibration.finetune.convert_settings import ConvertSettings
from calibration.finetune.taught import TaughtWindows
from calibration.finetune.teach import ConvertStage
from calibration.training.loop import train_stage
from calibration.training.settings import TrainingSettings
from models.errors import SettingError
from tests.calibration.training.stopping import StopAt
from tests.models.nets.full.tiny import tiny_generator

_OPTIONS = ConvertSettings(
    steps=30, batch=4, rate=2e-4, warmup=1, average=0.5, low=1.0, strength=2.0
)


def _stage(options: ConvertSettings = _OPTIONS) -> ConvertStage:
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((6, 8, 8, 16)).astype(np.float32)
    vectors = torch.nn.functional.normalize(
        torch.randn(6, 512, generator=torch.Generator().manual_seed(1)), dim=1
    )

    def conditions(rows: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[Tensor]:
        return [vectors[rows]]

    return ConvertStage(
        TrainingSettings(precision="fp32"),
        options,
        tiny_generator("musicldm", prediction="epsilon"),
        TaughtWindows(latents, conditions),
    )


def test_the_new_output_learns_what_the_guided_checkpoint_says_and_leaves_as_it_is() -> None:
    stage = _stage()
    # The same windows, levels and noise again and again: a random network knows no other way.
    losses = []
    for step in range(8):
        losses.append(float(stage.advance(0, *stage.generators(0))["loss"].detach()))
        stage.average(step)
    assert losses[-1] < 0.97 * losses[0]
    made = stage.converted()
    assert made.schedule.prediction == "v_prediction"
    x = torch.randn(made.latent_shape(8), generator=torch.Generator().manual_seed(2))
    vector = stage.windows.conditions(np.array([0]))[0]
    grown = stage.averages["grown"]
    assert isinstance(grown, GrownDenoiser)
    with torch.no_grad():
        wanted = grown(x, torch.tensor(400), vector, strength=torch.tensor([2.0]))
        found = made.denoiser(x, torch.tensor(400), vector)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_stopped_conversion_resumes_to_the_same_weights(tmp_path: Path) -> None:
    options = ConvertSettings(steps=6, batch=2, warmup=1)

    through = _stage(options)
    assert train_stage(through, tmp_path / "a")
    assert not train_stage(_stage(options), tmp_path / "b", stop=StopAt(3))
    resumed = _stage(options)
    assert train_stage(resumed, tmp_path / "b", resume=True)
    for name, value in through.result().items():
        assert torch.equal(value, resumed.result()[name])


def test_strengths_out_of_order_are_refused() -> None:
    with pytest.raises(SettingError, match="rise from low"):
        ConvertSettings(low=4.0, strength=3.0)
