from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.readers import detect_format, read_dataset
from models.errors import FileError, SettingError
from tests.calibration.readers.layouts import events_text, volumes, write_image
from tests.data import shared
from tests.stream.recording_files import write_edf


def make(root: Path, *, table: bool = True) -> Path:
    counts = np.random.default_rng(0).integers(-900, 900, (8, 3, 100)).astype(np.int16)
    for person in ("01", "02"):
        folder = root / f"sub-{person}" / "ses-a" / "eeg"
        folder.mkdir(parents=True)
        stem = f"sub-{person}_ses-a_task-test"
        write_edf(folder / f"{stem}_eeg.edf", counts, range(8), events=[(2, 2.0, "in the file")])
        (folder / f"{stem}_channels.tsv").write_text(
            "name\ttype\tstatus\nEEG C0\tEEG\tgood\nEEG C1\tEEG\tbad\nEEG C2\tEOG\tgood\n"
        )
        if table:
            rows = [(1.0, "n/a", "'tone'"), (3.0, "n/a", "'noise'"), (5.5, 1.0, "'tone'")]
            text = events_text("onset duration trial_type", rows)
            (folder / f"{stem}_events.tsv").write_text(text)
    return root


def test_channels_events_and_names(tmp_path: Path) -> None:
    root = make(tmp_path)
    assert detect_format(root) == "bids-eeg"
    dataset = read_dataset(root, participant="02")
    assert dataset.channels == ("EEG C0", "EEG C1")
    assert any("C1" in text for text in dataset.warnings)
    (run,) = dataset.runs
    assert (run.key, run.part) == ("sub-02/ses-a/task-test", "test")
    assert [(e.onset_s, e.duration_s, e.label) for e in run.events] == [
        (1.0, 2.0, "tone"),
        (3.0, 2.5, "noise"),
        (5.5, 1.0, "tone"),
    ]
    assert run.sfreq_hz == 100.0
    longer = read_dataset(root, participant="02", event_duration_s=0.5).runs[0].events
    assert [e.duration_s for e in longer] == [0.5, 0.5, 1.0]


def test_markers_in_the_file_serve_where_there_is_no_table(tmp_path: Path) -> None:
    (run, _) = read_dataset(make(tmp_path, table=False)).runs
    assert [(e.onset_s, e.duration_s, e.label) for e in run.events] == [(2.0, 6.0, "in the file")]


def test_images_and_eeg_in_one_tree_need_a_word(tmp_path: Path) -> None:
    root = make(tmp_path)
    write_image(root / "sub-01" / "func" / "sub-01_task-test_bold.nii.gz", volumes())
    with pytest.raises(SettingError, match="format 'bids-func' or 'bids-eeg'"):
        read_dataset(root)
    assert len(read_dataset(root, format="bids-eeg").runs) == 2


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("bids_examples/eeg_cbm", "sub-cbm001"),
        ("bids_examples/eeg_ds003645s_hed_demo", "sub-002"),
        ("bids_examples/eeg_matchingpennies", "sub-05"),
        ("bids_examples/eeg_rishikesh", "sub-001"),
        ("meta_ds002721_music_eeg", "sub-06"),
    ],
)
def test_empty_trees_are_one_sentence(name: str, person: str) -> None:
    with pytest.raises(FileError, match=rf"^{person}: .*(hold no data|none of their).*datalad get"):
        read_dataset(shared(name))


@pytest.mark.data
def test_a_real_recording() -> None:
    dataset = read_dataset(shared("eeg_formats/tiny_bids"))
    assert dataset.runs[0].key == "sub-01/ses-eeg/task-rest"
    assert [e.label for e in dataset.runs[0].events] == ["start_experiment", "show_stimulus"]
    assert dataset.runs[0].signal.shape == (10000, 64)
