from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.training.checkpoint import load_tensors
from calibration.training.distill import DistillStage
from calibration.training.generator import GeneratorStage, guided
from calibration.training.loop import train_stage
from calibration.training.material import Material
from calibration.training.paths import MOMENTS, TeacherPaths, heun_path, windows_given
from models.errors import SettingError
from models.nets.dit import Denoiser
from models.nets.samplers import heun, uniform_times
from models.nets.stretch import PREFIX
from tests.calibration.training.derived_run import RUN, derived_run, shorter
from tests.calibration.training.stopping import StopAt


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return tmp_path_factory.mktemp("run")


@pytest.fixture(scope="module")
def material(folder: Path) -> Material:
    return derived_run(folder)


@pytest.fixture(scope="module")
def stage(folder: Path, material: Material) -> DistillStage:
    stage = DistillStage(RUN, material, folder)
    assert stage.prepare()
    return stage


def test_kept_paths_are_what_the_sampler_makes_of_the_teacher(stage: DistillStage) -> None:
    windows, states = stage.paths.draw(np.random.default_rng(1), 8)
    given = windows_given(windows, torch.device("cpu"))
    velocity = guided(stage.teacher, given, RUN.distill.guidance)
    with torch.no_grad():
        path = heun_path(stage.teacher, states[:, 0], given, steps=4, guidance=1.5)
        end = heun(velocity, states[:, 0], uniform_times(4))
    assert torch.allclose(path[:, -1], end, atol=1e-5)
    for i, moment in enumerate(MOMENTS):
        assert torch.allclose(states[:, i], path[:, i], atol=0.02), moment  # float16 on disk


def test_paths_that_were_cut_off_go_on_and_are_the_same(tmp_path: Path) -> None:
    material = derived_run(tmp_path)
    whole = TeacherPaths(material, shorter(paths=300), teacher="x")
    assert whole.chunks % 32 == 0
    assert whole.chunks * 8 >= 300
    teacher = Denoiser(width=32, depth=1).requires_grad_(False)
    torch.nn.init.normal_(teacher.leave.weight, std=0.1)
    run = shorter(paths=64)
    paths = TeacherPaths(material, run, teacher="y", together=1)
    asked: list[int] = []

    def at_the_second() -> bool:
        asked.append(1)
        return len(asked) > 1

    told: list[tuple[str, int, int]] = []

    def tell(what: str, done: int, of: int) -> None:
        told.append((what, done, of))

    assert not paths.make(teacher, ended=at_the_second, progress=tell)
    assert paths.make(teacher, progress=tell)
    assert told == [("paths of the teacher", n, 64) for n in (32, 64)]
    pieces = np.array(material.derived("paths"))
    assert paths.make(teacher, progress=tell)  # there already
    assert len(told) == 2
    other = TeacherPaths(material, run, teacher="z", together=2)
    assert other.make(teacher)  # of another teacher: made anew
    assert np.array_equal(np.array(material.derived("paths")), pieces)


def test_fresh_paths_are_the_teachers_and_none_of_the_kept(stage: DistillStage) -> None:
    kept, fresh = stage.paths.kept_and_fresh(stage.teacher, 8)
    on_disk = np.array(stage.paths._material.derived("paths"))
    for windows, states in (kept, fresh):
        assert len(states) == len(windows.condition) == 8
        assert states.shape[1:] == (len(MOMENTS), windows.latents.shape[1], 32)
        given = windows_given(windows, torch.device("cpu"))
        with torch.no_grad():
            path = heun_path(stage.teacher, states[:, 0], given, steps=4, guidance=1.5)
        assert torch.allclose(states[:, -1], path[:, -1], atol=0.05)  # float16 noise
    frames = kept[1].shape[2]

    def among_kept(states: torch.Tensor) -> bool:
        rows = on_disk[:, :, 0, :frames].reshape(-1, frames * 32)
        return bool((np.abs(rows - states[0, 0].numpy().reshape(1, -1)).max(axis=1) < 1e-3).any())

    assert among_kept(kept[1])
    assert not among_kept(fresh[1])


def test_a_student_that_knows_its_paths_by_heart_is_told_so(
    stage: DistillStage, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, _ = stage.paths.kept_and_fresh(stage.teacher, 256)
    noise, ends = kept[1][:, 0], kept[1][:, -1]
    errors = stage.path_errors()
    assert errors["path_error_kept"] == pytest.approx(errors["path_error_fresh"], rel=0.2)

    class ByHeart(torch.nn.Module):
        def forward(self, x: torch.Tensor, time: torch.Tensor, **_: object) -> torch.Tensor:
            assert bool((time == -3.0).all())  # one step
            apart = (noise[None] - x[:, None]).abs().amax(dim=(2, 3))
            nearest = apart.min(dim=1)
            found = (nearest.values < 1e-3)[:, None, None]
            return torch.where(found, ends[nearest.indices] - x, -x)

    monkeypatch.setitem(stage.averages, "denoiser", ByHeart())
    errors = stage.path_errors()
    assert errors["path_error_kept"] < 1e-6
    assert errors["path_error_fresh"] > 0.1


def test_guidance_in_one_pass_is_guidance_in_two(stage: DistillStage) -> None:
    windows, states = stage.paths.draw(np.random.default_rng(2), 4)
    given = windows_given(windows, torch.device("cpu"))
    x, time = states[:, 0], torch.full((4,), 0.3)
    free = {**given}
    for name in ("condition", "tokens"):
        free[name] = torch.zeros_like(given[name])
    with torch.no_grad():
        a, b = stage.teacher(x, time, **given), stage.teacher(x, time, **free)
        both = guided(stage.teacher, given, 1.5)(x, 0.3)
    assert torch.allclose(both, b + 1.5 * (a - b), atol=1e-5)
    assert float((a - b).abs().max()) > 1e-3


def test_continuations_stand_where_the_known_frames_were(stage: DistillStage) -> None:
    rng, noise = stage.generators(0)
    given = stage._windows(rng)
    own = stage._continued(given, rng, noise)
    assert own["known"] == PREFIX
    assert torch.equal(own["clean"][:, PREFIX:], given["clean"][:, PREFIX:])
    assert float((own["clean"][:, :PREFIX] - given["clean"][:, :PREFIX]).abs().mean()) > 0.1
    x, moment = stage._before_the_end(own, rng, noise)
    assert moment in (0.0, 0.5, 0.75)
    assert torch.all(torch.isfinite(x))


@pytest.mark.parametrize("method", [pytest.param("secants", marks=pytest.mark.slow), "consistency"])
def test_distillation_resumes_bit_for_bit(
    method: str, folder: Path, material: Material, stage: DistillStage, tmp_path: Path
) -> None:
    run = shorter(method=method)

    class Unscored(DistillStage):
        """Without the scores, which need codec, encoder and judge."""

        def finish(self, out: Path) -> dict[str, float]:
            return {}

    train_stage(Unscored(run, material, folder), tmp_path / "through")
    for _ in range(20):
        if train_stage(
            Unscored(run, material, folder), tmp_path / "pieces", resume=True, stop=StopAt(2)
        ):
            break
    through, _ = load_tensors(tmp_path / "through" / "checkpoint.safetensors")
    pieces, _ = load_tensors(tmp_path / "pieces" / "checkpoint.safetensors")
    assert through.keys() == pieces.keys()
    assert all(torch.equal(through[key], pieces[key]) for key in through)
    teacher, _ = load_tensors(folder / "generator" / "final.safetensors")
    key = "denoiser.enter.weight"
    assert not torch.equal(through[f"now.{key}"], teacher[key])
    assert any(name.startswith("now.critic") for name in through) == (method == "secants")


def test_the_generator_resumes_bit_for_bit(
    folder: Path, material: Material, tmp_path: Path
) -> None:
    class Unscored(GeneratorStage):
        """Without the scores, which need codec, encoder and judge."""

        def finish(self, out: Path) -> dict[str, float]:
            return {}

    train_stage(Unscored(RUN, material, folder), tmp_path / "through")
    stop = StopAt(2)
    assert not train_stage(Unscored(RUN, material, folder), tmp_path / "pieces", stop=stop)
    assert train_stage(Unscored(RUN, material, folder), tmp_path / "pieces", resume=True)
    through, _ = load_tensors(tmp_path / "through" / "checkpoint.safetensors")
    pieces, _ = load_tensors(tmp_path / "pieces" / "checkpoint.safetensors")
    assert through.keys() == pieces.keys()
    assert all(torch.equal(through[key], pieces[key]) for key in through)


def test_each_phase_has_its_own_rates(stage: DistillStage) -> None:
    assert stage.first == 2
    assert set(stage.rates(0)) == {"denoiser"}
    assert stage.rates(0)["denoiser"] == pytest.approx(RUN.distill.rate)
    assert set(stage.rates(2)) == {"denoiser", "critic"}
    assert stage.rates(2)["critic"] == pytest.approx(RUN.distill.adversarial_rate)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingError, match="multiple of 4"):
        shorter(teacher_steps=6)
    with pytest.raises(SettingError, match="shares from 0 to 1"):
        shorter(regression=1.5)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # torch's own
@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_a_compiled_generator_learns_what_the_other_does(folder: Path, material: Material) -> None:
    torch.set_num_threads(1)
    losses = []
    for compiled in (False, True):
        stage = GeneratorStage(replace(RUN, compiled=compiled), material, folder)
        losses.append(float(stage.advance(0, *stage.generators(0))["loss"].detach()))
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)
