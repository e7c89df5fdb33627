"""BIDS data sets: real ones without content, one with, and what is inherited."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as _nibabel
import numpy as np
import pytest

from models.errors import FileError, SettingError
from stream.readers.bids import inherited, inherited_json
from stream.readers.tables import read_events
from stream.recordings import read_recording
from tests.data import shared

nibabel: Any = _nibabel  # half of it has types


@pytest.mark.data
def test_a_whole_data_set_is_read_with_its_tables() -> None:
    recording = read_recording(shared("eeg_formats/tiny_bids"))
    signal = recording.choose()
    assert signal.n_channels == 64  # the table says which of 67 are EEG
    assert "VEOG" not in signal.labels
    assert signal.bads == ("PO10",)
    assert recording.markers[0].texts == ("start_experiment", "show_stimulus")
    assert recording.markers[0].stamps.tolist() == [0.0, 0.2]


@pytest.mark.data
@pytest.mark.parametrize(
    "name", ["ds003", "eeg_cbm", "eeg_rishikesh", "eeg_ds003645s_hed_demo", "volume_timing"]
)
def test_data_sets_without_content_are_refused(name: str) -> None:
    root = shared(f"bids_examples/{name}")
    with pytest.raises((FileError, SettingError), match=r"git annex get|Choose by subject"):
        read_recording(root)
    file = next(p for p in sorted(root.rglob("sub-*")) if p.is_file() and p.stat().st_size == 0)
    if not file.name.endswith(".fdt") and "T1w" not in file.name and "T2" not in file.name:
        with pytest.raises(FileError, match="git annex get"):
            read_recording(file)


@pytest.mark.data
@pytest.mark.parametrize("name", ["meta_ds002721_music_eeg", "meta_ds003720_music_genre_fmri"])
def test_sidecars_without_recordings_say_so(name: str) -> None:
    with pytest.raises(FileError, match="were not fetched"):
        read_recording(shared(name))


@pytest.mark.data
def test_real_event_tables_are_read() -> None:
    folder = shared("meta_ds003720_music_genre_fmri") / "sub-001" / "func"
    events = read_events(folder / "sub-001_task-Training_run-01_events.tsv")
    assert events[:2] == [(0.0, "disco"), (15.0, "blues")]
    folder = shared("meta_ds002721_music_eeg") / "sub-06" / "eeg"
    assert read_events(folder / "sub-06_task-run2_events.tsv")[0] == (2.041, "786")


def a_data_set(root: Path) -> Path:
    func = root / "sub-01" / "ses-a" / "func"
    func.mkdir(parents=True)
    for run in ("1", "2"):
        image = nibabel.Nifti1Image(np.full((2, 2, 2, 5), 700, np.int16), np.eye(4))
        image.header.set_zooms((1, 1, 1, 2))
        nibabel.save(image, func / f"sub-01_ses-a_task-hear_run-{run}_bold.nii.gz")
    (root / "task-hear_bold.json").write_text(json.dumps({"RepetitionTime": 9, "TaskName": "x"}))
    (root / "sub-01" / "sub-01_bold.json").write_text(json.dumps({"RepetitionTime": 2}))
    (root / "task-hear_events.tsv").write_text("onset\tduration\ttrial_type\n1\t1\tfar\n")
    (root / "task-other_events.tsv").write_text("onset\tduration\ttrial_type\n1\t1\tother\n")
    (func / "sub-01_ses-a_task-hear_run-2_events.tsv").write_text(
        "onset\tduration\ttrial_type\n4\t1\tlate\n2\t1\tnear\nn/a\t1\tnever\n"
    )
    return root


def test_what_is_nearer_goes_before_and_other_tasks_do_not_apply(tmp_path: Path) -> None:
    root = a_data_set(tmp_path)
    one = read_recording(root, run="1")
    assert one.choose().period_s == pytest.approx(2.0)
    assert one.markers[0].texts == ("far",)
    two = read_recording(root, run="2", subject="sub-01", session="a", task="hear")
    assert two.markers[0].texts == ("near", "late")
    path = two.path
    assert inherited(path, "channels.tsv") is None
    assert inherited_json(path, "bold.json") == {"RepetitionTime": 2, "TaskName": "x"}


def test_a_choice_that_fits_several_or_none_lists_them(tmp_path: Path) -> None:
    root = a_data_set(tmp_path)
    with pytest.raises(SettingError, match=r"2 of 2 .* fit"):
        read_recording(root)
    with pytest.raises(SettingError, match=r"0 of 2 .* fit"):
        read_recording(root, task="rest")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("time\ttype\n1\tx\n", "no column 'onset'"),
        ("onset\tduration\nsoon\t1\n", "onset 'soon' is no number"),
        ("onset\tduration\n1\t1\t1\t1\n", "row 2: expected 2 fields"),
    ],
)
def test_a_damaged_event_table_names_its_row(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x_events.tsv"
    path.write_text(text)
    with pytest.raises(FileError, match=said):
        read_events(path)


def test_a_folder_of_something_else_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="holds no BIDS recording"):
        read_recording(tmp_path)
