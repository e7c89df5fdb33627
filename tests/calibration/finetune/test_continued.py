from __future__ import annotations

import numpy as np
import pytest

from calibration.finetune.continued import continued, random_firsts
from calibration.finetune.settings import FinetuneSettings
from calibration.finetune.windows import BrainWindows
from models.nets.stretch import PREFIX
from tests.calibration.finetune.heard import heard_windows

_OPTIONS = FinetuneSettings(prefixed=0.8, switched=0.25)


@pytest.fixture(scope="module")
def windows() -> BrainWindows:
    return heard_windows()


def _rows(windows: BrainWindows) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.resize(np.arange(len(windows.groups)), 2000)


def test_windows_go_on_from_known_frames_and_know_nothing_before_the_clip(
    windows: BrainWindows,
) -> None:
    rows, rng = _rows(windows), np.random.default_rng(0)
    firsts = np.zeros(len(rows), np.int64)
    made = continued(windows, rows, firsts, 8, options=_OPTIONS, rng=rng)
    lengths = made.known.sum(1)
    assert made.latents.shape == (2000, PREFIX + 8, 32)
    assert np.all(lengths <= windows.n_known[rows])
    assert made.known[:, PREFIX:].max() == 0
    some = windows.n_known[rows] > 0
    assert np.mean(lengths[some] > 0) == pytest.approx(0.8, abs=0.06)
    # What is neither told nor before the clip's beginning is to be made, the new frames always.
    before = PREFIX - np.arange(PREFIX + 8) > windows.n_known[rows][:, None]
    np.testing.assert_array_equal(made.counted, ~before & (made.known == 0))


def test_a_share_goes_on_from_another_sound_where_there_are_others(windows: BrainWindows) -> None:
    rows = _rows(windows)
    firsts = np.zeros(len(rows), np.int64)
    own = windows.latents[rows]
    alone = continued(
        windows, rows, firsts, 8, options=_OPTIONS, rng=np.random.default_rng(0)
    ).latents
    np.testing.assert_array_equal(alone, own[:, : PREFIX + 8])
    rng, others = np.random.default_rng(0), np.unique(rows)
    made = continued(windows, rows, firsts, 8, options=_OPTIONS, rng=rng, others=others)
    x, here = made.latents, own[:, : PREFIX + 8]
    moved = (x[:, :PREFIX] != here[:, :PREFIX]).any(axis=(1, 2))
    assert np.mean(moved) == pytest.approx(0.2, abs=0.03)
    assert np.all(made.known[moved].sum(1) > 0)
    np.testing.assert_array_equal(x[:, PREFIX + 2 :], here[:, PREFIX + 2 :])
    np.testing.assert_array_equal(x[~moved], here[~moved])


def test_new_frames_begin_at_whole_steps_of_tokens_and_end_within_the_stretch(
    windows: BrainWindows,
) -> None:
    firsts = random_firsts(windows, 500, 8, np.random.default_rng(0))
    assert set(firsts % 4) == {0}
    assert firsts.min() == 0
    assert windows.frames - 8 - 4 < firsts.max() <= windows.frames - 8
