"""Where a bundle goes is settled before the work; names of any kind end in a bundle that loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from calibration.bundle_out import check_out
from calibration.config import (
    CalibrationSettings,
    EvaluationSettings,
    LagSettings,
    LibrarySettings,
    TargetSettings,
)
from calibration.data.dataset import Dataset, Stimulus
from calibration.pipeline import calibrate_dataset
from export.bundle import load_bundle
from models.errors import FileError, HearbackError, SettingError
from tests.calibration.small_data import eeg_dataset

_SETTINGS = replace(
    CalibrationSettings(),
    evaluation=EvaluationSettings(n_permutations=20, n_bootstrap=20, n_shuffled=0, families=False),
    lag=LagSettings(fixed_s=0.0),
    target=TargetSettings(kind="class"),
)


def _called(data: Dataset, low: str, high: str, *, participant: str = "ann") -> Dataset:
    """Return recordings whose sounds, and whose participant, are called so."""
    names = {"low": low, "high": high}
    runs = tuple(
        replace(
            run,
            participant=participant,
            events=tuple(replace(e, stimulus=names[e.stimulus], label="") for e in run.events),
        )
        for run in data.runs
    )
    return replace(data, runs=runs, stimuli={name: Stimulus(name) for name in (low, high)})


def test_a_new_folder_may_lie_in_folders_that_are_not_there_yet(tmp_path: Path) -> None:
    out = check_out(tmp_path / "a" / "b" / ".." / "c", "ann")
    assert out == tmp_path / "a" / "c"
    assert out.parent.is_dir()
    assert not any(out.parent.iterdir())


@pytest.mark.parametrize("name", ["ä" * 150, "x" * 220])
def test_a_name_that_no_folder_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingError, match="must name a folder"):
        check_out(tmp_path / name, "ann")
    with pytest.raises(SettingError, match="must name a folder"):
        check_out(Path("/"), "ann")


def test_what_is_in_the_way_is_found_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    for name in ("file", "folder", "link"):
        with pytest.raises(FileError, match="is no bundle"):
            check_out(tmp_path / name, "ann")
    with pytest.raises(FileError, match="Nothing can be written"):
        check_out(tmp_path / "file" / "under", "ann")

    def never(what: str, _done: float, _total: float) -> None:
        raise AssertionError(what)

    with pytest.raises(FileError, match="is no bundle"):
        calibrate_dataset(
            eeg_dataset(), "ann", tmp_path / "file", settings=_SETTINGS, progress=never
        )


def test_the_bundle_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "manifest.json").write_text(json.dumps({"participant": "bob"}))
    with pytest.raises(FileError, match="'bob'"):
        check_out(tmp_path / "made", "ann")
    assert check_out(tmp_path / "made", "bob") == tmp_path / "made"
    (tmp_path / "made" / "manifest.json").write_text("damaged")
    check_out(tmp_path / "made", "ann")


def test_odd_and_long_names_end_in_a_bundle_that_loads(tmp_path: Path) -> None:
    long = "Größe <b>&amp; ü$ " * 20
    who = "Zoë Ångström (2. Besuch) " * 12
    data = _called(eeg_dataset(), f"{long}one", f"{long}two", participant=who)
    out = tmp_path / "Bündel von Zoë"
    result = calibrate_dataset(data, who, out, settings=_SETTINGS)
    assert result.decodable
    bundle = load_bundle(out)
    assert bundle.manifest.participant == who[:200]
    sounds = json.loads(bundle.file("library.json").read_text())["items"]
    assert len({item["name"] for item in sounds}) == 2
    assert "<b>&amp" not in (out / "report.html").read_text()
    calibrate_dataset(data, who, out, settings=_SETTINGS)  # once more into the same folder


def _library(folder: Path, *names: str) -> CalibrationSettings:
    rng = np.random.default_rng(0)
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(8_000), 16_000)
    return replace(_SETTINGS, library=LibrarySettings(folder=folder))


def test_the_sounds_of_a_folder_are_those_of_the_classes_they_are_named_for(
    tmp_path: Path,
) -> None:
    settings = _library(tmp_path / "sounds", "low.wav", "high/a.wav", "high/b.wav", "other.wav")
    calibrate_dataset(eeg_dataset(), "ann", tmp_path / "made", settings=settings)
    items = json.loads((tmp_path / "made" / "library.json").read_text())["items"]
    assert {item["name"] for item in items} == {"low.wav", "high/a.wav", "high/b.wav"}
    about = np.load(tmp_path / "made" / "library.npy")
    names = [item["name"] for item in items]
    np.testing.assert_allclose(about[names.index("high/a.wav")], about[names.index("high/b.wav")])


def test_a_folder_that_lacks_a_class_is_one_sentence(tmp_path: Path) -> None:
    settings = _library(tmp_path / "sounds", "low.wav", "other.wav")
    with pytest.raises(SettingError, match=r"no sound for the classes \['high'\]"):
        calibrate_dataset(eeg_dataset(), "ann", tmp_path / "made", settings=settings)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("where", ["features", "fold ses-0", "scoring", "writing the bundle"])
def test_an_interruption_anywhere_leaves_no_half_a_bundle(tmp_path: Path, where: str) -> None:
    out = tmp_path / "made"

    def stop(what: str, _done: float, _total: float) -> None:
        if what == where:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate_dataset(eeg_dataset(), "ann", out, settings=_SETTINGS, progress=stop)
    assert not out.exists()
    left = {path.name for path in tmp_path.iterdir() if path.suffix not in (".steps", ".lock")}
    assert left <= {"made.openings.json"}


def test_how_scores_are_tested_does_not_fit_anything_anew_and_a_setting_of_the_fit_does(
    tmp_path: Path,
) -> None:
    out = tmp_path / "made"

    def found(**other: Any) -> set[str]:
        settings = replace(_SETTINGS, **other)
        result = calibrate_dataset(eeg_dataset(), "ann", out, settings=settings)
        return set(result.facts["steps_found"])

    assert found() == set()
    more = replace(_SETTINGS.evaluation, n_permutations=30, n_bootstrap=30)
    assert found(evaluation=more) == {"fold0", "fold1", "final"}
    assert found(lag=LagSettings(fixed_s=0.1)) == set()
    for step in (tmp_path / "made.steps").glob("final-*.npz"):
        step.write_bytes(b"damaged")
    assert found() == {"fold0", "fold1"}


def test_a_participant_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(HearbackError, match="bob"):
        calibrate_dataset(eeg_dataset(), "bob", tmp_path / "made", settings=_SETTINGS)
