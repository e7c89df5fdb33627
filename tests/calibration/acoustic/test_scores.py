from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.acoustic.scores import score_tokens, shuffled_rows
from models.errors import SettingError


def test_the_truth_scores_one_and_the_mean_tokens_nothing() -> None:
    rng = np.random.default_rng(0)
    tokens = rng.standard_normal((12, 8, 20)) + rng.standard_normal((8, 20))
    clips = np.repeat(np.arange(4), 3)
    found = score_tokens({"truth": tokens}, tokens, clips, mean=tokens.mean(0))
    truth, floor = found["truth"], found["mean tokens"]
    assert truth.error == 0.0
    assert truth.dimension == pytest.approx((1.0, 1.0, 1.0))
    assert truth.identification == 1.0
    assert floor.error == pytest.approx(1.0)
    assert floor.place == (0.0, 0.0, 0.0)
    assert floor.identification == 0.5
    # Means differ from place to place, so that a dimension is not flat without any brain.
    assert floor.dimension[1] > 0.2


def test_windows_of_the_own_clip_are_no_candidates() -> None:
    rng = np.random.default_rng(1)
    clip = rng.standard_normal((3, 8, 20))
    tokens = np.repeat(clip, 4, axis=0) + 1e-3 * rng.standard_normal((12, 8, 20))
    # Each window is taken for another one of its clip: no mistake.
    predicted = tokens[np.arange(12).reshape(3, 4)[:, ::-1].ravel()]
    found = score_tokens({"x": predicted}, tokens, np.repeat(np.arange(3), 4), mean=tokens.mean(0))
    assert found["x"].identification == 1.0


@given(seed=st.integers(0, 1000), n=st.integers(2, 9))
@settings(max_examples=30)
def test_a_shuffled_brain_never_heard_the_same_clip(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, n, 40) % n
    groups[:2] = 0, 1
    rows = shuffled_rows(groups, rng)
    assert not np.any(groups[rows] == groups)


def test_predictions_of_other_windows_are_refused() -> None:
    with pytest.raises(SettingError, match="same windows"):
        score_tokens({"x": np.zeros((3, 8, 4))}, np.zeros((4, 8, 4)), np.arange(4), mean=0)  # type: ignore[arg-type]
