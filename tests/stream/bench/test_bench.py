"""The whole measurement of an exported generator, and its command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from models.errors import BundleError, DeviceError, SettingError
from stream.bench.cli import register
from stream.bench.run import BenchSettings, run_bench
from stream.bench.subject import open_subject, random_conditions, stretch_frames
from stream.bench.table import bench_tables
from tests.export.plain_generator import write_plain


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_plain(tmp_path_factory.mktemp("bench") / "plain")


def test_the_path_to_the_latents_gives_those_of_the_whole_stretch(folder: Path) -> None:
    subject = open_subject(folder)
    spec, generator = subject.spec, subject.generator
    rng = np.random.default_rng(0)
    given = random_conditions(spec, 1, rng=rng)[0]
    state = generator.initial_state()
    for n_frames in spec.stretches:
        noise = rng.standard_normal(generator.noise_shape(n_frames), dtype=np.float32)
        path = subject.latent_path(n_frames)
        assert path is not None
        latents = path.run(given, state, noise, n_frames=n_frames)
        _, state = generator.stretch(given, state, noise, n_frames=n_frames)
        np.testing.assert_allclose(latents, state["prefix"], rtol=1e-5, atol=1e-5)


def test_everything_is_measured_and_can_be_written_as_json(folder: Path) -> None:
    settings = BenchSettings(folder, changes=6, minutes=0.02, warm_up_s=0.0)
    said: list[str] = []
    values = run_bench(settings, progress=lambda what, done, total: said.append(what)).to_json()
    again = json.loads(json.dumps(values, allow_nan=False))
    for name in ("first_sound_ms", "rtf", "steps", "stretch_s", "provider", "threads", "load"):
        assert name in again
    assert set(again["first_sound_ms"]) == {"p50", "p95", "p99", "max", "n"}
    assert set(again["stamps_ms"]) == {"stretch_start", "latent", "waveform", "first_sample"}
    assert again["provider"] == "CPUExecutionProvider"
    assert [row["stretch_s"] for row in again["lengths"]] == [0.04, 0.12]
    assert again["stream"]["underruns"] >= 0
    assert "warming up" in said

    from rich.console import Console

    console = Console(width=110, record=True, file=None, quiet=False)
    with console.capture() as capture:
        for part in bench_tables(again):
            console.print(part)
    shown = capture.get()
    assert "latents there" in shown
    assert "CPUExecutionProvider" in shown


def test_lengths_that_are_not_made_are_refused_with_those_that_are(folder: Path) -> None:
    spec = open_subject(folder).spec
    assert stretch_frames(spec, None) == 1
    assert stretch_frames(spec, 0.12) == 3
    with pytest.raises(SettingError, match=r"0\.04, 0\.12 s, not 0\.5 s"):
        stretch_frames(spec, 0.5)


def test_folders_without_a_generator_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="No folder"):
        open_subject(tmp_path / "nothing")
    with pytest.raises(BundleError, match="No generator"):
        open_subject(tmp_path)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"changes": 0}, "at least one change"),
        ({"minutes": -1.0}, "1440 minutes"),
        ({"minutes": float("nan")}, "1440 minutes"),
    ],
)
def test_settings_out_of_range_are_refused(options: dict[str, float], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        BenchSettings(Path("x"), **options)  # type: ignore[arg-type]


def command() -> typer.Typer:
    app = typer.Typer(rich_markup_mode=None)
    app.callback()(lambda: None)
    register(app)
    return app


def test_the_command_prints_one_json_object_last(folder: Path) -> None:
    given = ["bench", str(folder), "--changes", "3", "--minutes", "0", "--warm-up-s", "0", "--json"]
    result = CliRunner().invoke(command(), given)
    assert result.exception is None, result.output
    values = json.loads(result.stdout.splitlines()[-1])
    assert values["steps"] == 2
    assert "stream" not in values
    shown = CliRunner().invoke(command(), given[:-1])
    assert "first sample to the sink" in shown.stdout


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["bench"], "Give a bundle"),
        (["bench", "x", "--full", "--random-weights"], "no bundle"),
        (["bench", "--full"], "--random-weights"),
    ],
)
def test_what_is_missing_is_said_in_one_sentence(given: list[str], said: str) -> None:
    result = CliRunner().invoke(command(), given)
    assert isinstance(result.exception, SettingError)
    assert said in str(result.exception)


def test_a_gpu_that_is_not_there_is_refused_for_a_generator(folder: Path) -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(DeviceError):
        open_subject(folder, device="cuda")


def test_a_gpu_that_is_not_there_is_refused_for_the_full_size() -> None:
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    full = ["bench", "--full", "--random-weights", "--device", "cuda", "--model", "musicldm"]
    result = CliRunner().invoke(command(), full)
    assert isinstance(result.exception, DeviceError)
    assert "no CUDA GPU" in str(result.exception)
