from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.reproduce.options import ReproduceOptions
from calibration.reproduce.record import Reproduction, Row
from calibration.reproduce.run import reproduce
from models.errors import FileError
from tests.calibration.reproduce.layouts import eeg_songs


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Reproduction:
    data, songs = eeg_songs(tmp_path_factory.mktemp("eeg"))
    options = ReproduceOptions(
        data=data, stimuli=songs, partial=True, seconds=10, alphas=(1e2, 1e4)
    )
    return reproduce("eeg-to-mel", options)


def row(page: Reproduction, table: str, metric: str) -> Row:
    (found,) = [r for r in page.rows if (r.table, r.metric, r.using) == (table, metric, "ridge")]
    return found


ACCURACY = "song classifier accuracy"


def test_deaf_brains_score_under_the_published_split_and_it_is_stamped(page: Reproduction) -> None:
    leaky = row(page, "random chunks", ACCURACY)
    assert leaky.stamp == "leaky"
    assert leaky.ours is not None
    assert leaky.ours > 0.6
    assert leaky.published is not None
    assert leaky.published.value == 0.8286
    assert leaky.difference == pytest.approx(leaky.ours - 0.8286)


def test_the_same_brains_score_nothing_once_the_person_is_left_out(page: Reproduction) -> None:
    for table in ("person-out", "song-out"):
        honest = row(page, table, ACCURACY)
        assert honest.ours is not None
        assert honest.stamp != "leaky"
        assert honest.ours < 0.5
        centred = row(page, table, "cosine without the training mean")
        assert centred.ours is not None
        assert centred.ours < 0.3
    assert row(page, "random chunks", "cosine without the training mean").ours > 0.35  # type: ignore[operator]


def test_the_floors_stand_beside_each_score(page: Reproduction) -> None:
    beside = row(page, "person-out", "cosine").controls
    assert set(beside) == {"mean", "song mean", "within song", "shuffled brain"}
    assert beside["mean"] > 0.8  # what a cosine of mels is worth
    assert row(page, "random chunks", ACCURACY).controls["song mean"] == 1.0


def test_shapes_are_the_papers(page: Reproduction) -> None:
    checks = {check.name: check for check in page.checks}
    assert checks["features of a chunk"].found == "63 x 8"
    assert checks["mel of a chunk"].good
    assert not checks["chunks of 1 s"].good
    assert checks["chunks of 1 s"].found == str(3 * 4 * 10)


def test_network_rows_wait(page: Reproduction) -> None:
    waits = {(r.name, r.metric) for r in page.rows if r.waits}
    assert {("RCNN", "cosine"), ("EEG2Mel", ACCURACY)} <= waits


def test_songs_that_are_not_there_are_one_sentence(tmp_path: Path) -> None:
    data, _ = eeg_songs(tmp_path, n_songs=1, n_people=2, seconds=3)
    with pytest.raises(FileError, match=r"no sound for song21.*bought.*--stimuli"):
        reproduce("eeg-to-mel", ReproduceOptions(data=data, partial=True))
    (tmp_path / "other").mkdir()
    np.save(tmp_path / "other" / "x.npy", np.zeros(3))
    with pytest.raises(FileError, match="is no data set that can be read"):
        reproduce("eeg-to-mel", ReproduceOptions(data=tmp_path / "other"))
