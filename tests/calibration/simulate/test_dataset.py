"""Simulated data sets on disk: what is read is what was simulated; failures leave nothing."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from calibration.readers import read_dataset
from calibration.simulate import (
    SimulationSettings,
    default_regions,
    load_truth,
    simulate_dataset,
    simulate_runs,
    simulated_truth,
)
from calibration.simulate.dataset import expected_bytes
from calibration.simulate.features import clip_sound
from calibration.simulate.timetable import plan_runs
from models.errors import FileError
from stream.recordings import read_recording

FMRI = SimulationSettings(
    n_people=2,
    timetable="short",
    clip_s=3.0,
    n_runs=(2, 1),
    clips_per_run=6,
    n_test_clips=3,
    repetitions=2,
    latent_dim=6,
    regions=default_regions(n_voxels=8),
    n_other_voxels=10,
)
EEG = SimulationSettings(
    modality="eeg",
    n_people=2,
    snr=0.5,
    n_runs=(2, 0),
    clips_per_run=3,
    clip_s=2.0,
    n_sessions=2,
    sound_format="wav",
)
DS003720 = replace(
    FMRI, timetable="ds003720", clip_s=None, n_people=1, embedding="latent", n_runs=(2, 1)
)


@pytest.fixture(scope="module")
def fmri(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_dataset(tmp_path_factory.mktemp("data") / "fmri", FMRI)


@pytest.fixture(scope="module")
def eeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate_dataset(tmp_path_factory.mktemp("data") / "eeg", EEG)


def test_volumes_that_are_read_are_those_in_memory(fmri: Path) -> None:
    import nibabel

    dataset = simulate_runs(FMRI)
    assert dataset.space is not None
    for run in dataset.runs:
        name = f"{run.participant}_{run.run}_bold.nii.gz"
        image: Any = nibabel.load(fmri / run.participant / "func" / name)
        np.testing.assert_array_equal(np.asarray(image.dataobj)[dataset.space.mask].T, run.signal)
        assert image.header.get_zooms()[3] == pytest.approx(1.5)
        assert image.header.get_xyzt_units() == ("mm", "sec")
        np.testing.assert_allclose(np.asarray(image.affine), dataset.space.affine)


def test_our_reader_reads_the_data_set_that_is_in_memory(fmri: Path) -> None:
    wanted = simulate_runs(FMRI)
    derived = fmri / "derivatives" / "simulation" / "{participant}" / "func"
    found = read_dataset(
        fmri,
        mask=derived / "{participant}_desc-brain_mask.nii.gz",
        labels=derived / "{participant}_desc-regions_dseg.nii.gz",
    )
    assert found.participants == wanted.participants == ("sub-01", "sub-02")
    assert found.space is not None
    assert wanted.space is not None
    assert found.space.mask_sha256 == wanted.space.mask_sha256
    assert {name: list(v) for name, v in found.space.rois.items()} == {
        name: list(v) for name, v in wanted.space.rois.items()
    }
    by_key = {run.key: run for run in found.runs}
    for run in wanted.runs:
        other = by_key[run.key]
        assert other.part == run.part
        assert other.events == run.events
        np.testing.assert_array_equal(other.signal, run.signal)
    clips = {clip.id: clip for run in plan_runs(FMRI) for clip in run.clips}
    assert found.stimuli.keys() == clips.keys() == wanted.stimuli.keys()
    stimulus = found.stimuli["piano.00000"]
    assert (stimulus.label, stimulus.start_s, stimulus.duration_s) == ("piano", 0.0, 3.0)
    assert stimulus.path is not None
    pcm, rate = soundfile.read(stimulus.path, dtype="float32")
    assert rate == 16_000
    np.testing.assert_allclose(pcm, clip_sound(clips["piano.00000"]), atol=1 / 32_768)


def test_dummies_are_in_the_table_and_not_among_the_events(tmp_path: Path) -> None:
    simulate_dataset(tmp_path / "out", DS003720)
    table = tmp_path / "out" / "sub-01" / "func" / "sub-01_task-Training_run-01_events.tsv"
    lines = table.read_text().splitlines()
    assert len(lines) == 42
    header = lines[0].split("\t")
    rows = [dict(zip(header, line.split("\t"), strict=True)) for line in lines[1:]]
    assert [row["dummy"] for row in rows] == ["1"] + ["0"] * 40
    assert {row["stim_file"] for row in rows} == {"n/a"}
    assert rows[5]["genre"] == f"'{rows[5]['trial_type']}'"
    found = read_dataset(tmp_path / "out")
    assert [run.events for run in found.runs] == [
        run.events for run in sorted(simulate_runs(DS003720).runs, key=lambda run: run.run)
    ]


def test_eeg_that_is_read_is_that_in_memory(eeg: Path) -> None:
    for run in simulate_runs(EEG).runs:
        name = f"{run.participant}_{run.session}_{run.run}_eeg.vhdr"
        path = eeg / run.participant / run.session / "eeg" / name
        (signal,) = read_recording(path).signals
        assert signal.sfreq_hz == 250.0
        assert signal.unit == "V"
        np.testing.assert_allclose(signal.samples, run.signal, rtol=3e-7, atol=1e-13)
    found = read_dataset(eeg)
    wanted = simulate_runs(EEG)
    assert found.channels == wanted.channels
    assert [run.key for run in found.runs] == [run.key for run in wanted.runs]
    for one, other in zip(found.runs, wanted.runs, strict=True):
        assert one.events == other.events
        np.testing.assert_allclose(one.signal, other.signal, rtol=3e-7, atol=1e-13)


def test_the_truth_comes_back_from_disk(fmri: Path, eeg: Path) -> None:
    kept, made = load_truth(fmri), simulated_truth(FMRI)
    assert kept.settings == FMRI
    for number in range(2):
        for name in ("weights", "peak_s", "baseline", "scale", "snr"):
            np.testing.assert_array_equal(
                getattr(kept.brain(number), name), getattr(made.brain(number), name)
            )
    np.testing.assert_array_equal(kept.features.values, made.features.values)
    assert kept.oracle(1, n_draws=5) == made.oracle(1, n_draws=5)
    np.testing.assert_array_equal(
        next(kept.simulation.recordings(0)).signal, next(made.simulation.recordings(0)).signal
    )
    assert load_truth(eeg / "derivatives" / "simulation").settings == EEG
    assert (load_truth(eeg).response_functions("sub-02")).shape[1:] == (16, 32)


def test_a_data_set_without_or_with_a_damaged_truth_is_named(fmri: Path, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="no truth"):
        load_truth(tmp_path)
    folder = fmri / "derivatives" / "simulation"
    for name in ("truth.json", "truth.npz"):
        shutil.copy(folder / name, tmp_path / name)
    (tmp_path / "truth.npz").write_bytes(b"PK")
    with pytest.raises(FileError, match="cannot be read"):
        load_truth(tmp_path)
    (tmp_path / "truth.json").write_text('{"format": 99}')
    with pytest.raises(FileError, match="format 99"):
        load_truth(tmp_path)


def test_progress_counts_sounds_and_runs(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    simulate_dataset(tmp_path / "a", EEG, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 10) for k in range(11)]  # 6 sounds, 2 people x 2 runs


def test_the_same_settings_give_the_same_bytes(eeg: Path, fmri: Path, tmp_path: Path) -> None:
    for first, settings in ((eeg, EEG), (fmri, FMRI)):
        again = simulate_dataset(tmp_path / first.name, settings)
        files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
        assert files == sorted(p.relative_to(again) for p in again.rglob("*") if p.is_file())
        for name in files:
            if name.suffix != ".npz":  # a zip tells the time of its making
                assert (first / name).read_bytes() == (again / name).read_bytes(), name


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileError, match="not an empty folder"):
        simulate_dataset(tmp_path, EEG)
    with pytest.raises(FileError, match="not an empty folder"):
        simulate_dataset(tmp_path / "notes.txt", EEG)
    with pytest.raises(FileError, match="Cannot write"):
        simulate_dataset(tmp_path / "notes.txt" / "below", EEG)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    out = tmp_path / "empty"
    out.mkdir()
    simulate_dataset(out, replace(EEG, n_people=1))
    assert (out / "dataset_description.json").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, os.strerror(28))])
def test_what_was_not_finished_is_not_left_behind(tmp_path: Path, error: BaseException) -> None:
    def stop(done: int, total: int) -> None:
        if done == 8:  # in the middle of the runs
            raise error

    expected = FileError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected) as caught:
        simulate_dataset(tmp_path / "out", EEG, progress=stop)
    if isinstance(error, OSError):
        assert "became full" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_more_than_the_disk_holds_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    one = expected_bytes(replace(FMRI, n_people=1, n_other_voxels=190_000, n_runs=(900, 0)))
    if one * 999 < free:
        pytest.skip("this disk would hold even that")
    huge = replace(FMRI, n_people=999, n_other_voxels=190_000, n_runs=(900, 0))
    with pytest.raises(FileError, match="MB left"):
        simulate_dataset(tmp_path / "out", huge)
    assert list(tmp_path.iterdir()) == []


def test_the_room_that_is_asked_for_is_about_the_room_it_takes(eeg: Path, fmri: Path) -> None:
    for root, settings in ((eeg, EEG), (fmri, FMRI)):
        taken = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
        assert taken < expected_bytes(settings) < taken + 4_000_000


@pytest.fixture(scope="module")
def validator(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The BIDS validator from npm, got once for all tests."""
    if found := shutil.which(os.environ.get("BIDS_VALIDATOR", "bids-validator")):
        return found
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("neither bids-validator nor npm is on this machine")
    folder = tmp_path_factory.mktemp("npm")
    options = ("--silent", "--no-audit", "--no-fund", "--prefix", str(folder))
    try:
        subprocess.run(
            [npm, "install", *options, "bids-validator@1"],
            capture_output=True,
            timeout=180,
            check=True,
        )
    except subprocess.TimeoutExpired:
        pytest.skip("npm does not get bids-validator in time")
    except subprocess.CalledProcessError:
        pytest.skip("npm cannot get bids-validator")
    return str(folder / "node_modules" / ".bin" / "bids-validator")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["fmri", "eeg", "ds003720", "songs"])
def test_the_bids_validator_finds_no_error(
    which: str, fmri: Path, eeg: Path, tmp_path: Path, validator: str
) -> None:
    songs = replace(EEG, timetable="songs", n_sessions=1, snr=0.0, fingerprint=0.3, n_people=1)
    root = {"fmri": fmri, "eeg": eeg}.get(which)
    if root is None:
        root = simulate_dataset(tmp_path / which, DS003720 if which == "ds003720" else songs)
    done = subprocess.run(
        [validator, str(root), "--verbose"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "[ERR]" not in done.stdout
