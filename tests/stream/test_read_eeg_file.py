"""BrainVision, EDF, BDF, EEGLAB and FIF against MNE, and what their headers promise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

from models.errors import FileError, SettingError
from stream.recordings import Segment, read_recording
from tests.data import shared
from tests.stream.recording_files import write_brainvision, write_edf, write_eeglab


def mne_data(path: Path, labels: tuple[str, ...]) -> Any:
    raw = mne.io.read_raw(path, preload=True, verbose="ERROR")
    return raw.get_data(picks=list(labels)).T


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n_channels", "sfreq_hz", "n_markers"),
    [
        ("eeg_formats/brainvision/test.vhdr", 26, 1000.0, [13]),
        ("eeg_formats/edf/test.edf", 138, 512.0, [5, 13]),
        ("eeg_formats/bdf/Newtest17-256.bdf", 16, 256.0, [80]),
        ("eeg_physionet_s001/S001R04.edf", 64, 160.0, [30]),
    ],
)
def test_real_files_equal_mne_in_volts(
    name: str, n_channels: int, sfreq_hz: float, n_markers: list[int]
) -> None:
    path = shared(name)
    recording = read_recording(path)
    signal = recording.choose()
    assert (signal.n_channels, signal.sfreq_hz, signal.unit) == (n_channels, sfreq_hz, "V")
    assert np.array_equal(signal.samples, mne_data(path, signal.labels).astype(np.float32))
    assert signal.stamps == pytest.approx(np.arange(len(signal.stamps)) / sfreq_hz, abs=1e-12)
    assert [len(series.texts) for series in recording.markers] == n_markers


@pytest.mark.data
def test_triggers_are_where_mne_finds_them() -> None:
    path = shared("eeg_formats/bdf/Newtest17-256.bdf")
    raw = mne.io.read_raw_bdf(path, preload=True, verbose="ERROR")
    events = mne.find_events(raw, consecutive=True, shortest_event=1, mask=0xFFFF, verbose="ERROR")
    series = read_recording(path).markers[0]
    assert np.array_equal(np.round(series.stamps * 256).astype(int), events[:, 0])
    assert [int(text) for text in series.texts] == events[:, 2].tolist()


@pytest.mark.data
def test_annotations_keep_their_times_and_channels_that_are_no_eeg_are_named() -> None:
    recording = read_recording(shared("eeg_formats/brainvision/test.eeg"))
    assert recording.markers[0].stamps[:3] == pytest.approx([0.486, 0.496, 1.769])
    assert recording.markers[0].texts[:2] == ("Stimulus/S253", "Stimulus/S255")
    assert any("HR (misc)" in text for text in recording.warnings)


@pytest.mark.data
def test_alpha_is_higher_with_eyes_closed() -> None:
    from scipy.signal import welch

    ratio = {}
    for name, run in (("open", "S001R01"), ("closed", "S001R02")):
        signal = read_recording(
            shared(f"eeg_physionet_s001/{run}.edf"), channels=["O1..", "Oz..", "O2.."]
        ).choose()
        freqs, power = welch(signal.samples.T.astype(float), 160.0, nperseg=320)
        mean = power.mean(axis=0)
        alpha = mean[(freqs >= 8) & (freqs <= 12)].mean()
        ratio[name] = float(alpha / mean[(freqs >= 1) & (freqs <= 40)].mean())
    assert ratio["open"] == pytest.approx(1.2, abs=0.3)
    assert ratio["closed"] == pytest.approx(5.6, abs=0.6)


def counts(n_records: int = 5, n: int = 100) -> np.ndarray:
    return np.random.default_rng(2).integers(-900, 900, (n_records, 2, n)).astype(np.int16)


def test_edf_is_read_in_volts_with_its_events(tmp_path: Path) -> None:
    path = tmp_path / "x.edf"
    write_edf(path, counts(), range(5), events=[(1, 1.25, "beep")])
    recording = read_recording(path)
    signal = recording.choose()
    expected = counts().transpose(0, 2, 1).reshape(-1, 2) * 1e-7
    assert signal.samples == pytest.approx(expected, abs=1e-10)
    assert recording.markers[0].texts == ("beep",)
    assert recording.markers[0].stamps == pytest.approx([1.25])


def test_a_paused_edf_has_a_gap_where_mne_runs_on(tmp_path: Path) -> None:
    path = tmp_path / "x.edf"
    onsets = [0, 1, 2, 12.5, 13.5]
    write_edf(path, counts(), onsets, events=[(3, 12.75, "beep")], reserved="EDF+D")
    recording = read_recording(path)
    signal = recording.choose()
    assert signal.segments == (Segment(0, 300, 0), Segment(300, 500, 1250))
    assert signal.stamps[[299, 300]] == pytest.approx([2.99, 12.5])
    assert recording.markers[0].stamps == pytest.approx([12.75])
    assert any("1 gaps, 950 samples" in text for text in recording.warnings)


def test_an_edf_that_names_no_unit_is_taken_in_microvolts(tmp_path: Path) -> None:
    path = tmp_path / "x.edf"
    write_edf(path, counts(), range(5), unit="")
    recording = read_recording(path)
    expected = counts().transpose(0, 2, 1).reshape(-1, 2) * 1e-7
    assert recording.choose().samples == pytest.approx(expected, abs=1e-10)
    assert any("names no unit" in text for text in recording.warnings)


def test_a_person_can_correct_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "x.edf"
    write_edf(path, counts(), range(5), unit="mV")
    expected = counts().transpose(0, 2, 1).reshape(-1, 2) * 1e-7
    assert read_recording(path, unit="uV").choose().samples == pytest.approx(expected, abs=1e-10)
    assert "no EEG" in " ".join(read_recording(path).warnings)
    with pytest.raises(SettingError, match="not a voltage"):
        read_recording(path, unit="furlong")


@pytest.mark.parametrize("cut", [1, 100, 1500])
def test_a_cut_edf_names_both_sizes(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "x.edf"
    write_edf(path, counts(), range(5))
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(FileError, match=f"{whole:,} bytes; the file has {whole - cut:,}"):
        read_recording(path)


def test_a_file_of_another_kind_is_not_read_as_edf(tmp_path: Path) -> None:
    path = tmp_path / "x.edf"
    path.write_bytes(b"RIFF" + bytes(2000))
    with pytest.raises(FileError, match="does not begin as EDF files do"):
        read_recording(path)


def some_counts(n: int = 1000) -> np.ndarray:
    return np.random.default_rng(3).integers(-500, 500, (n, 3)).astype(np.int16)


def test_brainvision_pauses_become_gaps_by_their_dates(tmp_path: Path) -> None:
    markers = [
        "New Segment,,1,1,0,20200101120000000000",
        "Stimulus,S  1,100,1,0",
        "New Segment,,501,1,0,20200101120030000000",
        "Stimulus,S  2,601,1,0",
    ]
    path = write_brainvision(tmp_path, some_counts(), sfreq_hz=100.0, markers=markers)
    recording = read_recording(path)
    signal = recording.choose()
    np.testing.assert_allclose(signal.samples, some_counts() * 0.5e-6, rtol=1e-6)
    assert signal.segments == (Segment(0, 500, 0), Segment(500, 1000, 3000))
    series = dict(
        zip(recording.markers[0].texts, recording.markers[0].stamps.tolist(), strict=True)
    )
    assert series["Stimulus/S  1"] == pytest.approx(0.99)
    assert series["Stimulus/S  2"] == pytest.approx(31.0)


def test_a_cut_brainvision_file_is_refused(tmp_path: Path) -> None:
    path = write_brainvision(
        tmp_path, some_counts(), sfreq_hz=100.0, markers=["Stimulus,S  1,900,1,0"]
    )
    data = tmp_path / "rec.eeg"
    whole = data.read_bytes()
    data.write_bytes(whole[:-3])
    with pytest.raises(FileError, match="cut short"):
        read_recording(path)
    data.write_bytes(whole[: 6 * 400])
    with pytest.raises(FileError, match="a marker at sample 900, the data end at 400"):
        read_recording(path)
    data.write_bytes(b"")
    with pytest.raises(FileError, match="git annex get"):
        read_recording(path)
    data.unlink()
    with pytest.raises(FileError, match="No recording at"):
        read_recording(path)


def test_eeglab_is_read_with_its_events(tmp_path: Path) -> None:
    path = tmp_path / "x.set"
    microvolts = np.random.default_rng(4).normal(0, 20, (4, 800)).astype(np.float32)
    write_eeglab(path, microvolts, sfreq_hz=200.0)
    recording = read_recording(path)
    signal = recording.choose()
    assert signal.samples == pytest.approx(microvolts.T * 1e-6, rel=1e-6)
    assert signal.labels == ("C0", "C1", "C2", "C3")
    assert recording.markers[0].texts == ("a", "b")
    assert recording.markers[0].stamps == pytest.approx([10 / 200, 400 / 200])


def a_fif(path: Path) -> np.ndarray:
    kinds = ["eeg", "eeg", "eog", "stim"]
    info = mne.create_info(["Fz", "Cz", "EOG", "STI 014"], 100.0, kinds)
    data = np.random.default_rng(5).normal(0, 2e-5, (4, 3000))
    data[3] = 0
    data[3, 700:710] = 5
    raw = mne.io.RawArray(data, info, first_samp=1234, verbose="ERROR")
    raw.info["bads"] = ["Cz"]
    raw.set_annotations(
        mne.Annotations([2.0, 10.0, 25.0], [0, 5.0, 0], ["one", "BAD_ACQ_SKIP", "two"])
    )
    raw.save(path, verbose="ERROR")
    return data


def test_fif_keeps_its_pause_its_times_and_its_bad_channels(tmp_path: Path) -> None:
    path = tmp_path / "x_raw.fif"
    data = a_fif(path)
    recording = read_recording(path)
    signal = recording.choose()
    assert signal.labels == ("Fz", "Cz")
    assert signal.bads == ("Cz",)
    assert signal.segments == (Segment(0, 1000, 0), Segment(1000, 2500, 1500))
    assert signal.stamps[1000] == pytest.approx(15.0)
    kept = np.r_[0:1000, 1500:3000]
    assert signal.samples == pytest.approx(data[:2, kept].T, rel=1e-6)
    found = {series.name: (series.texts, series.stamps) for series in recording.markers}
    assert found["x_raw-markers"][0] == ("one", "two")
    assert found["x_raw-markers"][1] == pytest.approx([2.0, 25.0])
    assert found["x_raw-STI 014"][0] == ("5",)
    assert found["x_raw-STI 014"][1] == pytest.approx([7.0])


def test_a_recording_without_eeg_says_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "x_raw.fif"
    info = mne.create_info(2, 100.0, "eog")
    mne.io.RawArray(np.ones((2, 300)), info, verbose="ERROR").save(path, verbose="ERROR")
    with pytest.raises(FileError, match="no EEG channel; it has 2 eog"):
        read_recording(path)
