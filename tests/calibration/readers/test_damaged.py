from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from calibration.readers import list_participants, read_dataset
from models.errors import HearbackError
from tests.calibration.readers.layouts import events_text, volumes, write_bdata, write_image
from tests.calibration.readers.test_nmed_t import song, write_new, write_old


def nifti(folder: Path) -> None:
    write_image(folder / "r1.nii", volumes())
    write_image(folder / "r2.nii.gz", volumes())
    for run in (1, 2):
        text = events_text("onset duration trial_type", [(0, 3, "a"), (5, 3, "b")])
        (folder / f"r{run}_events.tsv").write_text(text)


def bids(folder: Path) -> None:
    write_image(folder / "sub-1" / "func" / "sub-1_task-a_bold.nii.gz", volumes())
    (folder / "task-a_bold.json").write_text('{"RepetitionTime": 1.5}')
    text = events_text("onset duration trial_type stim_file", [(0, 3, "a", "a.wav")])
    (folder / "task-a_events.tsv").write_text(text)


def stories(folder: Path) -> None:
    (folder / "UTS01").mkdir(parents=True)
    (folder / "respdict.json").write_text('{"life": 50}')
    with h5py.File(folder / "UTS01" / "life.hf5", "w") as file:
        file["data"] = np.ones((30, 4))


def bdata(folder: Path) -> None:
    data = np.random.default_rng(0).normal(size=(6, 5))
    write_bdata(folder / "P_Train.h5", data, ["a", "b"] * 3, {"ROI_x": [0, 1]})


def old_songs(folder: Path) -> None:
    write_old(folder, 21, song(21, 20))


def new_songs(folder: Path) -> None:
    write_new(folder, 21, song(21, 20))


@pytest.mark.parametrize("write", [nifti, bids, stories, bdata, old_songs, new_songs])
def test_damaged_bytes_give_data_or_one_sentence(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    rng = np.random.default_rng(7)
    sentences: list[str] = []
    whole = tmp_path / "whole"
    whole.mkdir()
    write(whole)
    read_dataset(whole, strict=False)
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    for trial in range(40):
        broken = tmp_path / f"broken{trial}"
        shutil.copytree(whole, broken)
        path = broken / files[trial % len(files)]
        data = bytearray(path.read_bytes())
        if trial % 4 == 0:
            del data[int(rng.integers(len(data))) :]
        else:
            # Headers lie at the beginning: most of the damage goes there.
            reach = len(data) if trial % 4 == 1 else min(len(data), 800)
            for place in rng.integers(0, reach, 1 + trial % 8):
                data[place] = int(rng.integers(256))
        path.write_bytes(bytes(data))
        try:
            list_participants(broken)
            dataset = read_dataset(broken, strict=False)
        except HearbackError as error:
            sentences.append(str(error))
        else:
            assert all(run.signal.ndim == 2 for run in dataset.runs)
        shutil.rmtree(broken)
    assert sentences
    assert all(text.strip() for text in sentences)
