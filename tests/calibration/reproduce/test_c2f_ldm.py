from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.reproduce.c2f_data import clip_mel
from calibration.reproduce.options import ReproduceOptions
from calibration.reproduce.record import Reproduction, Row
from calibration.reproduce.run import reproduce
from calibration.reproduce.svm import svm_accuracy
from tests.calibration.reproduce.layouts import music, natural_sounds, stories


def run(data: Path, sounds: Path, **more: object) -> Reproduction:
    options = ReproduceOptions(
        data=data, stimuli=sounds, partial=True, n_permutations=100, alphas=(1e1, 1e3), n_folds=2,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip
    return reproduce("c2f-ldm", options)


def row(page: Reproduction, table: str, name: str, metric: str) -> Row:
    found = [r for r in page.rows if (r.table, r.name, r.metric) == (table, name, metric)]
    return next(r for r in found if r.ours is not None)


def test_natural_sounds_are_decoded_from_published_samples(tmp_path: Path) -> None:
    page = run(*natural_sounds(tmp_path))
    pcc = row(page, "main table, B2S", "Ridge", "PCC")
    assert pcc.published is not None
    assert pcc.published.value == 0.607
    assert pcc.ours is not None
    assert pcc.ours > pcc.controls["mean"] + 0.1
    assert pcc.controls["shuffled brain"] < pcc.ours
    assert row(page, "main table, B2S", "Ridge", "PSNR").stamp == "not comparable"
    semantic = [r for r in page.rows if r.table == "semantic decoder, B2S"]
    assert semantic[0].ours is not None
    assert semantic[0].ours > 0.7
    assert semantic[0].controls["ceiling"] > 0.7
    assert row(page, "AudioMAE mel to vocoder mel", "B2S", "PCC").ours > 0.85  # type: ignore[operator]
    checks = {check.name: check.found for check in page.checks}
    assert checks == {"P1: training samples": "64", "P1: test windows": "6"}


def test_stories_are_paired_with_the_sound_that_was_heard(tmp_path: Path) -> None:
    page = run(*stories(tmp_path), only=("ridge", "svm"), n_shuffled=0)
    pcc = row(page, "main table, B2Sp", "Ridge", "PCC")
    assert pcc.using.endswith("lag 4 s (given)")
    assert pcc.ours is not None
    assert pcc.ours > pcc.controls["mean"] + 0.05
    speaker = row(page, "SVM, B2Sp", "true semantic", "speaker accuracy")
    assert speaker.stamp == "leaky"
    assert speaker.controls["chance"] == 0.5
    checks = {check.name: check.found for check in page.checks}
    assert checks == {"UTS01: train rows": "60", "UTS01: test rows": "40"}


@pytest.mark.slow
def test_music_has_its_genres_told_by_a_machine_with_and_without_the_leak(tmp_path: Path) -> None:
    data, _ = music(tmp_path, n_runs=(2, 2))
    page = run(data, tmp_path / "genres", n_shuffled=1)
    pcc = row(page, "main table, B2M", "Ridge", "PCC")
    assert pcc.ours is not None
    assert pcc.ours > pcc.controls["mean"]
    lags = {r.using.rpartition(", ")[2] for r in page.rows if r.name == "Ridge" and r.ours}
    assert "lag 0 s (none stated)" in lags
    assert len(lags) == 2
    svm = [r for r in page.rows if r.table == "SVM, B2M" and r.name == "decoded semantic"]
    assert [r.stamp for r in svm] == ["leaky", "not comparable"]
    assert svm[0].ours > svm[1].ours  # type: ignore[operator]


def test_rows_that_cannot_be_computed_say_why(tmp_path: Path) -> None:
    page = run(*natural_sounds(tmp_path, n_train=6, n_test=4), only=("mel",))
    at = {(r.table, r.name, r.metric): r.waits for r in page.rows}
    assert "PANNs" in at["main table, B2S", "Ridge", "FD"]
    assert "VGGish" in at["main table, B2S", "Ridge", "FAD"]
    assert "generator" in at["main table, B2M", "C2F-LDM", "PCC"]
    assert "ds003720" in at["main table, B2M", "Ridge", "PCC"]
    assert "ds003020" in at["SVM, B2Sp", "decoded semantic", "speaker accuracy"]
    assert "own issue" in at["main table, B2S", "BiLSTM", "PCC"]


def test_the_mel_of_a_clip_has_its_frames() -> None:
    rng = np.random.default_rng(0)
    for seconds in (1.5, 2.0, 4.0):
        n = round(seconds * 100)
        assert clip_mel(0.1 * rng.normal(size=round(seconds * 16_000)), n).shape == (n, 64)
    short = clip_mel(0.1 * rng.normal(size=23_000), 150)  # ends 0.06 s early
    np.testing.assert_array_equal(short[-1], short[-2])


def test_whole_clips_in_a_fold_take_the_clips_own_mark_away() -> None:
    rng = np.random.default_rng(0)
    mark = rng.normal(size=(12, 6))  # of the clip, nothing of its label
    clip = np.repeat(np.arange(12), 8)
    labels = np.array(["a", "b"])[clip % 2]
    features = mark[clip] + 0.1 * rng.normal(size=(96, 6))
    by_window = svm_accuracy(features, labels)
    by_clip = svm_accuracy(features, labels, groups=clip.astype(str))
    assert by_window is not None
    assert by_clip is not None
    assert by_window > 0.95
    assert by_clip < 0.8
    assert svm_accuracy(features[:2], np.array(["a", "b"])) is None
