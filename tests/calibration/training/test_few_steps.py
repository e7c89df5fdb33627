from __future__ import annotations

import pytest
import torch

from calibration.training.checkpoint import load_tensors, load_weights
from calibration.training.few_steps import score_few_steps
from models.nets.sizes import make_denoiser
from tests.calibration.generator_scores.training_folder import write_training
from tests.calibration.training.derived_run import RUN, derived_run


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("run")
    write_training(folder)
    material = derived_run(folder)  # its generator takes the place of the other's
    teacher = make_denoiser("tiny")
    load_weights(teacher, load_tensors(folder / "generator" / "final.safetensors")[0], "denoiser")
    return score_few_steps(teacher, teacher, material, folder, RUN, steps=(1, 2), many=3, count=10)


def test_a_student_that_is_its_teacher_scores_as_the_teacher_in_as_few_steps(
    scores: dict[str, float],
) -> None:
    for steps in (1, 2):
        for name in ("cosine", "accuracy", "frechet"):
            found, alone = scores[f"{name}_{steps}_steps"], scores[f"{name}_undistilled_{steps}"]
            assert found == pytest.approx(alone, abs=1e-6)


def test_all_that_is_told_is_there_and_no_distance_is_below_zero(scores: dict[str, float]) -> None:
    assert {"frechet_real", "frechet_teacher", "accuracy_real", "cosine_teacher"} <= scores.keys()
    assert {"accuracy_stretch_1", "accuracy_stretch_12"} <= scores.keys()
    assert all(value > -1e-6 for name, value in scores.items() if name.startswith("frechet"))
    assert all(0.0 <= value <= 1.0 for name, value in scores.items() if "accuracy" in name)
    # Guidance and further steps are not nothing.
    assert scores["cosine_teacher"] != pytest.approx(scores["cosine_undistilled_2"], abs=1e-6)
