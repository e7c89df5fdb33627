from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from calibration.data.dataset import Event, Run
from calibration.data.samples import Samples
from calibration.reproduce.music import with_dummies
from calibration.reproduce.musical_perception import in_sample_r2, shortcuts
from calibration.reproduce.options import ReproduceOptions
from calibration.reproduce.record import Reproduction
from calibration.reproduce.run import reproduce
from tests.calibration.reproduce.layouts import music


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    root = tmp_path_factory.mktemp("music")
    data, _ = music(root, n_runs=(1, 1))
    options = ReproduceOptions(
        data=data,
        stimuli=root / "genres",
        partial=True,
        n_permutations=100,
        n_shuffled=0,
        n_folds=3,
    )
    return reproduce("musical-perception", options)


def test_one_window_for_each_clip_is_identified(page: Reproduction) -> None:
    (row,) = [row for row in page.rows if row.table == "decoding"]
    assert row.ours is not None
    assert row.ours > 0.8
    assert row.published is not None
    assert row.published.value == 0.914
    assert row.stamp == "not comparable"
    assert row.using == "mel-statistics of the 15 s played"
    assert row.remark.startswith("10 clips")
    (voxels,) = [row for row in page.rows if row.name == "threshold r > .05"]
    assert voxels.ours is not None
    assert 25 <= voxels.ours <= 40


def test_shortcuts_are_stamped_and_their_price_is_printed(page: Reproduction) -> None:
    rows = [row for row in page.rows if row.table == "shortcuts"]
    assert len(rows) == 3
    assert {row.stamp for row in rows} == {"leaky"}
    assert rows[0].remark.startswith("41 rows")  # of one test run
    assert all("more than honest" in row.controls for row in rows)
    assert rows[2].ours >= rows[1].ours  # type: ignore[operator]
    assert next(r.waits for r in page.rows if r.name == "10 people").startswith("listeners")


def run(part: str, clips: list[str]) -> Run:
    events = tuple(Event(15.0 * (k + 1), 15.0, clip) for k, clip in enumerate(clips))
    signal = np.zeros((60, 2), np.float32)
    stamps = 1.5 * np.arange(60)
    return Run("sub-001", "", part, part, signal, 1 / 1.5, stamps, events)  # type: ignore[arg-type]


def test_the_first_row_repeats_the_run_before_or_the_test_run_itself() -> None:
    first, second = with_dummies([run("train", ["a", "b"]), run("train", ["c", "d"])])
    assert [event.stimulus for event in first.events] == ["d", "a", "b"]
    assert [event.stimulus for event in second.events] == ["b", "c", "d"]
    assert second.events[0].onset_s == 0.0
    (test,) = with_dummies([run("test", ["x", "y"])])
    assert [event.stimulus for event in test.events] == ["y", "x", "y"]
    late = replace(test, events=test.events)  # begins at 0 already: there is no room
    assert with_dummies([late])[0].events == late.events


def noise(n: int, n_voxels: int, rng: np.random.Generator) -> Samples:
    names = np.array([f"clip{k:03d}" for k in range(n)])
    blank = np.full((n, 1), "")
    return Samples(
        x=rng.normal(size=(n, 1, n_voxels)).astype(np.float32),
        y=rng.normal(size=(n, 4)),
        clip=names,
        label=np.full(n, ""),
        start_s=np.zeros(n),
        stop_s=np.full(n, 15.0),
        person=np.full(n, "p"),
        session=blank,
        run=blank,
        previous_clip=np.full(n, ""),
        order=np.arange(n, dtype=np.float64),
    )


def test_in_sample_r2_passes_voxels_of_noise_and_choosing_on_test_flatters() -> None:
    rng = np.random.default_rng(0)
    train, test = noise(40, 300, rng), noise(20, 300, rng)
    r2 = in_sample_r2(train.y, train.x[:, 0])
    assert np.mean(r2 > 0.1) > 0.1
    steps = shortcuts(train, test)
    assert steps[-1].result.strict >= steps[-2].result.strict


def test_a_path_that_is_something_else_is_one_sentence(tmp_path: Path) -> None:
    from models.errors import FileError, SettingError
    from tests.calibration.reproduce.layouts import eeg_songs

    data, _ = eeg_songs(tmp_path, n_songs=1, n_people=2, seconds=3)
    with pytest.raises(FileError, match="holds nmed-t recordings; expected the music genre"):
        reproduce("musical-perception", ReproduceOptions(data=data))
    with pytest.raises(SettingError, match="Name the data set with --data"):
        reproduce("musical-perception", ReproduceOptions())


@pytest.mark.slow
def test_a_second_person_is_aligned_on_training_clips(tmp_path: Path) -> None:
    data, _ = music(tmp_path, n_people=2, n_runs=(2, 1))
    options = ReproduceOptions(
        data=data, stimuli=tmp_path / "genres", partial=True, n_permutations=50, n_shuffled=0,
        n_folds=3, only=("decoding",),
    )  # fmt: skip
    page = reproduce("musical-perception", options)
    alone, aligned = [row for row in page.rows if row.table == "decoding"]
    assert set(alone.people) == {"sub-001", "sub-002"}
    assert "sub-001 with 1 others aligned" in aligned.using
    assert aligned.ours is not None
    assert aligned.ours > 0.8
