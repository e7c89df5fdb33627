"""Tables of samples: the real ones, and damaged ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import FileError
from stream.recordings import Segment, read_recording
from tests.data import shared


@pytest.mark.data
@pytest.mark.parametrize("folder", ["eeg_ssaep", "eeg_auditory_oddball"])
def test_real_tables_keep_every_sample_and_the_row_of_every_marker(folder: str) -> None:
    for path in sorted(shared(folder).glob("*.csv")):
        table = np.genfromtxt(path, delimiter=",", skip_header=1)
        recording = read_recording(path)
        signal = recording.choose()
        assert signal.segments == (Segment(0, len(table), 0),)
        assert signal.labels == ("TP9", "AF7", "AF8", "TP10", "Right AUX")
        assert np.array_equal(signal.samples, (table[:, 1:6] * 1e-6).astype(np.float32))
        assert signal.sfreq_hz == 256.0
        assert np.abs(signal.stamps - table[:, 0]).max() < 0.05
        rows = np.flatnonzero(table[:, 6])
        assert np.array_equal(recording.markers[0].stamps, signal.stamps[rows])
        assert recording.markers[0].texts == tuple(f"{code:g}" for code in table[rows, 6])


def a_table(path: Path, rows: list[str], header: str = "timestamps,A,B,Marker0") -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


ROWS = [f"{k / 200:.4f},{k % 7},{k % 5},{1 if k == 50 else 0}" for k in range(1000)]


def test_rows_that_are_missing_are_a_gap(tmp_path: Path) -> None:
    recording = read_recording(a_table(tmp_path / "x.csv", ROWS[:400] + ROWS[430:]))
    assert recording.choose().segments == (Segment(0, 400, 0), Segment(400, 970, 430))


def test_an_empty_field_is_a_missing_value(tmp_path: Path) -> None:
    rows = [*ROWS[:10], "0.05,,1,0", *ROWS[11:]]
    samples = read_recording(a_table(tmp_path / "x.csv", rows)).choose().samples
    assert np.isnan(samples[10, 0])
    assert np.isfinite(samples).sum() == samples.size - 1


@pytest.mark.parametrize(
    ("rows", "header", "said"),
    [
        (
            [*ROWS[:20], "0.1,2", *ROWS[21:]],
            "timestamps,A,B,Marker0",
            "line 22: expected 4 numbers",
        ),
        ([*ROWS[:20], "0.1,x,3,0"], "timestamps,A,B,Marker0", "line 22"),
        (ROWS, "A,timestamps,B,Marker0", "begins with the column 'A'"),
        ([], "timestamps,A", "a header and no samples"),
        (["0,1", "0.1,1"], "timestamps,Marker0", "no channel column"),
        (["0,nan", "0.1,nan"], "timestamps,A", "only NaN"),
    ],
)
def test_a_damaged_table_names_its_line(
    tmp_path: Path, rows: list[str], header: str, said: str
) -> None:
    with pytest.raises(FileError, match=said):
        read_recording(a_table(tmp_path / "x.csv", rows, header))
