"""XDF recordings against pyxdf: real ones, and what is wrong with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import pyxdf

from models.errors import FileError, SettingError
from stream.recordings import read_recording
from tests.data import shared

pytestmark = pytest.mark.data


def stream_of(name: str, kind: str, **options: Any) -> Any:
    streams, _ = pyxdf.load_xdf(str(shared(name)), **options)
    return next(s for s in streams if s["info"]["type"][0] == kind)


@pytest.mark.parametrize("person", ["P001", "P003", "P050"])
def test_streams_that_share_a_name_equal_pyxdf_in_volts(person: str) -> None:
    name = f"xdf/muse/sub-{person}.xdf"
    signal = read_recording(shared(name), kind="EEG").choose()
    stream = stream_of(name, "EEG")
    expected = (stream["time_series"].astype(np.float64) * 1e-6).astype(np.float32)
    assert np.array_equal(signal.samples, expected)
    assert signal.stamps == pytest.approx(stream["time_stamps"], abs=1e-6)
    assert (signal.unit, signal.labels[0], signal.sfreq_hz) == ("V", "TP9", 256.0)


def test_empty_streams_are_left_out_and_named() -> None:
    recording = read_recording(shared("xdf/muse/sub-P003.xdf"))
    assert [s.type for s in recording.signals] == ["EEG"]
    for kind in ("GYRO", "ACC", "PPG"):
        assert any(f"({kind}) is empty" in text for text in recording.warnings)


def test_other_units_stay_as_they_are() -> None:
    signal = read_recording(shared("xdf/muse/sub-P050.xdf"), kind="ACC").choose()
    assert (signal.unit, signal.scale) == ("g", 1.0)
    expected = stream_of("xdf/muse/sub-P050.xdf", "ACC")["time_series"]
    assert np.array_equal(signal.samples, expected)


def test_a_clock_reset_is_a_gap_and_markers_stay_beside_their_samples() -> None:
    name = "xdf/example-files/clock_resets.xdf"
    recording = read_recording(shared(name))
    signal = recording.choose()
    stream = stream_of(name, "EEG")
    assert [(s.start, s.stop) for s in signal.segments] == [(0, 12876), (12876, 27815)]
    assert signal.stamps == pytest.approx(stream["time_stamps"], abs=1e-6)
    markers = stream_of(name, "Markers")
    assert recording.markers[0].stamps == pytest.approx(markers["time_stamps"], abs=1e-9)
    assert recording.markers[0].texts == tuple(row[0] for row in markers["time_series"])
    assert any("run at 92.893 Hz" in text for text in recording.warnings)


def test_the_minimal_file_has_its_documented_values() -> None:
    recording = read_recording(shared("xdf/example-files/minimal.xdf"))
    signal = recording.choose()
    assert signal.samples[:2] * 1e6 == pytest.approx(np.array([[192, 255, 238], [12, 22, 32]]))
    assert signal.stamps == pytest.approx(5.0 + 0.1 * np.arange(9))  # 5.1 and an offset of -0.1
    assert recording.markers[0].texts[1:5] == ("Hello", "World", "from", "LSL")


def test_an_interrupted_recording_is_read_with_its_markers() -> None:
    recording = read_recording(shared("xdf/unicorn_rest/sub-10_aep-feedback_interrupted.xdf"))
    assert recording.choose().samples.shape == (37777, 17)
    assert len(recording.markers[0].texts) == 78
    assert any("no footer" in text for text in recording.warnings)


def test_a_stream_without_unit_is_scaled_when_a_person_says_so() -> None:
    path = shared("xdf/unicorn_rest/sub-4_closed.xdf")
    raw = read_recording(path).choose()
    assert (raw.unit, raw.scale) == ("", 1.0)
    eeg = read_recording(path, unit="microvolts", channels=[str(i) for i in range(8)]).choose()
    assert eeg.n_channels == 8
    assert eeg.samples == pytest.approx(raw.samples[:, :8] * 1e-6, rel=1e-6)


def test_markers_alone_are_no_recording_and_the_streams_are_named() -> None:
    with pytest.raises(FileError, match=r"'markers' \(Markers, string, 15 samples\)"):
        read_recording(shared("xdf/unicorn_rest/sub-1_markers-only.xdf"))


def test_a_wrong_type_lists_what_there_is() -> None:
    with pytest.raises(SettingError, match="'Muse' \\(EEG, 5 channels\\)"):
        read_recording(shared("xdf/muse/sub-P050.xdf"), kind="BOLD")
