"""What a bundle says of its making is believed only as far as it was checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calibration.bundle_reading import bundle_samples, decode_with_bundle, read_about
from calibration.config import (
    CalibrationSettings,
    EvaluationSettings,
    LagSettings,
    TargetSettings,
)
from calibration.data.dataset import Dataset, Event, Run, Stimulus
from calibration.pipeline import calibrate_dataset
from export.bundle import Bundle, load_bundle, save_bundle
from export.npy import write_npy
from models.errors import BundleError
from tests.calibration.small_data import eeg_dataset

_SETTINGS = replace(
    CalibrationSettings(),
    evaluation=EvaluationSettings(n_permutations=20, n_bootstrap=20, n_shuffled=0, families=False),
    lag=LagSettings(fixed_s=0.0),
    target=TargetSettings(kind="class"),
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    out = tmp_path_factory.mktemp("bundles") / "made"
    calibrate_dataset(eeg_dataset(), "ann", out, settings=_SETTINGS)
    return load_bundle(out)


def _edited(bundle: Bundle, out: Path, change: Callable[[dict[str, Any]], object]) -> Bundle:
    """Write a bundle whose calibration.json somebody changed, with digests that fit."""
    files: dict[str, bytes | Path] = {name: bundle.file(name) for name in bundle.manifest.files}
    about = json.loads(bundle.file("calibration.json").read_text())
    change(about)
    files["calibration.json"] = json.dumps(about).encode()
    return save_bundle(out, bundle.manifest, files)


def test_what_calibrate_wrote_is_read(bundle: Bundle) -> None:
    about, rows = read_about(bundle)
    assert about["classes"] == ["high", "low"]
    assert rows.shape == (3, 2)


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.pop("lag_s"),
        lambda about: about.update(lag_s="0"),
        lambda about: about.update(lag_s=1e9),
        lambda about: about.update(schema=2),
        lambda about: about.update(closed="yes"),
        lambda about: about.update(closed=1),
        lambda about: about.update(extra=1),
        lambda about: about.update(classes=["high"]),
        lambda about: about.update(classes=["high", "high"]),
        lambda about: about.update(classes=["high", 3]),
        lambda about: about.update(classes="high, low"),
        lambda about: about.update(target="mel"),
        lambda about: about.update(target=""),
        lambda about: about.update(trained_on=[1, 2]),
        lambda about: about.update(plan=[]),
        lambda about: about["plan"].pop("choice"),
        lambda about: about["plan"].pop("stretch"),
        lambda about: about["plan"].update(stretch="song"),
        lambda about: about["plan"].update(choice=["all"]),
        lambda about: about["plan"]["choice"].update(choose="some"),
        lambda about: about["plan"]["choice"].update(hop_s="1"),
        lambda about: about["plan"]["choice"].update(unknown=1),
    ],
)
def test_an_edited_file_is_refused_in_one_sentence(
    bundle: Bundle, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(BundleError, match=r"not what `hearback calibrate` writes"):
        read_about(_edited(bundle, tmp_path / "edited", change))


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"schema": NaN}', b"\xff"])
def test_what_is_no_json_object_is_refused(bundle: Bundle, tmp_path: Path, content: bytes) -> None:
    files: dict[str, bytes | Path] = {name: bundle.file(name) for name in bundle.manifest.files}
    files["calibration.json"] = content
    with pytest.raises(BundleError, match=r"calibration\.json"):
        read_about(save_bundle(tmp_path / "edited", bundle.manifest, files))


def test_targets_that_are_not_finite_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    files: dict[str, bytes | Path] = {name: bundle.file(name) for name in bundle.manifest.files}
    files["target.npy"] = write_npy(np.full((3, 2), np.nan))
    with pytest.raises(BundleError, match="finite"):
        read_about(save_bundle(tmp_path / "edited", bundle.manifest, files))


def _heard(bundle: Bundle, dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Any:
    import calibration.bundle_reading

    # The recordings are in memory; reading files is what the readers' own tests are about.
    monkeypatch.setattr(calibration.bundle_reading, "read_participant", lambda *_a, **_k: dataset)
    about, rows = read_about(bundle)
    return bundle_samples(
        bundle, about, rows, Path("data"), participant=None, settings=_SETTINGS
    ), rows


def test_recordings_with_fewer_classes_are_decoded_towards_the_same_vectors(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from calibration.scoring import closed_classes

    other = eeg_dataset(seed=5)
    only = tuple(
        replace(run, events=tuple(e for e in run.events if e.label == "low")) for run in other.runs
    )
    heard, rows = _heard(bundle, replace(other, runs=only), monkeypatch)
    assert not heard.leaky
    names, vectors, code = closed_classes(heard.samples, heard.targets)
    assert names == ("high", "low")
    np.testing.assert_array_equal(vectors, np.eye(2))
    assert set(code.tolist()) == {1}
    decoded = decode_with_bundle(bundle, heard.samples, rows[0])
    assert np.isfinite(decoded.raw).all()


def _slower(run: Run) -> Run:
    return replace(run, sfreq_hz=run.sfreq_hz * 1.1, stamps_s=run.stamps_s / 1.1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: replace(d, channels=d.channels[::-1]), "in this order, got"),
        (lambda d: replace(d, channels=("x", "y", "z")), "channels .* are expected, got x"),
        (lambda d: replace(d, modality="bold"), "eeg is expected, got bold"),
        (lambda d: replace(d, runs=(d.runs[0], _slower(d.runs[1]))), "samples a second"),
        (
            lambda d: replace(
                d, runs=tuple(replace(run, signal=run.signal[:, :2]) for run in d.runs)
            ),
            "3 channels or voxels are expected, got 2",
        ),
    ],
)
def test_recordings_that_do_not_fit_are_refused(
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Dataset], Dataset],
    sentence: str,
) -> None:
    with pytest.raises(BundleError, match=sentence):
        _heard(bundle, change(eeg_dataset(seed=5)), monkeypatch)


def test_a_class_that_the_bundle_does_not_know_is_one_sentence(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.errors import SettingError

    data = eeg_dataset(seed=5)
    events = (*data.runs[0].events[:-1], Event(30.0, 1.0, "new", "new"))
    runs = (replace(data.runs[0], events=events), *data.runs[1:])
    stimuli = {**data.stimuli, "new": Stimulus("new", "new")}
    with pytest.raises(SettingError, match="no vector for stimulus 'new'"):
        _heard(bundle, replace(data, runs=runs, stimuli=stimuli), monkeypatch)


def test_the_same_recordings_are_known_again(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, _ = _heard(bundle, eeg_dataset(), monkeypatch)
    assert heard.leaky
