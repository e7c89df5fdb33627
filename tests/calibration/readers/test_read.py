from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import calibration.readers
from calibration.readers import describe, detect_format, list_participants, read_dataset
from calibration.readers.detect import FORMATS, format_module
from models.errors import FileError, HearbackError
from tests.calibration.readers.layouts import events_text, volumes, write_image
from tests.data import shared


def test_every_format_has_a_module_with_the_three_calls() -> None:
    for name in FORMATS:
        module = format_module(name)
        assert {"matches", "participants", "read"} <= set(module.__all__)
    assert set(calibration.readers.__all__) == {
        "describe",
        "detect_format",
        "list_participants",
        "read_dataset",
    }


def test_nothing_or_something_else_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No data set at"):
        detect_format(tmp_path / "none")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(FileError, match=r"is no data set that can be read \(it holds a.txt\)"):
        read_dataset(tmp_path)


def test_progress_and_description_are_plain_values(tmp_path: Path) -> None:
    for run in (1, 2):
        write_image(tmp_path / f"r{run}.nii.gz", volumes(seed=run))
        (tmp_path / f"r{run}_events.tsv").write_text(
            events_text("onset duration trial_type", [(0, 3, "a"), (3, 3, "b")][:run])
        )
    said: list[tuple[float, float]] = []
    dataset = read_dataset(tmp_path, progress=lambda done, total: said.append((done, total)))
    assert said == [(0, 2), (1, 2), (2, 2)]
    counts = json.loads(json.dumps(describe(dataset)))
    person = counts["participants"][tmp_path.name]
    assert person["parts"]["all"] == {"clips": 2, "presentations": 3, "repetitions": "1 to 2"}
    assert person["seconds"] == 36.0
    assert counts["labels"] == {"a": 1, "b": 1}


@pytest.mark.data
@pytest.mark.parametrize(
    "name",
    [
        "audio_fsdd",
        "bids_examples",
        "eeg_formats",
        "eeg_physionet_s001",
        "fmri_dicom_opennft",
        "fmri_dicom_vendors",
        "fmri_small",
        "meta_ds002721_music_eeg",
        "meta_openmiir",
        "midi_nottingham",
        "xdf",
        "bids_examples/eeg_rishikesh/sub-001",
        "bids_examples/eeg_matchingpennies/participants.tsv",
    ],
)
def test_real_folders_are_read_or_refused_in_a_sentence(name: str) -> None:
    try:
        dataset = read_dataset(shared(name))
    except HearbackError as error:
        text = str(error)
        assert "\n" not in text
        assert text.endswith((".", "?", "`."))
    else:
        assert dataset.runs
        assert all(np.isfinite(run.signal).all() for run in dataset.runs)
        assert list_participants(shared(name)) == dataset.participants
