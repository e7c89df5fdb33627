from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from calibration.readers import describe, detect_format, list_participants, read_dataset
from calibration.readers.ds003720 import read_clips
from models.errors import FileError
from tests.calibration.readers.layouts import (
    ds003720,
    ds003720_rows,
    volumes,
    write_image,
    write_sound,
)
from tests.data import shared


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ds003720(tmp_path_factory.mktemp("music") / "ds003720")


@pytest.fixture
def music(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "ds003720"))


def test_the_repeated_row_goes_and_480_and_60_clips_stay(written: Path) -> None:
    assert detect_format(written) == "ds003720"
    dataset = read_dataset(written, participant="1")
    assert dataset.participants == ("sub-001",)
    counts = describe(dataset)["participants"]["sub-001"]
    assert counts["runs"] == 18
    assert counts["samples"] == 18 * 410
    assert counts["parts"] == {
        "train": {"clips": 480, "presentations": 480, "repetitions": "1"},
        "test": {"clips": 60, "presentations": 240, "repetitions": "4"},
    }
    by_part = {part: [r for r in dataset.runs if r.part == part] for part in ("train", "test")}
    assert [len(runs) for runs in by_part.values()] == [12, 6]
    heard = {p: {e.stimulus for r in runs for e in r.events} for p, runs in by_part.items()}
    assert not heard["train"] & heard["test"]
    run = by_part["train"][0]
    assert len(run.events) == 40
    assert (run.events[0].onset_s, run.events[0].duration_s) == (15.0, 15.0)
    assert run.events[0].label == "blues"  # written in quotes
    assert set(Counter(e.label for e in run.events).values()) == {4}
    assert run.tr_s == pytest.approx(1.5)


def test_sounds_are_the_excerpts_of_the_tracks(written: Path, tmp_path: Path) -> None:
    gtzan = tmp_path / "genres"
    rows = {row for n in (1, 2) for row in ds003720_rows("Training", n)[1:]}
    for genre, track, _start, _stop in rows:
        write_sound(gtzan / genre / f"{genre}.{track:05d}.wav", 30.0, sample_rate_hz=100)
    dataset = read_dataset(written, runs=("1", "2"), tasks="Training", stimuli=gtzan)
    for event in dataset.runs[0].events:
        stimulus = dataset.stimuli[event.stimulus]
        assert stimulus.path is not None
        assert (
            event.stimulus == f"{stimulus.path.stem}@{stimulus.start_s:g}-{stimulus.start_s + 15:g}"
        )
        assert stimulus.duration_s == pytest.approx(15.0)
    with pytest.raises(FileError, match=r"has no \w+\.\d{5}\.wav; expected the GTZAN tracks"):
        read_dataset(written, stimuli=gtzan)
    write_sound(next(gtzan.rglob("*.wav")), 10.0, sample_rate_hz=100)
    with pytest.raises(FileError, match=r"expected at least [\d.]+ s of sound, got 10.00 s"):
        read_dataset(written, runs=("1", "2"), tasks="Training", stimuli=gtzan)


def test_wrong_counts_are_one_sentence_or_with_strict_off_a_warning(music: Path) -> None:
    func = music / "sub-001" / "func"
    table = func / "sub-001_task-Test_run-03_events.tsv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join(lines[:-1]) + "\n")
    with pytest.raises(FileError, match=r"Test_run-03_events.tsv: expected 41 rows .*, got 40\."):
        read_dataset(music)
    dataset = read_dataset(music, strict=False)
    assert any("expected 41 rows" in text for text in dataset.warnings)
    assert any("expected 60 test clips heard 4 times" in text for text in dataset.warnings)
    table.write_text("\n".join([lines[0], lines[2], *lines[2:]]) + "\n")
    with pytest.raises(FileError, match="expected the first row to repeat the last clip"):
        read_dataset(music)


def test_wrong_volumes_and_tr_are_one_sentence(music: Path) -> None:
    func = music / "sub-001" / "func"
    image = func / "sub-001_task-Training_run-05_bold.nii.gz"
    write_image(image, volumes((2, 2, 2), 400))
    with pytest.raises(FileError, match=r"run-05_bold.nii.gz: expected 410 volumes, got 400"):
        read_dataset(music)
    write_image(image, volumes((2, 2, 2), 410), tr_s=2.0)
    image.with_name("sub-001_task-Training_run-05_bold.json").write_text(
        json.dumps({"RepetitionTime": 2.0})
    )
    with pytest.raises(FileError, match=r"run-05_bold.nii.gz: expected a TR of 1.5 s, got 2 s"):
        read_dataset(music, tasks="Training", runs="5")
    image.unlink()
    with pytest.raises(FileError, match=r"expected 480 train clips .* got 440 .* in 11 runs"):
        read_dataset(music)


@pytest.mark.data
def test_real_tables_hold_the_published_counts() -> None:
    root = shared("meta_ds003720_music_genre_fmri")
    tables = sorted(root.rglob("*_events.tsv"))
    assert len(tables) == 90
    for person in list_participants(root):
        heard: dict[str, Counter[str]] = {"Training": Counter(), "Test": Counter()}
        for table in tables:
            if person not in table.name:
                continue
            part = "Test" if "Test" in table.name else "Training"
            clips = read_clips(table)
            assert len(clips) == 41
            # 14.99 s for one of them
            assert all(abs(clip.stop_s - clip.start_s - 15.0) < 0.011 for clip in clips)
            heard[part].update(clip.id for clip in clips[1:])
            if part == "Test":
                assert clips[0].id == clips[-1].id
        assert len(heard["Training"]) == 480
        assert set(heard["Training"].values()) == {1}
        assert len(heard["Test"]) == 60
        assert set(heard["Test"].values()) == {4}
        by_genre = Counter(name.partition(".")[0] for name in heard["Training"])
        assert len(by_genre) == 10
        assert set(by_genre.values()) == {48}


@pytest.mark.data
def test_real_metadata_without_images_is_one_sentence() -> None:
    root = shared("meta_ds003720_music_genre_fmri")
    assert detect_format(root) == "ds003720"
    assert len(list_participants(root)) == 5
    with pytest.raises(FileError, match=r"sub-003: 18 runs are described and none .*datalad get"):
        read_dataset(root, participant="003")
    with pytest.raises(FileError, match="Participant 'sub-009' is not in"):
        read_dataset(root, participant="sub-009")


@pytest.mark.data
def test_real_tables_with_images_give_480_and_60(tmp_path: Path) -> None:
    source = shared("meta_ds003720_music_genre_fmri")
    root = tmp_path / "ds003720"
    shutil.copytree(source / "sub-002", root / "sub-002")
    for table in root.rglob("*_events.tsv"):
        name = table.name.replace("_events.tsv", "_bold.nii.gz")
        write_image(table.with_name(name), volumes((2, 2, 2), 410))
    parts = describe(read_dataset(root))["participants"]["sub-002"]["parts"]
    assert parts["train"]["clips"] == 480
    assert parts["test"] == {"clips": 60, "presentations": 240, "repetitions": "4"}
